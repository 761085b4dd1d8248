//! The circuit breaker: a broker that fails is left alone for a while, then tried with a single request.

use std::time::{Duration, Instant};

/// When to leave a broker alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BreakerOptions {
    /// Failures in a row that open it.
    pub(crate) failures: u32,
    /// For how long it stays open.
    pub(crate) open_for: Duration,
    /// A probe whose outcome nobody has told for so long is given up, and another may go.
    pub(crate) probe_limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requests go through; so many have failed in a row.
    Closed { failures: u32 },
    /// None goes through until then.
    Open { until: Instant },
    /// One has gone through, and no other does before its outcome is known.
    Probing { since: Instant },
}

/// Closed, open after failures in a row, then half-open for exactly one probe; its success closes it. It knows no clock: callers say when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CircuitBreaker {
    options: BreakerOptions,
    state: State,
}

impl CircuitBreaker {
    pub(crate) fn new(options: BreakerOptions) -> Self {
        Self {
            options,
            state: State::Closed { failures: 0 },
        }
    }

    /// Whether a request may go now. Whoever is let through tells the outcome.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        let free = match self.state {
            State::Closed { .. } => return true,
            State::Open { until } => now >= until,
            State::Probing { since } => now >= since + self.options.probe_limit,
        };
        if free {
            self.state = State::Probing { since: now };
        }
        free
    }

    /// What was let through does not go after all.
    pub(crate) fn abandoned(&mut self, now: Instant) {
        if let State::Probing { .. } = self.state {
            self.state = State::Open { until: now };
        }
    }

    /// The broker did its work.
    pub(crate) fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// The broker did not do its work.
    pub(crate) fn failed(&mut self, now: Instant) {
        match self.state {
            State::Closed { failures } if failures + 1 < self.options.failures => {
                self.state = State::Closed {
                    failures: failures + 1,
                };
            }
            State::Closed { .. } | State::Probing { .. } => self.trip(now),
            // What was under way when it opened fails too, and says nothing new.
            State::Open { .. } => {}
        }
    }

    /// The broker says itself that it should be left alone.
    pub(crate) fn trip(&mut self, now: Instant) {
        self.state = State::Open {
            until: now + self.options.open_for,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: BreakerOptions = BreakerOptions {
        failures: 3,
        open_for: Duration::from_secs(1),
        probe_limit: Duration::from_secs(10),
    };

    fn opened(now: Instant) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::new(OPTIONS);
        for _ in 0..OPTIONS.failures {
            assert!(breaker.admit(now));
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let now = Instant::now();
        assert!(!opened(now).admit(now));
        let mut breaker = CircuitBreaker::new(OPTIONS);
        for _ in 0..10 {
            breaker.failed(now);
            breaker.failed(now);
            breaker.succeeded();
        }
        assert!(breaker.admit(now));
    }

    #[test]
    fn half_open_lets_exactly_one_probe_through() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + OPTIONS.open_for;
        let through = (0..100).filter(|_| breaker.admit(later)).count();
        assert_eq!(through, 1);
        breaker.failed(later);
        assert!(!breaker.admit(later));
        assert!(breaker.admit(later + OPTIONS.open_for));
    }

    /// QMQ's clients never use a broker again that was read-only once: nothing sets their flag back.
    #[test]
    fn a_broker_that_was_read_only_is_used_again() {
        let now = Instant::now();
        let mut breaker = CircuitBreaker::new(OPTIONS);
        breaker.trip(now);
        assert!(!breaker.admit(now));
        assert!(breaker.admit(now + OPTIONS.open_for));
        breaker.succeeded();
        assert!((0..100).all(|_| breaker.admit(now + OPTIONS.open_for)));
    }

    #[test]
    fn a_probe_that_does_not_go_leaves_its_place_to_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let probe = now + OPTIONS.open_for;
        assert!(breaker.admit(probe));
        breaker.abandoned(probe);
        assert!(breaker.admit(probe));
        assert!(!breaker.admit(probe));
    }

    #[test]
    fn a_probe_that_nobody_reports_does_not_close_the_way_for_ever() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let probe = now + OPTIONS.open_for;
        assert!(breaker.admit(probe));
        assert!(!breaker.admit(probe + Duration::from_secs(9)));
        assert!(breaker.admit(probe + OPTIONS.probe_limit));
    }
}
