//! A replica that loses its power, or its process, anywhere in its work: what is left is the beginning of its master's log, not shorter than what it
//! had synced, and it goes on from there.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod common;
mod pair;

use std::sync::Arc;

use common::number_from_env;
use common::rng::Rng;
use pair::{Pair, log_bytes, open_replica, same_groups, same_log};
use qmq_store::disk::SimulatedDisk;
use qmq_store::{Snapshot, Store};

fn seeds() -> impl Iterator<Item = u64> {
    let first = number_from_env("QMQ_REPLICA_FIRST", 1);
    (first..first + number_from_env("QMQ_REPLICA_SEEDS", 300))
        .inspect(|seed| println!("QMQ_REPLICA_FIRST={seed} QMQ_REPLICA_SEEDS=1"))
}

fn crash(disk: &SimulatedDisk, rng: &mut Rng) -> SimulatedDisk {
    if rng.chance(80) {
        disk.crash(rng.next())
    } else {
        disk.process_killed()
    }
}

#[test]
fn what_a_crash_leaves_is_the_masters_log_up_to_what_was_synced_at_least() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new(&mut rng);
        for round in 0..1 + rng.below(4) {
            let count = *rng.pick(&[10, 60, 200]);
            pair.session.run(&mut rng, count);
            if rng.chance(20) {
                pair.session.store.begin_epoch(round + 1).unwrap();
            }
            let disk = pair.replica_disk.clone();
            if rng.chance(70) {
                disk.power_off_after(disk.operations() + rng.below(80));
            }
            let mut synced = pair.replica.watermarks().synced;
            while let Ok(true) = pair.follow_once(&mut rng) {
                synced = pair.replica.watermarks().synced;
            }
            let left = crash(&disk, &mut rng);
            pair.forget_replica();
            // And once more, in the middle of the recovery.
            left.power_off_after(rng.below(60));
            drop(Store::open_replica_on(
                Arc::new(left.clone()),
                pair.replica_options.clone(),
            ));
            pair.replica_disk = crash(&left, &mut rng);
            pair.replica = open_replica(&pair.replica_disk, &pair.replica_options);
            let replica = &pair.replica;
            assert_eq!(replica.open_report().damages, [], "on an honest disk");
            let end = replica.watermarks().written;
            assert!(
                end >= synced,
                "{end} is less than {synced}, which was synced"
            );
            let master = log_bytes(&pair.session.store, 0);
            assert!(master.starts_with(&log_bytes(replica, 0)));
            let report = replica.verify(&mut |_, _| {}).unwrap();
            assert_eq!(report.damages, []);
        }
        pair.follow(&mut rng);
        same_log(&pair.session.store, &pair.replica);
        same_groups(&pair.session.store, &pair.replica);
        assert_eq!(pair.session.store.epochs(), pair.replica.epochs());
    }
}

#[test]
fn a_cut_that_is_interrupted_is_done_or_not() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let retaining = rng.chance(50);
        let (mut parted, common) = parted(&mut rng, retaining);
        let same_groups = |a: &Store, b: &Store| {
            if retaining {
                pair::same_groups_above_the_floor(a, b);
            } else {
                same_groups(a, b);
            }
        };
        let old = parted.session.store.clone();
        let disk = parted.session.disk.clone();
        let (end, before) = (old.watermarks().written, old.stats().start_offset);
        let tail = log_bytes(&old, common);
        let whole = log_bytes(&old, before);
        disk.power_off_after(disk.operations() + rng.below(80));
        let cut = old.cut(common).map(|(store, _)| store.watermarks().written);
        let mut left = crash(&disk, &mut rng);
        drop(old);
        parted.session.store = pair::placeholder();
        for _ in 0..rng.below(3) {
            left.power_off_after(rng.below(60));
            drop(Store::open_replica_on(
                Arc::new(left.clone()),
                parted.options.clone(),
            ));
            left = crash(&left, &mut rng);
        }
        let mut store = open_replica(&left, &parted.options);
        let reached = store.watermarks().written;
        assert_eq!(store.open_report().damages, []);
        assert!(
            reached == end || reached == common,
            "{common} {reached} {end}"
        );
        assert!(cut.is_err() || reached == common, "cut, and back again");
        assert!(whole.starts_with(&log_bytes(&store, before)));
        if reached == end {
            let lost;
            (store, lost) = store.cut(common).unwrap();
            assert_eq!((lost.offset, lost.end), (common, end));
        }
        lost_is(&left, common, &tail);
        assert_eq!(store.watermarks().written, common);
        assert!(store.epochs().iter().all(|epoch| epoch.start < common));
        // Nothing of the other history is left in the way of the new master's.
        pair::copy(&parted.replica, &store);
        same_log(&parted.replica, &store);
        same_groups(&parted.replica, &store);
        assert_eq!(parted.replica.epochs(), store.epochs());
        let after = open_replica(&crash_at_rest(&left, store, &mut rng), &parted.options);
        same_log(&parted.replica, &after);
        same_groups(&parted.replica, &after);
        let report = after.verify(&mut |_, _| {}).unwrap();
        assert_eq!(report.damages, []);
    }
}

/// What is left of a store that is synced, and then goes.
fn crash_at_rest(disk: &SimulatedDisk, store: Store, rng: &mut Rng) -> SimulatedDisk {
    store.sync().unwrap();
    let left = crash(disk, rng);
    drop(store);
    left
}

/// Asserts that one of the lost tails has these bytes, and that all of its records can be read.
fn lost_is(disk: &SimulatedDisk, offset: u64, tail: &[u8]) {
    let names = common::files::files(disk, "lost-");
    let mut dumped = Vec::new();
    for name in &names {
        let mut at = offset;
        let mut whole = true;
        qmq_store::offline::dump_lost_on(disk, name, &mut |record| {
            whole &= record.offset == at && record.len > 0;
            at = record.offset + record.len;
            true
        })
        .unwrap();
        dumped.push((name.clone(), whole, at - offset));
    }
    let len = tail.len() as u64;
    assert!(
        dumped
            .iter()
            .any(|(_, whole, there)| *whole && *there == len),
        "{dumped:?} {len}"
    );
}

/// A master whose replica has become another, after which both went on: the old one, demoted, with the offset where they parted.
fn parted(rng: &mut Rng, retaining: bool) -> (Pair, u64) {
    let mut pair = if retaining {
        Pair::retaining(rng)
    } else {
        Pair::new(rng)
    };
    for _ in 0..if retaining { 8 } else { 1 } {
        let count = rng.below(if retaining { 80 } else { 200 });
        pair.session.run(rng, count);
        pair.follow(rng);
        pair.session.store.maintain().unwrap();
        pair.session.note_floors();
    }
    pair.session.store.begin_epoch(1).unwrap();
    let count = rng.below(100);
    pair.session.run(rng, count);
    pair.follow(rng);
    let common = pair.replica.watermarks().written;
    if retaining {
        // What a replicator does; without it the state as of the cut may be gone.
        pair.session.store.sync().unwrap();
        pair.session.store.advance_replicated(common);
        pair.session.store.checkpoint().unwrap();
    }
    let count = 1 + rng.below(if retaining { 100 } else { 200 });
    pair.session.run(rng, count);
    if rng.chance(30) {
        pair.session.store.begin_epoch(2).unwrap();
    }
    for _ in 0..rng.below(4) {
        pair.session.store.checkpoint().unwrap();
    }
    pair.session.store.sync().unwrap();
    if pair.session.store.watermarks().written == common {
        pair.session.store.begin_epoch(9).unwrap();
    }
    pair.replica.promote(3).unwrap();
    for number in 0..rng.below(60) {
        let body = vec![number as u8; rng.below(3000) as usize];
        let message = qmq_store::Message::new("s", body);
        pair.replica
            .append_with(&message, qmq_store::Durability::Buffered)
            .unwrap();
    }
    pair.session.store.demote().unwrap();
    (pair, common)
}

#[test]
fn an_installation_that_is_interrupted_is_done_or_begun_again() {
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let mut pair = if rng.chance(50) {
            Pair::retaining(&mut rng)
        } else {
            Pair::new(&mut rng)
        };
        pair.replica_options.identity_seed = Some(99);
        for _ in 0..4 {
            let count = 20 + rng.below(100);
            pair.session.run(&mut rng, count);
            pair.session.store.maintain().unwrap();
            pair.session.note_floors();
        }
        let snapshot = pair.session.store.snapshot().unwrap();
        let snapshot = Snapshot::from_bytes(snapshot.as_bytes().clone()).unwrap();
        let mut disk = SimulatedDisk::new();
        let options = || pair.replica_options.clone();
        let mut replica = None;
        for _ in 0..1 + rng.below(3) {
            disk.power_off_after(rng.below(40));
            drop(replica.take());
            let on: Arc<dyn qmq_store::disk::Disk> = Arc::new(disk.clone());
            let installed = Store::install_replica_on(on, &snapshot, options());
            disk = crash(&disk, &mut rng);
            let opened = Store::open_replica_on(Arc::new(disk.clone()), options());
            if installed.is_ok() {
                replica = Some(opened.unwrap());
                break;
            }
            replica = opened.ok();
            if let Some(replica) = &replica {
                // Whole, or a folder in which nothing had been begun.
                let whole = replica.stats().store_id == snapshot.store_id();
                assert!(whole || replica.watermarks().written == 0);
            }
            let whole = |it: &Store| it.stats().store_id == snapshot.store_id();
            if replica.as_ref().is_some_and(whole) {
                break;
            }
            if replica.take().is_some() {
                disk = SimulatedDisk::new();
            }
        }
        let replica = replica.unwrap_or_else(|| {
            disk.power_off_after(u64::MAX);
            Store::install_replica_on(Arc::new(disk.clone()), &snapshot, options()).unwrap()
        });
        assert_eq!(replica.watermarks().written, snapshot.offset());
        assert_eq!(replica.open_report().damages, []);
        pair::copy(&pair.session.store, &replica);
        same_log(&pair.session.store, &replica);
        same_groups(&pair.session.store, &replica);
        let count = 20 + rng.below(60);
        pair.session.run(&mut rng, count);
        pair::copy(&pair.session.store, &replica);
        same_log(&pair.session.store, &replica);
        pair::same_groups_above_the_floor(&pair.session.store, &replica);
        assert_eq!(pair.session.store.epochs(), replica.epochs());
    }
}

#[test]
fn an_installation_that_loses_power_at_any_operation_is_done_or_begun_again() {
    let mut rng = Rng::new(5);
    let mut pair = Pair::new(&mut rng);
    pair.replica_options.identity_seed = Some(99);
    pair.session.run(&mut rng, 200);
    let snapshot = pair.session.store.snapshot().unwrap();
    let options = || pair.replica_options.clone();
    let install = |disk: &SimulatedDisk| {
        Store::install_replica_on(Arc::new(disk.clone()), &snapshot, options())
    };
    let groups = |store: &Store| -> Vec<_> {
        let subjects = store.subjects().into_iter();
        subjects
            .map(|name| store.subject_stats(&name).unwrap())
            .collect()
    };
    let expected = groups(&install(&SimulatedDisk::new()).unwrap());
    let (mut cut, mut done) = (0, false);
    while !done {
        for _ in 0..40 {
            let disk = SimulatedDisk::new();
            disk.power_off_after(cut);
            done = install(&disk).is_ok();
            let disk = crash(&disk, &mut rng);
            let opened = Store::open_replica_on(Arc::new(disk.clone()), options());
            let is_whole = |it: &Store| it.stats().store_id == snapshot.store_id();
            let replica = match opened.ok().filter(is_whole) {
                Some(replica) => replica,
                None if done => panic!("cut {cut}: it was installed, and is not there"),
                None => continue,
            };
            assert_eq!(replica.open_report().damages, [], "cut {cut}");
            assert_eq!(groups(&replica), expected, "cut {cut}");
        }
        cut += 1;
    }
    assert!(cut > 10, "{cut} operations are not all");
}
