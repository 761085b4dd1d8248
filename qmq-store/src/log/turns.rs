//! Who syncs, for whom: the waiting side of group commit.
//!
//! One caller at a time leads; all others sleep on one futex word and are woken by one call. With a mutex and a condition variable instead, each of
//! them would take the mutex again on its way out, one after the other (64 threads on 2 cores: a third fewer appends a second).

mod sync;

use std::time::Duration;

use sync::{AtomicBool, AtomicU32, Instant, Ordering, WaitWord, yield_now};

/// A leader lets others join for as long as they keep coming: it goes once nobody has come for so long, or at the latest after the second time.
const GATHER_IDLE: Duration = Duration::from_micros(25);
/// See `GATHER_IDLE`. A sync of a fast disk takes about half as long.
const GATHER_MAX: Duration = Duration::from_micros(300);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns {
    leading: AtomicBool,
    /// Changes whenever a leader has finished.
    finished: WaitWord,
    /// Threads and callbacks that wait for a sync.
    waiting: AtomicU32,
    sleeping: AtomicU32,
    /// How many waited when the last leader finished.
    last_group: AtomicU32,
    /// How long the last sync took, in microseconds.
    last_sync_us: AtomicU32,
}

/// The right to sync. Others are woken when it is dropped.
#[derive(Debug)]
pub(super) struct Leader<'a>(&'a Turns);

impl Turns {
    /// Somebody begins to wait.
    pub(super) fn enter(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// `count` have what they waited for.
    pub(super) fn leave(&self, count: usize) {
        self.waiting.fetch_sub(count as u32, Ordering::Relaxed);
    }

    /// Whether anybody waits for a sync.
    pub(super) fn any_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Becomes the leader, or sleeps until another leader has finished.
    pub(super) fn lead_or_sleep(&self) -> Option<Leader<'_>> {
        let finished = self.finished.load();
        if !self.leading.swap(true, Ordering::SeqCst) {
            return Some(Leader(self));
        }
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        // Returns at once if a leader has finished since; returns early at a signal. The caller looks again in any case.
        self.finished.wait(finished);
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
        None
    }

    /// How long the last sync took.
    pub(super) fn last_sync(&self) -> Duration {
        Duration::from_micros(self.last_sync_us.load(Ordering::Relaxed).into())
    }

    /// Wakes everybody, to look again.
    pub(super) fn wake_all(&self) {
        self.finished.bump();
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            self.finished.wake();
        }
    }
}

impl Leader<'_> {
    /// Lets those join who were in the last group and are on their way: without this, the first one awake would sync for itself alone, and
    /// every other group would be a group of one.
    pub(super) fn gather(&self) {
        let expected = self.0.last_group.load(Ordering::Relaxed);
        // To wait for longer than the sync would take cannot pay.
        let sync = self.0.last_sync();
        let (idle, max) = (GATHER_IDLE.min(sync), GATHER_MAX.min(sync));
        if expected <= 1 || self.0.waiting.load(Ordering::Relaxed) >= expected {
            return;
        }
        let started = Instant::now();
        let mut last_arrival = started;
        let mut seen = self.0.waiting.load(Ordering::Relaxed);
        while seen < expected {
            yield_now();
            let now = Instant::now();
            let waiting = self.0.waiting.load(Ordering::Relaxed);
            if waiting > seen {
                (seen, last_arrival) = (waiting, now);
            } else if now - last_arrival > idle || now - started > max {
                break;
            }
        }
    }

    /// Notes how long the sync took.
    pub(super) fn note_sync(&self, took: Duration) {
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.0.last_sync_us.store(us, Ordering::Relaxed);
    }

    /// Notes the size of the group that this leader is about to sync for.
    pub(super) fn note_group(&self) {
        self.0
            .last_group
            .store(self.0.waiting.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.0.leading.store(false, Ordering::SeqCst);
        self.0.wake_all();
    }
}
