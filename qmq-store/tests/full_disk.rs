//! A full disk is an error value. A reserve keeps acks going for a while; reads always go on; with room again all goes on by itself.

mod common;

use common::check::{End, check_image};
use common::model::Model;
use common::rng::Rng;
use common::workload::Session;
use qmq_store::disk::SimulatedDisk;
use qmq_store::{Durability, Error, Message, OpenError, PullRequest, Store};

const SEGMENT_FILE: u64 = common::SEGMENT_BYTES + 64;
const ROOMY: u64 = 1 << 40;

/// Appends until the disk is full; returns how many were taken.
fn fill(store: &Store, durability: Durability) -> u64 {
    for taken in 0.. {
        match store.append_with(
            &Message::new("s", format!("{taken} {}", "x".repeat(900))),
            durability,
        ) {
            Ok(at) => assert_eq!(at.sequence, taken),
            Err(Error::DiskFull { .. }) => return taken,
            Err(error) => panic!("after {taken} messages: {error}"),
        }
    }
    unreachable!("the disk has an end")
}

fn count(store: &Store) -> u64 {
    let (mut at, mut count) = (0, 0);
    loop {
        let records = store.read("s", at, 100).expect("reads go on");
        let Some(last) = records.iter().next_back() else {
            return count;
        };
        assert!(records.iter().all(|one| one.message().is_ok()));
        count += records.len() as u64;
        at = last.sequence() + 1;
    }
}

#[test]
fn an_open_without_room_says_how_much_it_needs_and_what_needs_less() {
    let options = common::small_options().0;
    for capacity in [0, 1_000, SEGMENT_FILE, 2 * SEGMENT_FILE] {
        let disk = SimulatedDisk::with_capacity(capacity);
        let error = common::open(&disk, &options).expect_err("there is no room");
        let full = matches!(error, OpenError::NoRoom { .. } | OpenError::Io { .. });
        assert!(full, "{capacity}: {error}");
        if let OpenError::NoRoom { needed, .. } = error {
            assert_eq!(needed, 3 * SEGMENT_FILE);
            assert!(error.to_string().contains("segment_bytes"), "{error}");
        }
        disk.set_capacity(ROOMY);
        let store = common::open(&disk, &options).expect("there is room now");
        store.append(&Message::new("s", "a")).expect("an append");
    }
}

#[test]
fn a_full_disk_refuses_messages_takes_acks_from_the_reserve_and_then_refuses_them_too() {
    for durability in [Durability::Buffered, Durability::Synced] {
        let disk = SimulatedDisk::with_capacity(9 * SEGMENT_FILE);
        let options = common::small_options().0;
        let store = common::open(&disk, &options).expect("the store opens");
        let taken = fill(&store, durability);
        assert!(taken > 200, "{taken}");
        assert_eq!(count(&store), taken);
        // One by one, so that the acks need a lot of room: first the reserve serves them, and in the end it is spent.
        let request = PullRequest::new("s", "g", "c").max(1);
        let mut acks = 0;
        let refused = loop {
            match store.pull(&request).and_then(|batch| store.ack(&batch)) {
                Ok(outcome) => acks += outcome.acked,
                Err(error) => break error,
            }
            if acks == taken {
                store
                    .reset("s", "g", qmq_store::ResetTo::Earliest)
                    .expect("a reset");
                acks = 0;
            }
        };
        assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
        let message = Message::new("s", "more");
        let full = store
            .append_with(&message, durability)
            .expect_err("still full");
        assert!(matches!(full, Error::DiskFull { .. }), "{full}");
        assert_eq!(count(&store), taken, "reads go on");

        disk.set_capacity(ROOMY);
        store.maintain().expect("housekeeping goes on");
        let at = store
            .append_with(&message, durability)
            .expect("there is room again");
        assert_eq!(at.sequence, taken);
        let batch = store.pull(&request).expect("a pull");
        store.ack(&batch).expect("an ack");
        store.close().expect("a close");
        let store = common::open(&disk, &options).expect("the store opens");
        assert!(store.open_report().damages.is_empty());
        assert_eq!(count(&store), taken + 1);
    }
}

#[test]
fn the_reserve_takes_at_least_a_segment_of_acks() {
    let disk = SimulatedDisk::with_capacity(8 * SEGMENT_FILE);
    let store = common::open(&disk, &common::small_options().0).expect("the store opens");
    let batch = store
        .pull(&PullRequest::new("s", "g", "c"))
        .expect("a pull");
    assert!(batch.is_empty());
    fill(&store, Durability::Buffered);
    let before = store.watermarks().written;
    let request = PullRequest::new("s", "g", "c").max(1);
    while let Ok(batch) = store.pull(&request) {
        if store.ack(&batch).is_err() || batch.is_empty() {
            break;
        }
    }
    let actions = store.watermarks().written - before;
    assert!(
        actions > common::SEGMENT_BYTES / 2,
        "{actions} bytes of actions"
    );
}

#[test]
fn a_store_on_a_full_disk_closes_and_opens_again() {
    for extra in 0..40 {
        let disk = SimulatedDisk::with_capacity(6 * SEGMENT_FILE + extra * 2_000);
        let options = common::small_options().0;
        let store = common::open(&disk, &options).expect("the store opens");
        let taken = fill(&store, Durability::Synced);
        let closed = store.close();
        let store = match common::open(&disk, &options) {
            Ok(store) => store,
            Err(error) => panic!("{extra}: the disk is full, and the store does not open: {error}"),
        };
        assert!(closed.is_err() || store.open_report().clean);
        assert!(store.open_report().damages.is_empty());
        assert_eq!(count(&store), taken);
    }
}

/// Random work on a disk that is full now and then; then a crash.
#[test]
fn every_promise_holds_on_a_disk_that_fills_up() {
    let first = common::number_from_env("QMQ_FULL_FIRST", 1);
    for seed in first..first + common::number_from_env("QMQ_FULL_SEEDS", 20) {
        println!("QMQ_FULL_FIRST={seed}");
        let mut rng = Rng::new(seed);
        let (mut options, clock) = common::small_options();
        if rng.chance(50) {
            options.retention.max_bytes = Some(2 * common::SEGMENT_BYTES);
        }
        let room = 3 * SEGMENT_FILE + 20_000 + rng.below(300_000);
        let disk = SimulatedDisk::with_capacity(room);
        let mut session = Session::new(disk.clone(), &options, clock.clone(), Model::default());
        session.note_member();
        session.faulty = true;
        for _ in 0..6 {
            session.run(&mut rng, 80);
            disk.set_capacity(room + rng.below(200_000));
        }
        session.note_member();
        session.note_floors();
        let (image, how) = match rng.below(3) {
            0 => (disk.process_killed(), End::Killed),
            _ => (disk.crash(rng.next()), End::PowerLost),
        };
        let mut model = session.model;
        model.attempt = None;
        drop(session.store);
        image.set_capacity(ROOMY);
        check_image(&image, &options, &clock, &model, how, &mut rng);
    }
}
