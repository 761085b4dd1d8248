//! How much each connection may have under way, so that all of them together stay within a budget.
//!
//! A window is a promise: what a connection was granted it may use at any time. So it is taken from the budget when the connection begins and comes back
//! when that ends. Each gets [`LEAST_BYTES`] each way, kept back for as many connections as there may be, and a part of what is left: with few connections
//! all that one may have, with many less and less.

use std::sync::Arc;

use parking_lot::Mutex;

/// What every connection gets each way, however many there are.
pub(crate) const LEAST_BYTES: u64 = 32 << 10;
/// A new connection gets at most one part of so many of what is left.
const PARTS: u64 = 16;

/// The budget of one way, for all connections.
#[derive(Debug)]
pub(super) struct Windows {
    /// Besides what is kept back.
    left: Mutex<u64>,
    most: u64,
}

/// What one connection has of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Window {
    of: Arc<Windows>,
    more: u64,
}

impl Windows {
    /// `bytes` for `connections_max` connections, of which one gets `most` at most. With less than [`LEAST_BYTES`] for each they get that.
    pub(super) fn new(bytes: u64, connections_max: usize, most: u64) -> Arc<Self> {
        let kept_back = LEAST_BYTES.saturating_mul(connections_max as u64);
        Arc::new(Self {
            left: Mutex::new(bytes.saturating_sub(kept_back)),
            most,
        })
    }

    pub(super) fn take(self: &Arc<Self>) -> Window {
        let mut left = self.left.lock();
        let more = (*left / PARTS).min(self.most.saturating_sub(LEAST_BYTES));
        *left -= more;
        Window {
            of: Arc::clone(self),
            more,
        }
    }
}

impl Window {
    pub(super) fn bytes(&self) -> u64 {
        LEAST_BYTES + self.more
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        *self.of.left.lock() += self.more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn all_windows_together_stay_within_the_budget_and_each_has_the_least() {
        let windows = Windows::new(1_024 * MIB, 10_000, 16 * MIB);
        let all: Vec<Window> = (0..10_000).map(|_| windows.take()).collect();
        let sum: u64 = all.iter().map(Window::bytes).sum();
        assert!(sum <= 1_024 * MIB, "{sum}");
        assert_eq!(all[0].bytes(), 16 * MIB);
        assert!(all.iter().all(|window| window.bytes() >= LEAST_BYTES));
        drop(all);
        assert_eq!(windows.take().bytes(), 16 * MIB);
    }

    #[test]
    fn a_budget_that_is_too_small_leaves_the_least() {
        let windows = Windows::new(MIB, 10_000, 16 * MIB);
        assert_eq!(windows.take().bytes(), LEAST_BYTES);
    }
}
