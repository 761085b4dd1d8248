//! Group commit: `log/turns.rs` itself, and a copy of `log/commit.rs` (`sync_to`, `run_ready`, `when`, `advance_replicated`, `poison`)
//! around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
struct State {
    on_synced: BTreeMap<u64, Callback>,
    on_replicated: BTreeMap<u64, Callback>,
    unsynced: usize,
}

impl State {
    fn note_synced(&mut self, synced: u64) -> usize {
        let unsynced = self.on_replicated.range(synced.saturating_add(1)..).count();
        let before = std::mem::replace(&mut self.unsynced, unsynced);
        before.checked_sub(unsynced).unwrap()
    }

    fn sync_is_wanted(&self) -> bool {
        !self.on_synced.is_empty() || self.unsynced > 0
    }
}

fn take(waiting: &mut BTreeMap<u64, Callback>, covered: u64) -> Vec<Callback> {
    let mut ready = Vec::new();
    while let Some(first) = waiting
        .first_entry()
        .filter(|first| *first.key() <= covered)
    {
        ready.push(first.remove());
    }
    ready
}

#[derive(Default)]
struct Commit {
    written: AtomicU64,
    synced: AtomicU64,
    replicated: AtomicU64,
    turns: Turns,
    callbacks_waiting: AtomicU64,
    state: Mutex<State>,
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
        let mut state = self.state.lock().unwrap();
        let mut callbacks = self.take_synced(&mut state, u64::MAX);
        callbacks.append(&mut self.take_replicated(&mut state, u64::MAX, u64::MAX));
        drop(state);
        self.turns.wake_all();
        for callback in callbacks {
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
                    leader.note_sync(Duration::from_micros(100));
                    self.synced.fetch_max(covered, Ordering::SeqCst);
                    drop(leader);
                    self.run_ready();
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

    fn run_ready(&self) {
        if self.callbacks_waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.state.lock().unwrap();
        let synced = self.synced.load(Ordering::SeqCst);
        let replicated = self.replicated();
        let mut ready = self.take_synced(&mut state, synced);
        ready.append(&mut self.take_replicated(&mut state, synced, replicated));
        drop(state);
        for callback in ready {
            callback(Ok(()));
        }
    }

    fn take_synced(&self, state: &mut State, synced: u64) -> Vec<Callback> {
        let ready = take(&mut state.on_synced, synced);
        self.turns.leave(ready.len());
        self.callbacks_waiting
            .fetch_sub(ready.len() as u64, Ordering::SeqCst);
        ready
    }

    fn take_replicated(&self, state: &mut State, synced: u64, replicated: u64) -> Vec<Callback> {
        let ready = take(&mut state.on_replicated, replicated);
        self.turns.leave(state.note_synced(synced));
        self.callbacks_waiting
            .fetch_sub(ready.len() as u64, Ordering::SeqCst);
        ready
    }

    fn replicated(&self) -> u64 {
        self.replicated.load(Ordering::Acquire).min(self.synced())
    }

    fn advance_replicated(&self, end: u64) {
        self.replicated.fetch_max(end, Ordering::AcqRel);
        let mut state = self.state.lock().unwrap();
        let ready = self.take_replicated(&mut state, self.synced(), self.replicated());
        drop(state);
        for callback in ready {
            callback(Ok(()));
        }
    }

    fn when(&self, end: u64, slaves_too: bool, callback: Callback) {
        self.callbacks_waiting.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state.lock().unwrap();
        let synced = self.synced.load(Ordering::SeqCst) >= end;
        let reached = if slaves_too {
            self.replicated() >= end
        } else {
            synced
        };
        let refusal = self.check();
        if reached || refusal.is_err() {
            drop(state);
            self.callbacks_waiting.fetch_sub(1, Ordering::SeqCst);
            callback(if reached { Ok(()) } else { refusal });
            return;
        }
        if slaves_too {
            state.on_replicated.insert(end, callback);
            state.unsynced += usize::from(!synced);
        } else {
            state.on_synced.insert(end, callback);
        }
        if !synced {
            self.turns.enter();
        }
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
        let state = self.state.lock().unwrap();
        assert!(state.on_synced.is_empty() && state.on_replicated.is_empty());
        assert_eq!(state.unsynced, 0);
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
        false,
        Box::new(move |outcome| noted.lock().unwrap().push(outcome)),
    );
    if commit.state.lock().unwrap().sync_is_wanted() {
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

/// Slaves have it while this store's leader finishes, or fails: called once, and well only with both.
fn callback_against_both(commit: &Arc<Commit>, expected: &[Outcome]) {
    let end = commit.append();
    let leader = {
        let commit = Arc::clone(commit);
        thread::spawn(move || commit.append_synced())
    };
    let runs = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (noted, marks) = (Arc::clone(&runs), Arc::clone(commit));
    let callback = move |outcome: Outcome| {
        assert!(outcome.is_err() || marks.replicated() >= end);
        noted.lock().unwrap().push(outcome);
    };
    commit.when(end, true, Box::new(callback));
    commit.advance_replicated(end);
    if commit.state.lock().unwrap().sync_is_wanted() {
        let _ = commit.sync_to(commit.written.load(Ordering::Acquire));
    }
    let _ = leader.join().unwrap();
    let runs = runs.lock().unwrap();
    assert_eq!(runs.len(), 1, "the callback ran {} times", runs.len());
    assert!(expected.contains(&runs[0]));
    commit.check_idle();
}

#[test]
fn a_callback_that_waits_for_slaves_and_races_with_a_leader_runs_once() {
    check(2, || {
        callback_against_both(&Arc::new(Commit::default()), &[Ok(())]);
    });
    check(2, || {
        callback_against_both(&Arc::new(Commit::failing(0)), &[Ok(()), Err(Poisoned)]);
    });
}

#[test]
fn a_callback_that_waits_for_slaves_and_races_with_their_word_runs_once() {
    check(2, || {
        let commit = Arc::new(Commit::default());
        let end = commit.append();
        let slaves = {
            let commit = Arc::clone(&commit);
            thread::spawn(move || commit.advance_replicated(end))
        };
        let runs = Arc::new(std::sync::Mutex::new(0));
        let (noted, marks) = (Arc::clone(&runs), Arc::clone(&commit));
        let callback = move |outcome: Outcome| {
            assert!(outcome.is_ok() && marks.replicated() >= end);
            *noted.lock().unwrap() += 1;
        };
        commit.when(end, true, Box::new(callback));
        if commit.state.lock().unwrap().sync_is_wanted() {
            commit.sync_to(end).unwrap();
        }
        slaves.join().unwrap();
        assert_eq!(*runs.lock().unwrap(), 1);
        commit.check_idle();
    });
}
