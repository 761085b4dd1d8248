//! A replica is made the master, and a master a replica: groups go on where they were, and nothing is taken by two.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod common;
mod pair;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::number_from_env;
use common::rng::Rng;
use pair::{Pair, copy, log_bytes, open_replica, same_groups, same_log};
use qmq_store::{
    Clock, Durability, Epoch, Error, Message, OpenError, PullRequest, ReplicaError, Store,
};

fn request(consumer: &str) -> PullRequest {
    PullRequest::new("s", "g", consumer).max(4)
}

fn numbers(store: &Store, from: u64, to: u64) {
    for number in from..to {
        store
            .append(&Message::new("s", number.to_string()))
            .unwrap();
    }
}

#[test]
fn pulls_go_on_where_the_groups_were_and_what_was_pulled_before_settles_nothing() {
    let pair = Pair::small();
    let (master, replica) = (&pair.session.store, &pair.replica);
    numbers(master, 0, 20);
    let acked = master.pull(&request("c")).unwrap();
    master.ack(&acked).unwrap();
    let held = master.pull(&request("c")).unwrap();
    copy(master, replica);
    // What the replica never got: the master hands out more, and is gone.
    let unknown = master.pull(&request("c")).unwrap();

    let start = replica.promote(1).unwrap();
    assert!(!replica.is_replica());
    assert_eq!(replica.epochs(), [Epoch { number: 1, start }]);
    assert_eq!(replica.promised(), 1);
    assert!(replica.stats().incarnation > master.stats().incarnation);
    for stale in [&held, &unknown] {
        let refused = replica.ack(stale);
        assert!(
            matches!(refused, Err(Error::StaleIncarnation { .. })),
            "{refused:?}"
        );
    }
    // What the consumer holds comes again, then what the replica knows nobody to hold.
    let again = replica.pull(&request("c")).unwrap();
    let sequences =
        |batch: &qmq_store::Batch| -> Vec<u64> { batch.iter().map(|one| one.sequence()).collect() };
    assert_eq!(sequences(&again), [4, 5, 6, 7]);
    assert_eq!(replica.ack(&again).unwrap().acked, 4);
    let next = replica.pull(&request("c")).unwrap();
    assert_eq!(sequences(&next), [8, 9, 10, 11]);
    // Never a pull sequence that the other master has given.
    let given = unknown.iter().map(|one| one.pull_sequence()).max();
    assert!(next.iter().all(|one| Some(one.pull_sequence()) > given));
    let appended = replica.append(&Message::new("s", "20")).unwrap();
    assert_eq!(appended.sequence, 20);
}

/// Each keeps its log for itself. What a consumer holds may be gone at the master and still be there at the replica.
#[test]
fn an_ack_of_what_retention_took_at_the_master_holds_at_a_replica_that_keeps_it() {
    let (mut options, _) = common::small_options();
    options.retention.max_bytes = Some(128 << 10);
    let pair = Pair::of(qmq_store::disk::SimulatedDisk::new(), options, |replica| {
        replica.retention.max_bytes = None;
    });
    let (master, replica) = (&pair.session.store, &pair.replica);
    numbers(master, 0, 12);
    let [acked, held, refused] = [(); 3].map(|()| master.pull(&request("c")).unwrap());
    let filler = Message::new("s", vec![0; 1 << 10]);
    for _ in 0..300 {
        master.append_with(&filler, Durability::Buffered).unwrap();
    }
    copy(master, replica);
    master.maintain().unwrap();
    let stats = |store: &Store| store.subject_stats("s").unwrap();
    let floor = stats(master).first_sequence;
    assert!(floor > 12 && stats(replica).first_sequence == 0);
    let new = master.pull(&request("c")).unwrap();
    assert_eq!(new.iter().next().unwrap().sequence(), floor);

    // In one ack with new ones, and twice, and what is refused is none.
    let member = acked.member();
    let all = |batch: &qmq_store::Batch| {
        let pulls: Vec<u64> = batch.iter().map(|one| one.pull_sequence()).collect();
        pulls[0]..=*pulls.last().unwrap()
    };
    let end = master.watermarks().written;
    let ranges = [all(&new), all(&acked), 1 << 62..=u64::MAX];
    for (acked, already) in [(4, 4), (0, 8)] {
        let outcome = master.ack_ranges(member, &ranges, Durability::Synced);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.acked, outcome.already), (acked, already));
    }
    assert!(master.watermarks().written > end);
    let end = master.watermarks().written;
    let outcome = master.nack(
        member,
        &[all(&refused)],
        Duration::ZERO,
        Durability::Buffered,
    );
    assert_eq!(outcome.unwrap().already, 4);
    assert_eq!(master.watermarks().written, end);
    copy(master, replica);

    // Both count the same messages as skipped: those acked too late, and what nobody has acked.
    assert_eq!(stats(master).groups[0].skipped, floor);
    replica.promote(1).unwrap();
    assert_eq!(stats(replica).groups[0].skipped, floor - 12 + 4);
    let again = replica.pull(&request("c").max(100)).unwrap();
    let expected: Vec<u64> = [&held, &refused]
        .into_iter()
        .flat_map(|batch| batch.iter().map(|one| one.sequence()))
        .collect();
    let sequences: Vec<u64> = again.iter().map(|one| one.sequence()).collect();
    assert_eq!(sequences, expected);
}

#[test]
fn no_two_masters_have_one_incarnation_however_often_they_were_opened() {
    // The master is opened again after crashes, in its epoch; its replicas know nothing of that.
    let mut pair = Pair::small();
    pair.session.store.begin_epoch(1).unwrap();
    numbers(&pair.session.store, 0, 1);
    copy(&pair.session.store, &pair.replica);
    for _ in 0..3 {
        pair.reopen_master(false);
    }
    let old = pair.session.store.pull(&request("c")).unwrap();
    pair.replica.promote(2).unwrap();
    let new = pair.replica.stats().incarnation;
    assert!(new > old.member().incarnation);
    // And a third, with less of the log.
    let options = pair.replica_options.clone();
    let third = open_replica(&qmq_store::disk::SimulatedDisk::new(), &options);
    third.promote(3).unwrap();
    assert!(third.stats().incarnation > new);
}

#[test]
fn a_demoted_master_refuses_at_once_and_follows_the_new_one() {
    let mut pair = Pair::small();
    numbers(&pair.session.store, 0, 5);
    let old = pair.session.store.clone();
    let batch = old.pull(&request("c")).unwrap();
    old.advance_replicated(0);
    let at = old
        .append_with(&Message::new("s", "5"), Durability::Synced)
        .unwrap();
    let (answer, answers) = channel();
    old.when(at.end_offset, Durability::Replicated, {
        let answer = answer.clone();
        move |outcome| answer.send(outcome).unwrap()
    });
    let waiting = old.clone();
    let waiter = std::thread::spawn(move || {
        answer
            .send(waiting.wait(at.end_offset, Durability::Replicated))
            .unwrap();
    });
    std::thread::sleep(Duration::from_millis(50));

    let end = old.demote().unwrap();
    assert_eq!(end, old.watermarks().synced);
    for _ in 0..2 {
        let told = answers.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(told, Err(Error::Demoted)), "{told:?}");
    }
    waiter.join().unwrap();
    let refused = old.append(&Message::new("s", "x"));
    assert!(matches!(refused, Err(Error::Replica)), "{refused:?}");
    assert!(matches!(old.ack(&batch), Err(Error::Replica)));
    assert_eq!(old.watermarks().written, end);
    assert_eq!(old.demote().unwrap(), end);

    copy(&old, &pair.replica);
    let new = &pair.replica;
    new.promote(1).unwrap();
    numbers(new, 6, 9);
    copy(new, &old);
    same_log(new, &old);
    same_groups(new, &old);
    // It stays what it is, and says so to who takes it for a master.
    drop(old);
    pair.session.store = Pair::small().session.store;
    let disk = pair.session.disk.process_killed();
    let refused = Store::open_on(Arc::new(disk.clone()), pair.options.clone());
    assert!(matches!(refused, Err(OpenError::Replica { .. })));
    let old = open_replica(&disk, &pair.options);
    same_log(&pair.replica, &old);
    // And back: what c holds was handed out by both by now.
    pair.replica.demote().unwrap();
    let start = old.promote(2).unwrap();
    assert_eq!(old.epochs()[1], Epoch { number: 2, start });
    let again = old.pull(&request("c")).unwrap();
    assert_eq!(again.iter().next().unwrap().sequence(), 0);
    copy(&old, &pair.replica);
    same_log(&old, &pair.replica);
}

#[test]
fn a_store_that_is_made_master_again_gives_what_is_held_once_more() {
    let pair = Pair::small();
    let store = &pair.session.store;
    numbers(store, 0, 8);
    let held = store.pull(&request("c")).unwrap();
    store.demote().unwrap();
    pair.session.clock.advance(60_000);
    store.promote(1).unwrap();
    // The consumer could settle nothing of it any more.
    let refused = store.ack(&held);
    assert!(matches!(refused, Err(Error::StaleIncarnation { .. })));
    let again = store.pull(&request("c")).unwrap();
    let numbers = |batch: &qmq_store::Batch| -> Vec<(u64, u64)> {
        let both = |one: qmq_store::Delivered<'_>| (one.pull_sequence(), one.sequence());
        batch.iter().map(both).collect()
    };
    assert_eq!(numbers(&again), numbers(&held));
    // And its lease has not run meanwhile.
    assert_eq!(store.expire(pair.session.clock.now_ms()).unwrap(), []);
    assert_eq!(store.ack(&again).unwrap().acked, 4);
}

#[test]
fn appends_that_race_a_demotion_are_refused_or_in_the_log() {
    let pair = Pair::small();
    let store = &pair.session.store;
    let end = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let message = Message::new("s", "x");
                    match store.append_with(&message, Durability::Buffered) {
                        Ok(at) => assert!(at.end_offset <= end.load(Ordering::SeqCst)),
                        Err(Error::Replica) => return,
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(30));
        end.store(store.demote().unwrap(), Ordering::SeqCst);
    });
    let end = end.into_inner();
    assert_eq!(store.watermarks().written, end);
    assert_eq!(store.watermarks().synced, end);
}

#[test]
fn a_promise_is_kept_and_lower_epochs_are_refused() {
    let mut pair = Pair::small();
    pair.replica.promise(5).unwrap();
    pair.replica.promise(5).unwrap();
    for power_lost in [true, false] {
        pair.replica = Pair::small().replica;
        pair.replica_disk = if power_lost {
            pair.replica_disk.crash(1)
        } else {
            pair.replica_disk.process_killed()
        };
        pair.replica = open_replica(&pair.replica_disk, &pair.replica_options);
        let replica = &pair.replica;
        assert_eq!(replica.promised(), 5);
        let (given, promised) = (4, 5);
        let late = ReplicaError::EpochPromised { given, promised };
        assert_eq!(pair::refusal(replica.promise(4)), late);
        assert_eq!(pair::refusal(replica.promote(4)), late);
        assert!(replica.is_replica());
    }
    pair.replica.promote(5).unwrap();
    pair.replica = Pair::small().replica;
    pair.replica_disk = pair.replica_disk.process_killed();
    pair.replica_disk.flip_bit("epoch", 33, 2).unwrap();
    let damaged = Store::open_on(Arc::new(pair.replica_disk), pair.replica_options);
    assert!(
        matches!(damaged, Err(OpenError::DamagedPromise { .. })),
        "{damaged:?}"
    );
}

/// A loss of power at any operation of a promotion leaves a replica, or the master of that epoch under a higher incarnation; its log is what it
/// was, with the epoch's record or without. The promise is there once anything else is.
#[test]
fn a_promotion_interrupted_anywhere_is_done_or_not() {
    let first = number_from_env("QMQ_REPLICA_FIRST", 1);
    for seed in first..first + number_from_env("QMQ_REPLICA_SEEDS", 300) {
        println!("QMQ_REPLICA_FIRST={seed} QMQ_REPLICA_SEEDS=1");
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new(&mut rng);
        let count = rng.below(60);
        pair.session.run(&mut rng, count);
        pair.follow(&mut rng);
        pair.replica.sync().unwrap();
        let before = log_bytes(&pair.replica, 0);
        let incarnation = pair.replica.stats().incarnation;
        let disk = &pair.replica_disk;
        disk.power_off_after(disk.operations() + rng.below(20));
        let promoted = pair.replica.promote(7);
        let left = if rng.chance(80) {
            disk.crash(rng.next())
        } else {
            disk.process_killed()
        };
        let open = |disk: &qmq_store::disk::SimulatedDisk| {
            Store::open_on(Arc::new(disk.clone()), pair.replica_options.clone())
        };
        let store = match open(&left) {
            Ok(store) => {
                assert!(store.stats().incarnation > incarnation);
                assert_eq!(store.epochs().len(), 1, "a master without its epoch");
                store
            }
            Err(OpenError::Replica { .. }) => {
                assert!(promoted.is_err(), "promoted, and a replica again");
                open_replica(&left, &pair.replica_options)
            }
            Err(other) => panic!("{other}"),
        };
        assert!(store.promised() == 7 || store.epochs().is_empty());
        let after = log_bytes(&store, 0);
        assert!(after.starts_with(&before));
        assert_eq!(after.len() - before.len(), 64 * store.epochs().len());
        if store.is_replica() {
            let again = if store.epochs().is_empty() { 7 } else { 8 };
            store.promote(again).unwrap();
        }
        same_groups(&pair.session.store, &store);
    }
}
