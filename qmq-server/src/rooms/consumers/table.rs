//! The thread that owns the consumers.

mod settle;

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qmq_store::{Durability, Error, Store};
use qmq_wire::{Code, End, FlowFlags, Refusal};

use settle::refusal;

use super::held::Held;
use super::lost::Lost;
use super::{As, Attached, ConsumerOptions, Counters, Job, Key, Left, Mailbox, OnEnd};
use crate::access::Right;
use crate::rooms::Caller;
use crate::rooms::administer::Activity;
use crate::rooms::deliver::{Delivering, Taker};

pub(super) fn start(
    store: Store,
    options: ConsumerOptions,
    delivering: Delivering,
    counters: Arc<Counters>,
    activity: Arc<Activity>,
    (online, known): (Arc<Mutex<HashSet<Key>>>, Arc<AtomicUsize>),
    jobs: Mailbox<Job>,
) -> std::io::Result<()> {
    let shortest = options.session_timeout.min(options.ack_timeout);
    let look_every = (shortest / 20).clamp(Duration::from_millis(10), Duration::from_millis(500));
    let mut table = Table {
        store,
        options,
        delivering,
        counters,
        activity,
        online,
        consumers: HashMap::new(),
    };
    std::thread::Builder::new()
        .name("qmq-consumers".into())
        .spawn(move || {
            let jobs = Open(jobs);
            table.remember(Instant::now());
            table.run(&jobs.0, look_every, &known);
        })?;
    Ok(())
}

/// Whoever waits for room in it waits no longer than the thread is there.
struct Open(Mailbox<Job>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Consumer {
    /// 0: not known, the broker has started since.
    session: u64,
    current: Option<Attachment>,
    held: Held,
    lost: Lost,
    /// When it is declared gone, unless it is attached.
    gone_at: Option<Instant>,
}

struct Attachment {
    number: u64,
    caller: Caller,
    taker: Arc<Taker>,
    on_end: OnEnd,
}

impl Attachment {
    /// The broker ends it: who reads it is told why.
    fn end(self, delivering: &Delivering, incarnation: u32, end: End) {
        delivering.withdraw(&self.taker);
        let why = end.code.map(|code| (code, &*end.text));
        self.taker.end_pulls(incarnation, why);
        (self.on_end)(end);
    }
}

/// Another session has the consumer.
struct NotIts;

impl Consumer {
    /// It holds these no more, and has got all that was handed out before them. How many of them it had lost.
    fn settled(&mut self, ranges: &[(u64, u64)]) -> u64 {
        for &(first, last) in ranges {
            self.held.remove(first, last);
        }
        let last = ranges.iter().map(|(_, last)| *last).max();
        if let (Some(current), Some(last)) = (&self.current, last) {
            current.taker.settled(last);
        }
        self.lost.count(ranges)
    }
}

struct Table {
    store: Store,
    options: ConsumerOptions,
    delivering: Delivering,
    counters: Arc<Counters>,
    activity: Arc<Activity>,
    /// Keys of those that have an attachment, for who asks from outside.
    online: Arc<Mutex<HashSet<Key>>>,
    consumers: HashMap<Key, Consumer>,
}

impl Table {
    /// Who held messages when the store was opened has one session timeout to come back.
    fn remember(&mut self, now: Instant) {
        for holder in self.store.holders() {
            let key = Key {
                subject: holder.subject,
                group: holder.group,
                consumer: holder.consumer,
            };
            let consumer = Consumer {
                session: 0,
                current: None,
                held: Held::default(),
                lost: Lost::default(),
                gone_at: Some(now + self.options.session_timeout),
            };
            self.consumers.insert(key, consumer);
        }
    }

    fn run(&mut self, jobs: &Mailbox<Job>, look_every: Duration, known: &AtomicUsize) {
        let mut look_at = Instant::now() + look_every;
        loop {
            let job = jobs.next_until(look_at);
            let now = Instant::now();
            let looks = now >= look_at;
            // Whoever has spoken before the look is heard before it.
            let heard = if looks { jobs.waiting() } else { 0 };
            if looks {
                let late = now - look_at;
                if late >= look_every {
                    self.grant(late);
                }
                look_at = now + look_every;
            }
            let others = (0..heard).map_while(|_| jobs.next_until(now));
            for job in job.into_iter().chain(others) {
                if matches!(job, Job::Stop) {
                    return;
                }
                self.work(job);
            }
            if looks {
                self.look_at_deadlines(now);
                known.store(self.consumers.len(), Ordering::Relaxed);
            }
        }
    }

    /// For so long the thread has not come to listen: the process was stopped, or the disk kept it. Nobody's time has run meanwhile.
    fn grant(&mut self, more: Duration) {
        tracing::warn!(
            more_ms = more.as_millis() as u64,
            "the broker stood still; consumers have so much more time to renew and to come back"
        );
        for consumer in self.consumers.values_mut() {
            consumer.held.postpone(more);
            consumer.gone_at = consumer.gone_at.map(|at| at + more);
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Attach {
                key,
                session,
                flags,
                caller,
                taker,
                on_end,
                reply,
            } => self.attach(key, (session, flags), caller, &taker, on_end, reply),
            Job::Detach {
                key,
                attachment,
                left,
            } => self.detach(&key, attachment, left),
            Job::HandedOut {
                key,
                attachment,
                incarnation,
                ranges,
            } => self.handed_out(&key, attachment, incarnation, &ranges),
            Job::Failed {
                key,
                attachment,
                end,
            } => self.failed(&key, attachment, end),
            Job::Ack(key, speaker, ack, reply) => self.ack(&key, speaker, &ack, reply),
            Job::Nack(key, speaker, nack, reply) => self.nack(&key, speaker, &nack, reply),
            Job::Renew(key, speaker, renew) => {
                let deadline = Instant::now() + self.options.ack_timeout;
                if renew.incarnation == self.incarnation()
                    && let Ok(Some(consumer)) = self.spoken_for(&key, speaker)
                {
                    for (first, last) in renew.ranges {
                        consumer.held.renew(first, last, deadline);
                    }
                }
            }
            Job::EndAll(end) => {
                let incarnation = self.incarnation();
                let gone_at = Instant::now() + self.options.session_timeout;
                for consumer in self.consumers.values_mut() {
                    if let Some(current) = consumer.current.take() {
                        // It may come back, to this broker or its next start, and finds what it held.
                        consumer.gone_at = Some(gone_at);
                        current.end(&self.delivering, incarnation, end.clone());
                    }
                }
                self.online.lock().clear();
            }
            Job::Recheck => self.recheck(),
            // Seen before it comes here.
            Job::Stop => {}
            Job::IsAnythingHeld(reply) => {
                reply(
                    self.consumers
                        .values()
                        .any(|consumer| !consumer.held.is_empty()),
                );
            }
        }
    }

    fn incarnation(&self) -> u32 {
        self.store.incarnation()
    }

    /// The consumer, if that attachment is its current one.
    fn current(&mut self, key: &Key, attachment: u64) -> Option<&mut Consumer> {
        self.consumers.get_mut(key).filter(|consumer| {
            let current = consumer.current.as_ref();
            current.is_some_and(|current| current.number == attachment)
        })
    }

    /// The consumer that somebody speaks for: not if it is another's by now. `None`: nobody has it.
    fn spoken_for(&mut self, key: &Key, speaker: As) -> Result<Option<&mut Consumer>, NotIts> {
        match speaker {
            As::Attachment(number) => self.current(key, number).map(Some).ok_or(NotIts),
            As::Session(session) => {
                let consumer = self.consumers.get_mut(key);
                // 0: the broker has started since, and nobody has come back.
                match consumer {
                    Some(consumer) if ![0, session].contains(&consumer.session) => Err(NotIts),
                    consumer => Ok(consumer),
                }
            }
        }
    }

    fn attach(
        &mut self,
        key: Key,
        (session, flags): (u64, FlowFlags),
        caller: Caller,
        taker: &Arc<Taker>,
        on_end: OnEnd,
        reply: Box<dyn FnOnce(Result<Attached, Refusal>) + Send>,
    ) {
        let makes = self.options.auto_create.load(Ordering::Relaxed) && !flags.existing;
        if !makes && !self.store.has_subject(&key.subject) {
            let why = match flags.existing {
                true => "you asked for none to be made",
                false => "subject.auto.create is off; create it first",
            };
            let text = format!("no subject {:?}, and {why}", key.subject);
            return reply(Err(Refusal::new(0, Code::UnknownSubject, text)));
        }
        let incarnation = self.incarnation();
        let consumer = self.consumers.entry(key.clone()).or_insert(Consumer {
            session: 0,
            current: None,
            held: Held::default(),
            lost: Lost::default(),
            gone_at: None,
        });
        let known = consumer.session != 0;
        let resumed = known && consumer.session == session && !flags.fresh;
        if let Some(before) = consumer.current.take() {
            let end = if resumed {
                End {
                    code: None,
                    text: "the same session has subscribed again".to_owned(),
                    unseen: false,
                }
            } else {
                self.counters.taken_over.fetch_add(1, Ordering::Relaxed);
                End {
                    code: Some(Code::Fenced),
                    text: format!(
                        "another session has taken over consumer {:?}; give each process a name of its own, or none",
                        key.consumer
                    ),
                    unseen: false,
                }
            };
            before.end(&self.delivering, incarnation, end);
        } else {
            self.online.lock().insert(key.clone());
        }
        if flags.fresh || (known && !resumed) {
            // Another process: whatever the one before held failed with it, and comes again with one more attempt counted.
            consumer.held = Held::default();
            consumer.lost = Lost::default();
            let gone = self
                .store
                .consumer_gone(&key.subject, &key.group, &key.consumer);
            match gone {
                Ok(_) | Err(Error::UnknownSubject { .. } | Error::UnknownGroup { .. }) => {}
                Err(error) => {
                    self.online.lock().remove(&key);
                    return reply(Err(refusal(0, &error)));
                }
            }
        } else {
            // Counted from now, also what it was handed before a restart, and whether or not it takes it again.
            let deadline = Instant::now() + self.options.ack_timeout;
            let held = self.store.held_by(&key.subject, &key.group, &key.consumer);
            for range in held {
                consumer.held.insert(*range.start(), *range.end(), deadline);
            }
        }
        consumer.session = session;
        consumer.gone_at = None;
        consumer.current = Some(Attachment {
            number: taker.attachment(),
            caller,
            taker: Arc::clone(taker),
            on_end,
        });
        let (Some(jobs), attachment) = (self.delivering.jobs(), taker.attachment()) else {
            return;
        };
        // Whoever gets the answer may go at once: its part in the group must have begun by then.
        self.delivering.join(taker);
        // What it holds is handed out again with its first pull, and entered then.
        reply(Ok(Attached {
            jobs,
            delivering: self.delivering.clone(),
            taker: Arc::clone(taker),
            key,
            attachment,
            incarnation,
            resumed,
            left: None,
        }));
        self.delivering.offer(taker);
    }

    fn detach(&mut self, key: &Key, attachment: u64, left: Option<Left>) {
        let timeout = self.options.session_timeout;
        let Some(consumer) = self.current(key, attachment) else {
            return;
        };
        consumer.current = None;
        consumer.gone_at = Some(Instant::now() + left.map_or(timeout, |_| Duration::ZERO));
        self.online.lock().remove(key);
        match left {
            None => {}
            Some(Left::Seen) => self.declare_gone(key),
            Some(Left::Unseen) => {
                self.release_all(key);
                self.declare_gone(key);
            }
        }
    }

    /// Whoever has lost the right to consume goes on no longer.
    fn recheck(&mut self) {
        let mut denied = Vec::new();
        for (key, consumer) in &self.consumers {
            if let Some(current) = &consumer.current
                && let Err(refused) = current.caller.check(Right::Consume, &key.subject)
            {
                let end = End {
                    code: Some(Code::Denied),
                    text: refused.to_string(),
                    unseen: false,
                };
                denied.push((key.clone(), current.number, end));
            }
        }
        for (key, attachment, end) in denied {
            self.failed(&key, attachment, end);
        }
    }

    fn failed(&mut self, key: &Key, attachment: u64, end: End) {
        let timeout = self.options.session_timeout;
        let incarnation = self.incarnation();
        let Some(consumer) = self.current(key, attachment) else {
            return;
        };
        let Some(current) = consumer.current.take() else {
            return;
        };
        consumer.gone_at = Some(Instant::now() + timeout);
        self.online.lock().remove(key);
        current.end(&self.delivering, incarnation, end);
    }

    /// Nobody has looked at what it holds: it comes again, and no attempt is counted.
    fn release_all(&mut self, key: &Key) {
        let held = self.store.held_by(&key.subject, &key.group, &key.consumer);
        let member = key.member(self.incarnation());
        let released = self
            .store
            .release(&member, &held, Duration::ZERO, Durability::Buffered);
        if let Err(error) = released {
            tracing::warn!(subject = %key.subject, group = %key.group, consumer = %key.consumer, %error, "what a consumer has not looked at counts as an attempt");
        }
    }

    /// What it held goes to the others of its group.
    fn declare_gone(&mut self, key: &Key) {
        let gone = self
            .store
            .consumer_gone(&key.subject, &key.group, &key.consumer);
        match gone {
            Ok(messages) => {
                self.consumers.remove(key);
                if messages > 0 {
                    self.counters.gone.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(subject = %key.subject, group = %key.group, consumer = %key.consumer, messages, "a consumer is gone; what it held goes to the others");
                }
                self.delivering.made_room(key);
            }
            Err(Error::UnknownSubject { .. } | Error::UnknownGroup { .. }) => {
                self.consumers.remove(key);
            }
            Err(error) => {
                tracing::warn!(subject = %key.subject, group = %key.group, consumer = %key.consumer, %error, "a consumer cannot be declared gone; it is tried again");
                if let Some(consumer) = self.consumers.get_mut(key) {
                    consumer.gone_at = Some(Instant::now() + Duration::from_secs(1));
                }
            }
        }
    }

    /// What was handed out to one that is attached no more counts from the next attachment on, if there is one: until then the session timeout counts.
    fn handed_out(&mut self, key: &Key, attachment: u64, incarnation: u32, ranges: &[(u64, u64)]) {
        let deadline = Instant::now() + self.options.ack_timeout;
        if incarnation == self.incarnation()
            && let Some(consumer) = self.current(key, attachment)
        {
            for &(first, last) in ranges {
                consumer.held.insert(first, last, deadline);
            }
        }
    }

    fn look_at_deadlines(&mut self, now: Instant) {
        let incarnation = self.incarnation();
        let mut gone = Vec::new();
        let mut late = Vec::new();
        for (key, consumer) in &mut self.consumers {
            if consumer.current.is_none() && consumer.gone_at.is_none_or(|at| at <= now) {
                gone.push(key.clone());
                continue;
            }
            // A session that is away keeps what it holds until it is back, or gone.
            if consumer.current.is_some() {
                let expired = consumer.held.take_expired(now);
                if !expired.is_empty() {
                    late.push((key.clone(), expired));
                }
            }
        }
        for key in gone {
            self.declare_gone(&key);
        }
        for (key, ranges) in late {
            self.take_back(&key, &ranges, incarnation);
        }
    }

    /// Held too long: it comes again, to whoever of the group is next, with one more attempt counted.
    fn take_back(&mut self, key: &Key, ranges: &[(u64, u64)], incarnation: u32) {
        let held = self.store.held_by(&key.subject, &key.group, &key.consumer);
        let late = overlaps(ranges, &held);
        let outcome = self.store.nack(
            &key.member(incarnation),
            &late,
            Duration::ZERO,
            Durability::Buffered,
        );
        match outcome {
            Ok(outcome) => {
                if let Some(consumer) = self.consumers.get_mut(key) {
                    for range in late {
                        consumer.lost.insert(*range.start(), *range.end());
                    }
                }
                self.counters
                    .leases_lost
                    .fetch_add(outcome.acked, Ordering::Relaxed);
                self.delivering.made_room(key);
                tracing::info!(subject = %key.subject, group = %key.group, consumer = %key.consumer, messages = outcome.acked, "held longer than consumer.ack.timeout.ms without renewal; handed out again");
            }
            Err(error) => {
                tracing::warn!(subject = %key.subject, group = %key.group, consumer = %key.consumer, %error, "messages held too long cannot be taken back; it is tried again");
                let again = Instant::now() + Duration::from_secs(1);
                if let Some(consumer) = self.consumers.get_mut(key) {
                    for &(first, last) in ranges {
                        consumer.held.insert(first, last, again);
                    }
                }
            }
        }
    }
}

/// What two lists of ranges in order have in common.
fn overlaps(ranges: &[(u64, u64)], others: &[RangeInclusive<u64>]) -> Vec<RangeInclusive<u64>> {
    let common = ranges.iter().flat_map(|&(first, last)| {
        let from = others.partition_point(|other| *other.end() < first);
        let touched = others[from..]
            .iter()
            .take_while(move |other| *other.start() <= last);
        touched.map(move |other| first.max(*other.start())..=last.min(*other.end()))
    });
    common.collect()
}
