//! What a master's store does for its slaves: who waits for them is answered in time, and the log is kept for who is away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/step.rs"]
mod step;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use qmq_repl::{Event, Group, Log, Node, Options, Peer, StoreLog};
use qmq_store::{Appended, Background, Durability, Error, Message, Store};
use step::step;

struct Pair {
    folder: tempfile::TempDir,
    options: Options,
    now: Duration,
    nodes: [Option<Node<StoreLog>>; 2],
    events: Vec<(usize, Event)>,
    epoch: u64,
}

impl Pair {
    /// Two members, of which the first is master; both keep two segments for themselves.
    fn new(options: Options) -> Self {
        let mut pair = Self {
            folder: tempfile::tempdir().unwrap(),
            options,
            now: Duration::from_secs(1),
            nodes: [None, None],
            events: Vec::new(),
            epoch: 0,
        };
        pair.open(0);
        pair.open(1);
        pair.node(0).stand(Duration::from_secs(1), true);
        pair.run(2_000);
        pair
    }

    fn folder(&self, n: usize) -> PathBuf {
        self.folder.path().join(n.to_string())
    }

    fn open(&mut self, n: usize) {
        let group = Group {
            name: "g".to_owned(),
            members: vec!["a".to_owned(), "b".to_owned()],
            me: Peer(n as u16),
            min_insync: 1,
        };
        let log = StoreLog::open(self.folder(n), store_options()).unwrap();
        let seed = self.now.as_nanos() as u64 + n as u64 * 1_000_000;
        let node = Node::new(group, self.options.clone(), log, self.now, seed);
        self.nodes[n] = Some(node.unwrap());
    }

    fn node(&mut self, n: usize) -> &mut Node<StoreLog> {
        self.nodes[n].as_mut().unwrap()
    }

    fn store(&self, n: usize) -> Store {
        self.nodes[n].as_ref().unwrap().log().store().clone()
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            while self.step() {}
        }
    }

    /// Whether a frame went over.
    fn step(&mut self) -> bool {
        step(&mut self.nodes, self.now, &mut self.epoch, &mut self.events)
    }

    /// Appends, and answers what becomes of the wait for slaves.
    fn append(&self, n: usize) -> (Appended, Receiver<Result<(), Error>>) {
        let store = self.store(n);
        let message = Message::new("s", "message");
        let at = store.append_with(&message, Durability::Synced).unwrap();
        let (answer, answers) = channel();
        store.when(at.end_offset, Durability::Replicated, move |outcome| {
            answer.send(outcome).unwrap();
        });
        (at, answers)
    }

    fn fill(&self, n: usize, bytes: u64) {
        let store = self.store(n);
        let message = Message::new("s", vec![b'x'; 1000]);
        for _ in 0..bytes / 1_000 {
            store.append_with(&message, Durability::Buffered).unwrap();
        }
        store.sync().unwrap();
    }

    fn keep_house(&self, n: usize) -> u64 {
        for _ in 0..3 {
            self.store(n).maintain().unwrap();
        }
        self.node_start(n)
    }

    fn node_start(&self, n: usize) -> u64 {
        self.nodes[n].as_ref().unwrap().log().start()
    }

    fn was_installed(&self) -> bool {
        let installed = |(_, event): &(usize, Event)| matches!(event, Event::Installed { .. });
        self.events.iter().any(installed)
    }

    fn equal(&self) -> bool {
        let [a, b] = [0, 1].map(|n| self.nodes[n].as_ref().unwrap().log());
        let (start, end) = (a.start().max(b.start()), a.written());
        b.written() == end && a.digest(start, end) == b.digest(start, end)
    }
}

fn store_options() -> qmq_store::Options {
    let mut options = qmq_store::Options::with_segment_bytes(256 << 10);
    options.background = Background::Manual;
    options.retention.max_bytes = Some(512 << 10);
    options
}

fn segments(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap();
    names
        .filter(|it| {
            let name = it.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("log-")
        })
        .count()
}

#[test]
fn an_append_right_after_a_promotion_waits_for_the_first_slave() {
    let mut pair = Pair::new(Options::default());
    drop(pair.nodes[0].take());
    pair.open(0);
    let now = pair.now;
    pair.node(0).stand(now, false);
    let promoted = |pair: &Pair| {
        pair.events
            .iter()
            .any(|it| matches!(it, (0, Event::Promoted { epoch: 2, .. })))
    };
    while !promoted(&pair) {
        pair.now += Duration::from_millis(1);
        pair.step();
    }
    let (at, answers) = pair.append(0);
    assert!(pair.store(0).watermarks().replicated < at.end_offset);
    assert!(answers.try_recv().is_err(), "nobody has it yet");
    let store = pair.store(0);
    let waiter = std::thread::spawn(move || store.wait(at.end_offset, Durability::Replicated));
    pair.run(1_000);
    answers.try_recv().unwrap().unwrap();
    waiter.join().unwrap().unwrap();
}

#[test]
fn who_waits_without_a_slave_is_refused_after_the_timeout_and_while_none_comes() {
    let mut pair = Pair::new(Options::default());
    drop(pair.nodes[0].take());
    pair.open(0);
    let now = pair.now;
    pair.node(0).stand(now, false);
    pair.run(1);
    while pair.node(0).epoch().is_none() {
        pair.run(1);
    }
    // The slave is gone as soon as it has promised.
    drop(pair.nodes[1].take());
    let timeout = pair.options.slave_sync_timeout.as_millis() as u64;
    let (_, first) = pair.append(0);
    pair.run(timeout - 10);
    assert!(first.try_recv().is_err(), "refused too early");
    let (_, later) = pair.append(0);
    pair.run(11);
    for answers in [first, later] {
        let told = answers.try_recv().unwrap();
        assert!(matches!(told, Err(Error::TooFewInSync)), "{told:?}");
    }
    assert!(pair.node(0).too_few_in_sync());
    let (_, answers) = pair.append(0);
    let told = answers.try_recv().unwrap();
    assert!(matches!(told, Err(Error::TooFewInSync)), "{told:?}");
    // And with a slave it is as ever.
    pair.open(1);
    pair.run(2_000);
    assert!(!pair.node(0).too_few_in_sync() && pair.equal());
    let (_, answers) = pair.append(0);
    assert!(answers.try_recv().is_err());
    pair.run(100);
    answers.try_recv().unwrap().unwrap();
    // A master that is none any more says that.
    drop(pair.nodes[1].take());
    let (_, answers) = pair.append(0);
    let store = pair.nodes[0].take().unwrap().into_log().store().clone();
    let told = answers.try_recv().unwrap();
    assert!(matches!(told, Err(Error::Demoted)), "{told:?}");
    drop(store);
}

#[test]
fn the_log_is_kept_for_a_slave_that_is_away() {
    let mut pair = Pair::new(Options::default());
    pair.fill(0, 300 << 10);
    pair.run(1_000);
    let needs = pair.store(0).watermarks().written;
    drop(pair.nodes[1].take());
    pair.events.clear();
    for _ in 0..10 {
        pair.fill(0, 300 << 10);
        pair.run(1_000);
        assert!(pair.keep_house(0) <= needs);
    }
    assert!(pair.keep_house(0) > 0, "what nobody needs goes");
    pair.open(1);
    pair.run(3_000);
    assert!(pair.equal() && !pair.was_installed(), "{:?}", pair.events);
    // It has everything: what was kept for it goes.
    assert!(pair.keep_house(0) > needs);
    let written = pair.store(0).watermarks().written;
    assert!(written - pair.node_start(0) <= 768 << 10);
    assert!(segments(&pair.folder(0)) <= 4);
}

#[test]
fn no_more_is_kept_for_a_slave_than_the_options_say() {
    let mut pair = Pair::new(Options {
        hold_bytes_max: 1 << 20,
        ..Options::default()
    });
    pair.fill(0, 300 << 10);
    pair.run(1_000);
    let needs = pair.store(0).watermarks().written;
    drop(pair.nodes[1].take());
    pair.events.clear();
    for _ in 0..10 {
        pair.fill(0, 300 << 10);
        pair.run(1_000);
        pair.keep_house(0);
    }
    let written = pair.store(0).watermarks().written;
    let kept = written - pair.node_start(0);
    assert!(pair.node_start(0) > needs);
    let (least, most) = (1 << 20, (1 << 20) + (512 << 10));
    assert!((least..=most).contains(&kept), "{kept}");
    pair.open(1);
    pair.run(3_000);
    assert!(pair.equal() && pair.was_installed(), "{:?}", pair.events);
}

#[test]
fn who_is_no_master_any_more_keeps_nothing_for_slaves() {
    let mut pair = Pair::new(Options::default());
    drop(pair.nodes[1].take());
    pair.fill(0, 2 << 20);
    pair.run(1_000);
    assert_eq!(pair.keep_house(0), 0);
    let log = pair.nodes[0].take().unwrap().into_log();
    for _ in 0..3 {
        log.store().maintain().unwrap();
    }
    assert!(log.start() > 1 << 20, "{}", log.start());
}
