//! Concurrency, throughput, latency.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qmq_store::{Background, Durability, Message, Options, PollPull, PullRequest, Store};

use crate::support::{Bell, House, request, sequences, small_options};

fn threaded() -> Options {
    Options {
        background: Background::Threads,
        clock: Options::default().clock,
        durability: Durability::Buffered,
        ..small_options()
    }
}

/// One thread of a QMQ broker serves all produce requests, one lock all pulls and acks.
#[test]
fn e1_who_waits_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    store.append(&Message::new("s", "x")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Of the same subject and group, and of another.
        for subject in ["s", "other"] {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let waiting = PullRequest::new(subject, "waiting", "c");
                while !done.load(Ordering::SeqCst) {
                    store
                        .pull_wait(&waiting, Duration::from_millis(200))
                        .unwrap();
                }
            });
        }
        let start = Instant::now();
        for _ in 0..500 {
            store.append(&Message::new("s", "x")).unwrap();
            let batch = store.pull(&request("c")).unwrap();
            store.ack(&batch).unwrap();
        }
        // Behind those who wait 200 ms each it would take 100 seconds.
        assert!(start.elapsed() < Duration::from_secs(20));
        done.store(true, Ordering::SeqCst);
    });
}

/// In QMQ a message becomes visible at the next round of a loop that runs every 5 ms: p50 4.0 ms.
#[test]
fn e2_a_message_is_visible_and_its_waiters_are_woken_before_the_append_returns() {
    let house = House::new();
    let (bell, waker) = Bell::new();
    for round in 1..=100 {
        let polled = house.store().poll_pull(&request("c"), &waker).unwrap();
        assert!(matches!(polled, PollPull::Pending { .. }));
        let sequence = house.send("s", "x").sequence;
        assert_eq!(bell.rung(), round);
        let batch = house.pull("c", 10);
        assert_eq!(sequences(&batch), [sequence]);
        house.store().ack(&batch).unwrap();
    }
}

/// A new subject of QMQ takes a folder, a descriptor and 220 MB of address space: 2,000 took 44 seconds.
#[test]
fn e3_forty_thousand_subjects_take_no_file_and_no_mapping_each() {
    const SUBJECTS: u64 = 40_000;
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        background: Background::Manual,
        durability: Durability::Buffered,
        ..Options::with_segment_bytes(4 << 20)
    };
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let mappings = || {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count()
    };
    let before = (count("/proc/self/fd"), mappings());
    let store = Store::open(folder.path(), options.clone()).unwrap();
    for number in 0..SUBJECTS {
        let message = Message::new(format!("subject.{number}"), "x");
        assert_eq!(store.append(&message).unwrap().sequence, 0);
    }
    for number in 0..SUBJECTS {
        for group in ["a", "b", "c"] {
            let request = PullRequest::new(format!("subject.{number}"), group, "c");
            assert_eq!(store.pull(&request).unwrap().len(), 1);
        }
    }
    store.maintain().unwrap();
    let descriptors = count("/proc/self/fd").saturating_sub(before.0);
    assert!(descriptors < 100, "{descriptors}");
    assert!(
        mappings() < before.1 + 200,
        "{} and {}",
        before.1,
        mappings()
    );
    assert!(count(folder.path().to_str().unwrap()) < 100);
    store.close().unwrap();
    let store = Store::open(folder.path(), options).unwrap();
    assert_eq!(store.stats().subjects, SUBJECTS);
    let again = store.pull(&PullRequest::new("subject.39999", "c", "c"));
    assert_eq!(again.unwrap().len(), 1);
}

/// A pull of QMQ that found nothing registers for a notification later; what comes in between is not signalled.
#[test]
fn e5_no_wake_up_is_lost_between_looking_and_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for (from, to) in [("ping", "pong"), ("pong", "ping")] {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..500 {
                    let request = PullRequest::new(from, "g", "c");
                    let batch = store.pull_wait(&request, Duration::from_secs(30)).unwrap();
                    assert_eq!(batch.len(), 1);
                    store.append(&Message::new(to, "x")).unwrap();
                }
            });
        }
        store.append(&Message::new("ping", "x")).unwrap();
    });
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "waited for a lost wake-up"
    );
}

/// QMQ copies each payload into a buffer of its own.
#[test]
fn e8_a_body_is_handed_out_from_where_it_is_stored() {
    let house = House::new();
    house.send("s", "body");
    let place = |group: &str| {
        let batch = house
            .store()
            .pull(&PullRequest::new("s", group, "c"))
            .unwrap();
        let body = batch.iter().next().unwrap().message().unwrap().body_bytes();
        (body.as_ptr() as usize, body)
    };
    let (first, second) = (place("a"), place("b"));
    assert_eq!(first.0, second.0);
    assert_eq!(first.1, second.1);
}

/// QMQ hands live maps out to the thread that cleans and the one that flushes.
#[test]
fn e9_checkpoints_and_statistics_beside_pulls_and_acks_see_whole_states() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    store.append(&Message::new("s", "x")).unwrap();
    store.pull(&request("c")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.checkpoint().unwrap();
                let stats = store.subject_stats("s").unwrap();
                let group = &stats.groups[0];
                assert!(group.cursor + group.lag >= stats.next_sequence);
                let held: u64 = group.consumers.iter().map(|one| one.unacked).sum();
                assert_eq!(group.unacked, held);
                assert!(group.unacked + group.waiting <= group.cursor);
            }
        });
        for round in 0..1_500 {
            store.append(&Message::new("s", "x")).unwrap();
            let batch = store.pull(&request(["c", "d"][round % 2])).unwrap();
            let all = [0..=u64::MAX];
            match round % 5 {
                0 => drop(store.consumer_gone("s", "g", "c").unwrap()),
                1 => drop(
                    store
                        .nack(batch.member(), &all, Duration::ZERO, Durability::Buffered)
                        .unwrap(),
                ),
                _ => drop(store.ack(&batch).unwrap()),
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    let held = store.subject_stats("s").unwrap().groups[0].clone();
    store.close().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    let after = store.subject_stats("s").unwrap().groups[0].clone();
    assert_eq!(
        (after.cursor, after.unacked, after.waiting),
        (held.cursor, held.unacked, held.waiting)
    );
}
