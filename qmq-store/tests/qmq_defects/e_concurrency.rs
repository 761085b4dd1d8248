//! Concurrency, throughput, latency.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use qmq_store::disk::{Access, Disk, DiskFile, FileEntry, SimulatedDisk};
use qmq_store::{
    Background, Durability, Message, Options, PollPull, PullRequest, Store, TagFilter, Waiting,
};

use crate::support::{Bell, House, pull_sequences, request, sequences, small_options};

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
    let mut waiting = Waiting::default();
    for round in 1..=100 {
        assert!(house.poll("c", &waker, &mut waiting).is_none());
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

/// A request that waits stands at the head of its QMQ group's queue; others of the group wait behind it, whatever they could get.
#[test]
fn e6_who_waits_stands_in_nobodys_way() {
    let house = House::new();
    house.send_numbers("s", 0..10);
    let held = house.pull("a", 10);
    let (bell, waker) = Bell::new();
    let mut waiting = Waiting::default();
    assert!(house.poll("waits", &waker, &mut waiting).is_none());
    // Another of the group that comes back for what it holds.
    let again = house.store().pull(&request("a").returning(true)).unwrap();
    assert_eq!(sequences(&again), sequences(&held));
    // Another that gets what was refused.
    let first = pull_sequences(&held)[0];
    let refused = [first..=first + 3];
    house
        .store()
        .nack(
            held.member(),
            &refused,
            Duration::ZERO,
            Durability::Buffered,
        )
        .unwrap();
    assert_eq!(bell.rung(), 1);
    assert_eq!(sequences(&house.pull("b", 10)), [0, 1, 2, 3]);
    // A group with a filter that nothing passes, and one with none.
    let nothing = PullRequest::new("s", "tagged", "c").filter(TagFilter::Any(vec!["x".into()]));
    let mut waiting = Waiting::default();
    let polled = house.store().poll_pull(&nothing, &waker, &mut waiting);
    let polled = polled.unwrap();
    assert!(matches!(polled, PollPull::Pending { .. }));
    let plain = PullRequest::new("s", "plain", "c");
    assert_eq!(house.store().pull(&plain).unwrap().len(), 10);
    // Whoever waits is answered when its own time is up.
    std::thread::scope(|scope| {
        let long = scope.spawn(|| {
            let batch = house
                .store()
                .pull_wait(&request("long"), Duration::from_secs(30));
            batch.unwrap().len()
        });
        let start = Instant::now();
        for _ in 0..3 {
            let short = house
                .store()
                .pull_wait(&request("short"), Duration::from_millis(30));
            assert!(short.unwrap().is_empty());
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        house.send("s", "x");
        assert_eq!(long.join().unwrap(), 1);
    });
}

/// What a consumer does that is woken: pulls, acks, sends, waits again.
struct Eager {
    store: Store,
    got: AtomicU64,
    waiting: Mutex<Waiting>,
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        let batch = self.store.pull(&request("eager")).unwrap();
        self.store.ack(&batch).unwrap();
        self.store.append(&Message::new("answers", "x")).unwrap();
        self.got.fetch_add(batch.len() as u64, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self));
        let mut waiting = self.waiting.lock().unwrap();
        let polled = self
            .store
            .poll_pull(&request("eager"), &waker, &mut waiting);
        assert!(matches!(polled.unwrap(), PollPull::Pending { .. }));
    }
}

/// QMQ reminds those who wait from within the loop that makes messages visible, and serves a group by one actor and one lock.
#[test]
fn e7_who_is_woken_is_told_outside_of_all_locks() {
    let folder = tempfile::tempdir().unwrap();
    let (done, finished) = std::sync::mpsc::channel();
    let store = Store::open(folder.path(), threaded()).unwrap();
    std::thread::spawn(move || {
        let eager = Arc::new(Eager {
            store: store.clone(),
            got: AtomicU64::new(0),
            waiting: Mutex::default(),
        });
        let waker = Waker::from(Arc::clone(&eager));
        let mut waiting = eager.waiting.lock().unwrap();
        store
            .poll_pull(&request("eager"), &waker, &mut waiting)
            .unwrap();
        drop(waiting);
        for _ in 0..200 {
            store.append(&Message::new("s", "x")).unwrap();
            // Of the same group.
            assert!(store.pull(&request("other")).unwrap().is_empty());
        }
        let answers = store.subject_stats("answers").unwrap().next_sequence;
        done.send((eager.got.load(Ordering::SeqCst), answers))
            .unwrap();
    });
    let told = finished.recv_timeout(Duration::from_secs(30));
    assert_eq!(told.expect("an append waits for a lock"), (200, 200));
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

/// A disk on which writing a checkpoint takes as long as the test wants.
#[derive(Debug)]
struct SlowCheckpoints {
    disk: SimulatedDisk,
    /// Whether a checkpoint has to wait, and whether one does.
    gate: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl SlowCheckpoints {
    fn set_slow(&self, slow: bool) {
        self.gate.lock().unwrap().0 = slow;
        self.changed.notify_all();
    }

    fn wait_for_checkpoint(&self) {
        let gate = self.gate.lock().unwrap();
        let limit = Duration::from_secs(30);
        let waited = self.changed.wait_timeout_while(gate, limit, |gate| !gate.1);
        assert!(!waited.unwrap().1.timed_out());
    }
}

impl Disk for SlowCheckpoints {
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        if name.starts_with("checkpoint-") {
            let mut gate = self.gate.lock().unwrap();
            gate.1 = true;
            self.changed.notify_all();
            gate = self.changed.wait_while(gate, |gate| gate.0).unwrap();
            gate.1 = false;
        }
        self.disk.create(name, len)
    }

    fn list(&self) -> io::Result<Vec<FileEntry>> {
        self.disk.list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name, access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock()
    }

    fn describe(&self) -> String {
        self.disk.describe()
    }
}

/// A checkpoint of QMQ copies the progress of all consumers under one lock, and writes all of it as text.
#[test]
fn e10_everybody_goes_on_while_a_checkpoint_is_written() {
    let disk = Arc::new(SlowCheckpoints {
        disk: SimulatedDisk::new(),
        gate: Mutex::default(),
        changed: Condvar::new(),
    });
    let options = small_options();
    let store = Store::open_on(Arc::clone(&disk) as Arc<_>, options.clone()).unwrap();
    let work = |store: &Store| {
        for subject in ["s", "t", "new"] {
            for _ in 0..100 {
                let message = Message::new(subject, vec![b'k'; 1024]);
                store.append_with(&message, Durability::Buffered).unwrap();
                let batch = store.pull(&PullRequest::new(subject, "g", "c")).unwrap();
                store.ack(&batch).unwrap();
            }
            let stats = store.subject_stats(subject).unwrap();
            assert_eq!(stats.groups[0].cursor, stats.next_sequence);
        }
    };
    work(&store);
    disk.set_slow(true);
    let (checkpointed, worked) = std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint().unwrap());
        disk.wait_for_checkpoint();
        let (done, finished) = std::sync::mpsc::channel();
        let worker = store.clone();
        scope.spawn(move || {
            work(&worker);
            let _ = done.send(());
        });
        let worked = finished.recv_timeout(Duration::from_secs(30));
        let checkpointed = checkpoint.is_finished();
        disk.set_slow(false);
        (checkpointed, worked)
    });
    assert!(worked.is_ok(), "work waits for the checkpoint");
    assert!(!checkpointed);
    let left = disk.disk.process_killed();
    let store = Store::open_on(Arc::new(left), options).unwrap();
    for subject in ["s", "t", "new"] {
        let stats = store.subject_stats(subject).unwrap();
        let group = &stats.groups[0];
        assert_eq!((stats.next_sequence, group.cursor), (200, 200));
        assert_eq!((group.unacked, group.waiting), (0, 0));
    }
}
