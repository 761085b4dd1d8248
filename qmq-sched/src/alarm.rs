//! Wakes whoever waits for the next due time when an earlier one turns up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// What those who wait know of: nothing earlier than this.
    known_ms: AtomicU64,
    rung: Mutex<u64>,
    bell: Condvar,
    /// Somebody asked to be heard: whoever waits, or waits next, goes on at once.
    woken: AtomicBool,
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
        if !self.woken.load(Ordering::Relaxed) {
            self.bell
                .wait_while_for(&mut rung, |rung| *rung == before, timeout);
        }
        // Under the lock of `rung`, as it is set.
        self.woken.store(false, Ordering::Relaxed);
    }

    /// Something is due at `due_ms` now. The caller holds the state.
    pub(crate) fn scheduled(&self, due_ms: u64) {
        if due_ms < self.known_ms.load(Ordering::Relaxed) {
            // Only once for each time that somebody waits.
            self.known_ms.store(due_ms, Ordering::Relaxed);
            self.ring();
        }
    }

    /// Ends a wait, or the next one if nobody waits.
    pub(crate) fn wake(&self) {
        let mut rung = self.rung.lock();
        self.woken.store(true, Ordering::Relaxed);
        *rung += 1;
        drop(rung);
        self.bell.notify_all();
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
    fn a_wake_that_comes_before_the_wait_ends_it() {
        let (alarm, state) = (Alarm::default(), Mutex::new(()));
        let start = Instant::now();
        alarm.wake();
        alarm.set(None, state.lock(), LONG);
        assert!(start.elapsed() < LONG);
        let short = Duration::from_millis(20);
        let start = Instant::now();
        alarm.set(None, state.lock(), short);
        assert!(start.elapsed() >= short, "it ends one wait");
    }

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
