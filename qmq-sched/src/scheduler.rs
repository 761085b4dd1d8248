//! The handle: scheduling, cancelling, rescheduling.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use parking_lot::Mutex;
use qmq_store::disk::Disk;
use qmq_store::{Background, Durability, Message, Store};

use crate::alarm::Alarm;
use crate::core::Core;

use crate::error::Error;
use crate::event::{self, Cancel, Event, Move};
use crate::id::DelayId;
use crate::keeper::{Bell, Keeper};
use crate::options::Options;
use crate::pace::Pace;
use crate::recovery::{self, OpenReport};

/// The answer to a cancel or a reschedule. It is exact at the durability of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a message that has fired already was not cancelled"]
pub enum Cancelled {
    /// Done, now or before: the message is not handed out (any more) at the time that it had.
    Done,
    /// Too late: [`Scheduler::due`] has handed it out.
    AlreadyFired,
    /// Only of a reschedule: it has been cancelled before, or dropped for being later than its time to live, and stays so.
    AlreadyCancelled,
    /// No such message: an id of another store, of a message that a loss of power took, or of one settled long ago.
    Unknown,
}

/// A scheduler on a store. A handle: clone it and share it among threads.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// Goes first: its thread has the state as well.
    _keeper: Option<Arc<Keeper>>,
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) store_id: u128,
    pub(crate) generation: u32,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) core: Mutex<Core>,
    /// Backups that go on.
    pub(crate) backups: AtomicUsize,
    /// Held by whoever writes runs and checkpoints.
    pub(crate) spilling: Mutex<()>,
    /// Number of the next run or file of bodies.
    pub(crate) next_run: AtomicU64,
    /// The newest checkpoint, and the one before it.
    pub(crate) checkpoints: Mutex<Vec<Checkpointed>>,
    pub(crate) pace: Mutex<Pace>,
    pub(crate) alarm: Alarm,
    /// Calls the thread that writes runs.
    pub(crate) bell: Bell,
    pub(crate) report: OpenReport,
    pub(crate) _lock: FolderLock,
}

/// What a checkpoint that is on disk needs besides its runs, which can be made anew.
#[derive(Clone, Debug)]
pub(crate) struct Checkpointed {
    /// Sequence that it is named after.
    pub(crate) next_sequence: u64,
    /// From which sequence on it needs the log.
    pub(crate) needed_from: u64,
    /// Files of bodies that it names.
    pub(crate) bodies: Vec<u64>,
}

/// Keeps other schedulers out of the folder of the index.
pub(crate) struct FolderLock {
    pub(crate) _held: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for FolderLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FolderLock")
    }
}

impl Scheduler {
    /// Opens the scheduler of a store, whose index lies on `disk`: a folder of its own.
    ///
    /// # Errors
    /// [`Error::Options`], [`Error::OtherScale`], [`Error::OtherStore`]; [`Error::Io`], also if another scheduler has the folder.
    pub fn open(store: Store, disk: impl Disk + 'static, options: Options) -> Result<Self, Error> {
        let inner = Arc::new(recovery::open(store, Arc::new(disk), options)?);
        let threads = inner.store.options().background == Background::Threads;
        let keeper = threads.then(|| Keeper::start(&inner)).transpose();
        let keeper = keeper.map_err(Error::io("starting a thread"))?;
        Ok(Self {
            _keeper: keeper.map(Arc::new),
            inner,
        })
    }

    /// What the open found.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// The store that it writes to.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Schedules a message, synced. `due_ms` is in ms since 1970 UTC; a time that is past fires at once.
    ///
    /// # Errors
    /// [`Error::TooFar`], [`Error::Message`], [`Error::TooManySubjects`], [`Error::BucketFull`]; [`Error::Store`], whose
    /// [`qmq_store::Error::Poisoned`] leaves open whether the message is scheduled.
    pub fn schedule(&self, due_ms: u64, message: &Message) -> Result<DelayId, Error> {
        self.schedule_with(due_ms, message, Durability::Synced)
    }

    /// As [`Self::schedule`], at another durability.
    ///
    /// # Errors
    /// As [`Self::schedule`].
    pub fn schedule_with(
        &self,
        due_ms: u64,
        message: &Message,
        durability: Durability,
    ) -> Result<DelayId, Error> {
        let (id, appended) = self.inner.schedule(due_ms, message)?;
        self.inner.spill_if_due();
        self.inner.wait(appended.end_offset, durability)?;
        Ok(id)
    }

    /// Schedules several messages: all of them survive a crash, or none.
    ///
    /// # Errors
    /// As [`Self::schedule`]; then none is scheduled.
    pub fn schedule_batch(
        &self,
        messages: &[(u64, Message)],
        durability: Durability,
    ) -> Result<Vec<DelayId>, Error> {
        let (ids, end_offset) = self.inner.schedule_batch(messages)?;
        self.inner.spill_if_due();
        self.inner.wait(end_offset, durability)?;
        Ok(ids)
    }

    /// Cancels a message, synced.
    ///
    /// # Errors
    /// [`Error::Store`], whose [`qmq_store::Error::Poisoned`] leaves open whether it is cancelled.
    pub fn cancel(&self, id: DelayId) -> Result<Cancelled, Error> {
        self.cancel_with(id, Durability::Synced)
    }

    /// As [`Self::cancel`], at another durability.
    ///
    /// # Errors
    /// As [`Self::cancel`].
    pub fn cancel_with(&self, id: DelayId, durability: Durability) -> Result<Cancelled, Error> {
        let (answer, appended) = self.inner.change(id, Cancelled::Done, |core, home| {
            let Some(entry) = core.entry_of(home)? else {
                return Ok(Err(Cancelled::Unknown));
            };
            let one = Cancel {
                home,
                sequence: entry.sequence,
                subject: entry.subject,
                body_len: entry.body_len,
            };
            Ok(Ok((event::cancelled(&one), Event::Cancelled(one))))
        })?;
        self.inner.spill_if_due();
        self.inner.settle(answer, appended, durability)?;
        Ok(answer)
    }

    /// Gives a pending message another due time, synced. Its id stays.
    ///
    /// # Errors
    /// [`Error::TooFar`], [`Error::TooManyRescheduled`], [`Error::BucketFull`]; [`Error::Store`], whose
    /// [`qmq_store::Error::Poisoned`] leaves open whether it is rescheduled.
    pub fn reschedule(&self, id: DelayId, due_ms: u64) -> Result<Cancelled, Error> {
        self.reschedule_with(id, due_ms, Durability::Synced)
    }

    /// As [`Self::reschedule`], at another durability.
    ///
    /// # Errors
    /// As [`Self::reschedule`].
    pub fn reschedule_with(
        &self,
        id: DelayId,
        due_ms: u64,
        durability: Durability,
    ) -> Result<Cancelled, Error> {
        let due_ms = self.inner.check_due(due_ms)?;
        let inner = &self.inner;
        let mut refused = None;
        let (answer, appended) = inner.change(id, Cancelled::AlreadyCancelled, |core, home| {
            let Some(entry) = core.entry_of(home)? else {
                return Ok(Err(Cancelled::Unknown));
            };
            let max = inner.options.rescheduled_max;
            if core.moved.len() >= max && !core.moved.contains_key(&home) {
                refused = Some(Error::TooManyRescheduled { max });
                return Ok(Err(Cancelled::Unknown));
            }
            let Some(to) = core.next_key(due_ms) else {
                refused = Some(Error::BucketFull {
                    due_ms,
                    max: u32::MAX,
                });
                return Ok(Err(Cancelled::Unknown));
            };
            let one = Move {
                home,
                from: entry.key,
                to,
                sequence: core.body_of(home, &entry),
                subject: entry.subject,
                body_len: entry.body_len,
                generation: inner.generation,
            };
            Ok(Ok((event::rescheduled(&one), Event::Rescheduled(one))))
        })?;
        if let Some(error) = refused {
            return Err(error);
        }
        inner.spill_if_due();
        inner.settle(answer, appended, durability)?;
        Ok(answer)
    }
}
