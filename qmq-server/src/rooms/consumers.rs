//! Who consumes, as whom, and what it holds until when.
//!
//! A consumer is (subject, group, name). A process takes part as a session of it; a second session of the same consumer takes over and the first is
//! told. A lost connection leaves the session behind for a while, so that the process can come back and find what it held.
//!
//! One thread owns all of it: who attaches, goes, acks, nacks and renews sends it a job. Deliveries tell it what they handed out before the bytes leave,
//! so no ack comes before that.

mod held;
mod lost;
mod mailbox;
mod table;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use qmq_store::Store;
use qmq_wire::{Ack, Acked, Code, Credit, End, Flow, FlowFlags, Nack, Refusal, Renew};

pub(super) use mailbox::Mailbox;

use super::administer::Activity;
use super::deliver::{Delivering, NotAsked, Taker};
use super::produce::Held;
use super::{Caller, Gate, Outlet};
use crate::access::Right;

/// How the room works.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// For how long a lost session keeps what it holds.
    pub session_timeout: Duration,
    /// For how long a message is held without being renewed.
    pub ack_timeout: Duration,
    /// When a refused message comes again if the consumer does not say: in seconds, dynamic.
    pub retry_delay_seconds: Arc<AtomicU32>,
    /// Longest delay that a consumer may ask for.
    pub nack_max: Duration,
    /// Whether a subscription may create its subject.
    pub auto_create: Arc<AtomicBool>,
    /// Requests that wait for the thread: 1 to 1,000,000. More are refused.
    pub queue_max: usize,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(30),
            retry_delay_seconds: Arc::new(AtomicU32::new(5)),
            nack_max: Duration::from_secs(600),
            auto_create: Arc::new(AtomicBool::new(true)),
            queue_max: 65_536,
        }
    }
}

/// Names a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Subject.
    pub subject: Arc<str>,
    /// Group.
    pub group: Arc<str>,
    /// Consumer.
    pub consumer: Arc<str>,
}

impl Key {
    fn of(flow: &Flow) -> Self {
        Self {
            subject: flow.subject.as_str().into(),
            group: flow.group.as_str().into(),
            consumer: flow.consumer.as_str().into(),
        }
    }

    /// As whom the store settles.
    fn member(&self, incarnation: u32) -> qmq_store::Member {
        qmq_store::Member {
            subject: self.subject.to_string(),
            group: self.group.to_string(),
            consumer: self.consumer.to_string(),
            incarnation,
        }
    }
}

/// What an ack or nack is answered with.
pub type Settled = Box<dyn FnOnce(Result<Acked, Refusal>) + Send>;

/// Told once why a subscription ends that the broker ends.
pub type OnEnd = Box<dyn FnOnce(End) + Send>;

/// What a consumer that goes for good has done with what it still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It may have looked at it: counted as an attempt.
    Seen,
    /// Nobody has looked at it: comes again as it came.
    Unseen,
}

/// As whom a request speaks for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// What is attached under that number.
    Attachment(u64),
    /// A session, through whichever stream.
    Session(u64),
}

pub(super) enum Job {
    Attach {
        key: Key,
        session: u64,
        /// The process is new: it has nothing of what the consumer holds.
        flags: FlowFlags,
        caller: Caller,
        taker: Arc<Taker>,
        on_end: OnEnd,
        reply: Box<dyn FnOnce(Result<Attached, Refusal>) + Send>,
    },
    Detach {
        key: Key,
        attachment: u64,
        /// `None`: its session stays for a while.
        left: Option<Left>,
    },
    HandedOut {
        key: Key,
        attachment: u64,
        incarnation: u32,
        ranges: Vec<(u64, u64)>,
    },
    /// The room that delivers can go on with it no more.
    Failed {
        key: Key,
        attachment: u64,
        end: End,
    },
    Ack(Key, As, Ack, Settled),
    Nack(Key, As, Nack, Settled),
    Renew(Key, As, Renew),
    EndAll(End),
    /// Rights have changed.
    Recheck,
    /// The thread ends.
    Stop,
    /// Whether anything is held, for who waits for that.
    IsAnythingHeld(Box<dyn FnOnce(bool) + Send>),
}

impl mailbox::Weighs for Job {
    fn bytes(&self) -> usize {
        let ranges = match self {
            Self::Ack(_, _, ack, _) => ack.ranges.len(),
            Self::Nack(_, _, nack, _) => nack.ranges.len(),
            Self::Renew(_, _, renew) => renew.ranges.len(),
            Self::HandedOut { ranges, .. } => ranges.len(),
            _ => 0,
        };
        size_of::<Self>() + ranges * size_of::<(u64, u64)>()
    }
}

/// Bytes of jobs that may wait, if one is not longer.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// The room. A clone is the same.
#[derive(Clone)]
pub struct Consumers {
    jobs: Mailbox<Job>,
    delivering: Delivering,
    counters: Arc<Counters>,
    gate: Gate,
    attachments: Arc<AtomicU64>,
    online: Arc<Mutex<HashSet<Key>>>,
    known: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Consumers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumers").finish_non_exhaustive()
    }
}

/// What has come and gone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages acknowledged.
    pub acked: AtomicU64,
    /// Messages refused by consumers.
    pub nacked: AtomicU64,
    /// Messages taken back since they were held too long.
    pub leases_lost: AtomicU64,
    /// Consumers declared gone.
    pub gone: AtomicU64,
    /// Consumers taken over by another session.
    pub taken_over: AtomicU64,
}

impl Consumers {
    /// Starts the room's thread, which ends with [`Consumers::stop`].
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        store: Store,
        options: ConsumerOptions,
        delivering: Delivering,
        activity: Arc<Activity>,
    ) -> std::io::Result<Self> {
        let jobs = Mailbox::new(options.queue_max, QUEUE_BYTES_MAX);
        let counters = Arc::new(Counters::default());
        let online = Arc::<Mutex<HashSet<Key>>>::default();
        let known = Arc::<AtomicUsize>::default();
        delivering.tell(jobs.clone());
        table::start(
            store,
            options,
            delivering.clone(),
            Arc::clone(&counters),
            activity,
            (Arc::clone(&online), Arc::clone(&known)),
            jobs.clone(),
        )?;
        Ok(Self {
            jobs,
            delivering,
            counters,
            gate: Gate::default(),
            attachments: Arc::new(AtomicU64::new(1)),
            online,
            known,
        })
    }

    /// Attaches a consumer that gets messages while its credit lasts.
    pub fn subscribe(
        &self,
        flow: &Flow,
        credit: Credit,
        caller: &Caller,
        outlet: Arc<dyn Outlet>,
        on_end: OnEnd,
        reply: Box<dyn FnOnce(Result<Attached, Refusal>) + Send>,
    ) {
        self.attach(flow, caller, 0, on_end, reply, |key, attachment| {
            Taker::subscription(key, attachment, flow, credit, outlet)
        });
    }

    /// Attaches a consumer that asks for messages each time: see [`Attached::pull`].
    pub fn attach_puller(
        &self,
        flow: &Flow,
        caller: &Caller,
        outlet: Arc<dyn Outlet>,
        on_end: OnEnd,
        reply: Box<dyn FnOnce(Result<Attached, Refusal>) + Send>,
    ) {
        self.attach(flow, caller, 0, on_end, reply, |key, attachment| {
            Taker::puller(key, attachment, flow, outlet)
        });
    }

    fn attach(
        &self,
        flow: &Flow,
        caller: &Caller,
        number: u32,
        on_end: OnEnd,
        reply: Box<dyn FnOnce(Result<Attached, Refusal>) + Send>,
        taker: impl FnOnce(Key, u64) -> Taker,
    ) {
        if let Err((code, text)) = self.may_attach(flow, caller) {
            return reply(Err(Refusal::new(number, code, text)));
        }
        let attachment = self.attachments.fetch_add(1, Ordering::Relaxed);
        let key = Key::of(flow);
        let taker = Arc::new(taker(key.clone(), attachment));
        let job = Job::Attach {
            key,
            session: flow.session,
            flags: flow.flags,
            caller: caller.clone(),
            taker,
            on_end,
            reply,
        };
        if let Err(Job::Attach { reply, .. }) = self.jobs.ask(job) {
            reply(Err(busy(number)));
        }
    }

    /// Whether consumers may ask for messages, or are to go elsewhere.
    ///
    /// # Errors
    /// [`Code::Draining`] once the broker ends, [`Code::NotMaster`] while it is held.
    pub fn may_begin(&self) -> Result<(), (Code, String)> {
        self.gate
            .check("the broker is shutting down; ask another one, or again in a while")
    }

    fn may_attach(&self, flow: &Flow, caller: &Caller) -> Result<(), (Code, String)> {
        self.may_begin()?;
        may_consume(flow, caller)?;
        if let Err(error) = flow.filter.check() {
            return Err((Code::BadMessage, error.to_string()));
        }
        Ok(())
    }

    /// Acknowledges for the consumer's session, whether or not it is attached.
    pub fn ack(&self, flow: &Flow, caller: &Caller, ack: Ack, reply: Settled) {
        let number = ack.number;
        if let Err((code, text)) = may_consume(flow, caller) {
            return reply(Err(Refusal::new(number, code, text)));
        }
        let job = Job::Ack(Key::of(flow), As::Session(flow.session), ack, reply);
        settle(&self.jobs, job, number);
    }

    /// Refuses for the consumer's session, whether or not it is attached.
    pub fn nack(&self, flow: &Flow, caller: &Caller, nack: Nack, reply: Settled) {
        let number = nack.number;
        if let Err((code, text)) = may_consume(flow, caller) {
            return reply(Err(Refusal::new(number, code, text)));
        }
        let job = Job::Nack(Key::of(flow), As::Session(flow.session), nack, reply);
        settle(&self.jobs, job, number);
    }

    /// Holds on to messages for the consumer's session. A renewal that finds no room is one of many.
    pub fn renew(&self, flow: &Flow, caller: &Caller, renew: Renew) {
        if may_consume(flow, caller).is_ok() {
            let as_session = As::Session(flow.session);
            let _ = self.jobs.ask(Job::Renew(Key::of(flow), as_session, renew));
        }
    }

    /// From now on nobody is attached any more.
    pub fn stop_accepting(&self) {
        self.gate.end();
    }

    /// What holds consumers up.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Ends all subscriptions with `end`; what their consumers hold they may settle no more.
    pub fn end_all(&self, end: End) {
        self.jobs.tell(Job::EndAll(end));
    }

    /// Ends what is attached without the right to it. To be called when rights have changed.
    pub fn recheck(&self) {
        self.jobs.tell(Job::Recheck);
    }

    /// Ends the thread: nobody is told.
    pub fn stop(&self) {
        self.jobs.tell(Job::Stop);
    }

    /// Calls back with whether any consumer holds messages.
    pub fn is_anything_held(&self, reply: Box<dyn FnOnce(bool) + Send>) {
        self.jobs.tell(Job::IsAnythingHeld(reply));
    }

    /// What has come and gone.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many consumers are known, those included that may come back: as of the last look at their deadlines.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }

    /// How many consumers are attached.
    #[must_use]
    pub fn attached(&self) -> u64 {
        self.online.lock().len() as u64
    }

    /// Jobs that wait for the thread, and how many requests may. More only when many consumers go at once.
    #[must_use]
    pub fn queue(&self) -> (usize, usize) {
        (self.jobs.waiting(), self.jobs.jobs_max())
    }

    /// Whether a consumer is attached.
    #[must_use]
    pub fn is_attached(&self, subject: &str, group: &str, consumer: &str) -> bool {
        let key = Key {
            subject: subject.into(),
            group: group.into(),
            consumer: consumer.into(),
        };
        self.online.lock().contains(&key)
    }

    /// The room that delivers.
    #[must_use]
    pub fn delivering(&self) -> &Delivering {
        &self.delivering
    }
}

fn busy(number: u32) -> Refusal {
    Refusal::new(
        number,
        Code::Busy,
        "too many requests of consumers wait; try again in a moment",
    )
}

fn settle(jobs: &Mailbox<Job>, job: Job, number: u32) {
    if let Err(Job::Ack(.., reply) | Job::Nack(.., reply)) = jobs.ask(job) {
        reply(Err(busy(number)));
    }
}

fn may_consume(flow: &Flow, caller: &Caller) -> Result<(), (Code, String)> {
    let named = qmq_message::check_subject(&flow.subject)
        .and_then(|()| qmq_message::check_group(&flow.group))
        .and_then(|()| qmq_message::check_consumer(&flow.consumer));
    if let Err(error) = named {
        return Err((Code::BadMessage, error.to_string()));
    }
    if flow.session == 0 {
        return Err((Code::Malformed, "a session is not 0".to_owned()));
    }
    caller
        .check(Right::Consume, &flow.subject)
        .map_err(|refused| (Code::Denied, refused.to_string()))
}

/// A consumer that is attached. Dropping it leaves its session behind for `session_timeout`.
pub struct Attached {
    jobs: Mailbox<Job>,
    delivering: Delivering,
    taker: Arc<Taker>,
    key: Key,
    attachment: u64,
    /// Incarnation of the store.
    pub incarnation: u32,
    /// Whether the broker knew the session.
    pub resumed: bool,
    left: Option<Left>,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Attached {
    /// Grants more.
    pub fn credit(&self, credit: Credit) {
        self.taker.grant(credit);
        self.delivering.offer(&self.taker);
    }

    /// The outlet has room again.
    pub fn drained(&self) {
        self.delivering.offer(&self.taker);
    }

    /// Asks for messages once; the answer comes through the outlet, at the latest when the wait is over. `held` is dropped then.
    pub fn pull(&self, number: u32, messages: u32, bytes: u32, wait: Duration, held: Held) {
        match self.taker.ask(number, messages, bytes, wait, held) {
            Ok(()) => {
                self.delivering.offer(&self.taker);
                self.delivering.remind(&self.taker, wait);
            }
            Err(NotAsked::Busy) => {
                let text = "too many pulls of this consumer wait; pull again when one is answered";
                self.taker.refuse_pull(number, Code::Busy, text);
            }
            Err(NotAsked::Ended) => {
                let text = "another session has taken over the consumer, or it is gone; pull again";
                self.taker.refuse_pull(number, Code::Fenced, text);
            }
        }
    }

    /// Whether the broker has ended it: nothing comes any more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.taker.is_closed()
    }

    /// Acknowledges.
    pub fn ack(&self, ack: Ack, reply: Settled) {
        let number = ack.number;
        let attachment = As::Attachment(self.attachment);
        settle(
            &self.jobs,
            Job::Ack(self.key.clone(), attachment, ack, reply),
            number,
        );
    }

    /// Refuses.
    pub fn nack(&self, nack: Nack, reply: Settled) {
        let number = nack.number;
        let attachment = As::Attachment(self.attachment);
        settle(
            &self.jobs,
            Job::Nack(self.key.clone(), attachment, nack, reply),
            number,
        );
    }

    /// Holds on to messages. A renewal that finds no room is one of many.
    pub fn renew(&self, renew: Renew) {
        let attachment = As::Attachment(self.attachment);
        let _ = self
            .jobs
            .ask(Job::Renew(self.key.clone(), attachment, renew));
    }

    /// Goes for good: what the consumer holds is the others' at once.
    pub fn leave(mut self, left: Left) {
        self.left = Some(left);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.delivering.withdraw(&self.taker);
        self.taker.forget_pulls();
        // The room's own thread comes here too. There is one of these for each that was attached, so this is bounded.
        self.jobs.tell(Job::Detach {
            key: self.key.clone(),
            attachment: self.attachment,
            left: self.left,
        });
    }
}
