//! How long a master may be silent, while that is being changed.

use std::time::{Duration, Instant};

/// Masters speak as often as they were told to. When a shorter silence is configured they hear of it with their next heartbeat, so the longer one counts
/// for as long as it is.
#[derive(Debug)]
pub(crate) struct Patience {
    counts_ms: u64,
    until: Option<Instant>,
}

impl Patience {
    pub(crate) fn new(silent_ms: u64) -> Self {
        Self {
            counts_ms: silent_ms,
            until: None,
        }
    }

    /// The silence that counts now, where `wanted_ms` is configured.
    pub(crate) fn counts(&mut self, wanted_ms: u64, now: Instant) -> u64 {
        if wanted_ms < self.counts_ms {
            let longer = Duration::from_millis(self.counts_ms);
            let until = *self.until.get_or_insert(now + longer);
            if now < until {
                return self.counts_ms;
            }
        }
        self.until = None;
        self.counts_ms = wanted_ms;
        wanted_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_silence_counts_when_all_have_heard_of_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut patience = Patience::new(30_000);
        assert_eq!(patience.counts(30_000, at(0)), 30_000);
        assert_eq!(patience.counts(5_000, at(1_000)), 30_000);
        assert_eq!(patience.counts(5_000, at(30_999)), 30_000);
        assert_eq!(patience.counts(5_000, at(31_000)), 5_000);
        assert_eq!(patience.counts(60_000, at(31_001)), 60_000);
        assert_eq!(patience.counts(50_000, at(31_002)), 60_000);
        assert_eq!(patience.counts(60_000, at(40_000)), 60_000);
        assert_eq!(
            patience.counts(50_000, at(92_000)),
            60_000,
            "asked for anew"
        );
    }
}
