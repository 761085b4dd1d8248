//! What consumers have done, over failovers: an ack that was acknowledged as replicated holds at every later master.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/stores.rs"]
mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use group::{Group3, Rng};
use qmq_repl::{Event, Log, Node};
use qmq_store::{Batch, Durability, Error, Message, PullRequest, Store, SubjectStats};

const GROUPS: [&str; 2] = ["g", "h"];
const CONSUMERS: [&str; 2] = ["ann", "bob"];

/// What a consumer holds, and from which master.
struct Hand {
    member: usize,
    epoch: u64,
    group: usize,
    batch: Batch,
}

/// An ack that is not replicated yet.
struct Ack {
    member: usize,
    epoch: u64,
    end: u64,
    group: usize,
    sequences: Vec<u64>,
}

struct World {
    seed: u64,
    rng: Rng,
    group: Group3,
    hands: Vec<Hand>,
    acks: Vec<Ack>,
    /// By group: sequences whose ack was acknowledged as replicated, and in which epoch.
    settled: [BTreeMap<u64, u64>; 2],
    /// Sequences that somebody has acknowledged at any master.
    tried: [BTreeSet<u64>; 2],
    stale: u64,
    failovers: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut group = Group3::new(seed, seed % 3 == 2, None);
        // Who joins with a snapshot is cut off at once, perhaps from its master, and has nothing of the log that belongs to it.
        group.cut_at = |n, event| match event {
            Event::Installed { .. } => Some((n, (n + 1) % 3)),
            _ => None,
        };
        Self {
            seed,
            rng: Rng(seed),
            group,
            hands: Vec::new(),
            acks: Vec::new(),
            settled: [BTreeMap::new(), BTreeMap::new()],
            tried: [BTreeSet::new(), BTreeSet::new()],
            stale: 0,
            failovers: 0,
        }
    }

    /// Members that take work at the moment, and their epoch. An old master may be one of them for a while.
    fn masters(&self) -> Vec<(usize, u64)> {
        let nodes = self.group.nodes.iter().enumerate();
        let accepts = |node: &Node<_>| node.may_accept(self.group.now).is_ok();
        nodes
            .filter_map(|(n, node)| Some((n, node.as_ref().filter(|it| accepts(it))?.epoch()?)))
            .collect()
    }

    fn store(&self, n: usize) -> Store {
        self.group.nodes[n].as_ref().unwrap().log().store().clone()
    }

    fn trace(&mut self, what: &str) {
        let now = self.group.now;
        self.group.trace.push(format!("{now:?} {what}"));
    }

    fn moved(&mut self, n: usize) {
        let now = self.group.now;
        self.group.nodes[n].as_mut().unwrap().log_moved(now);
    }

    fn append(&mut self) {
        for (n, _) in self.masters() {
            let longest = if self.group.retire { 6_000 } else { 400 };
            let text = "y".repeat(self.rng.below(longest) as usize);
            let store = self.store(n);
            store
                .append_with(&Message::new("s", text), Durability::Synced)
                .unwrap();
            self.moved(n);
        }
    }

    fn pull(&mut self) {
        let (group, consumer) = (self.rng.below(2) as usize, self.rng.below(2) as usize);
        let max = 1 + self.rng.below(6) as usize;
        for (n, epoch) in self.masters() {
            self.pull_from(n, epoch, group, consumer, max);
        }
    }

    /// Says how many there were.
    fn pull_from(
        &mut self,
        n: usize,
        epoch: u64,
        group: usize,
        consumer: usize,
        max: usize,
    ) -> usize {
        let request = PullRequest::new("s", GROUPS[group], CONSUMERS[consumer]).max(max);
        let batch = match self.store(n).pull(&request) {
            Ok(batch) => batch,
            Err(Error::UnknownSubject { .. }) => return 0,
            Err(error) => panic!("seed {}: {error}", self.seed),
        };
        for one in batch.iter() {
            // An old master that has not heard of the new one yet may not know what that one has settled.
            let sequence = one.sequence();
            let settled = self.settled[group].get(&sequence);
            assert!(
                settled.is_none_or(|&by| by > epoch),
                "seed {}: {sequence} of {} is handed out again, {:#?}",
                self.seed,
                GROUPS[group],
                self.group.trace
            );
        }
        let sequences: Vec<u64> = batch.iter().map(|one| one.sequence()).collect();
        self.trace(&format!("{n} gives {sequences:?} of {group} to {consumer}"));
        let count = batch.len();
        if count > 0 {
            self.hands.push(Hand {
                member: n,
                epoch,
                group,
                batch,
            });
        }
        self.moved(n);
        count
    }

    /// Acknowledges a part of a hand at the master that gave it, or tries to at another one.
    fn ack(&mut self) {
        if self.hands.is_empty() {
            return;
        }
        let at = self.rng.below(self.hands.len() as u64) as usize;
        let hand = self.hands.swap_remove(at);
        for (n, epoch) in self.masters() {
            let mut taken = Vec::new();
            let mut ranges = Vec::new();
            for one in hand.batch.iter() {
                if self.rng.below(4) > 0 {
                    taken.push(one.sequence());
                    ranges.push(one.pull_sequence()..=one.pull_sequence());
                }
            }
            if ranges.is_empty() {
                continue;
            }
            let (store, member) = (self.store(n), hand.batch.member());
            let own = (n, epoch) == (hand.member, hand.epoch);
            if own && self.rng.below(5) == 0 {
                let delay = Duration::ZERO;
                store
                    .nack(member, &ranges, delay, Durability::Buffered)
                    .unwrap();
                self.moved(n);
                continue;
            }
            let outcome = store.ack_ranges(member, &ranges, Durability::Buffered);
            if !own {
                let stale = "what another master gave is not acknowledged here";
                assert!(outcome.is_err(), "seed {}: {stale}: {outcome:?}", self.seed);
                self.stale += 1;
                continue;
            }
            let outcome = outcome.unwrap();
            self.trace(&format!(
                "{n} takes {taken:?} of {}: {outcome:?}, {:?}",
                hand.group,
                store.watermarks()
            ));
            self.tried[hand.group].extend(taken.iter().copied());
            // Of some of them retention may have taken the messages here, and not everywhere.
            assert!(
                outcome.already == 0 || self.group.retire,
                "seed {}: {outcome:?}",
                self.seed
            );
            self.acks.push(Ack {
                member: n,
                epoch,
                end: store.watermarks().written,
                group: hand.group,
                sequences: taken,
            });
            if self.rng.below(2) == 0 {
                store.sync().unwrap();
            }
            self.moved(n);
        }
    }

    fn note_replicated(&mut self) {
        for ack in std::mem::take(&mut self.acks) {
            let node = self.group.nodes[ack.member].as_ref();
            let Some(node) = node.filter(|node| node.epoch() == Some(ack.epoch)) else {
                continue;
            };
            if node.log().store().watermarks().replicated >= ack.end {
                self.group
                    .trace
                    .push(format!("settled {:?} of {}", ack.sequences, ack.group));
                let settled = ack.sequences.iter().map(|it| (*it, ack.epoch));
                self.settled[ack.group].extend(settled);
            } else {
                self.acks.push(ack);
            }
        }
    }

    fn kill(&mut self, n: usize) {
        let image = {
            let disk = self.group.disks[n].disk.lock().unwrap();
            match self.rng.below(2) {
                0 => disk.process_killed(),
                _ => disk.crash(self.rng.below(1 << 40)),
            }
        };
        if self.group.nodes[n].take().is_some() {
            self.trace(&format!("{n} dies"));
            *self.group.disks[n].disk.lock().unwrap() = image;
        }
    }

    fn step(&mut self, step: u64) {
        let n = self.rng.below(3) as usize;
        let now = self.group.now;
        match self.rng.below(26) {
            0..=5 => self.append(),
            6..=11 => self.pull(),
            12..=17 => self.ack(),
            18 => self.kill(n),
            19..=20 if self.group.nodes[n].is_none() => {
                self.group.open(n, self.seed * 7_777 + step);
            }
            21 => {
                if let Some(node) = &mut self.group.nodes[n] {
                    self.failovers += 1;
                    node.stand(now, false);
                }
            }
            22 => self.group.cut.push((n, (n + 1) % 3)),
            23 => self.group.cut.clear(),
            24 if self.group.retire => {
                if let Some(node) = &self.group.nodes[n] {
                    let start = node.log().start();
                    node.log().store().maintain().unwrap();
                    let then = node.log().start();
                    self.group
                        .trace
                        .push(format!("{now:?} {n} keeps house {start} {then}"));
                }
            }
            _ => self.group.run(100),
        }
        let ms = self.rng.below(20);
        self.group.run(ms);
        self.note_replicated();
    }

    /// Everybody comes back, and one of them is master.
    fn heal(&mut self) -> (usize, u64) {
        self.group.cut_at = |_, _| None;
        self.group.cut.clear();
        for n in 0..3 {
            if self.group.nodes[n].is_none() {
                self.group.open(n, self.seed + 5);
            }
        }
        for round in 0..10 {
            self.group.run(2_000);
            self.note_replicated();
            let masters = self.masters();
            if self.group.equal() && masters.len() == 1 {
                return masters[0];
            }
            if masters.is_empty() {
                let now = self.group.now;
                self.group.nodes[round % 3]
                    .as_mut()
                    .unwrap()
                    .stand(now, false);
            }
        }
        panic!("seed {}: no master: {:#?}", self.seed, self.group.trace);
    }
}

impl World {
    /// The logs are equal; so is what they make of the groups, as far as none has retired it.
    fn check_groups(&self) {
        let stats = |n: usize| self.store(n).subject_stats("s").ok();
        let all: Vec<_> = (0..3).filter_map(stats).collect();
        let floor = all.iter().map(|it| it.first_sequence).max().unwrap_or(0);
        let cursors = |stats: &SubjectStats| -> Vec<(String, u64)> {
            let groups = stats.groups.iter();
            groups
                .map(|group| (group.group.clone(), group.cursor.max(floor)))
                .collect()
        };
        for stats in &all {
            assert_eq!(cursors(stats), cursors(&all[0]), "seed {}", self.seed);
        }
    }

    /// What nobody has acknowledged was handed out in the end.
    fn check_nothing_skipped(&self, master: usize) {
        let messages = self.store(master).read("s", 0, 10_000);
        let count = messages.map_or(0, |messages| messages.iter().count() as u64);
        for (group, tried) in self.tried.iter().enumerate() {
            let mut handed = tried.clone();
            for hand in self.hands.iter().filter(|hand| hand.group == group) {
                handed.extend(hand.batch.iter().map(|one| one.sequence()));
            }
            let missed: Vec<u64> = (0..count).filter(|it| !handed.contains(it)).collect();
            assert!(
                missed.is_empty(),
                "seed {}: {missed:?} were skipped",
                self.seed
            );
        }
    }
}

#[test]
fn what_was_acknowledged_as_replicated_is_never_handed_out_again() {
    let number = |name, default| std::env::var(name).map_or(default, |it| it.parse().unwrap());
    let (mut settled, mut stale, mut failovers) = (0, 0, 0);
    for seed in number("FIRST", 0)..number("SEEDS", 80) {
        let mut world = World::new(seed);
        for step in 0..300 {
            world.step(step);
        }
        let (master, epoch) = world.heal();
        world.check_groups();
        // All that is left: what is in somebody's hands goes back first.
        world.hands.clear();
        for (group, name) in GROUPS.into_iter().enumerate() {
            for consumer in CONSUMERS {
                let gone = world.store(master).consumer_gone("s", name, consumer);
                let fits = match &gone {
                    Ok(_) | Err(Error::UnknownGroup { .. }) => true,
                    // A life in which no message has lasted.
                    Err(Error::UnknownSubject { .. }) => world.settled[group].is_empty(),
                    Err(_) => false,
                };
                assert!(fits, "seed {seed}: {gone:?}");
            }
            for consumer in 0..2 {
                while world.pull_from(master, epoch, group, consumer, 1_000) > 0 {}
            }
        }
        if !world.group.retire {
            world.check_nothing_skipped(master);
        }
        settled += world.settled.iter().map(BTreeMap::len).sum::<usize>();
        (stale, failovers) = (stale + world.stale, failovers + world.failovers);
    }
    println!("{settled} settled, {stale} stale acks refused, {failovers} times stood");
    assert!(settled > 100 && stale > 0, "{settled} {stale}");
}
