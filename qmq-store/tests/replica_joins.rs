//! A replica that comes late joins with a snapshot, and one that has gone astray is cut back, whatever retention has taken meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod common;
mod pair;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::number_from_env;
use common::rng::Rng;
use common::workload::{Session, options_of};
use pair::{Pair, copy, log_bytes, open_replica, refusal, same_groups, same_log};
use qmq_store::disk::SimulatedDisk;
use qmq_store::offline::DumpedKind;
use qmq_store::{
    Background, Durability, Error, Message, OpenError, Options, PullRequest, ReplicaError,
    Snapshot, Store,
};

fn install(snapshot: &Snapshot, options: &Options) -> (SimulatedDisk, Store) {
    let disk = SimulatedDisk::new();
    let on = Arc::new(disk.clone());
    let store = Store::install_replica_on(on, snapshot, options.clone()).unwrap();
    (disk, store)
}

fn kilobytes(store: &Store, count: u64) {
    for _ in 0..count {
        let message = Message::new("s", vec![b'k'; 1024]);
        store.append_with(&message, Durability::Buffered).unwrap();
    }
}

#[test]
fn a_snapshot_and_the_tail_make_the_same_store_at_any_moment() {
    let first = number_from_env("QMQ_REPLICA_FIRST", 1);
    for seed in first..first + number_from_env("QMQ_REPLICA_SEEDS", 60) {
        println!("QMQ_REPLICA_FIRST={seed} QMQ_REPLICA_SEEDS=1");
        let mut rng = Rng::new(seed);
        let (mut options, clock) = options_of(&mut rng);
        options.retention.max_bytes = Some(100 << 10);
        let disk = SimulatedDisk::new();
        let mut session = Session::new(disk, &options, clock, common::model::Model::default());
        for epoch in 1..4 {
            let count = rng.below(150);
            session.run(&mut rng, count);
            session.store.begin_epoch(epoch).unwrap();
        }
        session.store.maintain().unwrap();
        session.note_floors();
        let snapshot = session.store.snapshot().unwrap();
        assert_eq!(snapshot.store_id(), session.store.stats().store_id);
        let (replica_disk, replica) = install(&snapshot, &options);
        assert_eq!(replica.stats().store_id, snapshot.store_id());
        assert_eq!(replica.stats().created_ms, session.store.stats().created_ms);
        assert_eq!(replica.watermarks().written, snapshot.offset());
        assert_eq!(replica.stats().start_offset, snapshot.offset());
        assert!(snapshot.offset() <= snapshot.state_end());
        let (mut disk, mut replica) = (replica_disk, replica);
        // Interrupted on its way, and not to be promoted before it is there.
        let mut more = true;
        while more {
            let end = replica.watermarks().written;
            if end < snapshot.state_end() {
                let needed = snapshot.state_end();
                let early = ReplicaError::NotCaughtUp { end, needed };
                assert_eq!(refusal(replica.promote(9)), early);
            }
            for _ in 0..1 + rng.below(60) {
                let from = replica.watermarks().written;
                let range = session.store.raw(from, 3_000).unwrap();
                more = !range.bytes.is_empty();
                replica.append_raw(from, &range.bytes).unwrap();
                match rng.below(20) {
                    0 => replica.checkpoint().unwrap(),
                    1 => replica.sync().unwrap(),
                    _ => {}
                }
            }
            if rng.chance(50) {
                replica.close().unwrap();
            } else {
                disk = if rng.chance(50) {
                    disk.process_killed()
                } else {
                    disk.crash(rng.next())
                };
                more = true;
                drop(replica);
            }
            replica = open_replica(&disk, &options);
            assert_eq!(replica.open_report().damages, []);
            more |= replica.watermarks().written < session.store.watermarks().written;
        }
        same_log(&session.store, &replica);
        pair::same_groups_above_the_floor(&session.store, &replica);
        assert_eq!(
            session.store.stats().start_offset,
            replica.stats().start_offset
        );
        same_groups(&session.store, &replica);
        assert_eq!(session.store.epochs(), replica.epochs());
        assert_eq!(replica.verify(&mut |_, _| {}).unwrap().damages, []);
        let count = rng.below(100);
        session.run(&mut rng, count);
        if session.store.stats().start_offset <= replica.watermarks().written {
            copy(&session.store, &replica);
            same_log(&session.store, &replica);
            pair::same_groups_above_the_floor(&session.store, &replica);
        }
        replica.maintain().unwrap();
        replica.promote(9).unwrap();
        replica.append(&Message::new("a", "x")).unwrap();
    }
}

#[test]
fn pulls_go_on_at_a_promoted_store_that_began_with_a_snapshot() {
    let (options, _) = common::small_options();
    let on = Arc::new(SimulatedDisk::new());
    let master = Store::open_on(on, options.clone()).unwrap();
    let request = PullRequest::new("s", "g", "c").max(10);
    kilobytes(&master, 30);
    master.ack(&master.pull(&request).unwrap()).unwrap();
    let (_disk, replica) = install(&master.snapshot().unwrap(), &options);
    kilobytes(&master, 30);
    let acked = master.pull(&request).unwrap();
    master.ack(&acked).unwrap();
    copy(&master, &replica);
    replica.promote(1).unwrap();
    let next = replica.pull(&request).unwrap();
    let sequences: Vec<u64> = next.iter().map(|one| one.sequence()).collect();
    // Also what came before the snapshot.
    assert_eq!(sequences, (20..30).collect::<Vec<_>>());
    assert_eq!(replica.subject_stats("s").unwrap().groups[0].skipped, 0);
    assert_eq!(replica.ack(&next).unwrap().acked, 10);
    let last = acked.iter().map(|one| one.pull_sequence()).max();
    assert!(next.iter().next().map(|one| one.pull_sequence()) > last);
}

/// Its groups came with the snapshot, and are made from the log where that is cut behind it.
#[test]
fn a_replica_from_a_snapshot_is_cut_to_before_that() {
    let pair = Pair::small();
    let (master, early) = (&pair.session.store, &pair.replica);
    let request = PullRequest::new("s", "g", "c").max(5);
    for _ in 0..4 {
        kilobytes(master, 10);
        master.ack(&master.pull(&request).unwrap()).unwrap();
        let kept = master.pull(&request).unwrap();
        assert_eq!(kept.len(), 5);
        if early.watermarks().written == 0 {
            copy(master, early);
        }
    }
    let common = early.watermarks().written;
    let (_, joined) = install(&master.snapshot().unwrap(), &pair.options);
    copy(master, &joined);
    same_groups(master, &joined);
    let (joined, lost) = joined.cut(common).unwrap();
    assert!(lost.file.is_some());
    same_log(early, &joined);
    same_groups(early, &joined);
    copy(master, &joined);
    same_log(master, &joined);
    same_groups(master, &joined);
}

#[test]
fn a_snapshot_that_is_not_whole_or_a_folder_that_is_not_free_is_refused() {
    let pair = Pair::small();
    kilobytes(&pair.session.store, 3);
    let snapshot = pair.session.store.snapshot().unwrap();
    let bytes = snapshot.as_bytes();
    assert_eq!(Snapshot::from_bytes(bytes.clone()).unwrap(), snapshot);
    for at in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 4;
        let refused = Snapshot::from_bytes(flipped);
        assert!(
            matches!(refused, Err(ReplicaError::BadSnapshot { .. })),
            "{at}"
        );
        assert!(Snapshot::from_bytes(bytes.slice(..at)).is_err());
    }
    let install_on = |disk: &SimulatedDisk| {
        let on = Arc::new(disk.clone());
        Store::install_replica_on(on, &snapshot, pair.options.clone())
    };
    let left = pair.session.disk.process_killed();
    let before = common::files::contents(&left);
    let refused = install_on(&left);
    assert!(
        matches!(refused, Err(OpenError::NotAStore { .. })),
        "{refused:?}"
    );
    assert_eq!(common::files::contents(&left), before);
    let disk = SimulatedDisk::new();
    let installed = install_on(&disk).unwrap();
    assert!(matches!(
        install_on(&disk),
        Err(OpenError::NotAStore { .. } | OpenError::Locked { .. })
    ));
    // It is a replica, and stays one.
    drop(installed);
    let refused = Store::open_on(Arc::new(disk), pair.options.clone());
    assert!(matches!(refused, Err(OpenError::Replica { .. })));
}

/// The log's beginning is retired, so only a checkpoint says how things stood. Those of the tail know too much.
#[test]
fn a_log_whose_beginning_is_gone_is_cut_back_as_long_as_a_checkpoint_is_old_enough() {
    let mut pair = Pair::with(|options| options.retention.max_bytes = Some(200 << 10));
    let request = PullRequest::new("s", "g", "c").max(7);
    let master = pair.session.store.clone();
    for _ in 0..8 {
        kilobytes(&master, 60);
        let batch = master.pull(&request).unwrap();
        copy(&master, &pair.replica);
        master.ack(&batch).unwrap();
        master.maintain().unwrap();
    }
    master.begin_epoch(1).unwrap();
    copy(&master, &pair.replica);
    let common = pair.replica.watermarks().written;
    master.sync().unwrap();
    master.advance_replicated(common);
    master.checkpoint().unwrap();
    // The tail that nobody gets, and closes in it, each with a checkpoint.
    drop(master);
    for _ in 0..4 {
        kilobytes(&pair.session.store, 30);
        pair.session.store.maintain().unwrap();
        let batch = pair.session.store.pull(&request).unwrap();
        pair.session.store.ack(&batch).unwrap();
        pair.reopen_master(true);
    }
    let old = pair.session.store.clone();
    assert!(old.stats().start_offset > 0);
    old.demote().unwrap();
    let end = old.watermarks().written;
    let (inside, start) = (common + 8, old.stats().start_offset);
    let refused = refusal(old.cut(inside));
    assert_eq!(
        refused,
        ReplicaError::NotAUnit {
            offset: inside,
            begins: common
        }
    );
    assert!(matches!(
        refusal(old.cut(start - 8)),
        ReplicaError::Retired { .. }
    ));
    assert!(matches!(
        refusal(old.cut(end + 8)),
        ReplicaError::BeyondEnd { .. }
    ));
    let deep = refusal(old.cut(start));
    assert_eq!(deep, ReplicaError::CutTooDeep { offset: start });
    // Nothing of that has done anything.
    assert_eq!(old.watermarks().written, end);
    let (same, nothing) = old.cut(end).unwrap();
    assert_eq!((nothing.file, same.watermarks().written), (None, end));
    let tail = log_bytes(&old, common);
    let incarnation = old.stats().incarnation;
    let (cut, lost) = old.cut(common).unwrap();
    assert!(matches!(old.stats().store_id, id if id == cut.stats().store_id));
    assert!(matches!(old.sync(), Ok(()) | Err(Error::Closed)));
    assert!(matches!(old.raw(common, 1), Err(Error::Closed)));
    assert!(cut.stats().incarnation > incarnation);
    assert_eq!((lost.offset, lost.end), (common, end));
    assert_eq!(
        (cut.watermarks().written, cut.watermarks().synced),
        (common, common)
    );
    assert_eq!(cut.open_report().damages, []);
    same_log(&cut, &pair.replica);
    pair::same_groups_above_the_floor(&cut, &pair.replica);
    let mut records = 0;
    let mut bytes = 0;
    let file = lost.file.unwrap();
    qmq_store::offline::dump_lost_on(&pair.session.disk, &file, &mut |record| {
        let actions = [DumpedKind::Message, DumpedKind::Action, DumpedKind::Epoch];
        assert!(actions.contains(&record.kind));
        records += 1;
        bytes += record.len;
        true
    })
    .unwrap();
    assert!(
        records >= 28 && bytes == tail.len() as u64,
        "{records} {bytes}"
    );
    // And on with the new master.
    pair.replica.promote(2).unwrap();
    kilobytes(&pair.replica, 100);
    copy(&pair.replica, &cut);
    same_log(&pair.replica, &cut);
    cut.maintain().unwrap();
    assert_eq!(cut.verify(&mut |_, _| {}).unwrap().damages, []);
}

#[test]
fn a_replica_follows_its_own_retention_and_never_loses_what_follows() {
    let pair = Pair::of(SimulatedDisk::new(), common::small_options().0, |replica| {
        replica.retention.max_bytes = Some(64 << 10);
    });
    let (master, replica) = (&pair.session.store, &pair.replica);
    for _ in 0..6 {
        kilobytes(master, 60);
        copy(master, replica);
        replica.maintain().unwrap();
    }
    assert_eq!(master.stats().start_offset, 0);
    assert!(replica.stats().start_offset > 0);
    same_log(master, replica);
    let floor = replica.subject_stats("s").unwrap().first_sequence;
    let read = replica.read("s", 0, 1).unwrap();
    assert_eq!(read.iter().next().unwrap().sequence(), floor);
    // It cannot say whether that is the same, and says so.
    let known = master.raw(0, 1).unwrap();
    let retired = refusal(replica.append_raw(0, &known.bytes));
    assert!(matches!(retired, ReplicaError::Retired { .. }));
}

/// With threads everywhere: many appenders, a follower, snapshots and housekeeping at once.
#[test]
fn a_busy_master_is_followed_and_joined_while_it_works() {
    let options = Options {
        background: Background::Threads,
        identity_seed: Some(7),
        ..Options::with_segment_bytes(256 << 10)
    };
    let master = Store::open_on(Arc::new(SimulatedDisk::new()), options.clone()).unwrap();
    let replica = Store::open_replica_on(Arc::new(SimulatedDisk::new()), options.clone()).unwrap();
    let done = AtomicBool::new(false);
    let late = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|number| {
                let master = &master;
                scope.spawn(move || {
                    let subject = format!("s{number}");
                    let request = PullRequest::new(&subject, "g", "c");
                    for round in 0..1500_usize {
                        let body = vec![number; round % 700];
                        let message = Message::new(&subject, body);
                        master.append_with(&message, Durability::Buffered).unwrap();
                        if round % 10 == 0 {
                            let batch = master.pull(&request).unwrap();
                            master
                                .ack_ranges(batch.member(), &[0..=u64::MAX], Durability::Buffered)
                                .unwrap();
                        }
                    }
                })
            })
            .collect();
        let follower = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                copy(&master, &replica);
            }
            copy(&master, &replica);
        });
        let mut late = Vec::new();
        for _ in 0..4 {
            std::thread::sleep(std::time::Duration::from_millis(30));
            let (_, joined) = install(&master.snapshot().unwrap(), &options);
            copy(&master, &joined);
            late.push(joined);
        }
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        follower.join().unwrap();
        late
    });
    same_log(&master, &replica);
    same_groups(&master, &replica);
    for joined in late {
        copy(&master, &joined);
        same_log(&master, &joined);
        same_groups(&master, &joined);
    }
}

/// What the simulated disk does not have: locks of the operating system, mappings that outlive their names.
#[test]
fn all_of_it_works_on_a_real_folder() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let [one, two, three] = [0, 1, 2].map(|at: usize| folders[at].path());
    let options = Options {
        background: Background::Threads,
        identity_seed: Some(7),
        ..Options::with_segment_bytes(64 << 10)
    };
    let master = Store::open(one, options.clone()).unwrap();
    master.begin_epoch(1).unwrap();
    kilobytes(&master, 100);
    let replica = Store::open_replica(two, options.clone()).unwrap();
    copy(&master, &replica);
    let common = replica.watermarks().written;
    kilobytes(&master, 90);
    let end = master.demote().unwrap();
    replica.promote(2).unwrap();
    kilobytes(&replica, 20);
    let held = master.read("s", 150, 40).unwrap();
    let (old, lost) = master.cut(common).unwrap();
    // A reader keeps what it has.
    assert!(
        held.iter()
            .all(|one| one.message().unwrap().body() == [b'k'; 1024])
    );
    drop(master);
    let locked = Store::open_replica(one, options.clone());
    assert!(matches!(locked, Err(OpenError::Locked { .. })));
    copy(&replica, &old);
    same_log(&replica, &old);
    let tails = qmq_store::offline::lost_tails(one).unwrap();
    assert_eq!(tails, [lost]);
    assert_eq!((tails[0].offset, tails[0].end), (common, end));
    let mut records = 0;
    qmq_store::offline::dump_lost(one, tails[0].file.as_ref().unwrap(), &mut |record| {
        assert_eq!(
            (record.kind, record.sequence),
            (DumpedKind::Message, 100 + records)
        );
        records += 1;
        true
    })
    .unwrap();
    assert_eq!(records, 90);
    let joined = Store::install_replica(three, &replica.snapshot().unwrap(), options.clone());
    let joined = joined.unwrap();
    kilobytes(&replica, 5);
    copy(&replica, &joined);
    same_log(&replica, &joined);
    joined.promise(3).unwrap();
    for store in [old, replica, joined] {
        assert_eq!(store.verify(&mut |_, _| {}).unwrap().damages, []);
        store.close().unwrap();
    }
    let joined = Store::open_replica(three, options).unwrap();
    assert!(joined.open_report().clean);
    assert_eq!(joined.promised(), 3);
}
