//! How long things took, in a few fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, in microseconds; a last one takes what is longer. They reach from a sync of a fast disk to a consumer that was away for an hour.
const BOUNDS_US: [u64; 15] = [
    100,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
    3_600_000_000,
];
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Durations observed since the start.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// Durations on their way into a [`Histogram`], of one thread, so that many cost little more than one.
#[derive(Debug, Default)]
pub struct Observed {
    counts: [u64; BUCKETS],
    sum_us: u64,
}

impl Observed {
    /// One more.
    pub fn add(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // The last bucket has no end, so there always is one.
        self.counts[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

impl Histogram {
    /// One duration.
    pub fn observe(&self, duration: Duration) {
        let mut observed = Observed::default();
        observed.add(duration);
        self.observe_all(&observed);
    }

    /// Several.
    pub fn observe_all(&self, observed: &Observed) {
        for (count, more) in self.counts.iter().zip(observed.counts) {
            if more > 0 {
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
        self.sum_us.fetch_add(observed.sum_us, Ordering::Relaxed);
    }

    /// Sum in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Upper end of each bucket in seconds, and how many durations fell into it; the last end is infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        bounds.chain([f64::INFINITY]).zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for us in [0, 100, 101, 3_600_000_000, 3_600_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let buckets = histogram.buckets();
        assert_eq!(buckets[0], (0.0001, 2));
        assert_eq!(buckets[1], (0.0005, 1));
        assert_eq!(buckets[14], (3600.0, 1));
        assert_eq!(buckets[15], (f64::INFINITY, 1));
        assert!((histogram.sum_seconds() - 7_200.000_202).abs() < 1e-6);
    }
}
