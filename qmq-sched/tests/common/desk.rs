//! A scheduler on two simulated disks, for tests that say themselves what must be so.

use std::sync::Arc;

use qmq_sched::{DelayId, Error, Fired, Message, Options, Scheduler};
use qmq_store::disk::{Access, Disk, SimulatedDisk};
use qmq_store::{Background, Clock, ManualClock, OpenError, Retention, RetentionHold, Store};

use super::NOON;

pub(crate) struct Desk {
    pub(crate) log: SimulatedDisk,
    pub(crate) index: SimulatedDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) options: Options,
    pub(crate) segment_bytes: u64,
    pub(crate) retention: Retention,
}

impl Desk {
    pub(crate) fn new(options: Options) -> Self {
        Self::on(SimulatedDisk::new(), SimulatedDisk::new(), options)
    }

    pub(crate) fn on(log: SimulatedDisk, index: SimulatedDisk, options: Options) -> Self {
        Self {
            log,
            index,
            clock: Arc::new(ManualClock::at(NOON)),
            options,
            segment_bytes: 64 << 10,
            retention: Retention {
                max_age: None,
                ..Retention::default()
            },
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(crate) fn try_store(&self) -> Result<Store, OpenError> {
        let options = qmq_store::Options {
            background: Background::Manual,
            clock: Arc::clone(&self.clock) as Arc<_>,
            retention: self.retention,
            retention_hold: Some(RetentionHold::default()),
            ..qmq_store::Options::with_segment_bytes(self.segment_bytes)
        };
        Store::open_on(Arc::new(self.log.clone()), options)
    }

    pub(crate) fn try_open(&self) -> Result<Scheduler, Error> {
        let store = self.try_store().unwrap();
        Scheduler::open(store, self.index.clone(), self.options.clone())
    }

    pub(crate) fn open(&self) -> Scheduler {
        self.try_open().unwrap()
    }

    /// Closes the store in order, so that an open has no record of it to read.
    pub(crate) fn close(scheduler: Scheduler) {
        let store = scheduler.store().clone();
        drop(scheduler);
        store.close().unwrap();
    }

    /// What the death of the process leaves.
    pub(crate) fn killed(&self) -> Self {
        self.with(self.log.process_killed(), self.index.process_killed())
    }

    /// What a loss of power may leave.
    pub(crate) fn crashed(&self, seed: u64) -> Self {
        self.with(self.log.crash(seed), self.index.crash(seed ^ 0x5bd1))
    }

    /// The same, on other disks, with a clock that shows the same.
    pub(crate) fn with(&self, log: SimulatedDisk, index: SimulatedDisk) -> Self {
        Self {
            log,
            index,
            clock: Arc::new(ManualClock::at(self.now())),
            options: self.options.clone(),
            ..*self
        }
    }

    /// Flips a bit in the log wherever `bytes` stand.
    pub(crate) fn damage_log(&self, bytes: &[u8]) {
        let mut flipped = 0;
        for file in files(&self.log, "log-") {
            let content = content(&self.log, &file);
            for at in (0..content.len()).filter(|&at| content[at..].starts_with(bytes)) {
                self.log.flip_bit(&file, at as u64, 3).unwrap();
                flipped += 1;
            }
        }
        assert!(flipped > 0);
    }
}

/// Names of files that begin so, in order.
pub(crate) fn files(disk: &SimulatedDisk, prefix: &str) -> Vec<String> {
    let all = disk.list().unwrap().into_iter().map(|file| file.name);
    let mut names: Vec<_> = all.filter(|name| name.starts_with(prefix)).collect();
    names.sort_unstable();
    names
}

pub(crate) fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn message(body: impl Into<Vec<u8>>) -> Message {
    Message::new("s", body.into())
}

pub(crate) fn ids(fired: &[Fired]) -> Vec<DelayId> {
    fired.iter().map(|one| one.id).collect()
}

/// Bodies of messages that are whole.
pub(crate) fn bodies(fired: &[Fired]) -> Vec<String> {
    let body = |one: &Fired| one.message.as_ref().unwrap().body().to_vec();
    let bodies = fired.iter().map(body);
    bodies
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect()
}

/// Everything that is due, dispatched.
pub(crate) fn drain(scheduler: &Scheduler, now_ms: u64) -> Vec<Fired> {
    let mut all = Vec::new();
    loop {
        let fired = scheduler.due(now_ms, 1_000).unwrap();
        if fired.is_empty() {
            return all;
        }
        scheduler.dispatched(&ids(&fired)).unwrap();
        all.extend(fired);
    }
}

/// Lets retention take what it may: two checkpoints are kept, and what the older one needs, so there must be two newer ones.
pub(crate) fn retire(scheduler: &Scheduler) {
    for _ in 0..3 {
        let now_ms = scheduler.store().options().clock.now_ms();
        let id = scheduler.schedule(now_ms + 1, &message("passing")).unwrap();
        assert_eq!(scheduler.cancel(id).unwrap(), qmq_sched::Cancelled::Done);
        scheduler.checkpoint().unwrap();
        scheduler.store().maintain().unwrap();
    }
}
