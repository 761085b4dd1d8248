//! A master at random work, and a replica that follows it, each on a simulated disk.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file takes its part, and a test that fails should stop"
)]

use std::sync::Arc;

use qmq_store::disk::SimulatedDisk;
use qmq_store::{Error, Options, ReplicaError, Store, SubjectStats};

use crate::common::model::Model;
use crate::common::rng::Rng;
use crate::common::small_options;
use crate::common::workload::{Session, options_of};

pub(crate) struct Pair {
    pub(crate) session: Session,
    pub(crate) replica: Store,
    pub(crate) replica_disk: SimulatedDisk,
    pub(crate) options: Options,
    pub(crate) replica_options: Options,
}

impl Pair {
    /// Stores of options that the seed chooses.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let (mut options, _) = options_of(rng);
        // Retention would take what the replica has not got yet.
        options.retention.max_bytes = None;
        let segment_bytes = (64 << 10) * (1 + rng.below(3));
        let disk = SimulatedDisk::new();
        disk.set_seed(rng.next());
        Self::of(disk, options, |replica| {
            replica.segment_bytes = segment_bytes;
        })
    }

    /// As [`Self::new`], of a master that keeps little.
    pub(crate) fn retaining(rng: &mut Rng) -> Self {
        let (mut options, _) = options_of(rng);
        options.retention.max_bytes = Some(250 << 10);
        Self::of(SimulatedDisk::new(), options, |replica| {
            replica.retention.max_bytes = None;
        })
    }

    pub(crate) fn small() -> Self {
        Self::with(|_| {})
    }

    /// Both of the same options.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let (mut options, _) = small_options();
        change(&mut options);
        Self::of(SimulatedDisk::new(), options, |_| {})
    }

    pub(crate) fn of(
        disk: SimulatedDisk,
        options: Options,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let (_, clock) = small_options();
        let mut options = options;
        options.clock = Arc::clone(&clock) as Arc<_>;
        let mut replica_options = options.clone();
        change(&mut replica_options);
        let session = Session::new(disk, &options, clock, Model::default());
        let replica_disk = SimulatedDisk::new();
        let replica = open_replica(&replica_disk, &replica_options);
        Self {
            session,
            replica,
            replica_disk,
            options,
            replica_options,
        }
    }

    /// Brings all that the master has to the replica, in pieces that the seed chooses, with what else a replica does in between.
    pub(crate) fn follow(&mut self, rng: &mut Rng) {
        while self.follow_once(rng).unwrap() {}
    }

    /// One piece of that; `false` if there was nothing.
    pub(crate) fn follow_once(&mut self, rng: &mut Rng) -> Result<bool, Error> {
        let end = self.replica.watermarks().written;
        let pieces = [1, 500, 5_000, 100_000];
        let range = self.session.store.raw(end, *rng.pick(&pieces)).unwrap();
        if range.bytes.is_empty() {
            return Ok(false);
        }
        let reached = self.replica.append_raw(end, &range.bytes)?;
        assert_eq!(reached, range.end());
        match rng.below(20) {
            0 => self.replica.sync()?,
            1 => self.replica.maintain()?,
            2 => self.replica.checkpoint()?,
            _ => {}
        }
        Ok(true)
    }

    /// Lets go of the replica's store.
    pub(crate) fn forget_replica(&mut self) {
        self.replica = placeholder();
    }

    pub(crate) fn reopen_replica(&mut self, rng: &mut Rng) {
        if rng.chance(50) {
            self.replica.clone().close().unwrap();
        } else {
            self.replica_disk = self.replica_disk.process_killed();
        }
        self.forget_replica();
        self.replica = open_replica(&self.replica_disk, &self.replica_options);
    }

    /// Closes the master in order, or kills its process, and opens it again.
    pub(crate) fn reopen_master(&mut self, in_order: bool) {
        if in_order {
            self.session.store.clone().close().unwrap();
        } else {
            self.session.disk = self.session.disk.process_killed();
        }
        self.session.store = placeholder();
        self.session.store = crate::common::open(&self.session.disk, &self.options).unwrap();
    }
}

/// A store that nobody uses, while another is opened.
pub(crate) fn placeholder() -> Store {
    Store::open_on(Arc::new(SimulatedDisk::new()), small_options().0).unwrap()
}

pub(crate) fn open_replica(disk: &SimulatedDisk, options: &Options) -> Store {
    Store::open_replica_on(Arc::new(disk.clone()), options.clone()).unwrap()
}

/// Brings all that `from` has to `to`.
pub(crate) fn copy(from: &Store, to: &Store) {
    loop {
        let range = from.raw(to.watermarks().written, 10_000).unwrap();
        if range.bytes.is_empty() {
            return;
        }
        to.append_raw(range.offset, &range.bytes).unwrap();
    }
}

/// All bytes of the log from `from` on, as raw ranges give them.
pub(crate) fn log_bytes(store: &Store, from: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let range = store.raw(from + bytes.len() as u64, 1 << 20).unwrap();
        if range.bytes.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&range.bytes);
    }
}

/// Asserts that both logs are the same, as far as both keep them.
pub(crate) fn same_log(a: &Store, b: &Store) {
    assert_eq!(a.watermarks().written, b.watermarks().written, "their ends");
    let start = a.stats().start_offset.max(b.stats().start_offset);
    assert!(log_bytes(a, start) == log_bytes(b, start), "their bytes");
    assert_eq!(notes(a, start), notes(b, start));
}

/// What notes say, with the sequences of their messages.
fn notes(store: &Store, from: u64) -> Vec<(Vec<u8>, Vec<u64>)> {
    let mut found = Vec::new();
    store
        .notes(from, &mut |noted| {
            found.push((noted.note.to_vec(), noted.sequences.to_vec()));
        })
        .unwrap();
    found
}

/// What there is to know of the subjects, but for what each store knows for itself: when consumers were heard of, and how far a group with tags has
/// looked in vain, which makes its lag less.
pub(crate) fn subjects(store: &Store) -> Vec<SubjectStats> {
    let stats = |name: &String| {
        let mut stats = store.subject_stats(name).unwrap();
        for group in &mut stats.groups {
            group.lag = stats.next_sequence - group.cursor;
            for consumer in &mut group.consumers {
                consumer.seen_ms = 0;
            }
        }
        stats
    };
    store.subjects().iter().map(stats).collect()
}

pub(crate) fn same_groups(a: &Store, b: &Store) {
    assert_eq!(subjects(a), subjects(b));
}

/// As [`same_groups`], of stores that retain for themselves: what one has not got any more, its groups have skipped.
pub(crate) fn same_groups_above_the_floor(a: &Store, b: &Store) {
    let all = subjects(a).into_iter().zip(subjects(b));
    assert_eq!(a.subjects(), b.subjects());
    for (a, b) in all {
        assert_eq!((&a.subject, a.next_sequence), (&b.subject, b.next_sequence));
        let floor = a.first_sequence.max(b.first_sequence);
        assert_eq!(a.groups.len(), b.groups.len());
        for (a, b) in a.groups.iter().zip(&b.groups) {
            assert_eq!((&a.group, a.broadcast), (&b.group, b.broadcast));
            assert_eq!(a.cursor.max(floor), b.cursor.max(floor), "{a:?} {b:?}");
        }
    }
}

/// What replication found not to fit.
#[track_caller]
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, Error>) -> ReplicaError {
    match outcome {
        Err(Error::Replication(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}
