//! Poisonous input, and what grows without a bound.

use std::time::Duration;

use qmq_store::disk::{Disk, SimulatedDisk};
use qmq_store::{
    Background, Durability, Error, Message, Options, PollPull, PullRequest, Retention, Start,
    Store, TagFilter, Waiting,
};

use crate::support::{Bell, House, bodies, files, request, sequences, small_options};

/// One message for the subject ".." stops QMQ's index of every subject, for ever: its folder cannot be made.
#[test]
fn c1_a_subject_that_no_file_can_be_named_after_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), small_options()).unwrap();
    let good = Message::new("good", "x");
    for poison in ["..", &"x".repeat(300), "../../etc/passwd"] {
        store.append(&good).unwrap();
        let refused = store.append(&Message::new(poison, "x"));
        assert!(matches!(refused, Err(Error::Name(_))), "{refused:?}");
        store.append(&good).unwrap();
    }
    // As long as a name may be, and longer than a path may be when three of them follow each other.
    let long = "y".repeat(255);
    store.append(&Message::new(&long, "x")).unwrap();
    store
        .pull(&PullRequest::new(&long, "g".repeat(100), &long))
        .unwrap();
    store.close().unwrap();
    let store = Store::open(folder.path(), small_options()).unwrap();
    let read = store.read("good", 0, 10).unwrap();
    assert_eq!(sequences(&read), (0..6).collect::<Vec<_>>());
}

/// QMQ takes any length that the frame announces, and makes a new segment of a gigabyte for each step of its recursion; its delay server
/// answers SUCCESS to a message that it drops.
#[test]
fn c4_a_message_too_large_is_refused_and_takes_nothing() {
    let house = House::with(|options| options.body_bytes_max = 1_000);
    house.send("s", "before");
    let (before, segments) = (house.store().watermarks(), files(&house.disk, ""));
    let refused = house.store().append(&Message::new("s", vec![0; 51 << 20]));
    assert!(
        matches!(refused, Err(Error::BodyTooLarge { max: 1_000, .. })),
        "{refused:?}"
    );
    assert_eq!(house.store().watermarks(), before);
    assert_eq!(files(&house.disk, ""), segments);
    assert_eq!(house.send("s", "after").sequence, 1);
}

/// QMQ's queues of what is to be sent, stored or replicated have no bound.
#[test]
fn c5_what_waits_for_the_disk_is_bounded_and_who_waits_is_entered_once() {
    const FLUSH_BYTES: u64 = 64 << 10;
    for background in [Background::Manual, Background::Threads] {
        let house = House::with(|options| {
            options.background = background;
            options.flush_bytes = FLUSH_BYTES;
            options.flush_interval = Duration::from_secs(3600);
        });
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let end = house.send("s", vec![b'k'; 1024]).end_offset;
                        let synced = house.store().watermarks().synced;
                        assert!(end - synced.min(end) <= FLUSH_BYTES, "{end} and {synced}");
                    }
                });
            }
        });
        house.store().maintain().unwrap();
        assert_eq!(house.store().stats().unsealed_segments, 0);
        let (bell, waker) = Bell::new();
        let late = PullRequest::new("s", "late", "c").start(Start::Latest);
        let mut waiting = Waiting::default();
        for _ in 0..1_000 {
            let polled = house.store().poll_pull(&late, &waker, &mut waiting);
            assert!(matches!(polled.unwrap(), PollPull::Pending { .. }));
        }
        house.send("s", "x");
        assert_eq!(bell.rung(), 1);
    }
}

/// A pull of QMQ has a limit of 10,000 messages and none in bytes.
#[test]
fn c6_a_pull_is_bounded_in_bytes_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        background: Background::Manual,
        durability: Durability::Buffered,
        ..Options::with_segment_bytes(8 << 20)
    };
    let store = Store::open(folder.path(), options).unwrap();
    for _ in 0..20 {
        store.append(&Message::new("s", vec![0; 1 << 20])).unwrap();
    }
    let batch = store.pull(&request("c").max(10_000)).unwrap();
    assert_eq!(batch.len(), 16);
    assert_eq!(store.pull(&request("c").max(10_000)).unwrap().len(), 4);
    assert_eq!(store.read("s", 0, usize::MAX).unwrap().len(), 16);
}

/// QMQ's actors, subscribers and the progress of groups are never removed.
#[test]
fn c7_consumers_and_groups_that_went_leave_nothing_behind() {
    let mut house = House::new();
    house.send_numbers("s", 0..10);
    let checkpoint = |house: &House| {
        house.store().checkpoint().unwrap();
        let newest = files(&house.disk, "checkpoint-").pop().unwrap();
        let file = house.disk.open(&newest, qmq_store::disk::Access::Read);
        file.unwrap().len().unwrap()
    };
    house.pull("stays", 1);
    let before = checkpoint(&house);
    for number in 0..500 {
        let pod = format!("pod-{number}");
        house.pull(&pod, 1);
        house.store().consumer_gone("s", "g", &pod).unwrap();
        let group = format!("group-{number}");
        house
            .store()
            .pull(&PullRequest::new("s", &group, "c"))
            .unwrap();
        house.store().drop_group("s", &group).unwrap();
    }
    let stats = house.store().subject_stats("s").unwrap();
    assert_eq!(
        (stats.groups.len(), stats.groups[0].consumers.len()),
        (1, 1)
    );
    // But for the message that goes round.
    assert!(checkpoint(&house) <= before + 100, "{before}");
    house.kill();
    let stats = house.store().subject_stats("s").unwrap();
    assert_eq!(
        (stats.groups.len(), stats.groups[0].consumers.len()),
        (1, 1)
    );
}

/// When an append of QMQ's delay server fails, it makes all earlier ones of the same round again, and again, in a loop.
#[test]
fn c8_a_failing_append_is_made_again_alone_and_nothing_twice() {
    let disk = SimulatedDisk::with_capacity(600 << 10);
    let mut house = House::on(disk, |_| {});
    let batch = |first: u64| -> Vec<Message> {
        (first..first + 8)
            .map(|number| Message::new("s", format!("{number:02000}")))
            .collect()
    };
    let mut sent = 0;
    let full = loop {
        let outcome = house
            .store()
            .append_batch(&batch(sent), Durability::Buffered);
        match outcome {
            Ok(_) => sent += 8,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::DiskFull { .. }), "{full:?}");
    assert!(sent > 100, "{sent}");
    for _ in 0..50 {
        let again = house
            .store()
            .append_batch(&batch(sent), Durability::Buffered);
        assert!(matches!(again, Err(Error::DiskFull { .. })), "{again:?}");
        // The rest of the housekeeping fails and is tried again as well.
        let _ = house.store().maintain();
    }
    assert_eq!(
        house.store().subject_stats("s").unwrap().next_sequence,
        sent
    );
    house.disk.set_capacity(4 << 20);
    house.store().maintain().unwrap();
    house
        .store()
        .append_batch(&batch(sent), Durability::Buffered)
        .unwrap();
    let expected: Vec<String> = (0..sent + 8)
        .map(|number| format!("{number:02000}"))
        .collect();
    for _ in 0..2 {
        let read = house.store().read("s", 0, 10_000).unwrap();
        assert_eq!(bodies(&read), expected);
        house.kill();
    }
}

/// QMQ's evictor tries again without a pause: a full disk costs a whole core and a flood of log lines.
#[test]
fn c9_a_full_disk_is_not_tried_again_without_a_pause() {
    let disk = SimulatedDisk::with_capacity(600 << 10);
    let house = House::on(disk, |options| {
        options.background = Background::Threads;
        options.flush_interval = Duration::from_millis(20);
    });
    let kilobyte = Message::new("s", vec![b'k'; 1024]);
    while house
        .store()
        .append_with(&kilobyte, Durability::Buffered)
        .is_ok()
    {}
    std::thread::sleep(Duration::from_millis(50));
    let before = house.disk.operations();
    std::thread::sleep(Duration::from_millis(300));
    let tried = house.disk.operations() - before;
    assert!(tried < 200, "{tried} operations in 300 ms");
}

/// In QMQ a failing filter leaks references to segments, which can never be deleted then.
#[test]
fn c12_a_refused_pull_holds_on_to_no_segment() {
    let house = House::with(|options| {
        options.unacked_max = 5;
        options.retention = Retention {
            max_age: None,
            max_bytes: Some(64 << 10),
            ..Retention::default()
        };
    });
    house.send_kilobytes("s", 50);
    drop(house.pull("c", 5));
    for _ in 0..10 {
        assert!(house.store().pull(&request("c")).is_err());
        let other = TagFilter::Any(vec!["other".into()]);
        assert!(house.store().pull(&request("d").filter(other)).is_err());
        assert!(house.store().pull(&request("d").broadcast(true)).is_err());
    }
    house.send_kilobytes("s", 500);
    house.store().maintain().unwrap();
    assert!(house.store().subject_stats("s").unwrap().first_sequence > 400);
    assert_eq!(house.store().stats().pinned_bytes, 0);
}
