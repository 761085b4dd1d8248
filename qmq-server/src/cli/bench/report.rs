//! The rows of a benchmark.

use std::time::Duration;

use serde::Serialize;

use super::meter::{Meter, Resources};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;
use crate::cli::output::{Output, bytes, count, micros, rate, table};

/// One row; the names are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) messages: u64,
    pub(super) seconds: f64,
    pub(super) msgs_per_s: f64,
    pub(super) mib_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) limit_msgs_per_s: f64,
    pub(super) ratio_to_limit: f64,
    pub(super) rss_anon_bytes: u64,
    pub(super) open_files: u64,
    pub(super) mappings: u64,
    pub(super) write_amplification: f64,
    /// See [`Meter::core_wait`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) core_wait: Option<f64>,
    /// Of rows that are about moments.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) lateness: Option<Lateness>,
    /// Of rows in which a slave follows.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) following: Option<Following>,
}

/// How far a slave was behind, and what waiting for it cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Following {
    pub(super) lag_p50_ms: f64,
    pub(super) lag_p99_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) added_p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) added_p99_us: Option<f64>,
}

impl Following {
    pub(super) fn new(lag: &Latency) -> Self {
        Self {
            lag_p50_ms: lag.quantile_us(0.5) / 1e3,
            lag_p99_ms: lag.quantile_us(0.99) / 1e3,
            added_p50_us: None,
            added_p99_us: None,
        }
    }

    /// So much longer than without a slave.
    pub(super) fn with_added(self, latency: &Latency, alone: &Latency) -> Self {
        let added = |share| Some(latency.quantile_us(share) - alone.quantile_us(share));
        Self {
            added_p50_us: added(0.5),
            added_p99_us: added(0.99),
            ..self
        }
    }
}

/// How far from its moment things happened.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Lateness {
    /// Things that happened before it.
    pub(super) early: u64,
    pub(super) late_p50_ms: f64,
    pub(super) late_p99_ms: f64,
    pub(super) late_max_ms: f64,
}

impl Lateness {
    pub(super) fn new(early: u64, late: &Latency) -> Self {
        Self {
            early,
            late_p50_ms: late.quantile_us(0.5) / 1e3,
            late_p99_ms: late.quantile_us(0.99) / 1e3,
            late_max_ms: late.max_us() / 1e3,
        }
    }
}

/// What one kind of work did.
#[derive(Debug)]
pub(super) struct Measured<'a> {
    pub(super) name: &'static str,
    pub(super) messages: u64,
    pub(super) body_bytes: u64,
    pub(super) meter: &'a Meter,
    pub(super) latency: &'a Latency,
    pub(super) resources: Resources,
}

impl Row {
    /// The row of a piece of work beside the rate that the machine could reach.
    pub(super) fn new(measured: &Measured<'_>, limit_msgs_per_s: f64) -> Self {
        let seconds = measured
            .meter
            .elapsed
            .max(Duration::from_nanos(1))
            .as_secs_f64();
        let msgs_per_s = measured.messages as f64 / seconds;
        let bytes = measured.body_bytes as f64;
        Self {
            name: measured.name,
            messages: measured.messages,
            seconds,
            msgs_per_s,
            mib_per_s: bytes / seconds / f64::from(1 << 20),
            p50_us: measured.latency.quantile_us(0.5),
            p99_us: measured.latency.quantile_us(0.99),
            p999_us: measured.latency.quantile_us(0.999),
            max_us: measured.latency.max_us(),
            limit_msgs_per_s,
            ratio_to_limit: msgs_per_s / limit_msgs_per_s,
            rss_anon_bytes: measured.resources.rss_anon_bytes,
            open_files: measured.resources.open_files,
            mappings: measured.resources.mappings,
            write_amplification: measured.meter.written_bytes() as f64 / bytes.max(1.0),
            core_wait: None,
            lateness: None,
            following: None,
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
    line("seconds", &|row| format!("{:.4}", row.seconds));
    line("messages a second", &|row| rate(row.msgs_per_s));
    line("MiB of bodies a second", &|row| rate(row.mib_per_s));
    line("limit, messages a second", &|row| {
        rate(row.limit_msgs_per_s)
    });
    line("ratio to the limit", &|row| {
        format!("{:.3}", row.ratio_to_limit)
    });
    line("a call, p50", &|row| micros(row.p50_us));
    line("a call, p99", &|row| micros(row.p99_us));
    line("a call, p99.9", &|row| micros(row.p999_us));
    line("a call, longest", &|row| micros(row.max_us));
    line("written / body bytes", &|row| {
        format!("{:.3}", row.write_amplification)
    });
    let mut late = |name: &str, value: fn(&Lateness) -> String| {
        if rows.iter().any(|row| row.lateness.is_some()) {
            line(name, &|row| {
                row.lateness.as_ref().map_or_else(String::new, value)
            });
        }
    };
    late("early", |l| count(l.early));
    late("late, p50", |l| micros(l.late_p50_ms * 1e3));
    late("late, p99", |l| micros(l.late_p99_ms * 1e3));
    late("late, longest", |l| micros(l.late_max_ms * 1e3));
    let mut behind = |name: &str, value: &dyn Fn(&Following) -> Option<f64>| {
        let cell = |row: &Row| row.following.as_ref().and_then(value).map(micros);
        if rows.iter().any(|row| cell(row).is_some()) {
            line(name, &|row| cell(row).unwrap_or_default());
        }
    };
    behind("slave behind, p50", &|f| Some(f.lag_p50_ms * 1e3));
    behind("slave behind, p99", &|f| Some(f.lag_p99_ms * 1e3));
    behind("added by waiting, p50", &|f| f.added_p50_us);
    behind("added by waiting, p99", &|f| f.added_p99_us);
    if rows.iter().any(|row| row.core_wait.is_some()) {
        line("of the time without a core", &|row| {
            (row.core_wait).map_or_else(String::new, |share| format!("{share:.3}"))
        });
    }
    line("anonymous memory", &|row| bytes(row.rss_anon_bytes));
    line("open files", &|row| count(row.open_files));
    line("mappings", &|row| count(row.mappings));
    out.line(lines.to_string())?;
    out.flush()
}
