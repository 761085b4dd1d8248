//! A delay scheduler on a replicated store: what is pending, cancelled and dispatched survives failovers, also where the log has retired it.
//! `QMQ_REPL_DELAY_SEEDS=FROM..TO cargo test --release -p qmq-repl --test delay` runs as many lives as one likes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/stores.rs"]
mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use group::{Group3, Rng};
use qmq_repl::{Log, Role};
use qmq_sched::{Cancelled, DelayId, Message, Options, Scheduler};
use qmq_store::{Durability, ManualClock};

const BEGIN_MS: u64 = 1_800_000_000_000;

/// What somebody was told about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It was scheduled, and nothing else.
    Pending,
    /// Somebody tried to settle it, and was told nothing.
    Unknown,
    /// It is cancelled or dispatched.
    Settled,
}

/// A change that counts once it is replicated.
#[derive(Debug)]
struct Waiting {
    node: usize,
    epoch: u64,
    end: u64,
    id: DelayId,
    to: Told,
}

struct Desk {
    group: Group3,
    clock: Arc<ManualClock>,
    /// The scheduler of the member that is master, with its epoch.
    open: [Option<(u64, Scheduler)>; 3],
    told: BTreeMap<DelayId, Told>,
    bodies: BTreeMap<DelayId, String>,
    waiting: Vec<Waiting>,
    number: u64,
    /// The greatest epoch that ever had a master.
    newest: u64,
}

fn options() -> Options {
    Options {
        stage_entries: 1_000,
        ..Options::default()
    }
}

impl Desk {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at(BEGIN_MS));
        Self {
            group: Group3::new(seed, true, Some(clock.clone())),
            clock,
            open: [None, None, None],
            told: BTreeMap::new(),
            bodies: BTreeMap::new(),
            waiting: Vec::new(),
            number: 0,
            newest: 0,
        }
    }

    fn now_ms(&self) -> u64 {
        BEGIN_MS + self.group.now.as_millis() as u64
    }

    fn run(&mut self, ms: u64) {
        self.group.run(ms);
        self.clock.set(self.now_ms());
        self.look();
    }

    /// Masters have a scheduler, and others none. What is replicated counts.
    fn look(&mut self) {
        for n in 0..3 {
            let epoch = self.group.nodes[n].as_ref().and_then(|node| node.epoch());
            if self.open[n].as_ref().map(|it| it.0) != epoch {
                self.open[n] = None;
                self.waiting.retain(|it| it.node != n);
            }
            let Some(epoch) = epoch else { continue };
            self.newest = self.newest.max(epoch);
            let log = self.group.nodes[n].as_ref().unwrap().log();
            if self.open[n].is_none() {
                let index = self.group.disks[n].index.lock().unwrap().clone();
                let opened = Scheduler::open(log.store().clone(), index, options()).unwrap();
                let lost = &opened.open_report().lost_files;
                assert!(lost.is_empty(), "{lost:?} of member {n}");
                self.open[n] = Some((epoch, opened));
            }
            let replicated = log.store().watermarks().replicated;
            let (done, waiting) = std::mem::take(&mut self.waiting)
                .into_iter()
                .partition(|it| (it.node, it.epoch) == (n, epoch) && it.end <= replicated);
            self.waiting = waiting;
            for it in done {
                let told = self.told.entry(it.id).or_insert(it.to);
                if it.to == Told::Settled {
                    *told = it.to;
                }
            }
        }
    }

    fn wait(&mut self, n: usize, id: DelayId, to: Told) {
        let node = self.group.nodes[n].as_mut().unwrap();
        let (epoch, end) = (node.epoch().unwrap(), node.log().written());
        node.log_moved(self.group.now);
        self.waiting.push(Waiting {
            node: n,
            epoch,
            end,
            id,
            to,
        });
    }

    fn scheduler(&self, n: usize) -> Option<Scheduler> {
        let node = self.group.nodes[n].as_ref()?;
        node.may_accept(self.group.now).ok()?;
        self.open[n].as_ref().map(|it| it.1.clone())
    }

    fn schedule(&mut self, n: usize, due_ms: u64, len: usize) {
        // A stale master would give the same ids to other messages; these end in its lost tail.
        let Some(scheduler) = self.scheduler(n).filter(|_| self.is_newest(n)) else {
            return;
        };
        self.number += 1;
        let body = format!("{} {}", self.number, "d".repeat(len));
        let message = Message::new("order.timeout", body.clone());
        let id = scheduler.schedule_with(due_ms, &message, Durability::Synced);
        let id = id.unwrap();
        // The same slot was given to another message whose record was lost with its master.
        self.told.remove(&id);
        self.bodies.insert(id, body);
        self.wait(n, id, Told::Pending);
    }

    /// From here on a message may be settled, whatever becomes of it.
    fn touch(&mut self, id: DelayId) {
        if let Some(told) = self.told.get_mut(&id)
            && *told == Told::Pending
        {
            *told = Told::Unknown;
        }
        for waiting in &mut self.waiting {
            if waiting.id == id && waiting.to == Told::Pending {
                waiting.to = Told::Unknown;
            }
        }
    }

    fn cancel(&mut self, n: usize, id: DelayId) {
        let Some(scheduler) = self.scheduler(n) else {
            return;
        };
        let before = self.told.get(&id).copied();
        let answer = scheduler.cancel_with(id, Durability::Synced).unwrap();
        match answer {
            Cancelled::Done => {
                self.touch(id);
                self.wait(n, id, Told::Settled);
            }
            // A stale master does not know what is younger than its successor.
            Cancelled::Unknown if self.is_newest(n) => {
                assert_ne!(before, Some(Told::Pending), "{id} is not known");
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, n: usize, max: usize) {
        let Some(scheduler) = self.scheduler(n) else {
            return;
        };
        let fired = scheduler.due(self.now_ms(), max).unwrap();
        for one in fired {
            if self.is_newest(n) {
                self.check(&one);
            }
            self.touch(one.id);
            assert_eq!(scheduler.dispatched(&[one.id]).unwrap(), 1);
            self.wait(n, one.id, Told::Settled);
        }
    }

    fn check(&self, fired: &qmq_sched::Fired) {
        let told = self.told.get(&fired.id);
        let tail = self.group.trace.len().saturating_sub(40);
        assert_ne!(
            told,
            Some(&Told::Settled),
            "{} is handed out again: {:#?}",
            fired.id,
            &self.group.trace[tail..]
        );
        let message = fired
            .message
            .as_ref()
            .unwrap_or_else(|error| panic!("{error} {:#?}", &self.group.trace[tail..]));
        assert_eq!(message.body(), self.bodies[&fired.id].as_bytes());
    }

    fn is_newest(&self, n: usize) -> bool {
        (self.open[n].as_ref()).is_some_and(|(epoch, _)| *epoch == self.newest)
    }

    fn master(&self) -> Option<usize> {
        let of = |n: usize| Some((self.group.nodes[n].as_ref()?.epoch()?, n));
        (0..3).filter_map(of).max().map(|(_, n)| n)
    }

    fn die(&mut self, n: usize, crash: Option<u64>) {
        if self.group.nodes[n].take().is_none() {
            return;
        }
        self.open[n] = None;
        self.waiting.retain(|it| it.node != n);
        for disk in [&self.group.disks[n].disk, &self.group.disks[n].index] {
            let mut disk = disk.lock().unwrap();
            let image = match crash {
                Some(seed) => disk.crash(seed),
                None => disk.process_killed(),
            };
            *disk = image;
        }
    }

    /// All run, are equal and have everything; `n` is master.
    fn settle(&mut self, seed: u64, n: usize) {
        self.group.cut.clear();
        for member in 0..3 {
            if self.group.nodes[member].is_none() {
                self.group
                    .open(member, seed + 5 + self.group.now.as_millis() as u64);
            }
        }
        for round in 0..20 {
            self.run(1_000);
            let nodes = || self.group.nodes.iter().flatten();
            let whole = nodes().all(|node| node.log().incomplete_until() == 0);
            let now = self.group.now;
            match self.master() {
                Some(master) if whole && self.group.equal() => {
                    if master == n {
                        return;
                    }
                    self.die(master, None);
                    let node = self.group.nodes[n].as_mut().unwrap();
                    node.stand(now, false);
                    self.run(2_000);
                    self.group.open(master, seed + 6 + now.as_millis() as u64);
                }
                Some(_) => {}
                None => {
                    let idle = |it: &usize| {
                        let node = self.group.nodes[*it].as_ref();
                        node.is_some_and(|node| node.role() == Role::Slave)
                    };
                    if let Some(any) = (round..round + 3).map(|n| n % 3).find(idle) {
                        self.group.nodes[any].as_mut().unwrap().stand(now, false);
                    }
                }
            }
        }
        let tail = self.group.trace.len().saturating_sub(40);
        panic!("seed {seed}: not settled: {:#?}", &self.group.trace[tail..]);
    }

    /// The master hands out all that is pending, and nothing that is settled.
    fn check_all(&mut self, n: usize, seed: u64) {
        let scheduler = self.scheduler(n).unwrap();
        let mut all = BTreeSet::new();
        loop {
            let fired = scheduler.due(self.now_ms() + 86_400_000, 100).unwrap();
            if fired.is_empty() {
                break;
            }
            for one in fired {
                self.check(&one);
                all.insert(one.id);
            }
        }
        for (id, told) in &self.told {
            if *told == Told::Pending {
                let tail = self.group.trace.len().saturating_sub(40);
                assert!(
                    all.contains(id),
                    "seed {seed}: {id} is lost on {n}: {:?}, {:?} {:#?}",
                    scheduler.get(*id),
                    scheduler.open_report(),
                    &self.group.trace[tail..]
                );
            }
        }
    }
}

fn life(seed: u64) -> (usize, u64) {
    let mut rng = Rng(seed);
    let mut desk = Desk::new(seed);
    desk.run(1);
    for step in 0..400 {
        let n = rng.below(3) as usize;
        match rng.below(20) {
            0..=7 => {
                for n in 0..3 {
                    for _ in 0..rng.below(80) {
                        let after = match rng.below(3) {
                            0 => rng.below(3_000),
                            _ => rng.below(3_000_000),
                        };
                        let len = rng.below(150) as usize;
                        desk.schedule(n, desk.now_ms() + after, len);
                    }
                }
            }
            8 => {
                let max = 1 + rng.below(20) as usize;
                (0..3).for_each(|n| desk.dispatch(n, max));
            }
            9 => {
                let count = desk.told.len().max(1) as u64;
                let id = desk.told.keys().nth(rng.below(count) as usize).copied();
                if let Some(id) = id {
                    desk.cancel(n, id);
                }
            }
            11..=12 => {
                let crash = (rng.below(2) == 0).then(|| rng.below(1 << 40));
                desk.die(n, crash);
            }
            13..=14 if desk.group.nodes[n].is_none() => desk.group.open(n, seed * 7777 + step),
            15 => {
                let now = desk.group.now;
                if let Some(node) = &mut desk.group.nodes[n] {
                    node.stand(now, false);
                }
            }
            16 => desk.group.cut.push((n, (n + 1) % 3)),
            17 => desk.group.cut.clear(),
            10 | 18 => {
                for n in 0..3 {
                    match (&desk.open[n], &desk.group.nodes[n]) {
                        (Some((_, scheduler)), _) => scheduler.maintain().unwrap(),
                        (None, Some(node)) => node.log().store().maintain().unwrap(),
                        _ => {}
                    }
                    if let Some(node) = &desk.group.nodes[n] {
                        node.log().store().maintain().unwrap();
                    }
                }
            }
            _ => desk.run(200),
        }
        desk.run(rng.below(20));
    }
    let first = rng.below(3) as usize;
    for n in (first..first + 4).map(|n| n % 3) {
        desk.settle(seed, n);
        desk.check_all(n, seed);
    }
    let start = desk.group.nodes[2].as_ref().unwrap().log().start();
    (desk.told.len(), start)
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("QMQ_REPL_DELAY_SEEDS") else {
        return 0..12;
    };
    let (from, to) = text
        .split_once("..")
        .expect("QMQ_REPL_DELAY_SEEDS=FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Says which seed it was when a life panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: QMQ_REPL_DELAY_SEEDS={}..{}", self.0, self.0 + 1);
        }
    }
}

#[test]
fn what_is_pending_survives_failovers_also_where_the_log_has_retired_it() {
    let (mut messages, mut retired) = (0, 0);
    for seed in seeds() {
        let _seed = Seed(seed);
        let (known, start) = life(seed);
        messages += known;
        retired += u64::from(start > 0);
    }
    println!("{messages} messages, {retired} lives in which the log lost its beginning");
    assert!(messages > 0 && retired > 0);
}
