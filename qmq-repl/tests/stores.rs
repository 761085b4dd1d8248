//! Members on real stores, in one thread. `QMQ_REPL_STORE_SEEDS=FROM..TO cargo test --release -p qmq-repl --test stores` runs as many lives as one
//! likes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/stores.rs"]
mod group;
#[path = "common/step.rs"]
mod step;

use std::path::Path;
use std::time::Duration;

use group::{Group3, Rng};
use qmq_repl::{Event, Group, Log, Node, Options, Peer, Role, SlaveLog, Snapshot, StoreLog};
use qmq_store::{Background, Durability, Message, Store};
use step::step;

fn store_options() -> qmq_store::Options {
    qmq_store::Options {
        background: Background::Manual,
        ..qmq_store::Options::with_segment_bytes(1 << 20)
    }
}

struct Pair {
    now: Duration,
    nodes: Vec<Option<Node<StoreLog>>>,
    events: Vec<(usize, Event)>,
    epoch: u64,
}

/// Two members, as the `n`th of them is told.
fn group(n: usize) -> Group {
    Group {
        name: "g".to_owned(),
        members: vec!["a".to_owned(), "b".to_owned()],
        me: Peer(n as u16),
        min_insync: 1,
    }
}

impl Pair {
    /// Two members, of which the first is master.
    fn new(folders: [&Path; 2]) -> Self {
        let mut pair = Self {
            now: Duration::from_secs(1),
            nodes: vec![None, None],
            events: Vec::new(),
            epoch: 0,
        };
        for (n, folder) in folders.into_iter().enumerate() {
            pair.open(n, folder);
        }
        pair.node(0).stand(Duration::from_secs(1), true);
        pair.run(2_000);
        pair
    }

    fn open(&mut self, n: usize, folder: &Path) {
        let log = StoreLog::open(folder, store_options()).unwrap();
        let seed = self.now.as_nanos() as u64 + n as u64 * 1_000_000;
        let node = Node::new(group(n), Options::default(), log, self.now, seed).unwrap();
        self.nodes[n] = Some(node);
    }

    fn node(&mut self, n: usize) -> &mut Node<StoreLog> {
        self.nodes[n].as_mut().unwrap()
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            while step(&mut self.nodes, self.now, &mut self.epoch, &mut self.events) {}
        }
    }

    fn equal(&self) -> bool {
        let logs: Vec<&StoreLog> = self.nodes.iter().flatten().map(Node::log).collect();
        let end = logs[0].written();
        let start = logs[0].start().max(logs[1].start());
        logs[1].written() == end
            && logs[0].digest(start, end).unwrap() == logs[1].digest(start, end).unwrap()
    }
}

fn message(n: u64) -> Message {
    Message::new("order.changed", format!("message {n} {}", "x".repeat(500)))
}

#[test]
fn real_stores_follow_fail_over_and_part() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let mut pair = Pair::new([&a, &b]);
    assert_eq!(pair.node(0).role(), Role::Master);
    for n in 0..3_000 {
        let store = pair.node(0).log().store().clone();
        store
            .append_with(&message(n), Durability::Buffered)
            .unwrap();
    }
    pair.node(0).log().store().sync().unwrap();
    pair.run(1_000);
    assert!(pair.equal());
    assert_eq!(
        pair.node(0).log().store().watermarks().replicated,
        pair.node(0).log().written()
    );
    // The master dies with something that nobody else has.
    let store = pair.node(0).log().store().clone();
    store
        .append_with(&message(3_000), Durability::Synced)
        .unwrap();
    drop(store);
    let node = pair.nodes[0].take().unwrap();
    node.into_log().store().clone().close().unwrap();
    let now = pair.now;
    pair.node(1).stand(now, false);
    pair.run(1_000);
    assert_eq!(pair.node(1).role(), Role::Master, "{:?}", pair.events);
    let store = pair.node(1).log().store().clone();
    for n in 0..100 {
        store
            .append_with(&message(4_000 + n), Durability::Synced)
            .unwrap();
    }
    pair.open(0, &a);
    pair.run(3_000);
    assert!(pair.equal(), "{:?}", pair.events);
    let lost = |(n, event): &(usize, Event)| *n == 0 && matches!(event, Event::LostTail { .. });
    assert!(pair.events.iter().any(lost));
}

#[test]
fn a_slave_in_an_empty_folder_becomes_a_copy_of_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let mut pair = Pair::new([&a, &b]);
    let ids = |pair: &Pair| -> Vec<u128> {
        let logs = pair.nodes.iter().flatten().map(Node::log);
        logs.map(Log::id).collect()
    };
    let both = ids(&pair);
    assert_eq!(both[0], both[1]);
    assert_eq!(pair.node(1).log().start(), 0);
    assert_eq!(pair.node(1).log().incomplete_until(), 0);
    let beside = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(beside, 2, "an empty store is not set aside");
    // Opened again it has what it needs, and gets no second snapshot.
    drop(pair.nodes[1].take());
    pair.events.clear();
    pair.open(1, &b);
    pair.run(1_000);
    let again = |(_, event): &(usize, Event)| matches!(event, Event::Installed { .. });
    assert!(!pair.events.iter().any(again));
    assert!(pair.equal());
}

#[test]
fn a_member_with_messages_of_another_store_is_refused_and_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let other = Store::open(&b, store_options()).unwrap();
    other.append_with(&message(7), Durability::Synced).unwrap();
    let id = other.stats().store_id;
    other.close().unwrap();
    let mut pair = Pair::new([&a, &b]);
    let reason = qmq_repl::Refused::OtherLog;
    let refused = (
        0,
        Event::Refused {
            peer: Peer(1),
            reason,
        },
    );
    assert!(pair.events.contains(&refused), "{:?}", pair.events);
    let log = pair.node(1).log();
    assert_eq!(log.id(), id);
    assert_eq!(log.store().read("order.changed", 0, 9).unwrap().len(), 1);
}

#[test]
fn a_new_replica_of_an_old_master_begins_with_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let mut pair = Pair::new([&a, &b]);
    drop(pair.nodes[1].take());
    let store = pair.node(0).log().store().clone();
    for n in 0..8_000 {
        store
            .append_with(&message(n), Durability::Buffered)
            .unwrap();
    }
    store.sync().unwrap();
    drop(store);
    // Retention: the master is opened again with little to keep.
    let now = pair.now;
    let node = pair.nodes[0].take().unwrap();
    node.into_log().store().clone().close().unwrap();
    let mut options = store_options();
    options.retention.max_bytes = Some(2 << 20);
    let log = StoreLog::open(&a, options).unwrap();
    for _ in 0..20 {
        log.store().maintain().unwrap();
    }
    assert!(log.start() > 0, "retention has taken the beginning");
    pair.nodes[0] = Some(Node::new(group(0), Options::default(), log, now, 77).unwrap());
    pair.open(1, &b);
    pair.node(0).stand(now, false);
    pair.run(5_000);
    assert!(
        pair.events
            .iter()
            .any(|(_, event)| matches!(event, Event::Installed { .. }))
    );
    assert!(pair.equal());
    let store = pair.node(0).log().store().clone();
    store
        .append_with(&message(9_000), Durability::Buffered)
        .unwrap();
    pair.run(1_000);
    assert!(pair.equal());
    let replica = pair.node(1).log();
    assert!(replica.start() > 0 && replica.incomplete_until() == 0);
}

#[test]
fn an_installation_keeps_what_was_promised_and_marked_and_the_next_open_finishes_it() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let master = Store::open(&a, store_options()).unwrap();
    master.begin_epoch(3).unwrap();
    master
        .append_with(&message(1), Durability::Buffered)
        .unwrap();
    let snapshot = master.snapshot().unwrap();
    let snapshot = Snapshot {
        base: snapshot.offset(),
        bytes: snapshot.as_bytes().clone(),
    };
    let mut log = StoreLog::open(&b, store_options()).unwrap();
    log.promise(7).unwrap();
    log.mark_incomplete(500).unwrap();
    log.install(&snapshot).unwrap();
    let keeps = |log: &StoreLog| {
        let id = log.store().stats().store_id;
        assert_eq!(id, master.stats().store_id);
        assert_eq!((log.promised(), log.incomplete_until()), (7, 500));
    };
    keeps(&log);
    log.store().clone().close().unwrap();
    drop(log);
    let log = StoreLog::open(&b, store_options()).unwrap();
    keeps(&log);
    log.store().clone().close().unwrap();
    drop(log);
    // As it is after the first of its two last steps.
    std::fs::rename(&b, folder.path().join("b.new")).unwrap();
    keeps(&StoreLog::open(&b, store_options()).unwrap());
    assert!(!folder.path().join("b.new").exists());
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("QMQ_REPL_STORE_SEEDS") else {
        return 0..20;
    };
    let (from, to) = text
        .split_once("..")
        .expect("QMQ_REPL_STORE_SEEDS=FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Three members on simulated disks: appends, kills, losses of power, partitions, promotions; in every other life retention takes the log's
/// beginning. At the end all logs are equal, and have what was acknowledged as replicated.
#[test]
fn random_lives_on_real_stores() {
    for seed in seeds() {
        let mut rng = Rng(seed);
        let mut group = Group3::new(seed, seed % 2 == 1, None);
        let mut waiting: Vec<(usize, u64, u64)> = Vec::new();
        let mut done: Vec<(u64, u64)> = Vec::new();
        for step in 0..300 {
            let n = rng.below(3) as usize;
            let now = group.now;
            match rng.below(20) {
                0..=11 => {
                    for n in 0..3 {
                        let Some(node) = &mut group.nodes[n] else {
                            continue;
                        };
                        if node.may_accept(now).is_ok() {
                            let store = node.log().store().clone();
                            let text = format!(
                                "{n} {step} {}",
                                "y".repeat(
                                    rng.below(if group.retire { 15_000 } else { 3_000 }) as usize
                                )
                            );
                            let message = Message::new("s", text);
                            let at = store.append_with(&message, Durability::Synced).unwrap();
                            waiting.push((n, node.epoch().unwrap(), at.end_offset));
                            node.log_moved(now);
                        }
                    }
                }
                12 => {
                    let image = {
                        let disk = group.disks[n].disk.lock().unwrap();
                        match rng.below(2) {
                            0 => disk.process_killed(),
                            _ => disk.crash(rng.below(1 << 40)),
                        }
                    };
                    if group.nodes[n].take().is_some() {
                        group.trace.push(format!("{now:?} {n} dies"));
                        *group.disks[n].disk.lock().unwrap() = image;
                    }
                    waiting.retain(|it| it.0 != n);
                }
                13..=15 if group.nodes[n].is_none() => group.open(n, seed * 7777 + step),
                16 => {
                    if let Some(node) = &mut group.nodes[n] {
                        node.stand(now, false);
                    }
                }
                19 if group.retire => {
                    if let Some(node) = &group.nodes[n] {
                        node.log().store().maintain().unwrap();
                    }
                }
                17 => group.cut.push((n, (n + 1) % 3)),
                18 => group.cut.clear(),
                _ => group.run(100),
            }
            group.run(rng.below(20));
            for n in 0..3 {
                let Some(node) = &group.nodes[n] else {
                    continue;
                };
                let Some(epoch) = node.epoch() else {
                    waiting.retain(|it| it.0 != n);
                    continue;
                };
                let log = node.log();
                let replicated = log.store().watermarks().replicated;
                waiting.retain(|&(at, of, end)| {
                    let acknowledged = at == n && of == epoch && end <= replicated;
                    if acknowledged && end - 64 >= log.start() {
                        done.push((end, log.digest(end - 64, end).unwrap()));
                    }
                    !acknowledged
                });
            }
        }
        group.cut.clear();
        for n in 0..3 {
            if group.nodes[n].is_none() {
                group.open(n, seed + 5);
            }
        }
        group.run(2_000);
        for round in 0..10 {
            if group.equal() && group.nodes.iter().flatten().any(|it| it.epoch().is_some()) {
                break;
            }
            let now = group.now;
            if !group.nodes.iter().flatten().any(|it| it.epoch().is_some()) {
                group.nodes[round % 3].as_mut().unwrap().stand(now, false);
            }
            group.run(2_000);
        }
        let tail = group.trace.len().saturating_sub(30);
        assert!(group.equal(), "seed {seed}: {:#?}", &group.trace[tail..]);
        for node in group.nodes.iter().flatten() {
            for &(end, digest) in &done {
                if end - 64 >= node.log().start() {
                    assert_eq!(node.log().digest(end - 64, end), Ok(digest), "seed {seed}");
                }
            }
        }
    }
}
