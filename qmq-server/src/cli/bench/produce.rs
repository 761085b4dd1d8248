//! The `append` row.

use std::path::Path;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use qmq_store::{Durability, Error, Message, Store};

use super::limits;
use super::meter::{Meter, Resources};
use super::report::{Measured, Row};
use super::store::{Plan, failed, io_failed};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::progress;

/// Calls between two movements of the progress bar.
const CALLS_A_STEP: u64 = 1_000;

/// Appends all messages from the plan's threads, with the limit measured before and after.
pub(super) fn run(plan: &Plan, store: &Store, scratch: &Path) -> Result<Row, Failure> {
    let calls = plan.messages / plan.append_batch;
    let messages = plan.stored();
    let before = limit(plan, scratch)?;
    let bar = progress::counted("append", messages);
    let mut meter = Meter::new(&plan.dir);
    let lists: Vec<Vec<Message>> = (0..plan.subjects)
        .map(|subject| plan.batch_of(subject))
        .collect();
    let appended = meter
        .piece(|| {
            thread::scope(|scope| {
                let threads: Vec<_> = (0..plan.threads)
                    .map(|thread| {
                        let (lists, bar) = (&lists, &bar);
                        scope.spawn(move || append_part(plan, store, thread, calls, lists, bar))
                    })
                    .collect();
                let mut latency = Latency::new();
                for thread in threads {
                    // A thread that panicked has no measurement to give.
                    latency.merge(&thread.join().map_err(|_| Error::Closed)??);
                }
                Ok::<_, Error>(latency)
            })
        })
        .map_err(|e| io_failed(&e))?;
    bar.finish_and_clear();
    let latency = appended.map_err(|e| failed("cannot append", &e))?;
    let resources = Resources::now().map_err(|e| io_failed(&e))?;
    let after = limit(plan, scratch)?;
    let measured = Measured {
        name: "append",
        messages,
        body_bytes: messages * plan.size as u64,
        meter: &meter,
        latency: &latency,
        resources,
    };
    Ok(Row::new(&measured, before.max(after)))
}

/// The share of one thread: every `threads`-th call, subject after subject.
fn append_part(
    plan: &Plan,
    store: &Store,
    thread: usize,
    calls: u64,
    lists: &[Vec<Message>],
    bar: &indicatif::ProgressBar,
) -> Result<Latency, Error> {
    let mut latency = Latency::new();
    let mut steps = 0;
    for call in (thread as u64..calls).step_by(plan.threads) {
        let list = &lists[usize::try_from(call).unwrap_or(0) % lists.len()];
        let start = Instant::now();
        if let [message] = list.as_slice() {
            store.append_with(message, plan.durability)?;
        } else {
            store.append_batch(list, plan.durability)?;
        }
        latency.record(start.elapsed());
        steps += 1;
        if steps % CALLS_A_STEP == 0 {
            bar.inc(CALLS_A_STEP * plan.append_batch);
        }
    }
    Ok(latency)
}

/// The best that the machine can do with records of this length at this durability.
fn limit(plan: &Plan, scratch: &Path) -> Result<f64, Failure> {
    let rate = if plan.durability == Durability::Buffered {
        limits::copy_rate(scratch, plan.messages, plan.record_bytes(), plan.threads)
    } else {
        // As many records a sync as there can be under way at a time.
        let group = plan.threads as u64 * plan.append_batch;
        limits::sync_rate(scratch, plan.messages, plan.record_bytes(), group)
    };
    rate.map_err(|e| io_failed(&e))
}

impl Plan {
    /// The messages of one call.
    fn batch_of(&self, subject: usize) -> Vec<Message> {
        let body = Bytes::from(limits::sample(self.size));
        let message = || Message::new(self.subject(subject), body.clone());
        (0..self.append_batch).map(|_| message()).collect()
    }
}
