//! A broker as a producer uses it.

use std::sync::Arc;
use std::time::Instant;

use qmq_wire::Limits;
use tokio::sync::Notify;

use super::lane::Lane;
use crate::connection::pipe::PipeWriter;
use crate::connection::{Broker, ConnectionState};
use crate::random;

/// A broker, and what is on its way to it.
pub(super) struct Seat {
    pub(super) broker: Arc<Broker>,
    pub(super) lane: Lane,
    pub(super) stream: Option<(PipeWriter, Limits)>,
    pub(super) restart: Arc<Notify>,
    /// In order: a message was refused for good. When all before it are answered, what follows begins anew.
    pub(super) begin_anew: bool,
}

impl Seat {
    /// Asks for everything again that is under way, in another stream.
    pub(super) fn restart(&mut self, until: Instant, reason: &str) {
        self.lane.ground(until, reason);
        if self.stream.take().is_some() {
            self.restart.notify_one();
        }
    }
}

/// The broker that an ordered producer stays with: a connected one if there is any.
pub(super) fn pinned(brokers: &[Arc<Broker>]) -> Arc<Broker> {
    let connected: Vec<&Arc<Broker>> = brokers
        .iter()
        .filter(|broker| matches!(broker.state(), ConnectionState::Connected { .. }))
        .collect();
    let choose = |count: usize| (random::u64() % count.max(1) as u64) as usize;
    match connected.get(choose(connected.len())) {
        Some(broker) => Arc::clone(broker),
        None => Arc::clone(&brokers[choose(brokers.len())]),
    }
}
