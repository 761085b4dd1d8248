//! The oracle: what was appended and done, each with the end of the log after it.
//!
//! The log is one sequence, so what a crash leaves is said by one number, the recovered end: everything that ended at or below it is there,
//! and nothing else. [`Model::cut`] forgets what lies beyond.

use std::collections::{BTreeMap, BTreeSet};

use qmq_store::Member;

/// A message as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) body: Vec<u8>,
    pub(crate) tags: Vec<String>,
    /// End of the log after it.
    pub(crate) end: u64,
}

/// Subject, group, and of a broadcast group the consumer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) subject: String,
    pub(crate) group: &'static str,
    pub(crate) part: String,
}

/// What a group was told.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Pull sequence and message sequence.
    Pulled(String, Vec<(u64, u64)>),
    Acked(String, Vec<u64>),
    Nacked(String, Vec<u64>),
    Gone(String),
    Reset(u64),
}

/// Where a group stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) cursor: u64,
    /// Consumer -> pull sequence -> message sequence.
    pub(crate) held: BTreeMap<String, BTreeMap<u64, u64>>,
    pub(crate) waiting: BTreeSet<u64>,
}

impl Progress {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Pulled(consumer, items) => {
                let held = self.held.entry(consumer.clone()).or_default();
                for &(pull, sequence) in items {
                    if !self.waiting.remove(&sequence) {
                        self.cursor = self.cursor.max(sequence + 1);
                    }
                    held.insert(pull, sequence);
                }
            }
            Step::Acked(consumer, pulls) => {
                let held = self.held.entry(consumer.clone()).or_default();
                held.retain(|pull, _| !pulls.contains(pull));
            }
            Step::Nacked(consumer, pulls) => {
                let held = self.held.entry(consumer.clone()).or_default();
                self.waiting
                    .extend(pulls.iter().filter_map(|pull| held.remove(pull)));
            }
            Step::Gone(consumer) => {
                let held = self.held.remove(consumer).unwrap_or_default();
                self.waiting.extend(held.into_values());
            }
            Step::Reset(cursor) => {
                *self = Self {
                    cursor: *cursor,
                    ..Self::default()
                }
            }
        }
    }

    /// Held by somebody, or waiting for somebody.
    pub(crate) fn unsettled(&self) -> BTreeSet<u64> {
        let held = self.held.values().flat_map(|held| held.values().copied());
        held.chain(self.waiting.iter().copied()).collect()
    }
}

/// A group: what it was told, and where that brought it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    steps: Vec<(u64, Step)>,
    pub(crate) now: Progress,
    /// Highest pull sequence that a consumer has ever seen, also in pulls that a crash took back.
    pub(crate) highest: BTreeMap<String, u64>,
}

impl Group {
    pub(crate) fn did(&mut self, end: u64, step: Step) {
        if let Step::Pulled(consumer, items) = &step {
            let highest = self.highest.entry(consumer.clone()).or_default();
            *highest = items.iter().map(|item| item.0).fold(*highest, u64::max);
        }
        self.now.apply(&step);
        self.steps.push((end, step));
    }
}

/// Messages, each with its subject, and what a group was to be told along with them.
pub(crate) type Attempt = (Vec<(String, Sent)>, Option<(Key, Step)>);

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// A retirement failed half-way: a crash may complete it.
    pub(crate) retirement_failed: bool,
    pub(crate) subjects: BTreeMap<String, Vec<Sent>>,
    pub(crate) groups: BTreeMap<Key, Group>,
    /// Highest synced end that the store has claimed: a loss of power takes nothing below.
    pub(crate) synced: u64,
    /// End of the last operation that was done while the disk had power: the death of the process takes nothing below.
    pub(crate) written: u64,
    /// Highest end that the store has had: nothing may come back from beyond.
    pub(crate) reached: u64,
    /// First sequence kept of each subject, where retention has moved it.
    pub(crate) floors: BTreeMap<String, u64>,
    /// A member as of the last incarnation, and one of its pull sequences.
    pub(crate) old_member: Option<(Member, u64)>,
    pub(crate) incarnation: u32,
    /// Notes, each with the end of the log after it.
    pub(crate) notes: Vec<(u64, String)>,
    /// Messages whose write failed, and what was to be settled along: they may be there all the same, as the last.
    pub(crate) attempt: Option<Attempt>,
}

impl Model {
    pub(crate) fn next(&self, subject: &str) -> u64 {
        self.subjects
            .get(subject)
            .map_or(0, |sent| sent.len() as u64)
    }

    pub(crate) fn floor(&self, subject: &str) -> u64 {
        self.floors.get(subject).copied().unwrap_or(0)
    }

    /// Whether a group is to get a message.
    pub(crate) fn wants(&self, key: &Key, sequence: u64) -> bool {
        let sent = &self.subjects[&key.subject][sequence as usize];
        key.group != "filtered" || sent.tags.iter().any(|tag| tag == "even")
    }

    /// All that a group is still to get.
    pub(crate) fn due(&self, key: &Key) -> BTreeSet<u64> {
        let progress = &self.groups[key].now;
        let floor = self.floor(&key.subject);
        let new = progress.cursor..self.next(&key.subject).max(progress.cursor);
        let new = new.filter(|sequence| self.wants(key, *sequence));
        let mut due: BTreeSet<u64> = new.chain(progress.unsettled()).collect();
        due.retain(|sequence| *sequence >= floor);
        due
    }

    /// The log was recovered up to `end`.
    pub(crate) fn cut(&mut self, end: u64) {
        for sent in self.subjects.values_mut() {
            sent.retain(|sent| sent.end <= end);
        }
        self.notes.retain(|(at, _)| *at <= end);
        for group in self.groups.values_mut() {
            group.steps.retain(|(at, _)| *at <= end);
            group.now = Progress::default();
            for (_, step) in &group.steps {
                group.now.apply(step);
            }
        }
        self.synced = end;
        self.written = end;
        self.reached = end;
    }
}
