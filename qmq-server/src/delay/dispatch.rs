//! The thread that gives messages to brokers when their time has come, and records which have arrived.
//!
//! A message is recorded as dispatched only after a broker has acknowledged it at the durability that its producer asked for, or after its dead letter
//! is synced. If the process ends before the record, the message goes again: at least once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
use qmq_message::Message;
use qmq_sched::{DelayId, Error, Fired, Scheduler};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::lanes::{Chosen, Flight, Landed, Lanes, Limits};
use super::letters::{Letters, Refused};
use super::post::{Delivery, Post};
use super::record::Unrecorded;
use crate::doors::Seldom;
use crate::rooms::Histogram;
use crate::rooms::schedule::for_broker;

/// Messages handed out in one go.
const ROUND_MAX: usize = 1_000;
/// Longest rest, after which everything is looked at again.
const REST_MAX: Duration = Duration::from_secs(1);
/// How long it is waited for something to arrive when there is no room.
const ROOM_WAIT: Duration = Duration::from_millis(10);
/// Trouble that lasts is said again after so long.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// After so long a walk through what is due begins anew if something that was passed over may go.
const WALK_MAX: Duration = Duration::from_secs(1);

/// How messages are given to brokers.
#[derive(Clone, Debug)]
pub struct DispatchOptions {
    /// Messages on their way at a time: 16 to 1,000,000.
    pub in_flight_max: usize,
    /// Bytes of their bodies; one message goes whatever its size.
    pub bytes_max: u64,
    /// Messages of one subject on their way: 1 to 1,000,000.
    pub subject_max: usize,
    /// Messages handed out and not recorded: on their way, or waiting for another try. Of the latter only ids are kept. At least twice
    /// `in_flight_max`.
    pub outstanding_max: usize,
    /// How long to wait before brokers that could not be reached are tried again.
    pub back_off: Arc<BackOff>,
}

/// The shortest and the longest pause before another try, which may change. The first is the shortest, and each is twice as long as the one before.
#[derive(Debug)]
pub struct BackOff {
    least_ms: AtomicU64,
    most_ms: AtomicU64,
}

impl BackOff {
    /// Between these.
    #[must_use]
    pub fn new(least: Duration, most: Duration) -> Self {
        let back_off = Self {
            least_ms: AtomicU64::new(0),
            most_ms: AtomicU64::new(0),
        };
        back_off.set(least, most);
        back_off
    }

    /// From now on between these.
    pub fn set(&self, least: Duration, most: Duration) {
        for (to, from) in [(&self.least_ms, least), (&self.most_ms, most)] {
            let ms = u64::try_from(from.as_millis()).unwrap_or(u64::MAX);
            to.store(ms, Ordering::Relaxed);
        }
    }

    fn get(&self) -> (Duration, Duration) {
        let [least, most] = [&self.least_ms, &self.most_ms].map(|ms| ms.load(Ordering::Relaxed));
        (Duration::from_millis(least), Duration::from_millis(most))
    }
}

impl Default for DispatchOptions {
    fn default() -> Self {
        Self {
            in_flight_max: 10_000,
            bytes_max: 64 << 20,
            subject_max: 2_000,
            outstanding_max: 262_144,
            back_off: Arc::new(BackOff::new(
                Duration::from_secs(1),
                Duration::from_secs(10),
            )),
        }
    }
}

/// What has gone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that brokers have.
    pub dispatched: AtomicU64,
    /// Messages that brokers refused for good.
    pub dead: AtomicU64,
    /// Deliveries that have to be tried again.
    pub put_off: AtomicU64,
    /// From the due time of a message to its arrival at a broker.
    pub delay: Histogram,
    /// Messages on their way.
    pub in_flight: AtomicU64,
    /// Messages that wait for another try, with ids in memory.
    pub waiting: AtomicU64,
    /// Subjects whose brokers could not be reached when last tried.
    pub stuck: AtomicU64,
    /// Messages that brokers have, or that are dead letters, and that the log took no record of yet.
    pub unrecorded: AtomicU64,
    /// Why the log takes no record.
    pub recording: Trouble,
    /// Why dead letters cannot be kept.
    pub burying: Trouble,
    /// Which meta server and brokers cannot be reached, and why.
    pub delivering: Trouble,
}

/// Why something does not work now, if it does not.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// Why; `None`: it works, as far as is known.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }

    fn set<T>(&self, result: &Result<T, Error>) {
        self.put(result.as_ref().err().map(Error::to_string));
    }

    fn put(&self, why: Option<String>) {
        *self.0.lock() = why;
    }
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Dispatching {
    scheduler: Scheduler,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
}

type Outcome = (Flight, Delivery);

impl Dispatching {
    /// Starts the thread. Deliveries run in the runtime that this is called in. When it is told to stop, it waits up to `end_max` for what is on its way.
    pub(crate) fn start(
        scheduler: Scheduler,
        letters: Arc<Letters>,
        post: Arc<dyn Post>,
        options: &DispatchOptions,
        end_max: Duration,
    ) -> std::io::Result<Self> {
        let (sender, outcomes) = unbounded();
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, ended) = oneshot::channel();
        let dispatcher = Dispatcher {
            scheduler: scheduler.clone(),
            letters,
            post,
            runtime: Handle::current(),
            lanes: Lanes::new(Limits {
                in_flight_max: options.in_flight_max.max(16),
                bytes_max: options.bytes_max.max(1),
                lane_max: options.subject_max.max(1),
                outstanding_max: options.outstanding_max,
                back_off: options.back_off.get(),
            }),
            sender,
            outcomes,
            counters: Arc::clone(&counters),
            back_off: Arc::clone(&options.back_off),
            unrecorded: Unrecorded::default(),
            unrecorded_max: options.in_flight_max.max(16),
            stop: Arc::clone(&stop),
            walk_began: Instant::now(),
            walk_ended: false,
            put_off: Seldom::default(),
            failed: Seldom::default(),
            looked_at_post: None,
            said_of_post: None,
        };
        std::thread::Builder::new()
            .name("qmq-dispatch".into())
            .spawn(move || {
                dispatcher.run(end_max);
                let _ = tell.send(());
            })?;
        Ok(Self {
            scheduler,
            counters,
            stop,
            ended,
        })
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Hands out no more.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.scheduler.wake();
    }

    /// Waits until what was on its way is recorded, or its time is over.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }
}

struct Dispatcher {
    scheduler: Scheduler,
    letters: Arc<Letters>,
    post: Arc<dyn Post>,
    runtime: Handle,
    lanes: Lanes,
    sender: Sender<Outcome>,
    /// As many as messages are on their way.
    outcomes: Receiver<Outcome>,
    counters: Arc<Counters>,
    back_off: Arc<BackOff>,
    unrecorded: Unrecorded,
    /// With so many, nothing more is sent.
    unrecorded_max: usize,
    stop: Arc<AtomicBool>,
    walk_began: Instant,
    /// Nothing that is due has not been looked at in this walk.
    walk_ended: bool,
    put_off: Seldom,
    failed: Seldom,
    /// When it was looked whether brokers can be reached, and when it was said last that they cannot.
    looked_at_post: Option<Instant>,
    said_of_post: Option<Instant>,
}

impl Dispatcher {
    fn run(mut self, end_max: Duration) {
        while !self.stop.load(Ordering::Acquire) {
            if let Err(error) = self.turn() {
                self.say_failed(&error);
                self.stay(REST_MAX);
            }
            self.tell();
        }
        self.end(Instant::now() + end_max);
    }

    /// Records what is on its way, until then.
    fn end(&mut self, end: Instant) {
        while self.lanes.in_flight() > 0 || !self.unrecorded.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(
                    unanswered = self.lanes.in_flight(),
                    unrecorded = self.unrecorded.len(),
                    "brokers did not answer in time, or the log took no record: these messages go again after the next start"
                );
                break;
            }
            let retry = self.unrecorded.retry_at();
            let retry = retry.map_or(left, |at| at.saturating_duration_since(Instant::now()));
            // The channel tells nothing while nothing is on its way, and stays open.
            self.land(left.min(retry).max(Duration::from_millis(1)));
        }
        self.tell();
    }

    /// One look at everything.
    fn turn(&mut self) -> Result<(), Error> {
        self.lanes.set_back_off(self.back_off.get());
        self.land(Duration::ZERO);
        if self.unrecorded.len() >= self.unrecorded_max {
            self.land(ROOM_WAIT);
            return Ok(());
        }
        self.try_again()?;
        let now = Instant::now();
        if self.lanes.reopened() && (self.walk_ended || now >= self.walk_began + WALK_MAX) {
            self.lanes.begin_walk();
            self.scheduler.look_again();
            (self.walk_began, self.walk_ended) = (now, false);
        }
        let now_ms = self.now_ms();
        let (mut chosen, lanes) = (Chosen::default(), &mut self.lanes);
        let mut choose =
            |subject: &str, body_len: u32| lanes.choose(subject, body_len, &mut chosen, now);
        let fired = self.scheduler.due_where(now_ms, ROUND_MAX, &mut choose)?;
        let is_idle = fired.is_empty();
        self.take(fired, &mut chosen);
        if !is_idle {
            return Ok(());
        }
        if chosen.stopped {
            self.land(ROOM_WAIT);
            return Ok(());
        }
        self.walk_ended = self.scheduler.next_due()?.is_none_or(|due| due > now_ms);
        if !(self.walk_ended && self.lanes.reopened()) {
            let retry = self.lanes.next_retry();
            let next = retry.into_iter().chain(self.unrecorded.retry_at()).min();
            let rest = next.map_or(REST_MAX, |at| at.saturating_duration_since(Instant::now()));
            let now = Duration::from_millis(self.now_ms());
            self.scheduler.wait_due(now, rest.min(REST_MAX))?;
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.scheduler.store().options().clock.now_ms()
    }

    /// Sees to what was handed out.
    fn take(&mut self, fired: Vec<Fired>, chosen: &mut Chosen) {
        let mut unreadable = Vec::new();
        for one in fired {
            match one.message {
                Ok(message) => {
                    let subject = message.subject();
                    let now = Instant::now();
                    if chosen.has(subject) || self.lanes.admit(subject, one.id, now) {
                        self.send(one.id, one.due_ms, &message);
                    }
                }
                Err(damaged) => unreadable.push(Refused {
                    id: one.id,
                    due_ms: one.due_ms,
                    message: None,
                    reason: format!("its record is damaged: {damaged:?}"),
                }),
            }
        }
        self.bury(&unreadable);
        self.record();
    }

    fn send(&mut self, id: DelayId, due_ms: u64, kept: &Message) {
        let (message, durability) = for_broker(kept, due_ms);
        let len = message.body().len();
        let flight = self.lanes.send(message.subject(), id, due_ms, len);
        let delivering = self.post.send(message, durability);
        let (sender, scheduler) = (self.sender.clone(), self.scheduler.clone());
        self.runtime.spawn(async move {
            let delivery = delivering.await;
            let _ = sender.send((flight, delivery));
            scheduler.wake();
        });
    }

    /// Sends again what could not be delivered and has its turn.
    fn try_again(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        while let Some((subject, ids)) = self.lanes.retry(now) {
            let mut ids = ids.into_iter();
            while let Some(id) = ids.next() {
                let found = self.scheduler.get(id).inspect_err(|_| {
                    for id in ids.by_ref().chain([id]) {
                        self.lanes.put_back(&subject, id, now);
                    }
                })?;
                match found.map(|one| (one.due_ms, one.message)) {
                    None => {}
                    Some((due_ms, Ok(message))) => self.send(id, due_ms, &message),
                    Some((due_ms, Err(damaged))) => self.bury(&[Refused {
                        id,
                        due_ms,
                        message: None,
                        reason: format!("its record is damaged: {damaged:?}"),
                    }]),
                }
            }
            self.lanes.tried(&subject, now);
        }
        Ok(())
    }

    /// Records what has arrived; waits for the first up to `wait`.
    fn land(&mut self, wait: Duration) {
        let mut next = match wait.is_zero() {
            true => self.outcomes.try_recv().ok(),
            false => self.outcomes.recv_timeout(wait).ok(),
        };
        let (mut arrived, mut refused) = (Vec::new(), Vec::new());
        let (now, now_ms) = (Instant::now(), self.now_ms());
        while let Some((flight, delivery)) = next {
            match delivery {
                Delivery::Arrived => {
                    self.lanes.landed(&flight, Landed::Answered, now);
                    let late = Duration::from_millis(now_ms.saturating_sub(flight.due_ms));
                    self.counters.delay.observe(late);
                    arrived.push(flight.id);
                }
                Delivery::Refused(reason) => {
                    self.lanes.landed(&flight, Landed::Answered, now);
                    refused.push((flight, reason));
                }
                Delivery::NotNow(reason) => {
                    self.lanes.landed(&flight, Landed::NotNow, now);
                    self.counters.put_off.fetch_add(1, Ordering::Relaxed);
                    self.say_put_off(&flight.subject, &reason);
                }
            }
            next = self.outcomes.try_recv().ok();
        }
        self.unrecorded.arrived(arrived);
        self.refused(refused);
        self.record();
    }

    fn refused(&mut self, refused: Vec<(Flight, String)>) {
        let mut letters = Vec::with_capacity(refused.len());
        for (flight, reason) in refused {
            match self.scheduler.get(flight.id) {
                Ok(found) => letters.push(Refused {
                    id: flight.id,
                    due_ms: flight.due_ms,
                    message: found.and_then(|one| one.message.ok()),
                    reason,
                }),
                Err(error) => {
                    self.say_failed(&error);
                    let now = Instant::now();
                    self.lanes.put_back(&flight.subject, flight.id, now);
                }
            }
        }
        self.bury(&letters);
    }

    /// Makes dead letters of messages. Those of which none can be made are tried again.
    fn bury(&mut self, letters: &[Refused]) {
        if letters.is_empty() {
            return;
        }
        let added = self.letters.add(letters);
        self.counters.burying.set(&added);
        match added {
            Ok(()) => {
                for one in letters {
                    tracing::warn!(id = %one.id, subject = subject(one), reason = one.reason, "a message becomes a dead letter");
                }
                self.unrecorded.dead(letters.iter().map(|one| one.id));
            }
            Err(error) => {
                self.say_failed(&error);
                let now = Instant::now();
                for one in letters {
                    self.lanes.put_back(subject(one), one.id, now);
                }
            }
        }
    }

    /// Records what has arrived, and of what there are dead letters.
    fn record(&mut self) {
        if self.unrecorded.is_empty() {
            return;
        }
        let (scheduler, counters) = (&self.scheduler, &self.counters);
        let waited = self.unrecorded.retry_at();
        let recorded = self
            .unrecorded
            .record(scheduler, counters, self.back_off.get());
        if self.unrecorded.retry_at() != waited || self.unrecorded.is_empty() {
            self.counters.recording.set(&recorded);
        }
        if let Err(error) = recorded {
            self.say_failed(&error);
        }
    }

    fn tell(&mut self) {
        self.look_at_post(Instant::now());
        let pairs = [
            (&self.counters.in_flight, self.lanes.in_flight()),
            (&self.counters.waiting, self.lanes.waiting()),
            (&self.counters.stuck, self.lanes.stuck()),
            (&self.counters.unrecorded, self.unrecorded.len()),
        ];
        for (gauge, value) in pairs {
            gauge.store(value as u64, Ordering::Relaxed);
        }
    }

    fn look_at_post(&mut self, now: Instant) {
        let is_fresh = |at: Option<Instant>, time| at.is_some_and(|at| now < at + time);
        if is_fresh(self.looked_at_post, REST_MAX) {
            return;
        }
        self.looked_at_post = Some(now);
        let trouble = self.post.trouble();
        match &trouble {
            Some(why) if !is_fresh(self.said_of_post, SAY_EVERY) => {
                self.said_of_post = Some(now);
                tracing::warn!(%why, "brokers or the meta server cannot be reached: messages for them wait");
            }
            _ => {}
        }
        self.counters.delivering.put(trouble);
    }

    /// Rests, unless it is to stop.
    fn stay(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(ROOM_WAIT);
        }
    }

    fn say_failed(&mut self, error: &Error) {
        if let Some(more) = self.failed.say(Instant::now()) {
            tracing::error!(%error, more, "messages that are due cannot be looked at or recorded");
        }
    }

    fn say_put_off(&mut self, subject: &str, reason: &str) {
        if let Some(more) = self.put_off.say(Instant::now()) {
            tracing::warn!(
                subject,
                reason,
                more,
                "a message could not be delivered, and is tried again"
            );
        }
    }
}

/// Empty: nobody knows it.
fn subject(refused: &Refused) -> &str {
    refused.message.as_ref().map_or("", Message::subject)
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
