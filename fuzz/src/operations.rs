//! Sequences of operations on a store on the simulated disk, with restarts, deaths of the process and losses of power.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use qmq_store::disk::SimulatedDisk;
use qmq_store::{
    Background, Batch, Durability, ManualClock, Message, Options, PullRequest, ResetTo, Store,
};

use crate::Input;

const SUBJECTS: [&str; 2] = ["one", "two"];
const CONSUMERS: [&str; 2] = ["ann", "bob"];
const OPERATIONS_MAX: usize = 200;

/// What is known of a subject: its bodies in order, how many of them are safe, and how many each batch holds together.
#[derive(Default)]
struct Known {
    bodies: Vec<String>,
    synced: usize,
    /// Sequence of the first of a batch -> how many.
    batches: BTreeMap<usize, usize>,
}

struct World {
    disk: SimulatedDisk,
    options: Options,
    clock: Arc<ManualClock>,
    store: Store,
    known: [Known; 2],
    /// Sequences of subject "one" that a synced ack has settled for good.
    settled: BTreeSet<u64>,
    hands: Vec<Batch>,
    sent: u64,
}

/// Runs the operations that the bytes spell, and checks after every open that nothing synced is lost, nothing is changed, reordered or
/// doubled, batches are whole, and nothing that was settled durably comes again.
pub fn operations(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new();
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.reopen(1, 0);
    world.reopen(0, 0);
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let options = Options {
            background: Background::Manual,
            clock: Arc::clone(&clock) as Arc<_>,
            identity_seed: Some(3),
            ..Options::with_segment_bytes(64 << 10)
        };
        let disk = SimulatedDisk::new();
        let store = Store::open_on(Arc::new(disk.clone()), options.clone());
        Self {
            disk,
            options,
            clock,
            store: store.expect("an empty disk opens"),
            known: [Known::default(), Known::default()],
            settled: BTreeSet::new(),
            hands: Vec::new(),
            sent: 0,
        }
    }

    fn body(&mut self, len: u64) -> String {
        self.sent += 1;
        format!("{}{}", self.sent, ".".repeat(len as usize))
    }

    fn all_synced(&mut self) {
        for known in &mut self.known {
            known.synced = known.bodies.len();
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let level = if choice & 0x80 == 0 {
            Durability::Buffered
        } else {
            Durability::Synced
        };
        match choice & 0x0F {
            0..=3 => {
                let subject = usize::from(input.byte() & 1);
                let len = input.below(3_000);
                let body = self.body(len);
                let message = Message::new(SUBJECTS[subject], body.clone());
                let at = self.store.append_with(&message, level).expect("an append");
                assert_eq!(at.sequence, self.known[subject].bodies.len() as u64);
                self.known[subject].bodies.push(body);
            }
            4 => {
                let count = 1 + usize::from(input.byte() % 5);
                let bodies: Vec<String> = (0..count).map(|_| self.body(5)).collect();
                let batch: Vec<Message> = bodies
                    .iter()
                    .map(|body| Message::new(SUBJECTS[1], body.clone()))
                    .collect();
                self.store.append_batch(&batch, level).expect("a batch");
                let known = &mut self.known[1];
                known.batches.insert(known.bodies.len(), count);
                known.bodies.extend(bodies);
            }
            5 | 6 => {
                let consumer = CONSUMERS[usize::from(input.byte() & 1)];
                let request =
                    PullRequest::new("one", "g", consumer).max(1 + input.below(20) as usize);
                let batch = self.store.pull(&request).expect("a pull");
                for one in &batch {
                    let again = self.settled.contains(&one.sequence());
                    assert!(!again, "{} was settled", one.sequence());
                    let message = one.message().expect("a whole message");
                    let expected = &self.known[0].bodies[one.sequence() as usize];
                    assert_eq!(message.body(), expected.as_bytes());
                }
                self.hands.push(batch);
                return;
            }
            7 | 8 => self.settle(input, level),
            9 => {
                let consumer = CONSUMERS[usize::from(input.byte() & 1)];
                let _ = self.store.consumer_gone("one", "g", consumer);
            }
            10 => self.clock.advance(input.below(60_000)),
            11 => self.store.maintain().expect("housekeeping"),
            12 => self.store.checkpoint().expect("a checkpoint"),
            13 => {
                let to = input.below(self.known[0].bodies.len() as u64 + 2);
                if self.store.reset("one", "g", ResetTo::Sequence(to)).is_ok() {
                    self.settled.clear();
                    self.store.sync().expect("a sync");
                    self.all_synced();
                }
            }
            _ => {
                let (kind, seed) = (input.byte() % 3, input.below(1 << 20));
                self.reopen(kind, seed);
                return;
            }
        }
        if level == Durability::Synced && choice & 0x0F <= 4 {
            self.all_synced();
        }
    }

    fn settle(&mut self, input: &mut Input<'_>, level: Durability) {
        let Some(at) = usize::from(input.byte()).checked_rem(self.hands.len()) else {
            return;
        };
        let batch = self.hands.swap_remove(at);
        if input.byte() & 3 == 0 {
            let delay = Duration::from_millis(input.below(10_000));
            let all = [0..=u64::MAX];
            let _ = self.store.nack(batch.member(), &all, delay, level);
            return;
        }
        let Ok(outcome) = self.store.ack_with(&batch, level) else {
            return;
        };
        // All of it was settled by this, so none of it comes again; unless a loss of power takes the ack back.
        if outcome.acked == batch.len() as u64 && outcome.acked > 0 && level == Durability::Synced {
            self.settled.extend(batch.iter().map(|one| one.sequence()));
            self.all_synced();
        }
    }

    /// 0: in order, 1: the process dies, 2: the power goes.
    fn reopen(&mut self, kind: u8, seed: u64) {
        self.hands.clear();
        let store = self.store.clone();
        match kind {
            0 => {
                let empty = Store::open_on(Arc::new(SimulatedDisk::new()), self.options.clone());
                self.store = empty.expect("an empty disk opens");
                store.close().expect("a close");
                self.all_synced();
            }
            1 => self.disk = self.disk.process_killed(),
            _ => self.disk = self.disk.crash(seed),
        }
        let opened = Store::open_on(Arc::new(self.disk.clone()), self.options.clone());
        self.store = opened.expect("what was left opens");
        let report = self.store.open_report();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        assert!(kind != 0 || report.clean);
        for (subject, known) in SUBJECTS.iter().zip(&mut self.known) {
            let bodies: Vec<String> = self.store.read(subject, 0, usize::MAX).map_or_else(
                |_| Vec::new(),
                |all| {
                    let body = |one: qmq_store::Delivered<'_>| {
                        let message = one.message().expect("a whole message");
                        String::from_utf8_lossy(message.body()).into_owned()
                    };
                    all.iter().map(body).collect()
                },
            );
            let least = if kind == 2 {
                known.synced
            } else {
                known.bodies.len()
            };
            assert!(bodies.len() >= least, "{} of {least}", bodies.len());
            assert_eq!(bodies[..], known.bodies[..bodies.len()]);
            for (first, count) in &known.batches {
                let kept = bodies.len().saturating_sub(*first);
                assert!(kept == 0 || kept >= *count, "{kept} of a batch of {count}");
            }
            known.bodies.truncate(bodies.len());
            known.batches.retain(|first, _| *first < bodies.len());
            // An open makes durable what it found.
            known.synced = bodies.len();
        }
    }
}
