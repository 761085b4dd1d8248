//! The rows of `qmq bench cluster`.

use std::time::Duration;

use serde::Serialize;

use super::Plan;
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::output::{Output, count, micros, rate, table};

/// What was seen.
#[derive(Debug)]
pub(super) struct Measured {
    /// Messages that count.
    pub(super) messages: u64,
    /// With those of the warm-up.
    pub(super) all: u64,
    /// Refused, given up, or missing.
    pub(super) failed: u64,
    /// Why the first of those failed.
    pub(super) reason: Option<String>,
    pub(super) latency: Latency,
    pub(super) elapsed: Duration,
}

impl Default for Measured {
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl Measured {
    pub(super) fn new(elapsed: Duration) -> Self {
        Self {
            messages: 0,
            all: 0,
            failed: 0,
            reason: None,
            latency: Latency::new(),
            elapsed,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.all += other.all;
        self.failed += other.failed;
        self.reason = self.reason.take().or_else(|| other.reason.clone());
        self.latency.merge(&other.latency);
    }
}

/// One row; the names are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) messages: u64,
    pub(super) failed: u64,
    pub(super) seconds: f64,
    pub(super) msgs_per_s: f64,
    pub(super) mib_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) rate: u64,
    pub(super) batch: usize,
    pub(super) in_flight: usize,
    pub(super) size: usize,
}

impl Row {
    pub(super) fn new(name: &'static str, plan: &Plan, measured: &Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64().max(1e-9);
        let bytes = measured.messages as f64 * plan.size as f64;
        Self {
            name,
            messages: measured.messages,
            failed: measured.failed,
            seconds,
            msgs_per_s: measured.messages as f64 / seconds,
            mib_per_s: bytes / seconds / f64::from(1 << 20),
            p50_us: measured.latency.quantile_us(0.5),
            p99_us: measured.latency.quantile_us(0.99),
            p999_us: measured.latency.quantile_us(0.999),
            max_us: measured.latency.max_us(),
            rate: plan.rate,
            batch: plan.batch,
            in_flight: plan.in_flight,
            size: plan.size,
        }
    }
}

/// Prints the rows: a line each for programs, a column each for people.
pub(super) fn print(rows: &[Row], json: bool) -> Result<(), Failure> {
    let mut out = Output::new();
    if json {
        for row in rows {
            out.json(row)?;
        }
        return out.flush();
    }
    let mut header = vec![""];
    header.extend(rows.iter().map(|row| row.name));
    let numbers: Vec<usize> = (1..header.len()).collect();
    let mut lines = table(&header, &numbers);
    let mut line = |name: &str, value: &dyn Fn(&Row) -> String| {
        lines.add_row(std::iter::once(name.to_owned()).chain(rows.iter().map(value)));
    };
    line("messages", &|row| count(row.messages));
    line("failed or missing", &|row| count(row.failed));
    line("seconds", &|row| format!("{:.2}", row.seconds));
    line("messages a second", &|row| rate(row.msgs_per_s));
    line("MiB of bodies a second", &|row| rate(row.mib_per_s));
    line("p50", &|row| micros(row.p50_us));
    line("p99", &|row| micros(row.p99_us));
    line("p99.9", &|row| micros(row.p999_us));
    line("longest", &|row| micros(row.max_us));
    out.line(lines.to_string())?;
    out.flush()
}
