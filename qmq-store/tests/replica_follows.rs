//! A replica has the same byte at every offset as its master, and goes on where that stopped.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod common;
mod pair;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::number_from_env;
use common::rng::Rng;
use pair::{Pair, copy, same_groups, same_log};
use qmq_store::disk::SimulatedDisk;
use qmq_store::{
    Durability, Epoch, Error, Message, PullRequest, ReplicaError, ResetTo, Store, VisibleAt,
};

#[test]
fn under_any_work_the_logs_are_the_same_and_so_are_the_groups() {
    let first = number_from_env("QMQ_REPLICA_FIRST", 1);
    for seed in first..first + number_from_env("QMQ_REPLICA_SEEDS", 40) {
        println!("QMQ_REPLICA_FIRST={seed} QMQ_REPLICA_SEEDS=1");
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new(&mut rng);
        for round in 0..1 + rng.below(5) {
            let count = rng.below(150);
            pair.session.run(&mut rng, count);
            if rng.chance(30) {
                pair.session.store.begin_epoch(round + 1).unwrap();
            }
            pair.follow(&mut rng);
            same_log(&pair.session.store, &pair.replica);
            same_groups(&pair.session.store, &pair.replica);
        }
        let store = &pair.session.store;
        assert_eq!(store.epochs(), pair.replica.epochs());
        let report = pair.replica.verify(&mut |_, _| {}).unwrap();
        assert_eq!(report.damages, [], "seed {seed}");
        // And opened again it is the same still.
        pair.reopen_replica(&mut rng);
        same_log(&pair.session.store, &pair.replica);
        same_groups(&pair.session.store, &pair.replica);
        assert_eq!(pair.session.store.epochs(), pair.replica.epochs());
    }
}

#[test]
fn a_replica_refuses_what_only_a_master_does_and_serves_reads() {
    let pair = Pair::small();
    let master = &pair.session.store;
    for number in 0..10 {
        let message = Message::new("s", number.to_string()).with_id(format!("id-{number}"));
        master.append(&message).unwrap();
    }
    let batch = master
        .pull(&PullRequest::new("s", "g", "c").max(3))
        .unwrap();
    copy(master, &pair.replica);
    let replica = &pair.replica;
    assert!(replica.is_replica() && !master.is_replica());
    let message = Message::new("s", "x");
    let member = batch.member();
    let refusals = [
        replica.append(&message).map(drop),
        replica
            .append_batch(&[message.clone(), message], Durability::Buffered)
            .map(drop),
        replica.pull(&PullRequest::new("s", "g", "c")).map(drop),
        replica
            .pull(&PullRequest::new("s", "g", "c").max(0))
            .map(drop),
        replica.pull(&PullRequest::new("new", "g", "c")).map(drop),
        replica.ack(&batch).map(drop),
        replica
            .ack_ranges(member, &[9999..=9999], Durability::Buffered)
            .map(drop),
        replica
            .nack(member, &[0..=1], Duration::ZERO, Durability::Buffered)
            .map(drop),
        replica
            .copy_and_ack(member, 0, "t", Durability::Buffered)
            .map(drop),
        replica.consumer_gone("s", "g", "c").map(drop),
        replica.expire(u64::MAX).map(drop),
        replica.reset("s", "g", ResetTo::Earliest).map(drop),
        replica.drop_group("s", "g"),
        replica.begin_epoch(9).map(drop),
    ];
    for (at, refusal) in refusals.into_iter().enumerate() {
        assert!(matches!(refusal, Err(Error::Replica)), "{at}: {refusal:?}");
    }
    assert!(matches!(
        master.append_raw(master.watermarks().written, &[]),
        Err(Error::NotReplica)
    ));
    assert_eq!(replica.read("s", 4, 100).unwrap().len(), 6);
    assert_eq!(replica.find_by_id("s", "id-7", 100).unwrap(), Some(7));
    assert_eq!(replica.sequence_at_time("s", 0).unwrap(), 0);
    assert_eq!(replica.subject_stats("s").unwrap().groups[0].unacked, 3);
    let mut tail = replica.tail("s", 9).unwrap();
    assert_eq!(tail.next_timeout(Duration::ZERO).unwrap().len(), 1);
    same_log(master, replica);
}

#[test]
fn who_waits_at_a_replica_is_woken_when_a_message_comes() {
    for visible_at in [VisibleAt::Written, VisibleAt::Synced, VisibleAt::Replicated] {
        let pair = Pair::with(|options| options.visible_at = visible_at);
        let (master, replica) = (&pair.session.store, &pair.replica);
        master.append(&Message::new("s", "0")).unwrap();
        copy(master, replica);
        let mut tail = replica.tail("s", 1).unwrap();
        let waiting =
            std::thread::spawn(move || tail.next_timeout(Duration::from_secs(20)).unwrap().len());
        std::thread::sleep(Duration::from_millis(20));
        master.append(&Message::new("s", "1")).unwrap();
        copy(master, replica);
        replica.sync().unwrap();
        replica.advance_replicated(replica.watermarks().written);
        assert_eq!(waiting.join().unwrap(), 1, "{visible_at:?}");
    }
}

#[test]
fn raw_ranges_are_whole_units_and_anything_else_is_refused_by_name() {
    let pair = Pair::small();
    let store = &pair.session.store;
    let first = store.append(&Message::new("s", "one")).unwrap();
    let both = [Message::new("s", "two"), Message::new("t", "three")];
    let batch = store.append_batch(&both, Durability::Buffered).unwrap();
    let end = batch.end_offset;
    let range = store.raw(0, 1).unwrap();
    assert_eq!((range.offset, range.end()), (0, first.end_offset));
    // A batch is not cut, however few bytes are asked for.
    let range = store.raw(first.end_offset, 1).unwrap();
    assert_eq!(range.end(), end);
    assert_eq!(store.raw(0, end as usize).unwrap().end(), end);
    assert_eq!(
        store.raw(0, end as usize - 1).unwrap().end(),
        first.end_offset
    );
    assert!(store.raw(end, 100).unwrap().bytes.is_empty());
    let inside = store.raw(first.end_offset + 64, 100);
    let begins = first.end_offset;
    let expected = ReplicaError::NotAUnit {
        offset: begins + 64,
        begins,
    };
    assert_eq!(pair::refusal(inside), expected);
    let offset = end + 8;
    let beyond = ReplicaError::BeyondEnd { offset, end };
    assert_eq!(pair::refusal(store.raw(offset, 100)), beyond);
}

#[test]
fn epochs_only_rise_and_outlive_their_records() {
    let mut pair = Pair::with(|options| options.retention.max_bytes = Some(64 << 10));
    let store = &pair.session.store;
    assert_eq!(store.epochs(), []);
    store.append(&Message::new("s", "x")).unwrap();
    let start = store.begin_epoch(3).unwrap();
    for passed in [0, 2, 3] {
        let refused = pair::refusal(store.begin_epoch(passed));
        let current = 3;
        let given = passed;
        assert_eq!(refused, ReplicaError::EpochPassed { given, current });
    }
    assert_eq!(store.watermarks().synced, store.watermarks().written);
    for _ in 0..10 {
        for _ in 0..40 {
            let message = Message::new("s", vec![7; 1024]);
            store.append_with(&message, Durability::Buffered).unwrap();
        }
        store.maintain().unwrap();
    }
    assert!(store.stats().start_offset > start);
    let offset = 0;
    let start_offset = store.stats().start_offset;
    let retired = ReplicaError::Retired {
        offset,
        start: start_offset,
    };
    assert_eq!(pair::refusal(store.raw(0, 100)), retired);
    let expected = [Epoch { number: 3, start }];
    assert_eq!(store.epochs(), expected);
    pair.reopen_master(true);
    assert_eq!(pair.session.store.epochs(), expected);
    pair.reopen_master(false);
    assert_eq!(pair.session.store.epochs(), expected);
    let second = pair.session.store.begin_epoch(4).unwrap();
    pair.reopen_master(false);
    let number = 4;
    let last = Epoch {
        number,
        start: second,
    };
    assert_eq!(pair.session.store.epochs()[1], last);
}

#[test]
fn a_unit_larger_than_the_replicas_segments_gets_a_segment_of_its_own() {
    let (mut large, _) = common::small_options();
    large.segment_bytes = 1 << 20;
    large.body_bytes_max = 200 << 10;
    large.batch_bytes_max = 500 << 10;
    let pair = Pair::of(SimulatedDisk::new(), large, |options| {
        options.segment_bytes = 64 << 10;
        options.body_bytes_max = 16 << 10;
        options.batch_bytes_max = 32 << 10;
    });
    let (master, replica) = (&pair.session.store, &pair.replica);
    for len in [10, 150 << 10, 100, 199 << 10, 5] {
        master.append(&Message::new("s", vec![1; len])).unwrap();
        copy(master, replica);
    }
    same_log(master, replica);
    replica.maintain().unwrap();
    let report = replica.verify(&mut |_, _| {}).unwrap();
    assert_eq!((report.messages, report.damages.len()), (5, 0));
    assert_eq!(replica.read("s", 0, 10).unwrap().len(), 5);
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), replica.options().clone()).unwrap();
    let too_large = store.append(&Message::new("s", vec![1; 150 << 10]));
    assert!(matches!(too_large, Err(Error::BodyTooLarge { .. })));
}

/// A checkpoint that is taken while bytes come in has all that is before its offset, actions too.
#[test]
fn a_checkpoint_taken_meanwhile_misses_nothing() {
    let mut pair = Pair::with(|options| options.segment_bytes = 8 << 20);
    let master = pair.session.store.clone();
    let names: Vec<String> = (0..60).map(|number| format!("s{number}")).collect();
    for name in &names {
        master.append(&Message::new(&**name, "x")).unwrap();
    }
    for round in 0..6 {
        // Many, so that there is time in between.
        for (name, group) in names
            .iter()
            .flat_map(|name| (0..20).map(move |at| (name, at)))
        {
            let request = PullRequest::new(name, format!("g{round}-{group}"), "c");
            let batch = master.pull(&request).unwrap();
            master.ack(&batch).unwrap();
        }
        let (replica, disk) = (&pair.replica, &pair.replica_disk);
        let done = AtomicBool::new(false);
        let images = std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                let mut images = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    replica.checkpoint().unwrap();
                    images.push(disk.process_killed());
                }
                images
            });
            let end = replica.watermarks().written;
            let all = master.raw(end, 8 << 20).unwrap();
            replica.append_raw(end, &all.bytes).unwrap();
            done.store(true, Ordering::SeqCst);
            taking.join().unwrap()
        });
        // Later checkpoints would have what an earlier one has missed.
        for image in images.into_iter().take(4) {
            let opened = pair::open_replica(&image, &pair.replica_options);
            copy(&master, &opened);
            same_groups(&master, &opened);
        }
        copy(&master, &pair.replica);
    }
    pair.forget_replica();
}
