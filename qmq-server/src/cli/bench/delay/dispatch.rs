//! The `dispatch` row: how late messages are, on the real clock.

use std::thread;
use std::time::{Duration, Instant};

use qmq_sched::{DelayId, Error, Scheduler};
use qmq_store::Durability;

use super::super::meter::{Meter, Resources};
use super::super::report::{Lateness, Measured, Row};
use super::super::store::{failed, io_failed};
use super::{Plan, ms, now};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::output::note;
use crate::cli::progress;

/// Messages of a batch.
const BATCH_MAX: u64 = 1_000;

/// Messages that a call hands out at most.
const DUE_MAX: usize = 10_000;

/// After so long without any message the rest are taken as lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Debug)]
struct Dispatched {
    messages: u64,
    calls: Latency,
    late: Latency,
    early: u64,
}

/// Schedules messages for the next seconds and takes them as they fall due; `schedule_rate` foretells how soon they can begin to.
pub(super) fn run(plan: &Plan, scheduler: &Scheduler, schedule_rate: f64) -> Result<Row, Failure> {
    let messages = plan.rate * if plan.at_once { 1 } else { plan.seconds };
    let lead = Duration::from_secs_f64(2.0 + 3.0 * messages as f64 / schedule_rate);
    let begin = now() + lead;
    let mut whole = Meter::new(&plan.dir);
    whole
        .piece(|| schedule(plan, scheduler, ms(begin), messages))
        .map_err(|e| io_failed(&e))?
        .map_err(|e| failed("cannot schedule", &e))?;
    let left = begin.saturating_sub(now());
    if left.is_zero() {
        note("scheduling took longer than foreseen: what was late from the start counts as late");
    }
    thread::sleep(left);
    let mut meter = Meter::new(&plan.dir);
    let done = meter
        .piece(|| take(scheduler, messages))
        .map_err(|e| io_failed(&e))?
        .map_err(|e| failed("cannot take what is due", &e))?;
    if done.messages < messages {
        return Err(Failure::new(
            format!("{} of {messages} messages were handed out", done.messages),
            "this is a defect of the scheduler if the disk is sound and has room",
        ));
    }
    let measured = Measured {
        name: "dispatch",
        messages,
        body_bytes: plan.body_bytes(messages),
        meter: &meter,
        latency: &done.calls,
        resources: Resources::now().map_err(|e| io_failed(&e))?,
    };
    let row = Row::new(&measured, plan.rate as f64);
    let written = whole.written_bytes() + meter.written_bytes();
    Ok(Row {
        write_amplification: written as f64 / plan.body_bytes(messages).max(1) as f64,
        lateness: Some(Lateness::new(done.early, &done.late)),
        ..row
    })
}

/// Spreads messages evenly from `begin_ms` on, if they do not come at once.
fn schedule(plan: &Plan, scheduler: &Scheduler, begin_ms: u64, messages: u64) -> Result<(), Error> {
    let message = plan.message();
    let batch_max = (4 << 20) / (plan.size as u64 + 1);
    let batch_max = batch_max.clamp(1, BATCH_MAX);
    let after_ms = |number| match plan.at_once {
        true => 0,
        false => number * 1_000 / plan.rate,
    };
    for first in (0..messages).step_by(batch_max as usize) {
        let batch: Vec<_> = (first..messages.min(first + batch_max))
            .map(|number| (begin_ms + after_ms(number), message.clone()))
            .collect();
        scheduler.schedule_batch(&batch, Durability::Buffered)?;
    }
    Ok(())
}

/// Takes messages when they fall due, until all have come.
fn take(scheduler: &Scheduler, messages: u64) -> Result<Dispatched, Error> {
    let bar = progress::counted("dispatch", messages);
    let mut done = Dispatched {
        messages: 0,
        calls: Latency::new(),
        late: Latency::new(),
        early: 0,
    };
    let mut heard = Instant::now();
    while done.messages < messages && heard.elapsed() < SILENCE_MAX {
        let (asked_ms, start) = (ms(now()), Instant::now());
        let fired = scheduler.due(asked_ms, DUE_MAX)?;
        let (took, seen) = (start.elapsed(), now());
        if fired.is_empty() {
            scheduler.wait_due(now(), SILENCE_MAX)?;
            continue;
        }
        heard = Instant::now();
        done.calls.record(took);
        for one in &fired {
            let due = Duration::from_millis(one.due_ms);
            // By the clock that it was given: the call takes time itself.
            done.early += u64::from(one.due_ms > asked_ms);
            done.late.record(seen.saturating_sub(due));
        }
        let ids: Vec<DelayId> = fired.iter().map(|one| one.id).collect();
        done.messages += scheduler.dispatched(&ids)? as u64;
        bar.set_position(done.messages);
    }
    bar.finish_and_clear();
    Ok(done)
}
