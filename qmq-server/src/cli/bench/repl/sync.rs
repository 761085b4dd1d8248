//! The `sync` and the `one` row: appends that wait for the slave.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use qmq_store::{Durability, Error, Store};

use super::super::meter::Meter;
use super::super::report::Row;
use super::super::store::{failed, io_failed};
use super::append::{LAG_OF, Lags, row, row_of};
use super::pair::Pair;
use super::{Plan, repl_failed};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::progress;

const IN_FLIGHT: u64 = 4_096;
/// An appender that had to wait goes on when there is so much room: waking it costs more than a message.
const ROOM: u64 = IN_FLIGHT / 4;
/// More are not needed for percentiles.
const ONE_MAX: u64 = 5_000;
/// One call of so many is timed, where many are in flight.
const TIMED: u64 = 16;

/// What the callbacks share with the appender.
struct Flight {
    done: AtomicU64,
    /// The appender is to be woken when so many are done.
    wanted: AtomicU64,
    appender: Thread,
    failure: Mutex<Option<Error>>,
    latency: Mutex<Latency>,
}

impl Flight {
    fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            appender: thread::current(),
            failure: Mutex::new(None),
            latency: Mutex::new(Latency::new()),
        }
    }

    fn landed(&self, outcome: Result<(), Error>, began: Option<Instant>) {
        if let Err(error) = outcome {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        if let Some(began) = began {
            let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
            latency.record(began.elapsed());
        }
        let done = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        let wanted = &self.wanted;
        if done >= wanted.load(Ordering::SeqCst)
            && wanted.swap(u64::MAX, Ordering::SeqCst) != u64::MAX
        {
            self.appender.unpark();
        }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits until so many are done.
    fn wait(&self, done: u64) {
        while self.done() < done {
            self.wanted.store(done, Ordering::SeqCst);
            if self.done() < done {
                thread::park_timeout(Duration::from_millis(10));
            }
        }
        self.wanted.store(u64::MAX, Ordering::SeqCst);
    }
}

/// The store by itself, many in flight that wait for its sync.
pub(super) fn synced(plan: &Plan) -> Result<Row, Failure> {
    let folders = plan.folders();
    let [dir, _] = folders.paths();
    let store = Store::open(dir, plan.options()).map_err(|e| failed("cannot open a store", &e))?;
    let row = in_flight(plan, "synced", &store, Durability::Synced, &|_, _, _| {})?;
    store.close().map_err(|e| failed("cannot close", &e))?;
    folders.remove()?;
    Ok(row)
}

/// Many in flight that wait for the slave.
pub(super) fn run(plan: &Plan) -> Result<Row, Failure> {
    let folders = plan.folders();
    let lags = Lags::new();
    let pair = Pair::start(folders.paths(), &plan.options(), lags.sink())
        .and_then(Pair::following)
        .map_err(|e| repl_failed(&e))?;
    let told = |number: u64, end, began| {
        if number.is_multiple_of(LAG_OF) {
            pair.mark(end, began);
        }
        pair.wake();
    };
    let mut row = in_flight(plan, "sync", pair.store(), Durability::Replicated, &told)?;
    pair.finish().map_err(|e| repl_failed(&e))?;
    folders.remove()?;
    row.following = Some(lags.following());
    Ok(row)
}

fn in_flight(
    plan: &Plan,
    name: &'static str,
    store: &Store,
    durability: Durability,
    told: &dyn Fn(u64, u64, Instant),
) -> Result<Row, Failure> {
    let bar = progress::counted(name, plan.messages);
    let mut meter = Meter::new(&plan.dir);
    let flight = Arc::new(Flight::new());
    let message = plan.message();
    let appended = meter
        .piece(|| {
            for number in 0..plan.messages {
                if number >= flight.done() + IN_FLIGHT {
                    flight.wait(number - IN_FLIGHT + ROOM);
                    bar.set_position(number);
                }
                let began = Instant::now();
                let at = store.append_with(&message, Durability::Buffered)?;
                let (flight, timed) = (Arc::clone(&flight), number.is_multiple_of(TIMED));
                store.when(at.end_offset, durability, move |outcome| {
                    flight.landed(outcome, timed.then_some(began));
                });
                told(number, at.end_offset, began);
            }
            flight.wait(plan.messages);
            Ok::<_, Error>(())
        })
        .map_err(|e| io_failed(&e))?;
    bar.finish_and_clear();
    let taken = |error: &Mutex<Option<Error>>| {
        let mut error = error.lock().unwrap_or_else(PoisonError::into_inner);
        error.take()
    };
    let appended = taken(&flight.failure).map_or(appended, Err);
    appended.map_err(|e| failed("cannot append", &e))?;
    let latency = flight
        .latency
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    row(plan, name, &meter, &latency, 0.0)
}

/// One in flight, beside synced appends to a store by itself.
pub(super) fn one(plan: &Plan) -> Result<Row, Failure> {
    let messages = plan.messages.min(ONE_MAX);
    let before = alone(plan, messages)?;
    let folders = plan.folders();
    let lags = Lags::new();
    let pair = Pair::start(folders.paths(), &plan.options(), lags.sink())
        .and_then(Pair::following)
        .map_err(|e| repl_failed(&e))?;
    let bar = progress::counted("one", messages);
    let mut meter = Meter::new(&plan.dir);
    let mut latency = Latency::new();
    let message = plan.message();
    let appended = meter
        .piece(|| {
            for number in 0..messages {
                let began = Instant::now();
                let at = pair.store().append_with(&message, Durability::Buffered)?;
                if number.is_multiple_of(LAG_OF) {
                    pair.mark(at.end_offset, began);
                }
                // The slave writes while the master syncs.
                pair.wake();
                pair.store().wait(at.end_offset, Durability::Replicated)?;
                latency.record(began.elapsed());
                bar.set_position(number);
            }
            Ok::<_, Error>(())
        })
        .map_err(|e| io_failed(&e))?;
    bar.finish_and_clear();
    appended.map_err(|e| failed("cannot append", &e))?;
    let mut row = row_of(plan, messages, "one", &meter, &latency, 0.0)?;
    pair.finish().map_err(|e| repl_failed(&e))?;
    folders.remove()?;
    let after = alone(plan, messages)?;
    let own = if after.quantile_us(0.5) < before.quantile_us(0.5) {
        after
    } else {
        before
    };
    row.limit_msgs_per_s = 1e6 / own.quantile_us(0.5).max(1e-3);
    row.ratio_to_limit = row.msgs_per_s / row.limit_msgs_per_s;
    row.following = Some(lags.following().with_added(&latency, &own));
    Ok(row)
}

/// Synced appends to a store by itself, one after the other.
fn alone(plan: &Plan, messages: u64) -> Result<Latency, Failure> {
    let folders = plan.folders();
    let [dir, _] = folders.paths();
    let message = plan.message();
    let mut latency = Latency::new();
    let store = Store::open(dir, plan.options()).map_err(|e| failed("cannot open a store", &e))?;
    for _ in 0..messages {
        let began = Instant::now();
        store
            .append_with(&message, Durability::Synced)
            .map_err(|e| failed("cannot append", &e))?;
        latency.record(began.elapsed());
    }
    store.close().map_err(|e| failed("cannot close", &e))?;
    folders.remove()?;
    Ok(latency)
}
