//! The task behind a producer: it forms requests, gives them to brokers, and sees what became of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_wire::Purpose;
use tokio::sync::{mpsc, oneshot};

use super::keeper::Event;
use super::lines::{Line, Lines};
use super::options::Options;
use super::outcome::{SendCause, Unsent};
use super::queue::Pending;
use super::seat::Seat;
use super::topics::Topics;
use crate::client::Shared;

/// How often deadlines are looked at while something is in hand.
const TICK: Duration = Duration::from_millis(20);
/// How often what is not used any more is looked for.
pub(super) const TIDY: Duration = Duration::from_secs(10);

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

/// How messages find their line.
pub(super) enum Ways {
    /// To the brokers that the application named: the line for what goes at once, and the one for what is delayed.
    Fixed([u32; 2]),
    /// To those that the route of their subject names.
    Routed(Topics),
}

pub(crate) struct Dispatcher {
    pub(super) shared: Arc<Shared>,
    pub(super) options: Options,
    pub(super) request_timeout: Duration,
    pub(super) seats: Vec<Seat>,
    pub(super) lines: Lines,
    pub(super) ways: Ways,
    next_seat: u64,
    /// Which line had the last new request.
    pub(super) turn: u32,
    /// The client is closed.
    gone: bool,
    next_tick: Instant,
    pub(super) next_tidy: Instant,
    pub(super) closing: Option<(Instant, oneshot::Sender<Unsent>)>,
    pub(super) abandoned: bool,
    pub(super) events: mpsc::UnboundedSender<Event>,
    happened: mpsc::UnboundedReceiver<Event>,
}

impl Dispatcher {
    pub(crate) fn new(shared: &Arc<Shared>, options: Options) -> Self {
        let (events, happened) = mpsc::unbounded_channel();
        let brokers = shared.pool.fixed().iter().enumerate();
        let seats: Vec<Seat> = brokers
            .map(|(index, broker)| {
                let what = (Purpose::Produce, Arc::from(""));
                Seat::new(index as u64, what, Arc::clone(broker), shared, &events)
            })
            .collect();
        let mut lines = Lines::default();
        let ways = match shared.routes {
            Some(_) => Ways::Routed(Topics::default()),
            None => Ways::Fixed(
                [Purpose::Produce, Purpose::Delay]
                    .map(|purpose| lines.open(purpose, Vec::new(), (0..seats.len()).collect())),
            ),
        };
        let now = Instant::now();
        Self {
            request_timeout: shared.config.request_timeout,
            shared: Arc::clone(shared),
            next_seat: seats.len() as u64,
            seats,
            lines,
            ways,
            turn: 0,
            gone: false,
            next_tick: now,
            next_tidy: now + TIDY,
            closing: None,
            abandoned: false,
            options,
            events,
            happened,
        }
    }

    pub(super) fn seat_id(&mut self) -> u64 {
        self.next_seat += 1;
        self.next_seat
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            while let Ok(command) = commands.try_recv() {
                self.command(command);
            }
            while let Ok(event) = self.happened.try_recv() {
                self.event(event);
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
                Some(event) = self.happened.recv() => self.event(event),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.finish(commands);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send(pending) => self.queue(pending),
            Command::Close { until, done } => self.closing = Some((until, done)),
        }
    }

    fn is_empty(&self) -> bool {
        let waiting = match &self.ways {
            Ways::Fixed(_) => 0,
            Ways::Routed(topics) => topics.waiting,
        };
        waiting == 0 && self.lines.is_empty() && self.seats.iter().all(|seat| seat.lane.is_empty())
    }

    fn is_done(&self, now: Instant) -> bool {
        if self.gone {
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
        let mut left: Vec<Pending> = Vec::new();
        let now = Instant::now();
        for seat in &mut self.seats {
            left.extend(
                seat.lane
                    .clear(now, "the producer was closed before the answer"),
            );
        }
        left.extend(self.lines.clear());
        if let Ways::Routed(topics) = &mut self.ways {
            left.extend(topics.clear());
        }
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Send(pending) => left.push(pending),
                // A second caller of close: the first one gets the numbers.
                Command::Close { done, .. } => drop(done.send(Unsent::default())),
            }
        }
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
        let mut wake = match &self.ways {
            Ways::Routed(topics) if !topics.is_empty() || !self.seats.is_empty() => self.next_tidy,
            _ => now + Duration::from_secs(3_600),
        };
        if self.is_empty() {
            return wake;
        }
        wake = wake.min(self.next_tick);
        for line in self.lines.busy_lines() {
            if line.since + self.options.linger > now {
                wake = wake.min(line.since + self.options.linger);
            }
        }
        let dues = self.seats.iter().filter(|seat| seat.stream.is_some());
        for due in dues.filter_map(|seat| seat.lane.next_due(self.options.ordered)) {
            if due > now {
                wake = wake.min(due);
            }
        }
        wake
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        // What an earlier keeper of a seat tells is about another connection.
        let place = |seats: &[Seat], id: u64| seats.iter().position(|seat| seat.id == id);
        match event {
            Event::Up {
                seat,
                writer,
                limits,
                takes,
            } => {
                if let Some(index) = place(&self.seats, seat) {
                    self.seats[index].stream = Some((writer, limits));
                    self.seats[index].takes = Some(takes);
                }
            }
            Event::Down(seat, reason) => {
                if let Some(index) = place(&self.seats, seat) {
                    let seat = &mut self.seats[index];
                    seat.stream = None;
                    if seat.lane.in_flight() > 0 {
                        seat.broker.failed(now);
                    }
                    seat.lane.ground(now, &reason);
                }
            }
            Event::Frame(seat, frame) => {
                if let Some(index) = place(&self.seats, seat)
                    && let Err(error) = self.answer(index, &frame, now)
                {
                    tracing::warn!(broker = %self.seats[index].broker.address(), %error, "an answer does not decode");
                    self.seats[index].restart.notify_one();
                }
            }
            Event::Route(purpose, subject) => self.route(purpose, &subject),
            Event::RouteEnded => {
                let routes = self.shared.routes.as_ref();
                self.gone |= routes.is_some_and(|routes| routes.is_closed());
            }
            Event::Gone => self.gone = true,
        }
    }

    fn pump(&mut self, now: Instant) {
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.expire(now);
            self.fail_without_delay_server();
            self.move_on(now);
            self.restart_overdue(now);
        }
        if now >= self.next_tidy {
            self.next_tidy = now + TIDY;
            self.tidy(now);
        }
        for index in 0..self.seats.len() {
            self.ask_again(index, now);
        }
        self.ask_new(now);
    }
}

/// The line of a message.
pub(super) fn line_of<'a>(ways: &Ways, lines: &'a Lines, pending: &Pending) -> Option<&'a Line> {
    lines.get(match ways {
        Ways::Fixed([at_once, delayed]) => match pending.purpose {
            Purpose::Delay => *delayed,
            _ => *at_once,
        },
        Ways::Routed(topics) => {
            let topic = topics.get(pending.purpose, pending.message.subject())?;
            topic.line?
        }
    })
}
