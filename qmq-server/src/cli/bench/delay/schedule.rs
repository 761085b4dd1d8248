//! The `schedule` row.

use std::fs;
use std::time::Instant;

use qmq_sched::{DelayId, Error, Scheduler};
use qmq_store::{Durability, Options, Store};

use super::super::meter::{Meter, Resources};
use super::super::report::{Measured, Row};
use super::super::store::{failed, io_failed};
use super::{Plan, ms, now};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::progress;

/// With more messages than this the limit is measured only before: it takes long.
const TWICE_MAX: u64 = 10_000_000;

/// Ids that are kept for later.
const IDS_MAX: u64 = 10_000;

const MINUTE_MS: u64 = 60_000;

/// Messages between two movements of the progress bar.
const STEP: u64 = 1_000;

/// Schedules everything that is pending throughout, and gives some of the ids.
pub(super) fn run(plan: &Plan, scheduler: &Scheduler) -> Result<(Row, Vec<DelayId>), Failure> {
    let before = own_rate(plan)?;
    let bar = progress::counted("schedule", plan.pending);
    let mut meter = Meter::new(&plan.dir);
    let mut latency = Latency::new();
    let mut ids = Vec::new();
    let (message, scale_ms) = (plan.message(), u64::from(plan.scale_minutes) * MINUTE_MS);
    let bucket_ms = (ms(now()) + plan.ahead_minutes * MINUTE_MS).next_multiple_of(scale_ms);
    let kept = plan.pending.div_ceil(IDS_MAX);
    let scheduled = meter
        .piece(|| {
            for (number, random) in (0..plan.pending).zip(randoms()) {
                let start = Instant::now();
                let due_ms = bucket_ms + random % scale_ms;
                let id = scheduler.schedule_with(due_ms, &message, Durability::Buffered)?;
                latency.record(start.elapsed());
                if number % kept == 0 {
                    ids.push(id);
                }
                if number % STEP == 0 {
                    bar.set_position(number);
                }
            }
            Ok::<_, Error>(())
        })
        .map_err(|e| io_failed(&e))?;
    bar.finish_and_clear();
    scheduled.map_err(|e| failed("cannot schedule", &e))?;
    let measured = Measured {
        name: "schedule",
        messages: plan.pending,
        body_bytes: plan.body_bytes(plan.pending),
        meter: &meter,
        latency: &latency,
        resources: Resources::now().map_err(|e| io_failed(&e))?,
    };
    let limit = if plan.pending > TWICE_MAX {
        before
    } else {
        before.max(own_rate(plan)?)
    };
    Ok((Row::new(&measured, limit), ids))
}

/// Messages a second that a store takes by itself.
fn own_rate(plan: &Plan) -> Result<f64, Failure> {
    let dir = plan.dir.join("limit");
    let (message, messages) = (plan.message(), plan.pending);
    let append = || {
        let store = Store::open(&dir, Options::default())?;
        let start = Instant::now();
        for _ in 0..messages {
            store.append_with(&message, Durability::Buffered)?;
        }
        Ok::<_, Box<dyn std::error::Error>>(messages as f64 / start.elapsed().as_secs_f64())
    };
    let rate = append().map_err(|e| failed("cannot append to a store", &*e))?;
    fs::remove_dir_all(&dir).map_err(|e| io_failed(&e))?;
    Ok(rate)
}

/// Numbers without a pattern, the same every time.
pub(super) fn randoms() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9E37_79B9_7F4A_7C15_u64), |state| {
        let mut state = *state;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state)
    })
}
