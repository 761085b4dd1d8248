//! The `restart` and `load` rows.

use std::io;
use std::time::Duration;

use qmq_sched::{Options, Scheduler};

use super::super::limits;
use super::super::meter::{Meter, Resources};
use super::super::reopen::{files_named, tail};
use super::super::report::{Measured, Row};
use super::super::store::{failed, io_failed};
use super::{Plan, parts};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;

/// How often the scheduler is opened.
const TIMES: u64 = 5;

/// Bytes of an entry of the index.
const ENTRY_BYTES: u64 = 32;

/// One row in the making.
struct Making {
    meter: Meter,
    latency: Latency,
    limit: Duration,
    resources: Resources,
}

impl Making {
    fn new(plan: &Plan) -> Self {
        Self {
            meter: Meter::new(&plan.dir),
            latency: Latency::new(),
            limit: Duration::ZERO,
            resources: Resources::default(),
        }
    }

    /// Measures one of several times.
    fn piece<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<T> {
        let before = self.meter.elapsed;
        let done = self.meter.piece(work)?;
        self.latency.record(self.meter.elapsed - before);
        self.resources = Resources::now()?;
        Ok(done)
    }

    fn row(&self, plan: &Plan, name: &'static str, messages: u64) -> Row {
        let measured = Measured {
            name,
            messages,
            body_bytes: plan.body_bytes(messages),
            meter: &self.meter,
            latency: &self.latency,
            resources: self.resources,
        };
        let limit = self.limit.max(Duration::from_nanos(1));
        Row::new(&measured, messages as f64 / limit.as_secs_f64())
    }
}

/// Opens the scheduler again, several times, and each time takes the first look. Gives `load`, `restart` and what is open.
pub(super) fn run(plan: &Plan, mut scheduler: Scheduler) -> Result<(Row, Row, Scheduler), Failure> {
    let (mut load, mut restart) = (Making::new(plan), Making::new(plan));
    // The window is filled by an eighth at a time.
    let window = plan
        .pending
        .min(Options::default().window_entries as u64 / 8);
    for _ in 0..TIMES {
        drop(scheduler);
        scheduler = restart.piece(|| plan.open()).map_err(|e| io_failed(&e))??;
        restart.limit += read_again(plan, &scheduler).map_err(|e| io_failed(&e))?;
        load.piece(|| scheduler.next_due())
            .map_err(|e| io_failed(&e))?
            .map_err(|e| failed("cannot see what is due next", &e))?;
        load.limit += parts(&plan.index(), "run-", window * ENTRY_BYTES)
            .and_then(|parts| limits::read_time(&parts))
            .map_err(|e| io_failed(&e))?;
    }
    let load = load.row(plan, "load", window * TIMES);
    let restart = restart.row(plan, "restart", plan.pending * TIMES);
    Ok((load, restart, scheduler))
}

/// How long reading takes what the open has read.
fn read_again(plan: &Plan, scheduler: &Scheduler) -> io::Result<Duration> {
    let (log, store) = (plan.log(), scheduler.store());
    let replayed = store.open_report().replayed_bytes;
    let mut parts = tail(&log, store.watermarks().written, replayed)?;
    for dir in [log, plan.index()] {
        parts.extend(files_named(&dir, "checkpoint")?);
    }
    limits::read_time(&parts)
}
