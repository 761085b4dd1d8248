//! A cluster in one thread and virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use qmq_repl::{AckPolicy, Event, Group, Log, Node, Options, Peer, Role};

use super::{ModelLog, Rng};

/// What the network does to frames, in 1/1000 of them; delays in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) drop: u64,
    pub(crate) double: u64,
    pub(crate) delay: (u64, u64),
    /// Frames overtake each other. Otherwise each direction is an ordered stream.
    pub(crate) reorder: bool,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        drop: 0,
        double: 0,
        delay: (200, 400),
        reorder: false,
    };
}

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) min_insync: usize,
    pub(crate) options: Options,
    pub(crate) faults: Faults,
}

impl Setup {
    pub(crate) fn new(nodes: usize, min_insync: usize) -> Self {
        Self {
            seed: 1,
            nodes,
            min_insync,
            options: small_options(),
            faults: Faults::NONE,
        }
    }
}

/// Small sizes and short times, so that a few hundred messages meet every bound.
pub(crate) fn small_options() -> Options {
    Options {
        window_bytes: 2048,
        frame_bytes: 512,
        unit_bytes_max: 64 << 10,
        snapshot_bytes_max: 1 << 20,
        slave_sync_timeout: Duration::from_millis(300),
        heartbeat: Duration::from_millis(50),
        silence: Duration::from_millis(300),
        retry: Duration::from_millis(50),
        promotion_timeout: Duration::from_millis(600),
        switch_timeout: Duration::from_millis(500),
        hold_bytes_max: 16 << 10,
        check_bytes: 4096,
        ..Options::default()
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) log: ModelLog,
    pub(crate) node: Option<Node<ModelLog>>,
    lives: u64,
    /// It does nothing until then, as a process that is stopped.
    pub(crate) stuck_until: Duration,
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
struct Produced {
    node: usize,
    epoch: u64,
    end: u64,
    at: Duration,
    replicated: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Duration,
    number: u64,
    from: u16,
    to: u16,
    bytes: Bytes,
}

pub(crate) struct Sim {
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) setup: Setup,
    pub(crate) members: Vec<Member>,
    flying: BinaryHeap<Reverse<Flying>>,
    numbers: u64,
    /// When the last frame of each direction arrives, for ordered streams.
    last: BTreeMap<(u16, u16), Duration>,
    /// Directions that carry nothing.
    pub(crate) cut: BTreeSet<(u16, u16)>,
    /// The greatest epoch that the authority has granted.
    /// A member has got another disk.
    pub(crate) replaced: bool,
    granted: u64,
    promoted: BTreeMap<u64, (usize, Duration)>,
    next_id: u64,
    waiting: BTreeMap<u64, Produced>,
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Loss has been accepted, so what was acknowledged may be gone.
    pub(crate) loss_accepted: bool,
    pub(crate) trace: bool,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl Sim {
    pub(crate) fn new(setup: Setup) -> Self {
        let members = (0..setup.nodes)
            .map(|_| Member {
                log: ModelLog::default(),
                node: None,
                lives: 0,
                stuck_until: Duration::ZERO,
                events: Vec::new(),
            })
            .collect();
        let mut sim = Self {
            now: Duration::ZERO,
            rng: Rng::new(setup.seed),
            members,
            setup,
            flying: BinaryHeap::new(),
            numbers: 0,
            last: BTreeMap::new(),
            cut: BTreeSet::new(),
            replaced: false,
            granted: 0,
            promoted: BTreeMap::new(),
            next_id: 1,
            waiting: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            loss_accepted: false,
            trace: std::env::var("QMQ_REPL_TRACE").is_ok(),
            frames: 0,
            bytes: 0,
        };
        for n in 0..sim.setup.nodes {
            sim.start(n);
        }
        sim
    }

    /// A group with its first master.
    pub(crate) fn with_master(setup: Setup) -> Self {
        let mut sim = Self::new(setup);
        sim.stand(0, true);
        sim.run_for(2_000);
        assert_eq!(sim.master(), Some(0), "the first master");
        sim
    }

    pub(crate) fn options(&mut self) -> &mut Options {
        &mut self.setup.options
    }

    pub(crate) fn start(&mut self, n: usize) {
        let setup = &self.setup;
        let group = super::group(setup.nodes, n, setup.min_insync);
        let seed = self.rng.next();
        let member = &mut self.members[n];
        assert!(member.node.is_none());
        member.lives += 1;
        let node = Node::new(
            group,
            setup.options.clone(),
            member.log.clone(),
            self.now,
            seed,
        );
        member.node = Some(node.unwrap());
        self.drive(n);
    }

    /// The member ends, and of what it had not synced a part is gone. Frames that it has sent still arrive.
    pub(crate) fn crash(&mut self, n: usize, keep: usize) {
        if self.members[n].node.take().is_some() {
            self.note(format_args!("crash of {n}, {keep} unsynced units stay"));
            self.members[n].log.crash(keep);
            self.waiting.retain(|_, it| it.node != n);
        }
    }

    pub(crate) fn stand(&mut self, n: usize, accept_loss: bool) {
        self.note(format_args!("{n} stands, accept_loss {accept_loss}"));
        let now = self.now;
        if let Some(node) = &mut self.members[n].node {
            node.stand(now, accept_loss);
            self.drive(n);
        }
    }

    pub(crate) fn node(&mut self, n: usize) -> &mut Node<ModelLog> {
        self.members[n].node.as_mut().unwrap()
    }

    pub(crate) fn log(&self, n: usize) -> &ModelLog {
        &self.members[n].log
    }

    /// The master of the greatest epoch.
    pub(crate) fn master(&self) -> Option<usize> {
        (0..self.members.len())
            .filter_map(|n| Some((self.members[n].node.as_ref()?.epoch()?, n)))
            .max()
            .map(|(_, n)| n)
    }

    pub(crate) fn partition(&mut self, a: usize, b: usize) {
        self.cut
            .extend([(a as u16, b as u16), (b as u16, a as u16)]);
    }

    pub(crate) fn isolate(&mut self, n: usize) {
        for other in 0..self.members.len() {
            self.partition(n, other);
        }
    }

    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            println!("{:>12?} {what}", self.now);
        }
    }

    /// Appends at a member that takes appends. Whether it did.
    pub(crate) fn produce(&mut self, n: usize, filler: usize, replicated: bool) -> Option<u64> {
        let now = self.now;
        let node = self.members[n].node.as_mut()?;
        node.may_accept(now).ok()?;
        let epoch = node.epoch().unwrap();
        let id = self.next_id;
        let end = self.members[n].log.produce(id, filler)?;
        self.next_id += 1;
        let produced = Produced {
            node: n,
            epoch,
            end,
            at: now,
            replicated,
        };
        self.waiting.insert(id, produced);
        self.node(n).log_moved(now);
        self.drive(n);
        Some(id)
    }

    pub(crate) fn sync(&mut self, n: usize) {
        let now = self.now;
        if let Some(node) = &mut self.members[n].node
            && node.role() == Role::Master
        {
            node.log().sync_all();
            node.log_moved(now);
            self.drive(n);
        }
    }

    /// Takes out what a member has to say, and checks what must hold.
    pub(crate) fn drive(&mut self, n: usize) {
        let now = self.now;
        loop {
            let Some(node) = &mut self.members[n].node else {
                return;
            };
            if let Some(event) = node.poll_event() {
                self.event(n, event);
                continue;
            }
            let Some((to, bytes)) = node.poll_transmit(now) else {
                break;
            };
            self.transmit(n as u16, to.0, &bytes);
        }
        self.acknowledge(n);
    }

    fn event(&mut self, n: usize, event: Event) {
        self.note(format_args!("{n}: {event:?}"));
        match &event {
            Event::LatestEpochWanted => {
                let (now, granted) = (self.now, self.granted);
                if self.setup.faults.drop == 0 || !self.rng.chance(100) {
                    let node = self.members[n].node.as_mut().unwrap();
                    node.latest_epoch(now, granted);
                }
            }
            Event::EpochWanted { above } => {
                // Compare-and-set: one number for one member. The answer may get lost on its way.
                let granted = self.granted.max(*above) + 1;
                self.granted = granted;
                let lost = self.setup.faults.drop > 0 && self.rng.chance(100);
                let now = self.now;
                let node = self.members[n].node.as_mut().unwrap();
                match lost {
                    true => node.epoch_denied(now),
                    false => node.epoch_granted(now, granted),
                }
            }
            Event::Promoted { epoch, .. } => {
                let other = self.promoted.insert(*epoch, (n, self.now));
                assert!(
                    other.is_none(),
                    "two masters of epoch {epoch}: {other:?} and {n}"
                );
                // A stale one may still come about. It gets no slave, so it never acknowledges anything.
                let newest = self.promoted.range(epoch + 1..).next().is_none();
                if newest && !self.loss_accepted {
                    let has = self.members[n].log.messages();
                    let lost: Vec<_> = self.acknowledged.difference(&has).collect();
                    assert!(
                        lost.is_empty(),
                        "master {n} of epoch {epoch} has lost {lost:?}"
                    );
                }
            }
            _ => {}
        }
        self.members[n].events.push(event);
    }

    fn transmit(&mut self, from: u16, to: u16, bytes: &Bytes) {
        self.frames += 1;
        self.bytes += bytes.len() as u64;
        let faults = self.setup.faults;
        if self.cut.contains(&(from, to)) || self.rng.chance(faults.drop) {
            return;
        }
        let copies = 1 + u64::from(self.rng.chance(faults.double));
        for _ in 0..copies {
            let (low, high) = faults.delay;
            let mut at = self.now + Duration::from_micros(low + self.rng.below(high - low + 1));
            if faults.reorder {
                if self.rng.chance(10) {
                    at += Duration::from_millis(self.rng.below(2_000));
                }
            } else {
                let last = self.last.entry((from, to)).or_default();
                at = at.max(*last);
                *last = at;
            }
            self.numbers += 1;
            self.flying.push(Reverse(Flying {
                at,
                number: self.numbers,
                from,
                to,
                bytes: bytes.clone(),
            }));
        }
    }

    /// Tells producers what has been replicated, and checks whoever claims it.
    fn acknowledge(&mut self, n: usize) {
        let Some(node) = &self.members[n].node else {
            return;
        };
        let (role, epoch) = (node.role(), node.epoch());
        if role != Role::Master {
            self.waiting.retain(|_, it| it.node != n);
            return;
        }
        let replicated = self.members[n].log.replicated();
        let done: Vec<(u64, Produced)> = (self.waiting.iter())
            .filter(|(_, it)| it.node == n && Some(it.epoch) == epoch && it.end <= replicated)
            .map(|(id, it)| (*id, *it))
            .collect();
        for (id, produced) in done {
            self.waiting.remove(&id);
            if !produced.replicated {
                continue;
            }
            let newer = self
                .promoted
                .range(produced.epoch + 1..)
                .map(|(_, it)| it.1)
                .min();
            assert!(
                newer.is_none_or(|promoted| produced.at <= promoted) || self.loss_accepted,
                "the stale master {n} of epoch {} has acknowledged message {id}, which is newer than another master",
                produced.epoch
            );
            let holders = (self.members.iter())
                .filter(|member| {
                    // One that acknowledged it may begin anew meanwhile with the log of a newer master, which has it.
                    let begins_anew = newer.is_some() && member.log.incomplete_until() > 0;
                    begins_anew || member.log.messages().contains(&id)
                })
                .count();
            assert!(
                holders + usize::from(self.replaced) > self.setup.min_insync
                    || self.setup.options.ack_policy == AckPolicy::Buffered,
                "message {id} was acknowledged and is on {holders} members"
            );
            self.note(format_args!(
                "{n}: message {id} up to {} is replicated",
                produced.end
            ));
            self.acknowledged.insert(id);
        }
    }

    /// With leases, at most one member takes appends at any moment.
    fn check_lease(&self) {
        if self.setup.options.fence_lease.is_none() || self.loss_accepted {
            return;
        }
        let accepting = (self.members.iter())
            .filter_map(|member| member.node.as_ref())
            .filter(|node| node.may_accept(self.now).is_ok())
            .count();
        assert!(
            accepting <= 1,
            "{accepting} members take appends, in spite of the lease"
        );
    }

    fn next_timeout(&self) -> Option<(Duration, usize)> {
        (0..self.members.len())
            .filter_map(|n| {
                let member = &self.members[n];
                let at = member.node.as_ref()?.poll_timeout()?;
                Some((at.max(member.stuck_until).max(self.now), n))
            })
            .min()
    }

    /// Lets virtual time go by.
    pub(crate) fn run_until(&mut self, until: Duration) {
        let mut steps_here = 0;
        loop {
            let frame = self
                .flying
                .peek()
                .map(|Reverse(frame)| frame.at.max(self.now));
            let timeout = self.next_timeout();
            let next = (frame.into_iter()).chain(timeout.map(|it| it.0)).min();
            let Some(next) = next.filter(|&at| at <= until) else {
                break;
            };
            steps_here = if next > self.now { 0 } else { steps_here + 1 };
            assert!(steps_here < 100_000, "time stands still at {:?}", self.now);
            self.now = next;
            if frame == Some(next) {
                let Reverse(frame) = self.flying.pop().unwrap();
                self.deliver(frame);
            } else if let Some((_, n)) = timeout {
                let now = self.now;
                self.node(n).handle_timeout(now);
                self.drive(n);
            }
            self.check_lease();
        }
        self.now = until;
        self.check_lease();
    }

    fn deliver(&mut self, frame: Flying) {
        let n = usize::from(frame.to);
        if self.cut.contains(&(frame.from, frame.to)) {
            return;
        }
        if self.members[n].stuck_until > self.now {
            let at = self.members[n].stuck_until;
            self.flying.push(Reverse(Flying { at, ..frame }));
            return;
        }
        let now = self.now;
        if let Some(node) = &mut self.members[n].node {
            node.handle(now, Peer(frame.from), &frame.bytes);
            self.drive(n);
        }
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        self.run_until(self.now + Duration::from_millis(ms));
    }

    pub(crate) fn events(&mut self, n: usize) -> Vec<Event> {
        std::mem::take(&mut self.members[n].events)
    }
}
