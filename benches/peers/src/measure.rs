//! The timed loops of one round.

use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::cli::Plan;
use crate::engine::{Engine, Writer};
use crate::mode::Mode;
use crate::records::{RECORDS, Records};

/// What one thread, or all of them, did in a round.
pub struct Load {
    records: u64,
    elapsed: Duration,
    latency_ns: Histogram<u64>,
}

impl Load {
    pub fn new(records: u64, latency_ns: Histogram<u64>) -> Self {
        Self {
            records,
            elapsed: Duration::ZERO,
            latency_ns,
        }
    }

    /// All threads' work over the time that they took together.
    pub fn sum(threads: Vec<Self>, elapsed: Duration) -> Self {
        let mut sum = Self {
            records: 0,
            elapsed,
            latency_ns: latencies(),
        };
        for thread in threads {
            sum.records += thread.records;
            // Both have the same bounds, so adding cannot fail.
            let _ = sum.latency_ns.add(&thread.latency_ns);
        }
        sum
    }
}

/// A histogram of nanoseconds, from 1 µs to a minute; what lies outside counts as the bound.
pub fn latencies() -> Histogram<u64> {
    #[expect(
        clippy::unwrap_used,
        reason = "the bounds are constants that the crate accepts"
    )]
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap()
}

/// What a child tells the parent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sample {
    pub records_per_second: f64,
    /// Only in synced modes.
    pub latency: Option<Latency>,
}

/// Microseconds from the call until the record was synced.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// Runs the plan on an engine that was opened for it.
pub fn measure(engine: &dyn Engine, plan: &Plan) -> Result<Sample> {
    let records = Records::new(plan.mode.record_bytes());
    let time = Duration::from_secs_f64(plan.seconds);
    let load = if plan.mode == Mode::Inflight64
        && let Some(load) = engine.in_flight(&records, time)
    {
        load?
    } else if plan.mode.is_synced() {
        synced(engine, plan.mode, &records, time)?
    } else {
        let mut writer = engine.writer(&records)?;
        buffered(writer.as_mut(), plan, time)?
    };
    let us = |ns: u64| ns as f64 / 1e3;
    let latency = plan.mode.is_synced().then(|| Latency {
        p50_us: us(load.latency_ns.value_at_quantile(0.5)),
        p99_us: us(load.latency_ns.value_at_quantile(0.99)),
        p999_us: us(load.latency_ns.value_at_quantile(0.999)),
        max_us: us(load.latency_ns.max()),
    });
    Ok(Sample {
        records_per_second: load.records as f64 / load.elapsed.as_secs_f64(),
        latency,
    })
}

/// A fixed number of records, cut short when it takes much too long.
fn buffered(writer: &mut dyn Writer, plan: &Plan, time: Duration) -> Result<Load> {
    let per_call = if plan.mode.is_batch() {
        RECORDS as u64
    } else {
        1
    };
    let calls = plan.messages.div_ceil(per_call);
    // Looking at the clock costs as much as a short append: seldom is enough.
    let calls_between_looks = 1_000 / per_call;
    let start = Instant::now();
    let mut done = 0;
    while done < calls {
        if plan.mode.is_batch() {
            writer.append_batch()?;
        } else {
            writer.append(done as usize)?;
        }
        done += 1;
        if done % calls_between_looks == 0 && start.elapsed() > time {
            break;
        }
    }
    Ok(Load::sum(
        vec![Load::new(done * per_call, latencies())],
        start.elapsed(),
    ))
}

/// A fixed time, each call timed.
fn synced(engine: &dyn Engine, mode: Mode, records: &Records, time: Duration) -> Result<Load> {
    let threads = engine.threads(mode);
    let ready = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let ready = &ready;
                scope.spawn(move || -> Result<Load> {
                    // Everyone comes to the barrier, also after an error.
                    let writer = engine.writer(records);
                    ready.wait();
                    synced_thread(writer?.as_mut(), thread, engine.records_per_append(), time)
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        let loads = threads.into_iter().map(join).collect::<Result<Vec<_>>>()?;
        Ok(Load::sum(loads, start.elapsed()))
    })
}

fn synced_thread(
    writer: &mut dyn Writer,
    thread: usize,
    group: u64,
    time: Duration,
) -> Result<Load> {
    let mut latency = latencies();
    let until = Instant::now() + time;
    let mut slot = thread * 17;
    let mut started = Instant::now();
    while started < until {
        writer.append(slot)?;
        let ended = Instant::now();
        latency.saturating_record((ended - started).as_nanos() as u64);
        started = ended;
        slot += 1;
    }
    Ok(Load::new(latency.len() * group, latency))
}

/// The result of a thread; a panic becomes an error.
pub fn join(thread: ScopedJoinHandle<'_, Result<Load>>) -> Result<Load> {
    thread
        .join()
        .map_err(|_| anyhow!("a thread panicked"))
        .flatten()
        .context("appending")
}
