//! The task behind a producer: it forms requests, gives them to brokers, and sees what became of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_wire::{Limits, ProduceHeader};
use tokio::sync::{Notify, mpsc, oneshot};

use super::batch;
use super::keeper::{self, Event};
use super::lane::{Lane, Try};
use super::options::Options;
use super::outcome::{SendCause, Unsent};
use super::queue::Pending;
use crate::client::Shared;
use crate::connection::pipe::PipeWriter;
use crate::connection::{Broker, ConnectionState};
use crate::random;

/// How often deadlines are looked at while something is in hand.
const TICK: Duration = Duration::from_millis(20);
/// Span of unanswered numbers if the broker does not say how many it remembers.
const SPAN_DEFAULT: u64 = 10_000;
/// Bytes of a frame that are no messages, generously.
const FRAME_RESERVE: usize = 128;

pub(crate) enum Command {
    Send(Box<Pending>),
    Close {
        until: Instant,
        done: oneshot::Sender<Unsent>,
    },
}

/// A broker, and what is on its way to it.
pub(super) struct Seat {
    pub(super) broker: Arc<Broker>,
    pub(super) lane: Lane,
    stream: Option<(PipeWriter, Limits)>,
    restart: Arc<Notify>,
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

pub(crate) struct Dispatcher {
    pub(super) options: Options,
    request_timeout: Duration,
    pub(super) seats: Vec<Seat>,
    /// Which seat had the last new request.
    turn: usize,
    queue: VecDeque<Pending>,
    /// When the first message of the queue came to it.
    queued_since: Instant,
    next_tick: Instant,
    closing: Option<(Instant, oneshot::Sender<Unsent>)>,
    abandoned: bool,
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
                self.queue.push_back(*pending);
            }
            Command::Close { until, done } => self.closing = Some((until, done)),
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.seats.iter().all(|seat| seat.lane.is_empty())
    }

    fn is_done(&self, now: Instant) -> bool {
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
                Command::Send(pending) => self.queue.push_back(*pending),
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

    /// Gives up the messages whose time is over.
    fn expire(&mut self, now: Instant) {
        let limit = self.options.delivery_timeout;
        let timed_out = |pending: Pending, trouble: Option<String>| {
            let last = pending.last.clone().or(trouble);
            let last = last.unwrap_or_else(|| "every broker was busy".to_owned());
            pending.fail(SendCause::TimedOut { limit, last });
        };
        let trouble = self.trouble();
        while self
            .queue
            .front()
            .is_some_and(|first| first.deadline <= now)
        {
            if let Some(pending) = self.queue.pop_front() {
                timed_out(pending, trouble.clone());
            }
        }
        let mut behind = Vec::new();
        for seat in &mut self.seats {
            let (expired, unanswered) = seat.lane.expire(now);
            if unanswered {
                seat.broker.failed(now);
            }
            if expired.is_empty() {
                continue;
            }
            let unknown = expired.iter().any(|pending| pending.maybe_stored);
            for pending in expired {
                timed_out(pending, trouble.clone());
            }
            if self.options.ordered {
                behind = seat.lane.take_from(0);
                if unknown {
                    // Nobody knows whether the order has a hole now, so nothing of what was sent behind it may go again.
                    for mut pending in behind.drain(..) {
                        pending.maybe_stored = true;
                        pending.fail(SendCause::OrderUnknown);
                    }
                }
                seat.begin_anew = true;
                seat.restart(now, "a message before it was given up");
            }
        }
        self.requeue(behind);
    }

    /// What is wrong with the brokers, as far as is known.
    fn trouble(&self) -> Option<String> {
        let away = self.seats.iter().find(|seat| seat.stream.is_none())?;
        Some(match away.broker.trouble() {
            Some(trouble) => trouble.to_string(),
            None => format!("{} is not connected yet", away.broker.address()),
        })
    }

    /// Takes messages elsewhere whose broker is away: those that it cannot have at once, the others when half of their time is over.
    fn move_on(&mut self, now: Instant) {
        if self
            .seats
            .iter()
            .filter(|seat| seat.stream.is_some())
            .count()
            == 0
            || self.seats.len() < 2
        {
            return;
        }
        let half = self.options.delivery_timeout / 2;
        for index in 0..self.seats.len() {
            let others = self.seats.iter().enumerate();
            let other_is_up = others
                .filter(|(other, _)| *other != index)
                .any(|(_, seat)| seat.stream.is_some());
            if !other_is_up {
                continue;
            }
            let seat = &mut self.seats[index];
            let away = seat.stream.is_none();
            let moved = seat.lane.take_waiting(|what| {
                let maybe = what.messages.iter().any(|pending| pending.maybe_stored);
                let first = what.messages.first().map(|pending| pending.deadline);
                if maybe {
                    first.is_some_and(|deadline| now + half >= deadline)
                } else {
                    away
                }
            });
            self.requeue(moved);
        }
    }

    /// A request without an answer is asked again in another stream.
    fn restart_overdue(&mut self, now: Instant) {
        for seat in &mut self.seats {
            if seat.stream.is_some() && seat.lane.overdue(now, self.request_timeout) {
                seat.broker.failed(now);
                seat.restart(now, "the broker did not answer in time");
            }
        }
    }

    /// Puts messages back before all others; they get new numbers.
    pub(super) fn requeue(&mut self, messages: Vec<Pending>) {
        for pending in messages.into_iter().rev() {
            self.queue.push_front(pending);
        }
    }

    fn ask_again(&mut self, index: usize, now: Instant) {
        let seat = &mut self.seats[index];
        if seat.stream.is_none() {
            return;
        }
        while seat.lane.in_flight() < self.options.in_flight {
            let due = seat.lane.next_due(self.options.ordered);
            if due.is_none_or(|due| due > now) || !seat.broker.admit(now) {
                break;
            }
            let Some(what) = seat.lane.due(now, self.options.ordered) else {
                break;
            };
            ask(seat, what, now, self.request_timeout, self.options.ordered);
        }
        if seat.begin_anew && seat.lane.is_empty() {
            seat.lane.begin_anew();
            seat.begin_anew = false;
        }
    }

    fn ask_new(&mut self, now: Instant) {
        while !self.queue.is_empty() {
            let full = self.queue.len() >= self.options.batch_messages;
            let waited = now >= self.queued_since + self.options.linger;
            if !full && !waited && self.closing.is_none() && !self.abandoned {
                return;
            }
            let Some(index) = self.free_seat(now) else {
                return;
            };
            let messages = self.take_batch(index);
            if messages.is_empty() {
                self.seats[index].broker.abandoned(now);
                continue;
            }
            self.turn = index;
            self.queued_since = now;
            let seat = &mut self.seats[index];
            let what = seat.lane.number(messages);
            ask(seat, what, now, self.request_timeout, self.options.ordered);
        }
    }

    /// The seat for the next new request: the least busy one, in turn.
    fn free_seat(&self, now: Instant) -> Option<usize> {
        let count = self.seats.len();
        let mut free: Vec<usize> = (1..=count)
            .map(|step| (self.turn + step) % count)
            .filter(|index| self.is_free(&self.seats[*index]))
            .collect();
        free.sort_by_key(|index| self.seats[*index].lane.in_flight());
        // Only the one that is used is asked: a probe that is let through must go.
        free.into_iter()
            .find(|index| self.seats[*index].broker.admit(now))
    }

    fn is_free(&self, seat: &Seat) -> bool {
        let Some((_, limits)) = &seat.stream else {
            return false;
        };
        let held_back = self.options.ordered && (seat.lane.has_waiting() || seat.begin_anew);
        !held_back
            && seat.lane.in_flight() < self.options.in_flight
            && seat.lane.span() < span_max(limits)
    }

    fn take_batch(&mut self, index: usize) -> Vec<Pending> {
        let seat = &self.seats[index];
        let Some((_, limits)) = &seat.stream else {
            return Vec::new();
        };
        let or_none = |limit: u32| {
            if limit == 0 {
                usize::MAX
            } else {
                limit as usize
            }
        };
        let room = span_max(limits).saturating_sub(seat.lane.span());
        let most = self
            .options
            .batch_messages
            .min(or_none(limits.batch_messages_max))
            .min(usize::try_from(room).unwrap_or(usize::MAX));
        let frame_max = or_none(limits.frame_bytes_max).saturating_sub(FRAME_RESERVE);
        let bytes_max = self.options.batch_bytes.min(frame_max);
        let mut batch: Vec<Pending> = Vec::new();
        let mut bytes = 0;
        while batch.len() < most {
            let Some(next) = self.queue.front() else {
                break;
            };
            let len = next.frame_len();
            let too_large = next.message.body().len() > or_none(limits.body_bytes_max);
            let other = batch
                .first()
                .is_some_and(|first| first.durability != next.durability);
            if !batch.is_empty() && (other || bytes + len > bytes_max) {
                break;
            }
            let Some(next) = self.queue.pop_front() else {
                break;
            };
            if too_large || len > frame_max {
                next.fail_too_large(limits, seat.broker.address());
                continue;
            }
            bytes += len;
            batch.push(next);
        }
        batch
    }
}

/// The broker that an ordered producer stays with: a connected one if there is any.
fn pinned(brokers: &[Arc<Broker>]) -> Arc<Broker> {
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

fn span_max(limits: &Limits) -> u64 {
    match limits.dedup_window {
        0 => SPAN_DEFAULT,
        window => u64::from(window),
    }
}

fn ask(seat: &mut Seat, what: Try, now: Instant, limit: Duration, ordered: bool) {
    let Some((writer, _)) = &seat.stream else {
        seat.lane.wait(what, now);
        return;
    };
    let left = what.messages.first().map_or(limit, |first| {
        first.deadline.saturating_duration_since(now).min(limit)
    });
    let request = seat.lane.request();
    let header = ProduceHeader {
        number: request,
        deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
        durability: what
            .messages
            .first()
            .map(|first| first.durability)
            .unwrap_or_default(),
        ordered,
        producer: seat.lane.producer(),
        first: what.first,
    };
    writer.send(batch::encode(&header, &what.messages));
    seat.lane.fly(request, what, now);
}
