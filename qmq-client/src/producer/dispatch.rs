//! The task behind a producer: it forms requests, gives them to brokers, and sees what became of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

use super::keeper::{self, Event};
use super::lane::Lane;
use super::options::Options;
use super::outcome::{SendCause, Unsent};
use super::queue::Pending;
use super::seat::{Seat, pinned};
use crate::client::Shared;
use crate::connection::Broker;

/// How often deadlines are looked at while something is in hand.
const TICK: Duration = Duration::from_millis(20);

#[expect(
    clippy::large_enum_variant,
    reason = "all but the last command are messages"
)]
pub(crate) enum Command {
    Send(Pending),
    Close {
        until: Instant,
        done: oneshot::Sender<Unsent>,
    },
}

pub(crate) struct Dispatcher {
    pub(super) options: Options,
    pub(super) request_timeout: Duration,
    pub(super) seats: Vec<Seat>,
    /// Which seat had the last new request.
    pub(super) turn: usize,
    pub(super) queue: VecDeque<Pending>,
    /// When the first message of the queue came to it.
    pub(super) queued_since: Instant,
    /// Seats that will get no stream any more.
    gone: usize,
    next_tick: Instant,
    pub(super) closing: Option<(Instant, oneshot::Sender<Unsent>)>,
    pub(super) abandoned: bool,
    events: mpsc::UnboundedReceiver<(usize, Event)>,
}

impl Dispatcher {
    pub(crate) fn new(shared: &Arc<Shared>, options: Options) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let brokers = match options.ordered {
            true => vec![pinned(&shared.brokers)],
            false => shared.brokers.clone(),
        };
        let seat = |(index, broker): (usize, Arc<Broker>)| {
            let restart = Arc::new(Notify::new());
            tokio::spawn(keeper::keep(
                index,
                Arc::clone(shared),
                Arc::clone(&broker),
                Arc::clone(&restart),
                sender.clone(),
            ));
            Seat {
                broker,
                lane: Lane::new(),
                stream: None,
                restart,
                begin_anew: false,
            }
        };
        let now = Instant::now();
        Self {
            request_timeout: shared.config.request_timeout,
            seats: brokers.into_iter().enumerate().map(seat).collect(),
            turn: 0,
            queue: VecDeque::new(),
            queued_since: now,
            gone: 0,
            next_tick: now,
            closing: None,
            abandoned: false,
            options,
            events,
        }
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            while let Ok(command) = commands.try_recv() {
                self.command(command);
            }
            while let Ok((seat, event)) = self.events.try_recv() {
                self.event(seat, event);
            }
            let now = Instant::now();
            self.pump(now);
            if self.is_done(now) {
                break;
            }
            let wake = tokio::time::Instant::from_std(self.wake(now));
            tokio::select! {
                command = commands.recv(), if !self.abandoned => match command {
                    Some(command) => self.command(command),
                    None => self.abandoned = true,
                },
                Some((seat, event)) = self.events.recv() => self.event(seat, event),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.finish(commands);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send(pending) => {
                if self.queue.is_empty() {
                    self.queued_since = Instant::now();
                }
                self.queue.push_back(pending);
            }
            Command::Close { until, done } => self.closing = Some((until, done)),
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.seats.iter().all(|seat| seat.lane.is_empty())
    }

    fn is_done(&self, now: Instant) -> bool {
        if self.gone == self.seats.len() {
            return true;
        }
        match &self.closing {
            Some((until, _)) => self.is_empty() || now >= *until,
            None => self.abandoned && self.is_empty(),
        }
    }

    /// Tells everybody who still waits.
    fn finish(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        commands.close();
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Send(pending) => self.queue.push_back(pending),
                // A second caller of close: the first one gets the numbers.
                Command::Close { done, .. } => drop(done.send(Unsent::default())),
            }
        }
        let now = Instant::now();
        let mut left: Vec<Pending> = Vec::new();
        for seat in &mut self.seats {
            left.extend(
                seat.lane
                    .clear(now, "the producer was closed before the answer"),
            );
        }
        left.extend(self.queue);
        let unsent = Unsent {
            messages: left.len(),
            may_be_stored: left.iter().filter(|pending| pending.maybe_stored).count(),
        };
        for pending in left {
            pending.fail(SendCause::Closed);
        }
        if let Some((_, done)) = self.closing {
            let _ = done.send(unsent);
        }
    }

    /// When to look again if nothing comes.
    fn wake(&self, now: Instant) -> Instant {
        let mut wake = now + Duration::from_secs(3_600);
        if self.is_empty() {
            return wake;
        }
        wake = wake.min(self.next_tick);
        if !self.queue.is_empty() && self.queued_since + self.options.linger > now {
            wake = wake.min(self.queued_since + self.options.linger);
        }
        let dues = self.seats.iter().filter(|seat| seat.stream.is_some());
        for due in dues.filter_map(|seat| seat.lane.next_due(self.options.ordered)) {
            if due > now {
                wake = wake.min(due);
            }
        }
        wake
    }

    fn event(&mut self, index: usize, event: Event) {
        let now = Instant::now();
        match event {
            Event::Up { writer, limits } => {
                self.seats[index].stream = Some((writer, limits));
            }
            Event::Down(reason) => {
                let seat = &mut self.seats[index];
                seat.stream = None;
                if seat.lane.in_flight() > 0 {
                    seat.broker.failed(now);
                }
                seat.lane.ground(now, &reason);
            }
            Event::Gone => self.gone += 1,
            Event::Frame(frame) => {
                if let Err(error) = self.answer(index, &frame, now) {
                    tracing::warn!(broker = %self.seats[index].broker.address(), %error, "an answer does not decode");
                    self.seats[index].restart.notify_one();
                }
            }
        }
    }

    fn pump(&mut self, now: Instant) {
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.expire(now);
            self.move_on(now);
            self.restart_overdue(now);
        }
        for index in 0..self.seats.len() {
            self.ask_again(index, now);
        }
        self.ask_new(now);
    }

    /// Puts messages back before all others; they get new numbers.
    pub(super) fn requeue(&mut self, messages: Vec<Pending>) {
        for pending in messages.into_iter().rev() {
            self.queue.push_front(pending);
        }
    }
}
