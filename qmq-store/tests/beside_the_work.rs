//! What operators run while the store works: backup, scrub, and followers, beside threads that write, pull and acknowledge.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use qmq_store::{
    Background, BackupReport, Durability, Error, FOLLOW_INTERVAL, Message, Options, PullRequest,
    Retention, Store,
};

use support::{bodies, files_in, request, sequences, small_options};

fn threaded() -> Options {
    Options {
        background: Background::Threads,
        clock: Options::default().clock,
        durability: Durability::Buffered,
        identity_seed: None,
        ..small_options()
    }
}

/// Between two steps of a thread that writes or consumes.
const PAUSE: Duration = Duration::from_micros(300);

/// What the threads of the backup's test have been told, and what they are about to do.
#[derive(Default)]
struct Told {
    /// Messages of "s" that were accepted.
    accepted: AtomicU64,
    /// Sequences of "s" whose acknowledgement has begun, and has returned.
    begun: Mutex<BTreeSet<u64>>,
    acked: Mutex<BTreeSet<u64>>,
    done: AtomicBool,
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Told {
    /// Whether to go on; it keeps the log from growing faster than it can be copied.
    fn working(&self) -> bool {
        std::thread::sleep(PAUSE);
        !self.done.load(Ordering::SeqCst)
    }

    /// Batches over two subjects, whose messages are therefore the same ones in the same order.
    fn write(&self, store: &Store, writer: u64) {
        for count in 0.. {
            let body = format!("{writer}-{count:0100}");
            let batch = ["s", "twin"].map(|subject| Message::new(subject, body.clone()));
            let appended = store.append_batch(&batch, Durability::Buffered).unwrap();
            self.accepted
                .fetch_max(appended.sequences[0] + 1, Ordering::SeqCst);
            if !self.working() {
                return;
            }
        }
    }

    /// One after the other: the log never has more of the second.
    fn write_in_turn(&self, store: &Store) {
        while self.working() {
            for subject in ["first", "second"] {
                store.append(&Message::new(subject, "x")).unwrap();
            }
        }
    }

    /// Acknowledges two thirds and refuses the rest, and goes away at times.
    fn consume(&self, store: &Store, consumer: &str) {
        let mut round = 0;
        while self.working() {
            round += 1;
            let batch = store.pull(&request(consumer).max(20)).unwrap();
            if round % 3 == 0 {
                let all = [0..=u64::MAX];
                store
                    .nack(batch.member(), &all, Duration::ZERO, Durability::Buffered)
                    .unwrap();
            } else if round % 50 == 0 {
                store.consumer_gone("s", "g", consumer).unwrap();
            } else {
                self.begun.lock().unwrap().extend(sequences(&batch));
                store.ack(&batch).unwrap();
                self.acked.lock().unwrap().extend(sequences(&batch));
            }
        }
    }
}

#[test]
fn a_backup_beside_writers_and_consumers_holds_one_cut_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let live = Store::open(folder.path().join("live"), threaded()).unwrap();
    let told = Told::default();
    let mut identities = BTreeSet::from([live.stats().store_id]);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (told, live) = (&told, &live);
            scope.spawn(move || told.write(live, writer));
        }
        scope.spawn(|| told.write_in_turn(&live));
        for consumer in ["a", "b"] {
            let (told, live) = (&told, &live);
            scope.spawn(move || told.consume(live, consumer));
        }
        // Also when a check fails, or the threads would go on for ever.
        let _stop = StopAtEnd(&told.done);
        for round in 1..=4_u64 {
            while told.acked.lock().unwrap().len() < 500 * round as usize {
                std::thread::sleep(PAUSE);
            }
            let accepted = told.accepted.load(Ordering::SeqCst);
            let acked = told.acked.lock().unwrap().clone();
            let to = folder.path().join(format!("copy-{round}"));
            let report = live
                .backup(&to, &mut |_, _| {
                    // Much happens while it copies.
                    std::thread::sleep(Duration::from_millis(2));
                })
                .unwrap();
            assert!(told.accepted.load(Ordering::SeqCst) > accepted);
            let begun = told.begun.lock().unwrap().clone();
            let copy = Store::open(
                &to,
                Options {
                    background: Background::Manual,
                    ..threaded()
                },
            )
            .unwrap();
            assert!(identities.insert(copy.stats().store_id));
            assert!(copy.stats().incarnation > live.stats().incarnation);
            check_copy(&copy, &report, accepted);
            check_progress(&copy, &acked, &begun);
        }
    });
    assert_eq!(live.verify(&mut |_, _| {}).unwrap().damages, []);
}

/// Whole, with everything accepted before the backup began, and each batch whole or not there.
fn check_copy(copy: &Store, report: &BackupReport, accepted: u64) {
    assert_eq!(report.verified.damages, []);
    assert_eq!(copy.open_report().damages, []);
    assert_eq!(copy.verify(&mut |_, _| {}).unwrap().damages, []);
    assert_eq!(copy.stats().store_id, report.store_id);
    let next = |subject: &str| copy.subject_stats(subject).unwrap().next_sequence;
    assert!(next("s") >= accepted, "{} and {accepted}", next("s"));
    assert_eq!(next("s"), next("twin"));
    let (first, second) = (next("first"), next("second"));
    assert!(first == second || first == second + 1);
    let read = |subject: &str| {
        let mut all = Vec::new();
        while (all.len() as u64) < next(subject) {
            let read = copy.read(subject, all.len() as u64, 10_000).unwrap();
            all.extend(bodies(&read));
        }
        all
    };
    assert_eq!(read("s"), read("twin"));
}

/// No action is newer than the messages, none that returned before the backup began is missing, and none is there that nobody asked for.
fn check_progress(copy: &Store, acked: &BTreeSet<u64>, begun: &BTreeSet<u64>) {
    let stats = copy.subject_stats("s").unwrap();
    let group = &stats.groups[0];
    assert!(group.cursor <= stats.next_sequence);
    for consumer in ["a", "b"] {
        copy.consumer_gone("s", "g", consumer).unwrap();
    }
    let mut left = BTreeSet::new();
    loop {
        let request = PullRequest::new("s", "g", "heir").max(10_000);
        let batch = copy.pull(&request).unwrap();
        if batch.is_empty() {
            break;
        }
        left.extend(sequences(&batch));
        copy.ack(&batch).unwrap();
    }
    let again: Vec<_> = acked.intersection(&left).collect();
    assert!(again.is_empty(), "acknowledged before: {again:?}");
    let lost: Vec<_> = (0..stats.next_sequence)
        .filter(|sequence| !left.contains(sequence) && !begun.contains(sequence))
        .collect();
    assert!(lost.is_empty(), "nobody acknowledged {lost:?}");
}

/// Flips a bit of the body that ends so, in the folder of an open store.
fn damage(folder: &Path, body: &[u8]) {
    // Other files come and go meanwhile.
    for path in files_in(folder, "log-") {
        let bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(body.len()).position(|window| window == body);
        if let Some(at) = place {
            let file = std::fs::OpenOptions::new().write(true).open(&path);
            let flipped = [bytes[at] ^ 0x10];
            file.unwrap().write_all_at(&flipped, at as u64).unwrap();
            return;
        }
    }
    panic!("no such body");
}

#[test]
fn a_paced_scrub_beside_appends_stays_below_its_rate_and_finds_what_was_damaged_on_the_disk() {
    const RATE: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    for number in 0..600 {
        store
            .append(&Message::new("s", format!("{number:01000}")))
            .unwrap();
    }
    damage(folder.path(), format!("{:01000}", 123).as_bytes());
    let written = store.watermarks().written;
    let done = AtomicBool::new(false);
    let beside = AtomicU64::new(0);
    let mut last = (Duration::ZERO, 0);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.append(&Message::new("t", "x")).unwrap();
                beside.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let _stop = StopAtEnd(&done);
        let start = Instant::now();
        let report = store.scrub(RATE, &mut |bytes, total| {
            let elapsed = start.elapsed();
            let allowed = RATE as f64 * elapsed.as_secs_f64();
            assert!(bytes as f64 <= allowed, "{bytes} bytes after {elapsed:?}");
            // Never more at once than a segment.
            assert!(bytes - last.1 <= 64 << 10 && bytes <= total);
            last = (elapsed, bytes);
        });
        report.unwrap()
    });
    assert!(report.bytes >= written && report.bytes == last.1);
    // So slow that it takes more than half a second, and no slower than it has to be by more than a busy machine explains.
    assert!(last.0 >= Duration::from_secs_f64(written as f64 / RATE as f64));
    assert!(last.0 < Duration::from_secs(10), "{:?}", last.0);
    assert!(beside.load(Ordering::SeqCst) > 50);
    let damaged: Vec<_> = report
        .damages
        .iter()
        .map(|damage| damage.message.clone())
        .collect();
    assert_eq!(damaged, [Some(("s".to_owned(), 123))]);
}

#[test]
fn what_the_writer_has_synced_reaches_a_follower_within_the_interval_that_is_stated() {
    const ROUNDS: u64 = 200;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    store.append(&Message::new("s", "x")).unwrap();
    let follower = Store::open_read_only(folder.path(), &threaded()).unwrap();
    // Who looks sees it at once.
    for sequence in 1..=50 {
        let message = Message::new("s", sequence.to_string());
        store.append_with(&message, Durability::Synced).unwrap();
        assert!(follower.refresh().unwrap());
        let read = follower.read("s", sequence, 10).unwrap();
        assert_eq!(bodies(&read), [sequence.to_string()]);
    }
    // Who waits sees it within the interval; more than that is the machine's, in half of the rounds at least.
    let first = 51;
    let (tell, told) = std::sync::mpsc::channel();
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = first;
            while next < first + ROUNDS {
                assert!(follower.wait(Duration::from_secs(30)).unwrap());
                let seen = follower.bounds("s").unwrap().1;
                for sequence in next..seen {
                    tell.send((sequence, Instant::now())).unwrap();
                }
                next = seen;
            }
        });
        let latency = |sequence| {
            std::thread::sleep(FOLLOW_INTERVAL * 3 / 2);
            let appended = store.append_with(&Message::new("s", "x"), Durability::Synced);
            let synced = Instant::now();
            assert_eq!(appended.unwrap().sequence, sequence);
            let (seen, at) = told.recv_timeout(Duration::from_secs(30)).unwrap();
            assert_eq!(seen, sequence);
            at.saturating_duration_since(synced)
        };
        (first..first + ROUNDS).map(latency).collect()
    });
    latencies.sort_unstable();
    let median = latencies[latencies.len() / 2];
    assert!(
        median <= FOLLOW_INTERVAL * 2,
        "{median:?}, and the worst {:?}",
        latencies.last()
    );
}

#[test]
fn a_slow_scrub_keeps_nothing_from_being_retired_and_ends_at_the_close() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        retention: Retention {
            max_bytes: Some(256 << 10),
            ..Retention::default()
        },
        ..threaded()
    };
    let store = Store::open(folder.path(), options).unwrap();
    let append = |count: u64| {
        for number in 0..count {
            let message = Message::new("s", format!("{number:01000}"));
            store.append_with(&message, Durability::Buffered).unwrap();
        }
    };
    append(200);
    // A thread that nothing waits for: where this test fails, it does so at once.
    let scrubber = store.clone();
    let (ended, scrub) = std::sync::mpsc::channel();
    std::thread::spawn(move || ended.send(scrubber.scrub(1_000, &mut |_, _| {})));
    std::thread::sleep(Duration::from_millis(100));
    let first = store.subject_stats("s").unwrap().first_sequence;
    append(1_000);
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.subject_stats("s").unwrap().first_sequence <= first + 500 {
        assert!(Instant::now() < deadline, "nothing is retired");
        store.maintain().unwrap();
    }
    assert!(scrub.try_recv().is_err(), "the scrub is still at work");
    store.clone().close().unwrap();
    let outcome = scrub.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(matches!(outcome, Err(Error::Closed)));
}

#[test]
fn a_close_is_told_to_those_who_wait_for_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), threaded()).unwrap();
    store.append(&Message::new("s", "x")).unwrap();
    store.pull(&request("a")).unwrap();
    std::thread::scope(|scope| {
        let waiter = store.clone();
        let waits = scope.spawn(move || waiter.pull_wait(&request("a"), Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(100));
        let start = Instant::now();
        store.clone().close().unwrap();
        assert!(matches!(waits.join().unwrap(), Err(Error::Closed)));
        assert!(start.elapsed() < Duration::from_secs(20));
    });
}
