//! Messages in, for later: checked, scheduled once, answered with their ids when they are as safe as was asked.
//!
//! One thread schedules. It takes what has come in the meantime in one go, so that under load many requests share an append and a sync. It remembers the
//! messages that it scheduled last, so that a repeat gets the first answer: in memory alone, so a producer that asks again across a restart may
//! have its message twice.

mod asked;
mod repeats;
mod writer;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};
use qmq_sched::Scheduler;
use qmq_store::Durability;
use qmq_wire::{Code, Produce, Refused, Scheduled};

pub use asked::{DUE, for_broker};
pub(crate) use writer::{code, too_far};

use super::gate::Gate;
use super::refusals::Refusals;
use super::{Caller, Histogram, Taken, TakesMessages};
use crate::access::Right;

/// How the room works.
#[derive(Clone, Debug)]
pub struct ScheduleOptions {
    /// What `Durability::Default` means here.
    pub durability: Durability,
    /// Longest time from now to a due time.
    pub delay_max: Duration,
    /// Longest body in bytes.
    pub body_bytes_max: u64,
    /// Messages that were scheduled last and are known again: 0 to 10,000,000, some 100 bytes each.
    pub repeats_max: usize,
    /// Requests that wait for the thread: 1 to 1,000,000.
    pub queue_max: usize,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            delay_max: Duration::from_secs(730 * 86_400),
            body_bytes_max: 16 << 20,
            repeats_max: 262_144,
            queue_max: 50_000,
        }
    }
}

/// How an answer goes back. Called once, on a thread of the room or of the store: it must not block.
type Reply = Box<dyn FnOnce(Scheduled) + Send>;

/// The room. A clone is the same.
#[derive(Clone, Debug)]
pub struct Scheduling {
    queue: Sender<writer::Job>,
    counters: Arc<Counters>,
    gate: Gate,
}

/// What has come.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages scheduled.
    pub accepted: AtomicU64,
    /// Bytes of their attributes and bodies.
    pub accepted_bytes: AtomicU64,
    /// Messages whose time was past when they came.
    pub past: AtomicU64,
    /// Messages refused, by code.
    pub refused: Refusals,
    /// Messages that were repeats and got the first answer.
    pub repeated: AtomicU64,
    /// From the arrival of a request to its answer.
    pub time: Histogram,
    /// The disk was too full for the last message that was to be scheduled.
    pub disk_full: AtomicBool,
}

impl Scheduling {
    /// Starts the room's thread, which ends when the last clone is dropped. No message to `reserved` is taken.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        scheduler: Scheduler,
        options: ScheduleOptions,
        reserved: &'static str,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = crossbeam_channel::bounded(options.queue_max.max(1));
        let counters = Arc::new(Counters::default());
        writer::start(scheduler, options, reserved, jobs, Arc::clone(&counters))?;
        Ok(Self {
            queue,
            counters,
            gate: Gate::default(),
        })
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

    /// Whether it takes messages.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What has come.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a request; see [`TakesMessages::submit`].
    pub fn submit(
        &self,
        produce: Produce,
        caller: &Caller,
        held: Box<dyn Any + Send>,
        reply: Reply,
    ) {
        let (arrived, counters) = (Instant::now(), Arc::clone(&self.counters));
        let reply: Reply = Box::new(move |answer| {
            for refused in &answer.refused {
                counters.refused.add(refused.code);
            }
            counters.time.observe(arrived.elapsed());
            reply(answer);
        });
        let ending = "the delay server is shutting down; send to another one, or again in a while";
        if let Err((code, text)) = self.gate.check(ending) {
            return reply(refuse_all(&produce, code, &text));
        }
        let messages = produce.messages.len() as u64;
        if produce.header.first.checked_add(messages).is_none() {
            let text =
                "the numbers of the messages go beyond 64 bits; begin again with a new producer";
            return reply(refuse_all(&produce, Code::BadMessage, text));
        }
        let denied = denied(&produce, caller);
        let deadline_ms = u64::from(produce.header.deadline_ms);
        let deadline = (deadline_ms > 0).then(|| arrived + Duration::from_millis(deadline_ms));
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
            let text = "too many requests wait to be scheduled; send again in a moment";
            (job.reply)(refuse_all(&job.produce, Code::Busy, text));
        }
    }
}

impl TakesMessages for Scheduling {
    fn submit(
        &self,
        produce: Produce,
        caller: &Caller,
        held: Box<dyn Any + Send>,
        reply: Box<dyn FnOnce(Taken) + Send>,
    ) {
        let reply = Box::new(|scheduled| reply(Taken::Scheduled(scheduled)));
        Self::submit(self, produce, caller, held, reply);
    }
}

/// Indexes of the messages without the right to their subject, in order.
fn denied(produce: &Produce, caller: &Caller) -> Vec<u32> {
    let mut denied = Vec::new();
    let mut last: Option<(&[u8], bool)> = None;
    for (index, message) in (0_u32..).zip(&produce.messages) {
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
            denied.push(index);
        }
    }
    denied
}

fn refuse_all(produce: &Produce, code: Code, text: &str) -> Scheduled {
    let indexes = 0..produce.messages.len() as u32;
    let refused = indexes.map(|index| Refused {
        index,
        code,
        text: text.to_owned(),
    });
    Scheduled {
        number: produce.header.number,
        accepted: Vec::new(),
        refused: refused.collect(),
    }
}
