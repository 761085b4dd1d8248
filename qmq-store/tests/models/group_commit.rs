//! Group commit: `log/turns.rs` itself, and a copy of `log/commit.rs` (`sync_to`, `run_synced`, `when`, `poison`) around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::sync::Mutex;
use loom::thread;

use super::check;
use super::strong::{AtomicBool, AtomicU32, AtomicU64};
use super::turns::Turns;

#[derive(Debug, PartialEq, Eq)]
struct Poisoned;

type Outcome = Result<(), Poisoned>;
type Callback = Box<dyn FnOnce(Outcome)>;

#[derive(Default)]
struct Commit {
    written: AtomicU64,
    synced: AtomicU64,
    turns: Turns,
    callbacks_waiting: AtomicU64,
    on_synced: Mutex<BTreeMap<u64, Callback>>,
    poison: AtomicBool,
    /// What the disk has, and which of its syncs fails.
    durable: AtomicU64,
    syncs: AtomicU32,
    failing: Option<u32>,
}

impl Commit {
    fn failing(at: u32) -> Self {
        Self {
            failing: Some(at),
            ..Self::default()
        }
    }

    fn append(&self) -> u64 {
        self.written.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn sync(&self) -> Result<u64, ()> {
        let covered = self.written.load(Ordering::Acquire);
        if Some(self.syncs.fetch_add(1, Ordering::SeqCst)) == self.failing {
            return Err(());
        }
        self.durable.fetch_max(covered, Ordering::SeqCst);
        Ok(covered)
    }

    fn check(&self) -> Outcome {
        if self.poison.load(Ordering::SeqCst) {
            Err(Poisoned)
        } else {
            Ok(())
        }
    }

    fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    fn poison(&self) {
        self.poison.store(true, Ordering::SeqCst);
        let mut state = self.on_synced.lock().unwrap();
        let callbacks = std::mem::take(&mut *state);
        self.callbacks_waiting
            .fetch_sub(callbacks.len() as u64, Ordering::SeqCst);
        self.turns.leave(callbacks.len());
        drop(state);
        self.turns.wake_all();
        for callback in callbacks.into_values() {
            callback(Err(Poisoned));
        }
    }

    fn sync_to(&self, end: u64) -> Outcome {
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
            match self.sync() {
                Ok(covered) => {
                    self.synced.fetch_max(covered, Ordering::SeqCst);
                    drop(leader);
                    self.run_synced(covered);
                }
                Err(()) => {
                    self.poison();
                    drop(leader);
                    break Err(Poisoned);
                }
            }
        };
        self.turns.leave(1);
        outcome
    }

    fn run_synced(&self, covered: u64) {
        if self.callbacks_waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut ready = Vec::new();
        let mut state = self.on_synced.lock().unwrap();
        while let Some(first) = state.first_entry().filter(|first| *first.key() <= covered) {
            ready.push(first.remove());
        }
        drop(state);
        self.callbacks_waiting
            .fetch_sub(ready.len() as u64, Ordering::SeqCst);
        self.turns.leave(ready.len());
        for callback in ready {
            callback(Ok(()));
        }
    }

    fn when(&self, end: u64, callback: Callback) {
        self.callbacks_waiting.fetch_add(1, Ordering::SeqCst);
        let mut state = self.on_synced.lock().unwrap();
        let reached = self.synced.load(Ordering::SeqCst) >= end;
        let refusal = self.check();
        if reached || refusal.is_err() {
            drop(state);
            self.callbacks_waiting.fetch_sub(1, Ordering::SeqCst);
            callback(if reached { Ok(()) } else { refusal });
            return;
        }
        state.insert(end, callback);
        self.turns.enter();
    }

    /// Appends and waits; `Ok` only for what the disk has.
    fn append_synced(&self) -> Outcome {
        let end = self.append();
        let outcome = self.sync_to(end);
        if outcome.is_ok() {
            let durable = self.durable.load(Ordering::SeqCst);
            assert!(
                durable >= end,
                "acknowledged up to {end}, durable up to {durable}"
            );
        }
        outcome
    }

    /// Nobody waits any more, and nothing is left over.
    fn check_idle(&self) {
        assert!(!self.turns.any_waiting());
        assert_eq!(self.callbacks_waiting.load(Ordering::SeqCst), 0);
        assert!(self.on_synced.lock().unwrap().is_empty());
    }
}

fn appenders(commit: &Arc<Commit>, count: usize) -> Vec<Outcome> {
    let threads: Vec<_> = (1..count)
        .map(|_| {
            let commit = Arc::clone(commit);
            thread::spawn(move || commit.append_synced())
        })
        .collect();
    let mut outcomes = vec![commit.append_synced()];
    outcomes.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
    commit.check_idle();
    outcomes
}

#[test]
fn of_two_waiters_neither_sleeps_for_ever_nor_returns_too_early() {
    check(3, || {
        let outcomes = appenders(&Arc::new(Commit::default()), 2);
        assert_eq!(outcomes, [Ok(()), Ok(())]);
    });
}

#[test]
fn of_three_waiters_none_sleeps_for_ever() {
    check(1, || {
        let outcomes = appenders(&Arc::new(Commit::default()), 3);
        assert_eq!(outcomes, [Ok(()), Ok(()), Ok(())]);
    });
}

#[test]
fn a_failing_sync_ends_every_wait() {
    for failing in [0, 1] {
        check(2, move || {
            let outcomes = appenders(&Arc::new(Commit::failing(failing)), 2);
            assert!(failing > 0 || outcomes.contains(&Err(Poisoned)));
        });
    }
}

/// A callback against a leader that finishes; the flusher syncs once callbacks wait (`flusher_wait`).
fn callback_against_leader(commit: &Arc<Commit>, expected: &[Outcome]) {
    let end = commit.append();
    let leader = {
        let commit = Arc::clone(commit);
        thread::spawn(move || commit.append_synced())
    };
    let runs = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&runs);
    commit.when(
        end,
        Box::new(move |outcome| noted.lock().unwrap().push(outcome)),
    );
    let waits = !commit.on_synced.lock().unwrap().is_empty();
    if waits {
        let _ = commit.sync_to(commit.written.load(Ordering::Acquire));
    }
    let _ = leader.join().unwrap();
    let runs = runs.lock().unwrap();
    assert_eq!(runs.len(), 1, "the callback ran {} times", runs.len());
    assert!(expected.contains(&runs[0]));
    commit.check_idle();
}

#[test]
fn a_callback_that_races_with_a_finishing_leader_runs_once() {
    check(2, || {
        callback_against_leader(&Arc::new(Commit::default()), &[Ok(())])
    });
}

#[test]
fn a_callback_that_races_with_a_failing_leader_runs_once() {
    check(2, || {
        callback_against_leader(&Arc::new(Commit::failing(0)), &[Ok(()), Err(Poisoned)]);
    });
}
