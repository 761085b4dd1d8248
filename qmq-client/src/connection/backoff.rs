//! Pauses between tries: longer each time, and never the same for two clients.

use std::time::Duration;

/// Pauses that double from `least` to `most`. Half of each is by chance, so that clients that failed together do not come back together.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            tries: 0,
        }
    }

    /// The pause before the next try, given a random number.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let pause = pause(self.least, self.most, self.tries, random);
        self.tries = self.tries.saturating_add(1);
        pause
    }

    /// The last try did what it should.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The pause after `tries` failed ones, given a random number.
pub(crate) fn pause(least: Duration, most: Duration, tries: u32, random: u64) -> Duration {
    let whole = least.saturating_mul(1 << tries.min(20)).min(most);
    let half = whole / 2;
    half + half.mul_f64((random % 1_000) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let pauses: Vec<Duration> = (0..10).map(|_| backoff.next(0)).collect();
        assert_eq!(pauses[0], Duration::from_millis(50));
        assert_eq!(pauses[1], Duration::from_millis(100));
        assert_eq!(pauses[9], Duration::from_millis(2_500));
        backoff.reset();
        assert!(backoff.next(999) < Duration::from_millis(100));
    }
}
