//! Wakes whoever waits for the next due time when an earlier one turns up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// What those who wait know of: nothing earlier than this.
    known_ms: AtomicU64,
    rung: Mutex<u64>,
    bell: Condvar,
}

impl Alarm {
    /// Waits until something earlier than `next_ms` is scheduled, or for `timeout`. `state` guards what is scheduled, and is let go once nothing
    /// can be missed.
    pub(crate) fn set<T>(&self, next_ms: Option<u64>, state: T, timeout: Duration) {
        self.known_ms
            .store(next_ms.unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut rung = self.rung.lock();
        drop(state);
        let before = *rung;
        self.bell
            .wait_while_for(&mut rung, |rung| *rung == before, timeout);
    }

    /// Something is due at `due_ms` now. The caller holds the state.
    pub(crate) fn scheduled(&self, due_ms: u64) {
        if due_ms < self.known_ms.load(Ordering::Relaxed) {
            // Only once for each time that somebody waits.
            self.known_ms.store(due_ms, Ordering::Relaxed);
            self.ring();
        }
    }

    /// Wakes all who wait.
    pub(crate) fn ring(&self) {
        *self.rung.lock() += 1;
        self.bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_earlier_wakes_and_what_is_not_does_not() {
        let (alarm, state) = (Alarm::default(), Mutex::new(()));
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| alarm.set(Some(1_000), state.lock(), LONG));
            while alarm.known_ms.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            // The waiter lets go of it only when it hears.
            let _held = state.lock();
            alarm.scheduled(1_000);
            assert_eq!(*alarm.rung.lock(), 0);
            alarm.scheduled(999);
            assert_eq!(*alarm.rung.lock(), 1);
        });
        assert!(start.elapsed() < LONG);
    }
}
