//! What waits for slaves since when; how far each slave is.

use std::collections::VecDeque;
use std::time::Duration;

use crate::options::Peer;

/// How far a slave is, as the master knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlaveLag {
    /// Which member.
    pub slave: Peer,
    /// It follows in this epoch, and its log has been found a prefix of the master's.
    pub follows: bool,
    /// It follows and has kept up within `slave_sync_timeout`.
    pub in_sync: bool,
    /// End of what it has written.
    pub buffered: u64,
    /// End of what it has synced.
    pub synced: u64,
    /// Bytes that it has not written yet.
    pub behind_bytes: u64,
    /// Since when it has heard of nothing new although there was something, or zero.
    pub stalled: Duration,
    /// When it was last heard of, by the master's clock.
    pub heard: Duration,
    /// Time from a heartbeat to its answer, the latest.
    pub round_trip: Duration,
    /// It gets a snapshot: so many bytes of so many.
    pub snapshot: Option<(u64, u64)>,
}

const MARKS_MAX: usize = 32;

/// When which end was written, in bounded memory: what was written within a sixteenth of the timeout counts as written at once.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marks: VecDeque<(Duration, u64)>,
}

impl Marks {
    pub(crate) fn written(&mut self, now: Duration, end: u64, timeout: Duration) {
        let full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some((_, last)) if *last >= end => {}
            // What finds no room has older marks before it, which run out first.
            Some((at, last)) if full || now.saturating_sub(*at) < timeout / 16 => *last = end,
            _ => self.marks.push_back((now, end)),
        }
    }

    pub(crate) fn replicated(&mut self, end: u64) {
        while self.marks.front().is_some_and(|&(_, mark)| mark <= end) {
            self.marks.pop_front();
        }
    }

    /// What has waited longest: since when, and its end.
    pub(crate) fn oldest(&self) -> Option<(Duration, u64)> {
        self.marks.front().copied()
    }
}

/// So many bytes a second.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_second: u64,
    /// Bytes that may be sent; below zero after a frame that was longer than what was left.
    tokens: i128,
    filled: Duration,
}

impl TokenBucket {
    pub(crate) fn new(per_second: u64, now: Duration) -> Self {
        Self {
            per_second,
            tokens: 0,
            filled: now,
        }
    }

    fn fill(&mut self, now: Duration) {
        let nanos = now.saturating_sub(self.filled).as_nanos() as i128;
        let more = nanos * i128::from(self.per_second) / 1_000_000_000;
        if more > 0 {
            // A tenth of a second may be saved up.
            self.tokens = (self.tokens + more).min(i128::from(self.per_second / 10 + 1));
            let spent = more * 1_000_000_000 / i128::from(self.per_second);
            self.filled += Duration::from_nanos(u64::try_from(spent).unwrap_or(u64::MAX));
        }
    }

    pub(crate) fn is_open(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.tokens > 0
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        self.tokens -= bytes as i128;
    }

    /// When there is something again.
    pub(crate) fn opens(&self) -> Duration {
        let missing = (1 - self.tokens).max(0) as u128;
        let nanos = missing * 1_000_000_000 / u128::from(self.per_second) + 1;
        self.filled + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_through_what_its_rate_says() {
        let mut bucket = TokenBucket::new(1000, Duration::ZERO);
        let (mut now, mut sent) = (Duration::ZERO, 0);
        while now < Duration::from_secs(10) {
            if bucket.is_open(now) {
                bucket.take(64);
                sent += 64;
            } else {
                assert!(bucket.opens() > now);
                now = bucket.opens();
            }
        }
        assert!((9_900..=10_100).contains(&sent), "{sent}");
    }

    #[test]
    fn marks_are_bounded_and_never_forget_what_waits() {
        let timeout = Duration::from_secs(1);
        let mut marks = Marks::default();
        for step in 0..10_000_u64 {
            marks.written(Duration::from_millis(step * 100), step + 1, timeout);
        }
        assert!(marks.marks.len() <= MARKS_MAX);
        assert_eq!(marks.oldest(), Some((Duration::ZERO, 1)));
        marks.replicated(9_999);
        assert_eq!(marks.oldest().map(|(_, end)| end), Some(10_000));
        marks.replicated(10_000);
        assert_eq!(marks.oldest(), None);
    }
}
