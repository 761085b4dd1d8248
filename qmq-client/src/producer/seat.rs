//! A broker as a producer uses it.

use std::sync::Arc;
use std::time::Instant;

use qmq_wire::{Limits, Purpose};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::keeper::{self, Event, Takes};
use super::lane::Lane;
use crate::client::Shared;
use crate::connection::Broker;
use crate::connection::pipe::PipeWriter;

/// A broker group's master, and what is on its way to it. The lane stays when another node becomes master.
pub(super) struct Seat {
    /// Of its keeper: what an earlier one tells is not about this seat any more.
    pub(super) id: u64,
    pub(super) purpose: Purpose,
    /// Its name in routes; empty if the application named the broker.
    pub(super) group: Arc<str>,
    pub(super) broker: Arc<Broker>,
    /// Epoch and stamp of the route that named the broker.
    pub(super) as_of: (u64, u64),
    pub(super) lane: Lane,
    pub(super) stream: Option<(PipeWriter, Limits)>,
    /// What it takes, once it has said.
    pub(super) takes: Option<Takes>,
    pub(super) restart: Arc<Notify>,
    /// In order: a message was refused for good. When all before it are answered, what follows begins anew.
    pub(super) begin_anew: bool,
    /// When a route, or something on the way, needed it last.
    pub(super) used: Instant,
    keeper: AbortHandle,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Seat {
    pub(super) fn new(
        id: u64,
        (purpose, group): (Purpose, Arc<str>),
        broker: Arc<Broker>,
        shared: &Arc<Shared>,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Self {
        let restart = Arc::new(Notify::new());
        Self {
            keeper: keeper::start(id, shared, &broker, &restart, events),
            id,
            purpose,
            group,
            broker,
            as_of: (0, 0),
            lane: Lane::new(),
            stream: None,
            takes: None,
            restart,
            begin_anew: false,
            used: Instant::now(),
        }
    }

    /// Another node is the group's master now. What was sent is repeated there, with the same producer and numbers.
    pub(super) fn move_to(
        &mut self,
        id: u64,
        broker: Arc<Broker>,
        shared: &Arc<Shared>,
        events: &mpsc::UnboundedSender<Event>,
    ) {
        self.lane
            .ground(Instant::now(), "its broker group has another master");
        self.stream = None;
        self.keeper.abort();
        self.keeper = keeper::start(id, shared, &broker, &self.restart, events);
        self.id = id;
        self.broker = broker;
    }

    /// Asks for everything again that is under way, in another stream.
    pub(super) fn restart(&mut self, until: Instant, reason: &str) {
        self.lane.ground(until, reason);
        if self.stream.take().is_some() {
            self.restart.notify_one();
        }
    }

    /// Whether it is connected and takes such messages.
    pub(super) fn is_up_for(&self, purpose: Purpose) -> bool {
        self.stream.is_some() && self.takes.as_ref().is_some_and(|takes| takes.such(purpose))
    }
}
