//! Messages lost while nothing worse happens than that a process ends.

use std::time::Duration;

use qmq_store::disk::Disk;
use qmq_store::{Durability, Error, Message};

use crate::support::{House, NOON, attempts, files, pull_sequences, request, sequences};

/// QMQ's retry task looks for them where nothing is written any more, finds nothing, and acknowledges them all.
#[test]
fn a1_a_dead_consumers_messages_are_redelivered_not_acked() {
    let house = House::with(|options| options.lease = Duration::from_secs(30));
    house.send_numbers("s", 0..10);
    let pulled = house.pull("pod-7f9c", 10);
    house.clock.advance(30_001);
    let expired = house.store().expire(NOON + 30_001).unwrap();
    assert_eq!(expired[0].messages, 10);
    // A pod comes back under another name.
    let again = house.pull("pod-a41b", 100);
    assert_eq!(sequences(&again), sequences(&pulled));
    assert_eq!(attempts(&again), [1; 10]);
}

/// In QMQ a crash in the second after a memory table is rolled brings the counters of the oldest table back.
#[test]
fn a2_a_crash_after_a_roll_gives_no_sequence_twice_and_loses_no_new_message() {
    for extra in 0..12 {
        let mut house = House::new();
        // Right behind the point where a segment is finished and another begun.
        while files(&house.disk, "log-").len() < 2 {
            house.send_kilobytes("s", 1);
        }
        house.send_kilobytes("s", extra);
        let next = house.send("s", "last").sequence + 1;
        house.kill();
        assert_eq!(house.send("s", "new").sequence, next);
        let read = house.store().read("s", next, 10).unwrap();
        let one = read.iter().next().unwrap();
        assert_eq!(one.message().unwrap().body(), b"new");
    }
}

/// QMQ replays from one byte inside a record, meets a bad magic there, and skips the rest of the segment.
#[test]
fn a5_a_restart_keeps_progress_and_who_holds_what() {
    let mut house = House::new();
    house.send_numbers("s", 0..1_000);
    let mut held = Vec::new();
    for round in 0..10 {
        let batch = house.pull("c", 50);
        let numbers = pull_sequences(&batch);
        house.ack(&batch, &[numbers[0]..=numbers[48]]);
        held.push((numbers[49], sequences(&batch)[49]));
        if round % 3 == 0 {
            house.store().checkpoint().unwrap();
        }
    }
    for kill in [false, true] {
        if kill {
            house.kill();
        } else {
            house.restart();
        }
        let group = &house.store().subject_stats("s").unwrap().groups[0];
        assert_eq!((group.cursor, group.unacked), (500, 10));
        let again = house.pull("c", 100);
        let pairs: Vec<(u64, u64)> = pull_sequences(&again)
            .into_iter()
            .zip(sequences(&again))
            .collect();
        assert_eq!(pairs, held);
    }
}

/// QMQ's lookup runs past the block of its consumer, into another one's or off the end.
#[test]
fn a6_a_pull_sequence_never_leads_to_another_consumers_message() {
    let mut house = House::new();
    house.send_numbers("s", 0..20);
    house.pull("first", 10);
    house.pull("second", 10);
    for _ in 0..2 {
        let returning = request("first").max(10).returning(true);
        let first = house.store().pull(&returning).unwrap();
        let last = *pull_sequences(&first).last().unwrap();
        for beyond in [last + 1, last + 10, u64::MAX] {
            let store = house.store();
            let moved = store.copy_and_ack(first.member(), beyond, "dead", Durability::Buffered);
            assert!(matches!(moved, Err(Error::NotHeld { .. })), "{moved:?}");
            let range = [beyond..=u64::MAX];
            let acked = store.ack_ranges(first.member(), &range, Durability::Buffered);
            assert_eq!(acked.unwrap().acked, 0);
        }
        assert_eq!(sequences(&first), (0..10).collect::<Vec<_>>());
        house.kill();
    }
}

/// QMQ acknowledges a whole range by itself if it can read none of it at the moment.
#[test]
fn a7_what_cannot_be_read_is_not_acknowledged() {
    let mut house = House::new();
    for number in 0..3 {
        house.send("s", format!("body-{number}"));
    }
    house.pull("c", 3);
    house.store().sync().unwrap();
    house.send("s", "knows that the others are synced");
    damage_bodies(&house);
    house.kill();
    let again = house.pull("c", 3);
    assert_eq!(sequences(&again), [0, 1, 2]);
    assert!(again.iter().all(|one| one.message().is_err()));
    assert_eq!(
        house.store().subject_stats("s").unwrap().groups[0].unacked,
        3
    );
    assert_eq!(house.store().consumer_gone("s", "g", "c").unwrap(), 3);
    assert_eq!(sequences(&house.pull("other", 3)), [0, 1, 2]);
}

/// QMQ moves on, with nothing but a counter to say so.
#[test]
fn a8_an_unreadable_message_at_the_head_of_a_batch_is_reported_not_skipped() {
    let house = House::new();
    house.send("s", "body-0");
    house.send_message(&Message::new("s", "good"));
    damage_bodies(&house);
    let batch = house.pull("c", 10);
    let damaged: Vec<bool> = batch.iter().map(|one| one.message().is_err()).collect();
    assert_eq!(damaged, [true, false]);
}

/// Flips a bit in every body that begins with "body-".
fn damage_bodies(house: &House) {
    for (name, bytes) in crate::support::contents(&house.disk as &dyn Disk) {
        for (at, window) in bytes.windows(5).enumerate() {
            if window == b"body-" {
                house.disk.flip_bit(&name, at as u64, 0).unwrap();
            }
        }
    }
}
