//! Watermarks, and everything that waits for them: group commit.
//!
//! Whoever needs a sync first becomes the leader and syncs for all that have written by then; the others sleep. Callbacks are run by
//! whoever moved the watermark that they wait for.

use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::turns::Turns;
use crate::error::Error;
use crate::options::Durability;

/// How far the log is written, synced and replicated, as offsets. Each is the end of a whole record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Appended and visible to this process.
    pub written: u64,
    /// Survives a loss of power.
    pub synced: u64,
    /// Held by as many slaves as the replicator was told.
    pub replicated: u64,
}

type Callback = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Callbacks by what they wait for: end offset, then order of arrival.
#[derive(Default)]
struct Queue(VecDeque<(u64, Callback)>);

impl Queue {
    fn add(&mut self, end: u64, callback: Callback) {
        // Most come in the order of the log.
        let at = match self.0.back() {
            Some((last, _)) if *last > end => self.0.len() - self.behind(end),
            _ => self.0.len(),
        };
        self.0.insert(at, (end, callback));
    }

    /// How many wait for more than `covered`.
    fn behind(&self, covered: u64) -> usize {
        self.0.len() - self.0.partition_point(|(end, _)| *end <= covered)
    }

    fn take(&mut self, covered: u64) -> Vec<Callback> {
        let ready = self.0.len() - self.behind(covered);
        self.0
            .drain(..ready)
            .map(|(_, callback)| callback)
            .collect()
    }
}

#[derive(Default)]
struct State {
    flusher_sleeps: bool,
    on_synced: Queue,
    /// These wait for the sync too.
    on_replicated: Queue,
    /// How many of them waited for it when that was last looked at.
    unsynced: usize,
    /// Somebody wants the flusher to sync now.
    flush_asked: bool,
    /// Nothing replicates any more, since the store was demoted.
    demoted: bool,
    /// The replicator's slaves do not keep up: nobody waits for them.
    too_few_in_sync: bool,
    stop: bool,
}

impl State {
    /// Callbacks of `on_replicated` that do not wait for the sync any more since the last call.
    fn note_synced(&mut self, synced: u64) -> usize {
        let unsynced = self.on_replicated.behind(synced);
        let before = std::mem::replace(&mut self.unsynced, unsynced);
        before.saturating_sub(unsynced)
    }

    fn sync_is_wanted(&self) -> bool {
        !self.on_synced.0.is_empty() || self.unsynced > 0
    }

    /// Why nothing will be replicated.
    fn not_replicated(&self) -> Error {
        if self.demoted {
            Error::Demoted
        } else if self.too_few_in_sync {
            Error::TooFewInSync
        } else {
            Error::NotReplicated
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Commit {
    written: AtomicU64,
    synced: AtomicU64,
    replicated: AtomicU64,
    has_replicator: AtomicBool,
    /// Bytes that the last sync covered.
    last_covered: AtomicU64,
    turns: Turns,
    /// Callbacks in the queues, or on their way into them.
    callbacks_waiting: AtomicUsize,
    state: Mutex<State>,
    /// The replicated watermark has moved, or the log is poisoned.
    changed: Condvar,
    flusher: Condvar,
    poison: OnceLock<Arc<io::Error>>,
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commit")
            .field("marks", &self.marks())
            .finish_non_exhaustive()
    }
}

impl Commit {
    pub(crate) fn marks(&self) -> Watermarks {
        Watermarks {
            written: self.written(),
            synced: self.synced(),
            replicated: self.replicated(),
        }
    }

    #[inline]
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// What slaves hold and this store has synced.
    pub(crate) fn replicated(&self) -> u64 {
        self.replicated.load(Ordering::Acquire).min(self.synced())
    }

    /// Only the writer, under its lock.
    #[inline]
    pub(crate) fn publish_written(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    /// Both marks at open, before anybody else sees them.
    pub(crate) fn start_at(&self, end: u64) {
        self.written.store(end, Ordering::Release);
        self.synced.store(end, Ordering::Release);
        self.last_covered.store(u64::MAX, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first failed write or sync, if there was one.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.poison.get() {
            None => Ok(()),
            Some(cause) => Err(Error::Poisoned {
                cause: Arc::clone(cause),
            }),
        }
    }

    /// Nothing is accepted any more: the page cache can no longer be trusted to reach the disk.
    pub(crate) fn poison(&self, cause: io::Error) -> Error {
        let cause = Arc::clone(self.poison.get_or_init(|| Arc::new(cause)));
        // Held for a moment, so that nobody goes to sleep between a look at the poison and the wake-up.
        drop(self.lock());
        self.changed.notify_all();
        self.flusher.notify_all();
        self.turns.wake_all();
        Error::Poisoned { cause }
    }

    /// Returns once `end` is synced; syncs with `sync` if nobody else does. `sync` returns the offset that it covered.
    pub(crate) fn sync_to(
        &self,
        end: u64,
        sync: &dyn Fn() -> io::Result<u64>,
    ) -> Result<(), Error> {
        if self.synced() >= end {
            return Ok(());
        }
        self.turns.enter();
        let outcome = loop {
            if self.synced() >= end {
                break Ok(());
            }
            if let Err(error) = self.check() {
                break Err(error);
            }
            let Some(leader) = self.turns.lead_or_sleep() else {
                continue;
            };
            if self.synced() >= end {
                break Ok(());
            }
            leader.gather();
            leader.note_group();
            let began = Instant::now();
            match sync() {
                Ok(covered) => {
                    leader.note_sync(began.elapsed());
                    let before = self.synced.fetch_max(covered, Ordering::SeqCst);
                    let bytes = covered.saturating_sub(before);
                    self.last_covered.store(bytes, Ordering::Relaxed);
                    drop(leader);
                }
                Err(error) => {
                    let error = self.poison(error);
                    drop(leader);
                    break Err(error);
                }
            }
        };
        self.turns.leave(1);
        outcome
    }

    /// Whether a sync is waited for, by a thread or a callback.
    #[inline]
    pub(crate) fn sync_is_awaited(&self) -> bool {
        self.turns.any_waiting()
    }

    /// Bytes that the last sync covered.
    pub(crate) fn last_covered(&self) -> u64 {
        self.last_covered.load(Ordering::Relaxed)
    }

    /// Runs the callbacks whose wait is over, and after a failure all of them. Called where no lock is held, since a callback may append.
    pub(crate) fn run_ready(&self) {
        if self.callbacks_waiting.load(Ordering::SeqCst) == 0 && self.poison.get().is_none() {
            return;
        }
        let mut state = self.lock();
        let (outcome, synced, replicated) = match self.check() {
            Ok(()) => (
                Ok(()),
                self.synced.load(Ordering::SeqCst),
                self.replicated(),
            ),
            Err(error) => (Err(error), u64::MAX, u64::MAX),
        };
        let mut ready = self.take_synced(&mut state, synced);
        ready.append(&mut self.take_replicated(&mut state, synced, replicated));
        drop(state);
        run(ready, &outcome);
    }

    fn take_synced(&self, state: &mut State, synced: u64) -> Vec<Callback> {
        let ready = state.on_synced.take(synced);
        self.turns.leave(ready.len());
        self.callbacks_waiting
            .fetch_sub(ready.len(), Ordering::SeqCst);
        ready
    }

    fn take_replicated(&self, state: &mut State, synced: u64, replicated: u64) -> Vec<Callback> {
        let ready = state.on_replicated.take(replicated);
        self.turns.leave(state.note_synced(synced));
        self.callbacks_waiting
            .fetch_sub(ready.len(), Ordering::SeqCst);
        ready
    }

    /// Calls back once `end` has reached `durability`: at once if it has, else on the thread that moves the watermark.
    pub(crate) fn when(&self, end: u64, durability: Durability, callback: Callback) {
        // Counted first: whoever moves a mark meanwhile either sees the callback, or the callback sees the mark.
        self.callbacks_waiting.fetch_add(1, Ordering::SeqCst);
        let mut state = self.lock();
        let synced = self.synced.load(Ordering::SeqCst) >= end;
        let (reached, possible) = match durability {
            Durability::Buffered => (self.written() >= end, true),
            Durability::Synced => (synced, true),
            Durability::Replicated => (self.replicated() >= end, self.may_wait_replicated(&state)),
        };
        let refusal = self
            .check()
            .err()
            .or((!possible).then(|| state.not_replicated()))
            .or(state.stop.then_some(Error::Closed));
        if reached || refusal.is_some() || durability == Durability::Buffered {
            drop(state);
            self.callbacks_waiting.fetch_sub(1, Ordering::SeqCst);
            callback(if reached {
                Ok(())
            } else {
                Err(refusal.unwrap_or(Error::TimedOut))
            });
            return;
        }
        if durability == Durability::Replicated {
            state.on_replicated.add(end, callback);
            state.unsynced += usize::from(!synced);
        } else {
            state.on_synced.add(end, callback);
        }
        if synced {
            return;
        }
        self.turns.enter();
        let wake = std::mem::take(&mut state.flusher_sleeps);
        drop(state);
        if wake {
            self.flusher.notify_one();
        }
    }

    /// The replicator has brought slaves up to `end`.
    pub(crate) fn advance_replicated(&self, end: u64) {
        self.has_replicator.store(true, Ordering::Release);
        // A slave that is ahead has another history: what it says is about no byte of this log.
        let end = if end <= self.written() { end } else { 0 };
        self.replicated.fetch_max(end, Ordering::AcqRel);
        let mut state = self.lock();
        let ready = self.take_replicated(&mut state, self.synced(), self.replicated());
        self.changed.notify_all();
        drop(state);
        run(ready, &Ok(()));
    }

    /// Nobody replicates the log any more; who waits for it is told so. What slaves hold they hold: the mark stays.
    pub(crate) fn end_replication(&self, demoted: bool) {
        self.has_replicator.store(false, Ordering::Release);
        let mut state = self.lock();
        state.demoted = demoted;
        state.too_few_in_sync = false;
        let left = self.take_replicated(&mut state, self.synced(), u64::MAX);
        let refusal = state.not_replicated();
        self.changed.notify_all();
        drop(state);
        run(left, &Err(refusal));
    }

    /// Whether slaves keep up. While they do not, who waits for them is told so; what they get all the same counts.
    pub(crate) fn too_few_in_sync(&self, too_few: bool) {
        let mut state = self.lock();
        if !self.has_replicator.load(Ordering::Acquire) || state.too_few_in_sync == too_few {
            return;
        }
        state.too_few_in_sync = too_few;
        if too_few {
            let ready = self.take_replicated(&mut state, self.synced(), self.replicated());
            let left = self.take_replicated(&mut state, self.synced(), u64::MAX);
            let refusal = state.not_replicated();
            self.changed.notify_all();
            drop(state);
            run(ready, &Ok(()));
            run(left, &Err(refusal));
        }
    }

    fn may_wait_replicated(&self, state: &State) -> bool {
        self.has_replicator.load(Ordering::Acquire) && !state.too_few_in_sync
    }

    /// Why a wait for slaves would end at once, if it would.
    pub(crate) fn check_replicated(&self) -> Result<(), Error> {
        let state = self.lock();
        if self.may_wait_replicated(&state) {
            return Ok(());
        }
        Err(state.not_replicated())
    }

    /// Returns once `end` is replicated.
    pub(crate) fn wait_replicated(&self, end: u64, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while self.replicated() < end {
            if !self.may_wait_replicated(&state) {
                return Err(state.not_replicated());
            }
            self.check()?;
            if state.stop {
                return Err(Error::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut);
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Asks the flusher to sync soon.
    pub(crate) fn ask_flush(&self) {
        let mut state = self.lock();
        if !state.flush_asked {
            state.flush_asked = true;
            drop(state);
            self.flusher.notify_one();
        }
    }

    /// The flusher sleeps here until `interval` is over, a flush is asked for, or callbacks wait. `false`: stop.
    pub(crate) fn flusher_wait(&self, interval: Duration) -> bool {
        let deadline = Instant::now() + interval;
        let mut state = self.lock();
        loop {
            if state.stop {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.flush_asked || state.sync_is_wanted() || left.is_zero() {
                state.flush_asked = false;
                return true;
            }
            state.flusher_sleeps = true;
            (state, _) = self
                .flusher
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state.flusher_sleeps = false;
        }
    }

    /// Whether a sync may wait for `time` longer: it takes less, and is asked for by callbacks only that wait for slaves too, who have a round trip
    /// to make.
    pub(crate) fn has_time(&self, time: Duration) -> bool {
        let state = self.lock();
        state.on_synced.0.is_empty()
            && state.unsynced > 0
            && !state.flush_asked
            && self.turns.last_sync() < time
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.flusher.notify_all();
        self.changed.notify_all();
    }

    /// Tells those who are still to be called back that it will not come to that.
    pub(crate) fn call_off(&self) {
        let mut state = self.lock();
        let mut left = self.take_synced(&mut state, u64::MAX);
        left.append(&mut self.take_replicated(&mut state, u64::MAX, u64::MAX));
        drop(state);
        run(left, &Err(Error::Closed));
    }
}

fn run(callbacks: Vec<Callback>, outcome: &Result<(), Error>) {
    for callback in callbacks {
        // A callback that panics is its caller's bug; the others still want to be called, and the flusher to live.
        let call = AssertUnwindSafe(|| callback(outcome.clone()));
        let _ = std::panic::catch_unwind(call);
    }
}
