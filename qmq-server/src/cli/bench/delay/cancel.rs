//! The `cancel` row.

use std::time::Instant;

use qmq_sched::{Cancelled, DelayId, Error, Scheduler};
use qmq_store::Durability;

use super::super::meter::{Meter, Resources};
use super::super::report::{Measured, Row};
use super::super::store::{failed, io_failed};
use super::Plan;
use super::schedule::randoms;
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;

/// Cancels these, which are pending, in random order.
pub(super) fn run(
    plan: &Plan,
    scheduler: &Scheduler,
    mut ids: Vec<DelayId>,
    limit_msgs_per_s: f64,
) -> Result<Row, Failure> {
    for (last, random) in (1..ids.len()).rev().zip(randoms()) {
        ids.swap(last, (random % (last as u64 + 1)) as usize);
    }
    let mut meter = Meter::new(&plan.dir);
    let mut latency = Latency::new();
    let mut missed = 0;
    meter
        .piece(|| {
            for &id in &ids {
                let start = Instant::now();
                let answer = scheduler.cancel_with(id, Durability::Buffered)?;
                latency.record(start.elapsed());
                missed += u64::from(answer != Cancelled::Done);
            }
            Ok::<_, Error>(())
        })
        .map_err(|e| io_failed(&e))?
        .map_err(|e| failed("cannot cancel", &e))?;
    if missed > 0 {
        return Err(Failure::new(
            format!(
                "{missed} of {} pending messages could not be cancelled",
                ids.len()
            ),
            "this is a defect of the scheduler",
        ));
    }
    let messages = ids.len() as u64;
    let measured = Measured {
        name: "cancel",
        messages,
        body_bytes: plan.body_bytes(messages),
        meter: &meter,
        latency: &latency,
        resources: Resources::now().map_err(|e| io_failed(&e))?,
    };
    Ok(Row::new(&measured, limit_msgs_per_s))
}
