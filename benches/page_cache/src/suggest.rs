//! From the numbers to `Options`.
//!
//! Only what the engine has is suggested: `segment_bytes`, `flush_interval` and `flush_bytes`. The
//! engine always stores into allocated mappings, so only lines of that kind are looked at.

use std::fmt;

use serde::Serialize;

use crate::cell::{Flush, Kind, MIB, USUAL};
use crate::outcome::Outcome;
use crate::report::Line;

/// A choice may cost so much of the best throughput.
const THROUGHPUT_SHARE_MIN: f64 = 0.9;
/// A choice may have so many times the best p99.9.
const P999_TIMES_MAX: f64 = 2.0;

#[derive(Debug, Serialize)]
pub(crate) struct Suggestion {
    segment_bytes: u64,
    flush_interval_ms: u64,
    flush_bytes: u64,
}

impl Suggestion {
    /// The smallest of each that costs little; `None` if something was not measured.
    pub(crate) fn of(lines: &[Line]) -> Option<Self> {
        let segments = lines.iter().filter(|line| {
            let usual = crate::cell::Layout {
                segment_bytes: line.cell.layout.segment_bytes,
                ..USUAL
            };
            line.cell.kind == Kind::Buffered && line.cell.layout == usual
        });
        let segment = cheap(segments, |line| Some(line.cell.layout.segment_bytes))?;
        let by_time = |flush: &Flush| flush.bytes >= 1024 * MIB && !flush.drop_behind;
        let by_bytes = |flush: &Flush| flush.bytes < 1024 * MIB;
        let flushed = |wanted: fn(&Flush) -> bool| {
            lines.iter().filter(move |line| {
                line.cell.layout == USUAL
                    && matches!(&line.cell.kind, Kind::Flushed(flush) if wanted(flush))
            })
        };
        Some(Self {
            segment_bytes: segment,
            flush_interval_ms: cheap(flushed(by_time), |line| {
                flush_of(line).map(|flush| flush.interval.as_millis() as u64)
            })?,
            flush_bytes: cheap(flushed(by_bytes), |line| {
                flush_of(line).map(|flush| flush.bytes)
            })?,
        })
    }
}

fn flush_of(line: &Line) -> Option<Flush> {
    match line.cell.kind {
        Kind::Flushed(flush) => Some(flush),
        _ => None,
    }
}

/// The smallest size whose throughput and p99.9 are near the best of these lines, or else the size
/// with the best throughput.
fn cheap<'a>(lines: impl Iterator<Item = &'a Line>, size: fn(&Line) -> Option<u64>) -> Option<u64> {
    let lines: Vec<(u64, &Outcome)> = lines
        .filter_map(|line| Some((size(line)?, line.outcome.as_ref()?)))
        .collect();
    let fastest = lines
        .iter()
        .max_by(|a, b| a.1.records_per_second.total_cmp(&b.1.records_per_second))?;
    let p999_us = lines
        .iter()
        .map(|line| line.1.p999_us)
        .min_by(f64::total_cmp)?;
    let near = lines.iter().filter(|(_, outcome)| {
        outcome.records_per_second >= THROUGHPUT_SHARE_MIN * fastest.1.records_per_second
            && outcome.p999_us <= P999_TIMES_MAX * p999_us
    });
    Some(near.map(|line| line.0).min().unwrap_or(fastest.0))
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Suggested, the smallest that cost little here:")?;
        writeln!(
            f,
            "  Options::segment_bytes   {} MiB",
            self.segment_bytes / MIB
        )?;
        writeln!(
            f,
            "  Options::flush_interval  {} ms",
            self.flush_interval_ms
        )?;
        writeln!(
            f,
            "  Options::flush_bytes     {} MiB",
            self.flush_bytes / MIB
        )
    }
}
