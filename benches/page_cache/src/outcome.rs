//! What one line of the table measured.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// One round of a line, or the median of several.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) records_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// The slowest sync of the second thread.
    pub(crate) sync_max_ms: Option<f64>,
}

impl Outcome {
    pub(crate) fn new(records: u64, elapsed: Duration, latency_ns: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        Self {
            records_per_second: records as f64 / elapsed.as_secs_f64(),
            p50_us: us(latency_ns.value_at_quantile(0.5)),
            p99_us: us(latency_ns.value_at_quantile(0.99)),
            p999_us: us(latency_ns.value_at_quantile(0.999)),
            max_us: us(latency_ns.max()),
            sync_max_ms: None,
        }
    }

    /// The round with the median throughput, but with the greatest of the maxima.
    pub(crate) fn median(mut rounds: Vec<Self>) -> Option<Self> {
        rounds.sort_by(|a, b| a.records_per_second.total_cmp(&b.records_per_second));
        let mut median = rounds.get(rounds.len() / 2)?.clone();
        for round in rounds {
            median.max_us = median.max_us.max(round.max_us);
            if let (Some(greatest), Some(ms)) = (&mut median.sync_max_ms, round.sync_max_ms) {
                *greatest = greatest.max(ms);
            }
        }
        Some(median)
    }
}

/// A histogram of nanoseconds up to a minute.
pub(crate) fn latencies() -> Histogram<u64> {
    #[expect(
        clippy::unwrap_used,
        reason = "the bounds are constants that the crate accepts"
    )]
    Histogram::new_with_bounds(10, 60_000_000_000, 3).unwrap()
}
