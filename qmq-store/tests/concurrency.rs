//! Many threads at once, on real files, while segments of 64 KiB are finished, sealed, checkpointed and retired beside them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use qmq_store::{
    Background, Batch, Clock, Durability, Error, Message, Options, PullRequest, Retention, Store,
};
use support::{House, NOON, pull_sequences, request, sequences, small_options};

fn threaded() -> Options {
    Options {
        background: Background::Threads,
        clock: Options::default().clock,
        durability: Durability::Buffered,
        flush_interval: Duration::from_millis(5),
        checkpoint_bytes: 128 << 10,
        mapped_files_max: 16,
        ..small_options()
    }
}

/// Checks what a producer put into a body: its name and its count.
fn parse(body: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(body).unwrap();
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn body(producer: u64, count: u64) -> String {
    format!("{producer} {count} {:01$}", 0, (count % 200) as usize + 1)
}

const PRODUCERS: u64 = 4;
const EACH: u64 = 1_500;

fn produce(store: &Store, producer: u64) {
    let own = format!("own.{producer}");
    let mut last = None;
    for count in 0..EACH {
        let message = Message::new("s", body(producer, count));
        let durability = if count % 50 == 0 {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        let at = store.append_with(&message, durability).unwrap();
        assert!(
            last < Some(at.sequence),
            "a producer's messages keep their order"
        );
        last = Some(at.sequence);
        let at = store.append(&Message::new(&own, body(producer, count)));
        assert_eq!(at.unwrap().sequence, count);
    }
}

/// Follows the subject and checks that it is dense and that each producer's messages are in order.
fn follow(store: &Store) {
    let mut tail = store.tail("s", 0).unwrap();
    let mut counts = HashMap::new();
    let mut next = 0;
    while next < PRODUCERS * EACH {
        for one in &tail.next_timeout(Duration::from_secs(60)).unwrap() {
            assert_eq!(one.sequence(), next);
            next += 1;
            let (producer, count) = parse(one.message().unwrap().body());
            let expected = counts.entry(producer).or_insert(0);
            assert_eq!(count, *expected, "producer {producer}");
            *expected += 1;
        }
    }
}

/// Pulls and acknowledges until everything is settled; returns what it got.
fn consume(store: &Store, name: &str, settled: &AtomicU64, all: u64) -> Vec<u64> {
    let request = request(name).max(37);
    let mut got = Vec::new();
    while settled.load(Ordering::SeqCst) < all {
        let batch = store
            .pull_wait(&request, Duration::from_millis(20))
            .unwrap();
        let these = sequences(&batch);
        assert!(these.is_sorted());
        assert!(batch.iter().all(|one| one.message().is_ok()));
        let acked = store.ack(&batch).unwrap().acked;
        assert_eq!(acked, these.len() as u64);
        settled.fetch_add(acked, Ordering::SeqCst);
        got.extend(these);
    }
    got
}

#[test]
fn nothing_is_lost_doubled_or_reordered_however_many_append_pull_and_ack() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    let settled = AtomicU64::new(0);
    store.pull(&request("first")).unwrap();
    let got = std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let store = &store;
            scope.spawn(move || produce(store, producer));
        }
        scope.spawn(|| follow(&store));
        let consumers: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|name| {
                let (store, settled) = (&store, &settled);
                scope.spawn(move || consume(store, name, settled, PRODUCERS * EACH))
            })
            .collect();
        let mut got: Vec<u64> = Vec::new();
        for consumer in consumers {
            got.extend(consumer.join().unwrap());
        }
        got
    });
    let mut got = got;
    got.sort_unstable();
    assert_eq!(got, (0..PRODUCERS * EACH).collect::<Vec<_>>());
    store.close().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    assert!(store.open_report().clean);
    assert!(store.pull(&request("a")).unwrap().is_empty());
    follow(&store);
    for producer in 0..PRODUCERS {
        let own = store
            .read(&format!("own.{producer}"), 0, usize::MAX)
            .unwrap();
        let counts: Vec<u64> = own
            .iter()
            .map(|one| parse(one.message().unwrap().body()).1)
            .collect();
        assert_eq!(counts, (0..EACH).collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_is_seen_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    let batch = |count: u64| -> Vec<Message> {
        ["left", "right", "left"]
            .map(|subject| Message::new(subject, body(0, count)))
            .into()
    };
    store.append_batch(&batch(0), Durability::Buffered).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for side in 0..2 {
            let (store, done, batch) = (&store, &done, &batch);
            scope.spawn(move || {
                for count in 0..600 {
                    store
                        .append_batch(&batch(count), Durability::Buffered)
                        .unwrap();
                }
                if side == 1 {
                    done.store(true, Ordering::SeqCst);
                }
            });
        }
        scope.spawn(|| {
            let len = |subject| store.read(subject, 0, usize::MAX).unwrap().len();
            let mut looks = 0;
            while !done.load(Ordering::SeqCst) || looks == 0 {
                let (right, left) = (len("right"), len("left"));
                assert!(left >= 2 * right, "{left} and {right}");
                assert_eq!(left % 2, 0, "half of a batch was seen");
                let (left, right) = (len("left"), len("right"));
                assert!(2 * right >= left, "{left} and {right}");
                looks += 1;
            }
        });
    });
    assert_eq!(store.read("left", 0, usize::MAX).unwrap().len(), 2_402);
}

#[test]
fn retention_beside_readers_and_consumers_is_never_taken_for_damage() {
    const ALL: u64 = 6_000;
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        retention: Retention {
            max_bytes: Some(192 << 10),
            ..Retention::default()
        },
        ..threaded()
    };
    let store = Store::open(folder.path(), options).unwrap();
    store.pull(&request("c")).unwrap();
    let done = AtomicBool::new(false);
    let acked = std::thread::scope(|scope| {
        scope.spawn(|| {
            for count in 0..ALL {
                store.append(&Message::new("s", body(0, count))).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.maintain().unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let read = store.read("s", 0, 500).unwrap();
                let these = sequences(&read);
                assert!(these.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                assert!(read.iter().all(|one| one.message().is_ok()));
            }
        });
        let consumer = scope.spawn(|| {
            let (mut acked, mut last) = (0, None);
            loop {
                let finished = done.load(Ordering::SeqCst);
                let batch = store.pull(&request("c").max(10)).unwrap();
                for one in &batch {
                    assert!(last < Some(one.sequence()));
                    last = Some(one.sequence());
                    let message = one.message().unwrap();
                    assert_eq!(parse(message.body()).1, one.sequence());
                }
                acked += store.ack(&batch).unwrap().acked;
                if finished && batch.is_empty() {
                    return acked;
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        consumer.join().unwrap()
    });
    let stats = store.subject_stats("s").unwrap();
    assert!(stats.first_sequence > 0, "nothing was retired");
    let skipped = stats.groups[0].skipped;
    assert_eq!(acked + skipped, ALL, "{acked} acked, {skipped} skipped");
}

#[test]
fn every_message_is_settled_once_while_consumers_refuse_and_die() {
    const ALL: u64 = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    store.pull(&request("first")).unwrap();
    let settled = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for count in 0..ALL {
                store.append(&Message::new("s", body(0, count))).unwrap();
            }
        });
        for name in ["a", "b", "c"] {
            let (store, settled) = (&store, &settled);
            scope.spawn(move || {
                let mut turn = 0;
                while settled.load(Ordering::SeqCst) < ALL {
                    turn += 1;
                    let batch = store
                        .pull_wait(&request(name).max(20), Duration::from_millis(10))
                        .unwrap();
                    if batch.is_empty() {
                        continue;
                    }
                    let numbers = pull_sequences(&batch);
                    let half = numbers[numbers.len() / 2];
                    let (member, level) = (batch.member(), Durability::Buffered);
                    let acked = store.ack_ranges(member, &[half..=u64::MAX], level);
                    settled.fetch_add(acked.unwrap().acked, Ordering::SeqCst);
                    if turn % 3 == 0 {
                        store.consumer_gone("s", "g", name).unwrap();
                    } else {
                        let rest = [0..=half];
                        store.nack(member, &rest, Duration::ZERO, level).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(settled.load(Ordering::SeqCst), ALL);
    assert!(store.pull(&request("late")).unwrap().is_empty());
}

#[test]
fn two_threads_that_wait_for_each_other_are_always_woken() {
    const ROUNDS: u64 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    let play = |from: &'static str, to: &'static str| {
        let store = &store;
        move || {
            let request = PullRequest::new(from, "g", "c");
            for _ in 0..ROUNDS {
                // A lost wake-up would be seen as a wait of a minute.
                let batch = store.pull_wait(&request, Duration::from_secs(60)).unwrap();
                assert_eq!(batch.len(), 1);
                store.ack(&batch).unwrap();
                store.append(&Message::new(to, "x")).unwrap();
            }
        }
    };
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(play("ping", "pong"));
        scope.spawn(play("pong", "ping"));
        store.append(&Message::new("ping", "x")).unwrap();
    });
    assert!(start.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_close_beside_appenders_keeps_all_that_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    let accepted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (store, accepted) = (store.clone(), &accepted);
            scope.spawn(move || {
                loop {
                    match store.append(&Message::new("s", "x")) {
                        Ok(_) => accepted.fetch_add(1, Ordering::SeqCst),
                        Err(Error::Closed) => return,
                        Err(error) => panic!("{error}"),
                    };
                }
            });
        }
        while accepted.load(Ordering::SeqCst) < 2_000 {
            std::thread::yield_now();
        }
        store.close().unwrap();
    });
    let store = Store::open(folder.path(), threaded()).unwrap();
    let next = store.subject_stats("s").unwrap().next_sequence;
    assert!(next >= accepted.load(Ordering::SeqCst), "{next}");
    let read = store.read("s", 0, usize::MAX).unwrap();
    assert_eq!(sequences(&read), (0..next).collect::<Vec<_>>());
}

/// A clock that stands still, and once makes whoever looks at it wait. The log looks at it while it holds the append lock.
#[derive(Debug, Default)]
struct Hold {
    armed: AtomicBool,
    holding: AtomicBool,
}

impl Clock for Hold {
    fn now_ms(&self) -> u64 {
        if self.armed.swap(false, Ordering::SeqCst) {
            self.holding.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(100));
        }
        NOON
    }
}

#[test]
fn the_limit_of_subjects_holds_for_callers_that_race() {
    type Call = fn(&House, &Batch) -> Result<(), Error>;
    let batch: Call = |house, _| {
        let messages = ["known", "more", "more", "still.more"].map(|name| Message::new(name, "x"));
        let appended = house.store().append_batch(&messages, Durability::Buffered);
        appended.map(drop)
    };
    let copy: Call = |house, held| {
        let number = pull_sequences(held)[0];
        let store = house.store();
        let copied = store.copy_and_ack(held.member(), number, "more", Durability::Buffered);
        copied.map(drop)
    };
    let group: Call = |house, _| {
        let request = PullRequest::new("more", "g", "c");
        house.store().pull(&request).map(drop)
    };
    let one: Call = |house, _| {
        let message = Message::new("more", "x");
        let appended = house.store().append_with(&message, Durability::Buffered);
        appended.map(drop)
    };
    for call in [batch, copy, group, one] {
        let clock = Arc::new(Hold::default());
        let mut house = House::with(|options| {
            options.subjects_max = 4;
            options.clock = Arc::clone(&clock) as Arc<_>;
        });
        house.send_numbers("s", 0..3);
        house.send("known", "x");
        let held = house.pull("c", 1);
        std::thread::scope(|scope| {
            clock.armed.store(true, Ordering::SeqCst);
            let first = ["first", "second"].map(|name| Message::new(name, "x"));
            let store = house.store();
            let first =
                scope.spawn(move || store.append_batch(&first, Durability::Buffered).map(drop));
            while !clock.holding.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            // It finds room, waits for the append lock, and finds none.
            let refused = call(&house, &held);
            assert!(
                matches!(refused, Err(Error::TooManySubjects { max: 4, .. })),
                "{refused:?}"
            );
            first.join().unwrap().unwrap();
        });
        assert_eq!(house.store().stats().subjects, 4);
        // And it has left nothing half-way.
        house.send("known", "y");
        house.kill();
        assert_eq!(house.store().open_report().damages, []);
        assert_eq!(house.store().read("known", 0, 9).unwrap().len(), 2);
        assert_eq!(house.rest("c"), [0, 1, 2]);
    }
}
