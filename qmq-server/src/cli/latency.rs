//! Latency histograms: durations in, percentiles in microseconds out.

use std::time::Duration;

use hdrhistogram::Histogram;

const HIGHEST_NS: u64 = 3_600 * 1_000_000_000;

/// How long each of many calls took: three significant digits, one nanosecond to one hour.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("constant bounds are valid"))
    }

    /// Counts one call.
    pub(crate) fn record(&mut self, took: Duration) {
        self.record_times(took, 1);
    }

    /// Counts `times` calls that took equally long.
    pub(crate) fn record_times(&mut self, took: Duration, times: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record_n(nanos.max(1), times);
    }

    /// Adds all calls of another histogram.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("all histograms have the same bounds");
    }

    /// The latency that a share of the calls did not exceed, in microseconds; 0 if there were none.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        if self.0.is_empty() {
            0.0
        } else {
            self.0.value_at_quantile(share) as f64 / 1e3
        }
    }

    /// The longest call in microseconds.
    pub(crate) fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut latency = Latency::new();
        assert_eq!(latency.quantile_us(0.99), 0.0);
        latency.record_times(Duration::from_micros(10), 99);
        latency.record(Duration::from_millis(5));
        assert!((latency.quantile_us(0.5) - 10.0).abs() < 0.1);
        assert!((latency.max_us() - 5_000.0).abs() < 10.0);
        let mut sum = Latency::new();
        sum.merge(&latency);
        assert_eq!(sum.max_us(), latency.max_us());
    }
}
