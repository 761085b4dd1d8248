//! What the test files share: a scheduler on simulated disks, with a clock that stands still, beside a sorted map that says what must be so.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod desk;
pub(crate) mod ledger;
mod model;
mod rng;

use std::sync::Arc;

pub(crate) use model::Model;
use qmq_sched::{Cancelled, DelayId, Fired, Message, Options, Scheduler};
use qmq_store::disk::{Disk, FileEntry, SimulatedDisk};
use qmq_store::{Background, Durability, ManualClock, Retention, RetentionHold, Store};
pub(crate) use rng::Rng;

/// Where the clocks of the tests start.
pub(crate) const NOON: u64 = 1_700_000_000_000;
pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const DAY: u64 = 24 * 60 * MINUTE;

/// Limits so small that each is reached.
pub(crate) fn small_options() -> Options {
    Options {
        segment_scale_minute: 1,
        stage_entries: 16,
        window_entries: 16,
        runs_max: 3,
        outstanding_max: 40,
        ..Options::default()
    }
}

/// A scheduler, what is under it, and what must be true of it.
pub(crate) struct World {
    pub(crate) log: SimulatedDisk,
    pub(crate) index: SimulatedDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) options: Options,
    /// The latest time that the clock has shown.
    pub(crate) latest: u64,
    /// `None` only between two opens.
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) model: Model,
    /// The model before each change that may not be durable yet.
    pub(crate) before: Vec<Model>,
    /// Whether `before` is kept; without it no power may be lost but after a sync.
    pub(crate) tracks: bool,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let mut world = Self {
            log: SimulatedDisk::new(),
            index: SimulatedDisk::new(),
            clock: Arc::new(ManualClock::at(NOON)),
            options,
            latest: NOON,
            scheduler: None,
            model: Model::default(),
            before: Vec::new(),
            tracks: true,
        };
        world.open();
        world
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        self.scheduler.as_ref().unwrap()
    }

    /// Sets the clock, forwards or back.
    pub(crate) fn set_clock(&mut self, now_ms: u64) {
        self.latest = self.latest.max(self.now());
        self.clock.set(now_ms);
    }

    pub(crate) fn now(&self) -> u64 {
        use qmq_store::Clock;
        self.clock.now_ms()
    }

    pub(crate) fn try_open(&self) -> Result<Scheduler, qmq_sched::Error> {
        let options = qmq_store::Options {
            background: Background::Manual,
            clock: Arc::clone(&self.clock) as Arc<_>,
            retention: Retention {
                max_bytes: Some(128 << 10),
                ..Retention::default()
            },
            retention_hold: Some(RetentionHold::default()),
            ..qmq_store::Options::with_segment_bytes(64 << 10)
        };
        let store = Store::open_on(Arc::new(self.log.clone()), options).unwrap();
        Scheduler::open(store, self.index.clone(), self.options.clone())
    }

    pub(crate) fn open(&mut self) {
        self.scheduler = Some(self.try_open().unwrap());
        self.model.reopened();
    }

    /// Closes the store in order and opens everything again.
    pub(crate) fn restart(&mut self) {
        let scheduler = self.scheduler.take().unwrap();
        let store = scheduler.store().clone();
        drop(scheduler);
        store.close().unwrap();
        self.before.clear();
        self.open();
        self.check();
    }

    /// The process dies: nothing that was answered is lost.
    pub(crate) fn kill(&mut self) {
        let left = (self.log.process_killed(), self.index.process_killed());
        self.scheduler = None;
        (self.log, self.index) = left;
        self.open();
        self.check();
    }

    /// The power goes: what was synced is there, and of the rest a beginning.
    pub(crate) fn lose_power(&mut self, seed: u64) {
        let left = (self.log.crash(seed), self.index.crash(seed ^ 0x5bd1));
        self.scheduler = None;
        (self.log, self.index) = left;
        let newest = self.model.clone();
        self.open();
        let mut candidates = std::mem::take(&mut self.before);
        candidates.push(newest.clone());
        let seen = self.seen();
        // Several beginnings may look the same: in one a message was cancelled that the other never had.
        let is_it = |model: &Model| model.seen() == seen && self.remembers(model);
        let found = candidates.into_iter().rev().find(is_it);
        self.model = found.unwrap_or_else(|| {
            let (pending, fired) = (seen.pending.len(), seen.fired.len());
            panic!(
                "what is left is no beginning of what was done: {pending} pending, {fired} fired"
            )
        });
        self.model.reopened();
        for lost in newest.known.difference(&self.model.known) {
            assert!(self.scheduler().get(*lost).unwrap().is_none());
            assert_eq!(
                self.scheduler().cancel(*lost).unwrap(),
                Cancelled::Unknown,
                "{lost} was lost"
            );
        }
    }

    /// Whether the scheduler answers for what a model has settled as the model does. Such answers change nothing.
    fn remembers(&self, model: &Model) -> bool {
        model.settled.keys().all(|&id| {
            let cancel = self.scheduler().cancel_with(id, Durability::Buffered);
            let expected = model.answer(id).expect("it is settled");
            self.fits(model, id, cancel.unwrap(), expected)
        })
    }

    /// Notes that a change is to come, and whether everything before it is durable once it is done.
    fn changing(&mut self, durability: Durability) {
        if durability == Durability::Buffered && self.tracks {
            self.before.push(self.model.clone());
        } else {
            self.before.clear();
        }
    }

    pub(crate) fn schedule(&mut self, due_ms: u64, body: &str, durability: Durability) -> DelayId {
        self.changing(durability);
        let subject = format!("s.{}", body.len() % 3);
        let message = Message::new(subject.clone(), body.to_owned()).tag("t");
        let id = self
            .scheduler()
            .schedule_with(due_ms, &message, durability)
            .unwrap();
        let scheduled = self.scheduler().get(id).unwrap().unwrap();
        assert_eq!(scheduled.message.unwrap(), message);
        let effective = scheduled.due_ms;
        assert!(effective >= due_ms, "early");
        assert!(effective == due_ms || effective <= self.now(), "late");
        self.model.schedule(id, effective, subject, body.to_owned());
        id
    }

    pub(crate) fn cancel(&mut self, id: DelayId, durability: Durability) {
        let before = self.tracks.then(|| self.model.clone());
        let answer = self.scheduler().cancel_with(id, durability).unwrap();
        let expected = self.model.cancel(id);
        assert!(
            self.fits(&self.model, id, answer, expected),
            "{id}: {answer:?}, not {expected:?}"
        );
        self.changed(before, answer, durability);
    }

    /// Files of the index whose names begin so, in order.
    pub(crate) fn files(&self, prefix: &str) -> Vec<FileEntry> {
        let mut files = self.index.list().unwrap();
        files.retain(|file| file.name.starts_with(prefix));
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    /// Flips a bit somewhere in the index, while it is open.
    pub(crate) fn damage_index(&mut self, rng: &mut Rng) {
        let files = self.index.list().unwrap();
        if let Some(file) = rng.pick(&files).filter(|file| file.len > 0) {
            let (at, bit) = (rng.below(file.len), rng.below(8) as u8);
            self.index.flip_bit(&file.name, at, bit).unwrap();
        }
    }

    /// Notes the model before a change whose answer has come.
    fn changed(&mut self, before: Option<Model>, answer: Cancelled, durability: Durability) {
        if durability == Durability::Synced && answer != Cancelled::Unknown {
            self.before.clear();
        } else {
            self.before.extend(before);
        }
    }

    /// What was settled may be forgotten, but not within three days of its time.
    fn fits(&self, model: &Model, id: DelayId, answer: Cancelled, expected: Cancelled) -> bool {
        let long_ago = |due_ms: &u64| due_ms + 3 * DAY < self.latest.max(self.now());
        let forgotten = model.settled.get(&id).is_some_and(long_ago);
        answer == expected || (answer == Cancelled::Unknown && forgotten)
    }

    pub(crate) fn reschedule(&mut self, id: DelayId, due_ms: u64, durability: Durability) {
        let before = self.tracks.then(|| self.model.clone());
        let answer = self
            .scheduler()
            .reschedule_with(id, due_ms, durability)
            .unwrap();
        let effective = self.scheduler().get(id).unwrap().map(|one| one.due_ms);
        let expected = self.model.reschedule(id, effective.unwrap_or(due_ms));
        assert!(
            self.fits(&self.model, id, answer, expected),
            "{id}: {answer:?}, not {expected:?}"
        );
        self.changed(before, answer, durability);
        if expected == Cancelled::Done && self.model.items.contains_key(&id) {
            assert!(effective.unwrap() >= due_ms);
        }
    }

    /// Takes what is due and compares it with what must be.
    pub(crate) fn due(&mut self, max: usize) -> Vec<Fired> {
        self.changing(Durability::Buffered);
        let now = self.now();
        let fired = self.scheduler().due(now, max).unwrap();
        let expected = self.model.due(now, max, self.options.outstanding_max);
        let got: Vec<_> = fired.iter().map(|one| (one.due_ms, one.id)).collect();
        let differing = got
            .iter()
            .zip(&expected)
            .position(|(got, expected)| got != expected);
        if let Some(at) = differing {
            panic!("{at}: {:?}, not {:?}", got[at], expected[at]);
        }
        assert_eq!(got.len(), expected.len());
        for one in &fired {
            assert!(one.due_ms <= now, "early");
            let message = one.message.as_ref().unwrap();
            let item = &self.model.items[&one.id];
            assert_eq!(message.subject(), item.subject);
            assert_eq!(&message.body()[..], item.body.as_bytes());
        }
        fired
    }

    pub(crate) fn dispatched(&mut self, ids: &[DelayId]) {
        self.changing(Durability::Buffered);
        let count = self.scheduler().dispatched(ids).unwrap();
        assert_eq!(count, self.model.dispatched(ids));
    }

    pub(crate) fn refused(&mut self, ids: &[DelayId]) {
        let now = self.now();
        self.scheduler().refused(now, ids);
        self.model.refused(now, ids);
    }

    /// What the scheduler says is pending, and what is handed out.
    fn seen(&self) -> model::Seen {
        let scheduler = self.scheduler();
        let mut seen = model::Seen::default();
        let mut after = None;
        loop {
            let page = scheduler.list(None, 0, u64::MAX, after, 7).unwrap();
            for one in page.messages {
                seen.pending.push((one.due_ms, one.id, one.subject));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for &id in &self.model.known {
            if let Some(one) = scheduler.get(id).unwrap()
                && one.standing == qmq_sched::Standing::Fired
            {
                seen.fired.insert(id, one.due_ms);
            }
        }
        seen
    }

    /// Compares everything that can be seen with the model.
    pub(crate) fn check(&self) {
        let (seen, expected) = (self.seen(), self.model.seen());
        let counts = |seen: &model::Seen| (seen.pending.len(), seen.fired.len());
        assert_eq!(counts(&seen), counts(&expected));
        assert!(seen == expected, "it shows others than it should");
        let totals = self.scheduler().totals();
        assert_eq!(totals.count, self.model.items.len() as u64);
        let bytes = self.model.items.values().map(|item| item.body.len() as u64);
        assert_eq!(totals.bytes, bytes.sum::<u64>());
        let dues = || self.model.items.values().map(|item| item.due_ms);
        assert!(totals.first_due_ms <= dues().min().unwrap_or(0));
        assert!(totals.last_due_ms >= dues().max().unwrap_or(0));
    }
}
