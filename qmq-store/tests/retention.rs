//! What is kept, what goes, and that the space really comes back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use qmq_store::disk::{Disk, SimulatedDisk};
use qmq_store::{Durability, Error, GroupStats, Message, Options, Retention, Store};
use support::{House, NOON, files, sequences, small_options};

const HOUR: u64 = 3_600_000;

/// No limit but those that `change` sets.
fn keep(change: impl FnOnce(&mut Retention)) -> Retention {
    let mut retention = Retention {
        max_age: None,
        ..Retention::default()
    };
    change(&mut retention);
    retention
}

fn first_sequence(store: &Store, subject: &str) -> u64 {
    store.subject_stats(subject).unwrap().first_sequence
}

fn stats(house: &House) -> GroupStats {
    let subject = house.store().subject_stats("s").unwrap();
    subject.groups.into_iter().next().unwrap()
}

#[test]
fn segments_go_when_their_newest_message_is_too_old() {
    let mut house = House::with(|options| {
        options.retention = keep(|retention| retention.max_age = Some(Duration::from_secs(3600)));
    });
    house.send_kilobytes("s", 100);
    house.clock.advance(HOUR / 2);
    house.send_kilobytes("s", 100);
    house.store().maintain().unwrap();
    assert_eq!(first_sequence(house.store(), "s"), 0);
    house.clock.advance(HOUR / 2 + 1);
    house.store().maintain().unwrap();
    let first = first_sequence(house.store(), "s");
    assert!(first > 0 && first <= 100, "{first}");
    assert_eq!(
        house
            .store()
            .read("s", 0, 1)
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .sequence(),
        first
    );
    house.clock.advance(10 * HOUR);
    house.store().maintain().unwrap();
    // The active segment always stays.
    let first = first_sequence(house.store(), "s");
    assert!(first > 100 && first < 200, "{first}");
    house.kill();
    assert_eq!(first_sequence(house.store(), "s"), first);
    assert_eq!(house.send("s", "next").sequence, 200);
}

#[test]
fn age_is_the_age_of_the_records_not_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::new(qmq_store::ManualClock::at(NOON));
    let options = Options {
        retention: keep(|retention| retention.max_age = Some(Duration::from_secs(3600))),
        clock: clock.clone(),
        ..small_options()
    };
    let store = Store::open(folder.path(), options.clone()).unwrap();
    let kilobyte = Message::new("s", vec![b'k'; 1024]);
    let send = |store: &Store| {
        for _ in 0..100 {
            store.append_with(&kilobyte, Durability::Buffered).unwrap();
        }
    };
    send(&store);
    clock.advance(2 * HOUR);
    send(&store);
    store.close().unwrap();
    // A restored backup has new files; a touched one may have very old ones.
    for (file, age) in std::fs::read_dir(folder.path())
        .unwrap()
        .zip((0..).step_by(1_000_000))
    {
        let file = std::fs::File::open(file.unwrap().path()).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        file.set_modified(time).unwrap();
    }
    let store = Store::open(folder.path(), options).unwrap();
    store.maintain().unwrap();
    let first = first_sequence(&store, "s");
    assert!(first > 40 && first <= 100, "{first}");
}

#[test]
fn a_clock_that_steps_back_or_starts_early_retires_nothing_early() {
    let house = House::with(|options| {
        options.retention = keep(|retention| retention.max_age = Some(Duration::from_secs(3600)));
    });
    house.clock.set(NOON + 10 * HOUR);
    house.send_kilobytes("s", 100);
    // Set right: what follows keeps the later time, so its age counts from there.
    house.clock.set(NOON);
    house.send_kilobytes("s", 100);
    for hours in [0, 5, 10, 11] {
        house.clock.set(NOON + hours * HOUR);
        house.store().maintain().unwrap();
        assert_eq!(first_sequence(house.store(), "s"), 0, "after {hours} hours");
    }
    house.clock.set(NOON + 11 * HOUR + 1);
    house.store().maintain().unwrap();
    assert!(first_sequence(house.store(), "s") > 0);
}

#[test]
fn the_oldest_segments_go_when_the_log_is_larger_than_allowed() {
    let house = House::with(|options| {
        options.retention = keep(|retention| retention.max_bytes = Some(256 << 10));
    });
    for _ in 0..10 {
        house.send_kilobytes("s", 100);
        house.store().maintain().unwrap();
        let kept = house.store().stats().log_bytes;
        assert!(kept <= 256 << 10, "{kept}");
    }
    assert!(house.store().stats().log_bytes > 128 << 10);
    assert!(files(&house.disk, "log-").len() <= 6);
    assert_eq!(
        files(&house.disk, "log-").len(),
        files(&house.disk, "index-").len() + 1
    );
}

#[test]
fn the_oldest_segments_go_when_the_disk_has_too_little_free_space() {
    let disk = SimulatedDisk::with_capacity(2 << 20);
    let house = House::on(disk, |options| {
        options.retention = keep(|retention| retention.min_free_bytes = Some(1 << 20));
    });
    for _ in 0..40 {
        house.send_kilobytes("s", 100);
        house.store().maintain().unwrap();
    }
    assert!(house.disk.free_bytes().unwrap() >= 1 << 20);
    assert!(first_sequence(house.store(), "s") > 2_000);
    let all = house.store().read("s", 0, usize::MAX).unwrap();
    assert_eq!(*sequences(&all).last().unwrap(), 3_999);
}

#[test]
fn a_slow_group_is_moved_to_the_floor_and_what_it_missed_counts_as_skipped_not_as_acked() {
    let mut house = House::with(|options| {
        options.retention = keep(|retention| retention.max_bytes = Some(128 << 10));
    });
    house.send_kilobytes("s", 50);
    let held = house.pull("c", 10);
    let refused = house.pull("c", 10);
    house
        .store()
        .nack(
            refused.member(),
            &[refused.iter().next().unwrap().pull_sequence()..=u64::MAX],
            Duration::ZERO,
            Durability::Buffered,
        )
        .unwrap();
    house.send_kilobytes("s", 450);
    house.store().maintain().unwrap();
    let first = first_sequence(house.store(), "s");
    assert!(first > 50);
    let before = stats(&house);
    // Ten held, ten refused, the rest never handed out: all of it skipped, none of it acked.
    assert_eq!((before.cursor, before.skipped), (first, first));
    assert_eq!((before.unacked, before.waiting), (0, 0));
    assert_eq!(house.store().ack(&held).unwrap().acked, 0);
    let next = house.pull("c", 1);
    assert_eq!(sequences(&next), [first]);
    for round in 0..3 {
        if round == 1 {
            house.kill();
        } else {
            house.restart();
        }
        assert_eq!(stats(&house).skipped, first, "round {round}");
    }
    // Again, with nobody pulling in between.
    house.send_kilobytes("s", 500);
    house.store().maintain().unwrap();
    let second = first_sequence(house.store(), "s");
    assert_eq!(stats(&house).skipped, second);
    house.kill();
    assert_eq!(stats(&house).skipped, second);
    assert_eq!(house.rest("c").first(), Some(&second));
}

#[test]
fn what_is_not_consumed_stays_if_so_asked_until_it_is() {
    let house = House::with(|options| {
        options.retention = keep(|retention| {
            retention.max_bytes = Some(128 << 10);
            retention.keep_unconsumed = true;
        });
    });
    house.send_kilobytes("s", 500);
    let batch = house.pull("c", 1);
    house.store().maintain().unwrap();
    assert_eq!(first_sequence(house.store(), "s"), 0);
    house.store().ack(&batch).unwrap();
    let batch = house.pull("c", 300);
    let numbers = support::pull_sequences(&batch);
    // All but message 100 are settled.
    house.ack(
        &batch,
        &[numbers[0]..=numbers[98], numbers[100]..=numbers[299]],
    );
    house.store().maintain().unwrap();
    let first = first_sequence(house.store(), "s");
    assert!(first > 20 && first <= 100, "{first}");
    house.ack(&batch, &[numbers[99]..=numbers[99]]);
    house.store().maintain().unwrap();
    let first = first_sequence(house.store(), "s");
    assert!(first > 200 && first <= 301, "{first}");
}

#[test]
fn keeping_what_is_not_consumed_ends_in_a_refused_append_and_not_in_a_loss() {
    let disk = SimulatedDisk::with_capacity(1 << 20);
    let house = House::on(disk, |options| {
        options.retention = keep(|retention| {
            retention.max_bytes = Some(128 << 10);
            retention.keep_unconsumed = true;
        });
    });
    assert!(house.pull("c", 1).is_empty());
    let kilobyte = Message::new("s", vec![b'k'; 1024]);
    let mut sent = 0;
    let refused = loop {
        match house.store().append_with(&kilobyte, Durability::Buffered) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 2_000);
        house.store().maintain().unwrap();
    };
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused:?}");
    let mut got = 0;
    loop {
        let batch = house.pull("c", 100);
        if batch.is_empty() {
            break;
        }
        got += batch.len();
        house.store().ack(&batch).unwrap();
    }
    assert_eq!(got, sent);
    house.store().maintain().unwrap();
    house
        .store()
        .append_with(&kilobyte, Durability::Synced)
        .unwrap();
}

/// Bytes of disk blocks that the files of a folder take.
fn allocated(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

#[test]
fn the_blocks_of_retired_segments_go_back_to_the_disk_and_readers_keep_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        retention: keep(|retention| retention.max_bytes = Some(256 << 10)),
        ..small_options()
    };
    let store = Store::open(folder.path(), options).unwrap();
    let send = |count: u64| {
        for _ in 0..count {
            let message = Message::new("s", vec![b'k'; 1024]);
            store.append_with(&message, Durability::Buffered).unwrap();
        }
    };
    send(10);
    let held = store.read("s", 0, 10).unwrap();
    let kept = held.iter().next().unwrap().message().unwrap().body_bytes();
    send(4_000);
    let before = allocated(folder.path());
    assert!(before > 4 << 20, "{before}");
    store.maintain().unwrap();
    let after = allocated(folder.path());
    // What is kept, a reserve of two segments, and some for indexes and checkpoints.
    assert!(after < 1 << 20, "{after}");
    assert!(first_sequence(&store, "s") > 3_000);
    let pinned = store.stats().pinned_bytes;
    assert!(pinned > 0 && pinned < 256 << 10, "{pinned}");
    for one in &held {
        assert_eq!(one.message().unwrap().body(), [b'k'; 1024]);
    }
    drop(held);
    assert_eq!(&kept[..], [b'k'; 1024]);
    drop(kept);
    store.maintain().unwrap();
    assert_eq!(store.stats().pinned_bytes, 0);
}

#[test]
fn a_batch_that_a_consumer_holds_stays_readable_when_its_segment_is_retired() {
    let house = House::with(|options| {
        options.retention = keep(|retention| retention.max_bytes = Some(64 << 10));
    });
    house.send_numbers("s", 0..50);
    let batch = house.pull("c", 50);
    house.send_kilobytes("s", 300);
    house.store().maintain().unwrap();
    assert!(first_sequence(house.store(), "s") > 50);
    assert!(house.store().stats().pinned_bytes > 0);
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(support::bodies(&batch), expected);
    drop(batch);
    house.store().maintain().unwrap();
    assert_eq!(house.store().stats().pinned_bytes, 0);
}
