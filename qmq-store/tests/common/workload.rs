//! Random work on a store, told to the oracle step by step, and checked while it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use qmq_store::disk::SimulatedDisk;
use qmq_store::message::Attributes;
use qmq_store::{
    Appended, AppendedBatch, Batch, Delivered, Durability, Error, ManualClock, Message, Options,
    PullRequest, Store, Submission, TagFilter, VisibleAt,
};

use super::model::{Key, Model, Sent, Step};
use super::rng::Rng;

pub(crate) const SUBJECTS: [&str; 5] = ["order.changed", "pay", "a", "b", "the.last"];
const GROUPS: [&str; 3] = ["shared", "filtered", "broadcast"];
const CONSUMERS: [&str; 3] = ["one", "two", "three"];

/// A store at work, and what the oracle knows of it.
pub(crate) struct Session {
    pub(crate) disk: SimulatedDisk,
    pub(crate) store: Store,
    pub(crate) model: Model,
    pub(crate) clock: Arc<ManualClock>,
    /// Operations after which the disk loses its power.
    pub(crate) power_off_after: u64,
    /// Ranges pulled and not settled, newest last.
    pub(super) batches: Vec<(Key, Batch)>,
    /// Consumers that have pulled since the open: they are not given again what they hold.
    seen: BTreeSet<(Key, String)>,
    given_again: BTreeMap<(Key, String), BTreeSet<u64>>,
    retention: bool,
    /// The test makes operations fail.
    pub(crate) faulty: bool,
}

pub(crate) fn request(key: &Key, consumer: &str) -> PullRequest {
    let request = PullRequest::new(&key.subject, key.group, consumer);
    match key.group {
        "filtered" => request.filter(TagFilter::Any(vec!["even".into()])),
        "broadcast" => request.broadcast(true),
        _ => request,
    }
}

/// Asserts that a message came back as it was appended.
pub(crate) fn check_message(model: &Model, subject: &str, one: &Delivered<'_>) {
    let sequence = one.sequence();
    let view = one
        .message()
        .unwrap_or_else(|damaged| panic!("{subject} {sequence}: {damaged}"));
    let sent = model
        .subjects
        .get(subject)
        .and_then(|sent| sent.get(sequence as usize));
    let sent = sent.unwrap_or_else(|| panic!("{subject} {sequence} was never appended, or cut"));
    assert!(
        view.body() == sent.body,
        "{subject} {sequence}: another body"
    );
    assert_eq!(
        view.tags().collect::<Vec<_>>(),
        sent.tags,
        "{subject} {sequence}: other tags"
    );
    assert_eq!(view.sequence(), sequence);
    assert_eq!(view.subject(), subject);
}

impl Session {
    pub(crate) fn new(
        disk: SimulatedDisk,
        options: &Options,
        clock: Arc<ManualClock>,
        model: Model,
    ) -> Self {
        let store = super::open(&disk, options).expect("the store opens");
        Self {
            disk,
            store,
            model,
            clock,
            power_off_after: u64::MAX,
            batches: Vec::new(),
            seen: BTreeSet::new(),
            given_again: BTreeMap::new(),
            retention: options.retention.max_bytes.is_some(),
            faulty: false,
        }
    }

    /// One operation that the seed chooses. Errors are for [`Session::run`] to judge.
    fn act(&mut self, rng: &mut Rng) -> Result<(), Error> {
        self.clock.advance(rng.below(20));
        match rng.below(100) {
            0..=38 => {
                let durability = durability(rng);
                self.append(rng, durability)
            }
            39..=46 => self.append_batch(rng),
            47..=66 => self.pull(rng),
            67..=79 => self.settle(rng, false),
            80..=84 => self.settle(rng, true),
            85..=87 => self.gone(rng),
            88..=90 => self.copy_and_ack(rng),
            91 => self.reset(rng),
            92..=95 => {
                let outcome = self.store.maintain();
                if self.retention {
                    self.note_floors();
                    // Its checkpoint may be durable all the same.
                    self.model.retirement_failed |= outcome.is_err();
                }
                outcome
            }
            96..=97 => self.store.checkpoint(),
            _ => self.store.sync(),
        }
    }

    /// Does `count` operations; those that fail must have left no claim behind.
    pub(crate) fn run(&mut self, rng: &mut Rng, count: u64) {
        for _ in 0..count {
            let outcome = self.act(rng);
            if let Err(error) = &outcome {
                let off = self.disk.operations() >= self.power_off_after;
                let expected = off || self.faulty;
                assert!(expected, "an operation failed on a healthy disk: {error}");
            }
            self.note();
        }
    }

    /// Takes over what the store claims by now.
    pub(crate) fn note(&mut self) {
        let marks = self.store.watermarks();
        self.model.synced = self.model.synced.max(marks.synced);
        self.model.reached = self.model.reached.max(marks.written);
        if self.disk.operations() < self.power_off_after {
            self.model.written = self.model.written.max(marks.written);
        }
    }

    fn message(&self, rng: &mut Rng, subject: &str, ahead: u64) -> (Message, Vec<u8>, Vec<String>) {
        let sequence = self.model.next(subject) + ahead;
        let mut body = format!("{subject} {sequence} {:x} ", rng.next()).into_bytes();
        let padding = match rng.below(20) {
            0 => rng.below(12 << 10),
            1..=5 => rng.below(1500),
            _ => rng.below(100),
        };
        // Zeros at the end of a body are what a torn write looks like.
        let fill = if rng.chance(30) { 0 } else { rng.next() as u8 };
        body.resize(body.len() + padding as usize, fill);
        let tags: Vec<String> = match rng.below(3) {
            0 => vec!["even".into()],
            1 => vec!["odd".into(), "even".into()],
            _ => Vec::new(),
        };
        let message = Message::new(subject, body.clone());
        let message = tags
            .iter()
            .fold(message, |message, tag| message.tag(tag.as_str()));
        (message, body, tags)
    }

    /// Enters a message whose record the log has taken, up to `end`.
    pub(super) fn sent(&mut self, subject: &str, body: Vec<u8>, tags: Vec<String>, end: u64) {
        let sent = self.model.subjects.entry(subject.to_owned()).or_default();
        sent.push(Sent { body, tags, end });
    }

    pub(crate) fn append(&mut self, rng: &mut Rng, durability: Durability) -> Result<(), Error> {
        let subject = *rng.pick(&SUBJECTS);
        let (message, body, tags) = self.message(rng, subject, 0);
        let before = self.store.watermarks().written;
        let note = self.note_of(&[subject]);
        let outcome = match &note {
            None => self.store.append_with(&message, durability),
            Some(note) => self
                .submit(&[message], note, durability)
                .map(|batch| Appended {
                    sequence: batch.sequences[0],
                    offset: before,
                    end_offset: batch.end_offset,
                }),
        };
        let after = self.store.watermarks();
        if let Ok(at) = &outcome {
            assert_eq!(
                at.sequence,
                self.model.next(subject),
                "{subject}: a hole, or a number twice"
            );
            assert_eq!(at.end_offset, after.written);
            assert!(durability == Durability::Buffered || after.synced >= at.end_offset);
        }
        if after.written > before {
            self.sent(subject, body, tags, after.written);
            self.noted(note, after.written);
        } else if outcome.is_err() && self.faulty && self.model.attempt.is_none() {
            let end = after.written;
            let sent = Sent { body, tags, end };
            self.model.attempt = Some((vec![(subject.to_owned(), sent)], None));
        }
        outcome.map(drop)
    }

    fn append_batch(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let mut ahead = BTreeMap::new();
        let mut messages = Vec::new();
        for _ in 0..1 + rng.below(8) {
            let subject = *rng.pick(&SUBJECTS);
            let count = ahead.entry(subject).or_insert(0);
            let message = self.message(rng, subject, *count);
            *count += 1;
            messages.push((subject, message));
        }
        let bytes: usize = messages
            .iter()
            .map(|(_, (_, body, _))| body.len() + 200)
            .sum();
        if bytes > 30 << 10 {
            return Ok(());
        }
        let whole: Vec<Message> = messages
            .iter()
            .map(|(_, (message, ..))| message.clone())
            .collect();
        let before = self.store.watermarks().written;
        let durability = durability(rng);
        let subjects: Vec<&str> = messages.iter().map(|(subject, _)| *subject).collect();
        let note = self.note_of(&subjects);
        let outcome = match &note {
            None => self.store.append_batch(&whole, durability),
            Some(note) => self.submit(&whole, note, durability),
        };
        let after = self.store.watermarks();
        if after.written > before {
            self.noted(note, after.written);
        }
        let mut expected = Vec::new();
        let mut tried = Vec::new();
        for (subject, (_, body, tags)) in messages {
            if after.written > before {
                expected.push(self.model.next(subject));
                self.sent(subject, body, tags, after.written);
            } else {
                let end = after.written;
                tried.push((subject.to_owned(), Sent { body, tags, end }));
            }
        }
        if self.faulty && outcome.is_err() && !tried.is_empty() {
            self.model.attempt.get_or_insert((tried, None));
        }
        if let Ok(batch) = &outcome {
            assert_eq!(batch.sequences, expected);
        }
        outcome.map(drop)
    }

    /// Of two submissions in three a note, which says what they are: the subject and the sequence of each message. It has any length modulo 8.
    fn note_of(&self, subjects: &[&str]) -> Option<String> {
        let sequence = self.model.next(subjects[0]);
        if self.faulty || sequence.is_multiple_of(3) {
            return None;
        }
        let mut next = BTreeMap::new();
        let named = subjects.iter().map(|subject| {
            let next = next
                .entry(*subject)
                .or_insert_with(|| self.model.next(subject));
            *next += 1;
            format!("{subject} {}", *next - 1)
        });
        Some(named.collect::<Vec<_>>().join(","))
    }

    fn noted(&mut self, note: Option<String>, end: u64) {
        self.model.notes.extend(note.map(|note| (end, note)));
    }

    fn submit(
        &self,
        messages: &[Message],
        note: &str,
        durability: Durability,
    ) -> Result<AppendedBatch, Error> {
        let attributes: Vec<Vec<u8>> = messages
            .iter()
            .map(|message| {
                let mut encoded = Vec::new();
                Attributes::encode(message, &mut encoded).expect("good attributes");
                encoded
            })
            .collect();
        let submissions: Vec<Submission<'_>> = messages
            .iter()
            .zip(&attributes)
            .map(|(message, attributes)| Submission {
                subject: message.subject(),
                attributes,
                body: std::slice::from_ref(message.body()),
            })
            .collect();
        let batch = self
            .store
            .submit_noted(&submissions, note.as_bytes(), durability)?;
        self.store.wait(batch.end_offset, durability)?;
        Ok(batch)
    }

    pub(super) fn key(rng: &mut Rng) -> (Key, &'static str) {
        let (group, consumer) = (*rng.pick(&GROUPS), *rng.pick(&CONSUMERS));
        let key = Key {
            subject: (*rng.pick(&SUBJECTS)).to_owned(),
            group,
            part: if group == "broadcast" { consumer } else { "" }.to_owned(),
        };
        (key, consumer)
    }

    fn pull(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let (key, consumer) = Self::key(rng);
        let request = request(&key, consumer).max(1 + rng.below(30) as usize);
        let batch = self.store.pull(&request)?;
        self.model.groups.entry(key.clone()).or_default();
        let end = self.store.watermarks().written;
        self.pulled(&key, consumer, &batch, end);
        if !batch.is_empty() {
            self.batches.push((key, batch));
            if self.batches.len() > 40 {
                self.batches.remove(0);
            }
        }
        Ok(())
    }

    /// Checks what a pull has handed out against what the group was to get, and enters it.
    fn pulled(&mut self, key: &Key, consumer: &str, batch: &Batch, end: u64) {
        let items: Vec<(u64, u64)> = batch
            .iter()
            .map(|one| (one.pull_sequence(), one.sequence()))
            .collect();
        for one in batch {
            check_message(&self.model, &key.subject, &one);
        }
        let who = (key.clone(), consumer.to_owned());
        let floor = self.model.floor(&key.subject);
        let group = &self.model.groups[key];
        let held = group.now.held.get(consumer).cloned().unwrap_or_default();
        let given = self.given_again.entry(who.clone()).or_default();
        let first_time = !self.seen.contains(&who);
        if items
            .first()
            .is_some_and(|(pull, _)| held.contains_key(pull))
        {
            for (pull, sequence) in &items {
                assert!(
                    first_time && given.insert(*pull),
                    "{who:?}: {pull} given twice"
                );
                assert_eq!(
                    held.get(pull),
                    Some(sequence),
                    "{who:?}: {pull} is another message"
                );
            }
            return;
        }
        let forgotten = held
            .iter()
            .find(|(pull, at)| **at >= floor && !given.contains(pull));
        assert!(
            !first_time || forgotten.is_none(),
            "{who:?}: {forgotten:?} not given again"
        );
        self.seen.insert(who);
        if let (Some(first), Some(highest)) = (items.first(), group.highest.get(consumer)) {
            assert!(
                first.0 > *highest,
                "{key:?} {consumer}: pull sequences went back"
            );
        }
        let due = self.model.due(key);
        let got: Vec<u64> = items.iter().map(|item| item.1).collect();
        let new: Vec<u64> = got
            .iter()
            .copied()
            .filter(|one| *one >= group.now.cursor)
            .collect();
        let again = got.iter().filter(|sequence| **sequence < group.now.cursor);
        assert!(
            again
                .clone()
                .all(|sequence| group.now.waiting.contains(sequence)),
            "{key:?} {got:?}"
        );
        let next = due.range(group.now.cursor..).take(new.len()).copied();
        assert_eq!(next.collect::<Vec<_>>(), new, "{key:?}: some skipped");
        if !items.is_empty() {
            let step = Step::Pulled(consumer.to_owned(), items);
            self.model
                .groups
                .entry(key.clone())
                .or_default()
                .did(end, step);
        }
    }

    /// Where retention has brought each subject, as far as the running store knows.
    pub(crate) fn note_floors(&mut self) {
        for (subject, sent) in &self.model.subjects {
            let next = sent.len() as u64;
            let first = match self.store.read(subject, 0, 1) {
                Ok(records) => records.iter().next().map_or(next, |one| one.sequence()),
                Err(_) => continue,
            };
            self.model.floors.insert(subject.clone(), first);
        }
    }

    /// Remembers somebody who holds messages, for after the next open.
    pub(crate) fn note_member(&mut self) {
        let newest = self.batches.last();
        self.model.old_member = newest.and_then(|(_, batch)| {
            Some((batch.member().clone(), batch.iter().next()?.pull_sequence()))
        });
        self.model.incarnation = self.store.open_report().incarnation;
    }
}

pub(super) fn durability(rng: &mut Rng) -> Durability {
    *rng.pick(&[
        Durability::Buffered,
        Durability::Buffered,
        Durability::Synced,
    ])
}

/// Options for the run of a seed.
pub(crate) fn options_of(rng: &mut Rng) -> (Options, Arc<ManualClock>) {
    let (mut options, clock) = super::small_options();
    let retention = rng.chance(30);
    if retention {
        options.retention.max_bytes = Some((1 + rng.below(3)) * super::SEGMENT_BYTES);
    } else if rng.chance(30) {
        options.visible_at = VisibleAt::Synced;
    }
    if rng.chance(30) {
        options.mapped_files_max = 16;
    }
    (options, clock)
}
