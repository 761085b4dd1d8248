//! Messages in: checked, appended once, answered when they are as safe as was asked.
//!
//! One thread appends. It takes what has come in the meantime in one go, so that under load many requests share an append and a sync, and it alone
//! owns what is remembered of producers, so that a repeat that overtakes its first try cannot be appended twice. What it accepts it notes in the log,
//! with the messages; before its first round it reads the end of the log, so that a broker that was killed, or is another one on the same log, knows it too.

mod dedup;
mod note;
mod writer;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};
use qmq_store::{Durability, Store};
use qmq_wire::{Code, Produce, Produced, Refused};

use super::refusals::Refusals;
use super::{Caller, Gate, Histogram, Taken, TakesMessages};
use crate::access::Right;

/// How the room works.
#[derive(Clone, Debug)]
pub struct ProduceOptions {
    /// What `Durability::Default` means.
    pub durability: Durability,
    /// Whether a message may create its subject.
    pub auto_create: Arc<AtomicBool>,
    /// Numbers remembered of each producer: 1 to 1,000,000.
    pub dedup_window: u64,
    /// Producers remembered: 1 to 1,000,000.
    pub dedup_producers_max: usize,
    /// Bytes at the end of the log from which a start remembers what was accepted before; 0: none.
    pub dedup_log_bytes: u64,
    /// Requests that wait for the thread: 1 to 1,000,000.
    pub queue_max: usize,
}

impl Default for ProduceOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            auto_create: Arc::new(AtomicBool::new(true)),
            dedup_window: 4096,
            dedup_producers_max: 10_000,
            dedup_log_bytes: 256 << 20,
            queue_max: 65_536,
        }
    }
}

/// Ordered producers of whom a refused message is remembered although the thread has not seen it.
const PASSED_OVER_MAX: usize = 100_000;

/// How an answer goes back. Called once, on a thread of the room or of the store: it must not block.
pub type Reply = Box<dyn FnOnce(Produced) + Send>;

/// What holds a budget until the messages are in the log.
pub type Held = Box<dyn Any + Send>;

/// The room. A clone is the same.
#[derive(Clone, Debug)]
pub struct Producing {
    queue: Sender<writer::Job>,
    counters: Arc<Counters>,
    gate: Gate,
    passed_over: writer::PassedOver,
}

/// What has come and gone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages accepted.
    pub accepted: AtomicU64,
    /// Bytes of their attributes and bodies.
    pub accepted_bytes: AtomicU64,
    /// Messages refused, by code.
    pub refused: Refusals,
    /// Messages that were repeats and got the first answer.
    pub repeated: AtomicU64,
    /// From the arrival of a request to its answer.
    pub time: Histogram,
    /// The disk was too full for the last message that was to be appended.
    pub disk_full: AtomicBool,
}

impl Counters {
    fn answered(&self, answer: &Produced, arrived: Instant) {
        for refused in &answer.refused {
            self.refused.add(refused.code);
        }
        self.time.observe(arrived.elapsed());
    }
}

impl Producing {
    /// Starts the room's thread, which ends when the last clone is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        store: Store,
        options: ProduceOptions,
        activity: Arc<super::administer::Activity>,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = crossbeam_channel::bounded(options.queue_max);
        let counters = Arc::new(Counters::default());
        let passed_over = writer::PassedOver::default();
        writer::start(
            store,
            options,
            jobs,
            Arc::clone(&counters),
            activity,
            Arc::clone(&passed_over),
        )?;
        Ok(Self {
            passed_over,
            queue,
            counters,
            gate: Gate::default(),
        })
    }

    /// Takes a request. Messages without the right to their subject are refused, the others appended. `held` is dropped once they are in the log.
    pub fn submit(&self, produce: Produce, caller: &Caller, held: Held, reply: Reply) {
        let (arrived, counters) = (Instant::now(), Arc::clone(&self.counters));
        let reply: Reply = Box::new(move |answer| {
            counters.answered(&answer, arrived);
            reply(answer);
        });
        let ended = "the broker is shutting down; send to another one, or again in a while";
        if let Err((code, text)) = self.gate.check(ended) {
            return reply(refuse_all(&produce, code, &text));
        }
        let messages = produce.messages.len() as u64;
        if produce.header.first.checked_add(messages).is_none() {
            let text =
                "the numbers of the messages go beyond 64 bits; begin again with a new producer";
            return reply(refuse_all(&produce, Code::BadMessage, text));
        }
        let mut denied = Vec::new();
        let mut last: Option<(&[u8], bool)> = None;
        for (index, message) in produce.messages.iter().enumerate() {
            let allowed = match last {
                Some((subject, allowed)) if *subject == message.subject => allowed,
                _ => {
                    // What is not UTF-8 is refused by its name, later.
                    let allowed = std::str::from_utf8(&message.subject)
                        .map_or(true, |subject| caller.may(Right::Produce, subject));
                    last = Some((&message.subject, allowed));
                    allowed
                }
            };
            if !allowed {
                denied.push(index as u32);
            }
        }
        let deadline = (produce.header.deadline_ms > 0)
            .then(|| Instant::now() + Duration::from_millis(u64::from(produce.header.deadline_ms)));
        let job = writer::Job {
            produce,
            denied,
            deadline,
            held,
            reply,
        };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.queue.try_send(job)
        {
            let header = &job.produce.header;
            if header.ordered {
                let mut passed_over = self.passed_over.lock();
                if passed_over.len() < PASSED_OVER_MAX {
                    let number = passed_over.entry(header.producer).or_insert(header.first);
                    *number = header.first.min(*number);
                }
            }
            let text = "too many requests wait to be appended; send again in a moment";
            (job.reply)(refuse_all(&job.produce, Code::Busy, text));
        }
    }

    /// Requests that wait for the thread, and how many may.
    #[must_use]
    pub fn queue(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.capacity().unwrap_or(0))
    }

    /// From now on messages are refused with [`Code::Draining`].
    pub fn stop_accepting(&self) {
        self.gate.end();
    }

    /// What holds messages up.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What has come and gone.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl TakesMessages for Producing {
    fn submit(
        &self,
        produce: Produce,
        caller: &Caller,
        held: Box<dyn Any + Send>,
        reply: Box<dyn FnOnce(Taken) + Send>,
    ) {
        let reply = Box::new(|produced| reply(Taken::Produced(produced)));
        Self::submit(self, produce, caller, held, reply);
    }
}

fn refuse_all(produce: &Produce, code: Code, text: &str) -> Produced {
    Produced {
        number: produce.header.number,
        accepted: Vec::new(),
        refused: refused(0..produce.messages.len() as u32, code, text),
    }
}

/// Refusals of these messages for one reason.
fn refused(indexes: impl IntoIterator<Item = u32>, code: Code, text: &str) -> Vec<Refused> {
    let each = indexes.into_iter().map(|index| Refused {
        index,
        code,
        text: text.to_owned(),
    });
    each.collect()
}
