//! The `append` and the `async` row.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indicatif::ProgressBar;
use qmq_store::{Durability, Error, Store};

use super::super::limits;
use super::super::meter::{Meter, Resources};
use super::super::report::{Following, Measured, Row};
use super::super::store::{failed, io_failed};
use super::pair::{OnLag, Pair};
use super::{Plan, repl_failed};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::progress;

/// Messages between two movements of the progress bar.
const STEP: u64 = 1_000;
/// One message of so many is asked for its lag.
pub(super) const LAG_OF: u64 = 64;

/// Lags, as the thread that drives the members tells them.
#[derive(Clone, Debug)]
pub(super) struct Lags(Arc<Mutex<Latency>>);

impl Lags {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Latency::new())))
    }

    pub(super) fn sink(&self) -> OnLag {
        let lags = Arc::clone(&self.0);
        Box::new(move |lag| {
            let mut lags = lags.lock().unwrap_or_else(PoisonError::into_inner);
            lags.record(lag);
        })
    }

    pub(super) fn following(&self) -> Following {
        Following::new(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The store by itself.
pub(super) fn alone(plan: &Plan) -> Result<Row, Failure> {
    let scratch = plan.dir.join("limit");
    let limit = || {
        limits::copy_rate(&scratch, plan.messages, plan.record_bytes(), 1)
            .map_err(|e| io_failed(&e))
    };
    let before = limit()?;
    let folders = plan.folders();
    let [dir, _] = folders.paths();
    let store = Store::open(dir, plan.options()).map_err(|e| failed("cannot open a store", &e))?;
    let bar = progress::counted("append", plan.messages);
    let mut meter = Meter::new(&plan.dir);
    let mut latency = Latency::new();
    let appended = meter
        .piece(|| append(plan, &store, &mut latency, &bar, &mut |_, _, _| {}))
        .map_err(|e| io_failed(&e))?;
    bar.finish_and_clear();
    appended.map_err(|e| failed("cannot append", &e))?;
    let row = row(plan, "append", &meter, &latency, before.max(limit()?))?;
    store.close().map_err(|e| failed("cannot close", &e))?;
    folders.remove()?;
    Ok(row)
}

/// The master, while its slave follows.
pub(super) fn following(plan: &Plan) -> Result<Row, Failure> {
    let folders = plan.folders();
    let lags = Lags::new();
    let pair = Pair::start(folders.paths(), &plan.options(), lags.sink())
        .and_then(Pair::following)
        .map_err(|e| repl_failed(&e))?;
    let bar = progress::counted("async", plan.messages);
    let mut meter = Meter::new(&plan.dir);
    let mut latency = Latency::new();
    let mut told = |number: u64, end, began| {
        if number.is_multiple_of(LAG_OF) {
            pair.mark(end, began);
        }
        pair.wake();
    };
    let appended = meter
        .piece(|| append(plan, pair.store(), &mut latency, &bar, &mut told))
        .map_err(|e| io_failed(&e))?;
    bar.finish_and_clear();
    appended.map_err(|e| failed("cannot append", &e))?;
    let mut row = row(plan, "async", &meter, &latency, 0.0)?;
    pair.finish().map_err(|e| repl_failed(&e))?;
    folders.remove()?;
    row.following = Some(lags.following());
    Ok(row)
}

/// Appends all messages; `each` is told number, end and begin of each.
fn append(
    plan: &Plan,
    store: &Store,
    latency: &mut Latency,
    bar: &ProgressBar,
    each: &mut dyn FnMut(u64, u64, Instant),
) -> Result<(), Error> {
    let message = plan.message();
    for number in 0..plan.messages {
        let began = Instant::now();
        let at = store.append_with(&message, Durability::Buffered)?;
        latency.record(began.elapsed());
        each(number, at.end_offset, began);
        if number.is_multiple_of(STEP) {
            bar.set_position(number);
        }
    }
    Ok(())
}

pub(super) fn row(
    plan: &Plan,
    name: &'static str,
    meter: &Meter,
    latency: &Latency,
    limit: f64,
) -> Result<Row, Failure> {
    row_of(plan, plan.messages, name, meter, latency, limit)
}

pub(super) fn row_of(
    plan: &Plan,
    messages: u64,
    name: &'static str,
    meter: &Meter,
    latency: &Latency,
    limit: f64,
) -> Result<Row, Failure> {
    let measured = Measured {
        name,
        messages,
        body_bytes: messages * plan.size as u64,
        meter,
        latency,
        resources: Resources::now().map_err(|e| io_failed(&e))?,
    };
    let mut row = Row::new(&measured, limit);
    row.core_wait = Some(meter.core_wait());
    Ok(row)
}
