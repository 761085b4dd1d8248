//! The handle: scheduling, cancelling, rescheduling.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use parking_lot::Mutex;
use qmq_store::disk::Disk;
use qmq_store::{Appended, Background, Durability, Message, Store};

use crate::alarm::Alarm;
use crate::bucket::State;
use crate::core::Core;
use crate::dispatch::Pace;
use crate::entry::{Entry, Key, Origin};
use crate::error::Error;
use crate::event::{self, Cancel, Event, Move};
use crate::id::{DelayId, Parts, is_generation};
use crate::keeper::{Bell, Keeper};
use crate::options::Options;
use crate::recovery::{self, OpenReport};
use crate::run::DamagedRun;

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

/// What a change writes and does, or why it does nothing.
type Change = Result<(Message, Event<'static>), Cancelled>;

impl Inner {
    pub(crate) fn id_of(&self, home: Key, generation: u32) -> DelayId {
        let key = home;
        let bucket_ms = self.options.bucket_ms();
        DelayId::new(self.store_id, bucket_ms, Parts { key, generation })
    }

    /// Where the message of an id was scheduled, if it is one of this store's and of a message that is known.
    pub(crate) fn home_of(&self, core: &Core, id: DelayId) -> Option<(Key, State)> {
        let parts = id.parts(self.store_id, self.options.bucket_ms())?;
        let state = core.state_of(parts.key, |generation| {
            is_generation(parts.generation, generation)
        })?;
        Some((parts.key, state))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.store.options().clock.now_ms()
    }

    /// The due time to go by, or why it is refused.
    fn check_due(&self, due_ms: u64) -> Result<u64, Error> {
        let now_ms = self.now_ms();
        let max_delay_ms = u64::try_from(self.options.max_delay.as_millis()).unwrap_or(u64::MAX);
        if due_ms > now_ms.saturating_add(max_delay_ms) {
            return Err(Error::TooFar {
                due_ms,
                now_ms,
                max_delay_ms,
            });
        }
        if due_ms >= now_ms {
            return Ok(due_ms);
        }
        // Past: it is not sorted among what fell due while nobody was there.
        Ok(due_ms.max(self.report.opened_ms.min(now_ms)))
    }

    fn check(message: &Message) -> Result<(), Error> {
        qmq_store::message::check_subject(message.subject()).map_err(Error::message)?;
        message.check().map_err(Error::message)
    }

    fn schedule(&self, due_ms: u64, message: &Message) -> Result<(DelayId, Appended), Error> {
        Self::check(message)?;
        let due_ms = self.check_due(due_ms)?;
        let mut core = self.core_with_room()?;
        let (key, number) = self.place_for(&core, due_ms, message, 0, &HashMap::new())?;
        let record = event::scheduled(message, number, key, self.generation);
        let appended = self.store.append_with(&record, Durability::Buffered)?;
        self.took(
            &mut core,
            appended.sequence,
            &self.scheduled(key, number, message),
        )?;
        drop(core);
        Ok((self.id_of(key, self.generation), appended))
    }

    fn schedule_batch(&self, messages: &[(u64, Message)]) -> Result<(Vec<DelayId>, u64), Error> {
        let mut dues = Vec::with_capacity(messages.len());
        for (due_ms, message) in messages {
            Self::check(message)?;
            dues.push(self.check_due(*due_ms)?);
        }
        if messages.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let mut core = self.core_with_room()?;
        let mut slots = HashMap::<u32, u32>::new();
        let mut names = HashMap::new();
        let (mut records, mut places) = (Vec::new(), Vec::new());
        for (&due_ms, (_, message)) in dues.iter().zip(messages) {
            let taken = slots.entry(core.bucket_of(due_ms)).or_default();
            let (key, number) = self.place_for(&core, due_ms, message, *taken, &names)?;
            *taken += 1;
            if number as usize >= core.subjects.len() {
                names.insert(message.subject(), number);
            }
            records.push(event::scheduled(message, number, key, self.generation));
            places.push((key, number));
        }
        let appended = self.store.append_batch(&records, Durability::Buffered)?;
        for (number, ((_, message), &(key, subject))) in (0_u64..).zip(messages.iter().zip(&places))
        {
            let sequence = appended.sequences[number as usize];
            self.took(&mut core, sequence, &self.scheduled(key, subject, message))?;
        }
        drop(core);
        let ids = places
            .iter()
            .map(|&(key, _)| self.id_of(key, self.generation))
            .collect();
        Ok((ids, appended.end_offset))
    }

    /// Where a message goes, and the number of its subject; `taken` slots and the `new` subjects of this batch come before it.
    fn place_for(
        &self,
        core: &Core,
        due_ms: u64,
        message: &Message,
        taken: u32,
        new: &HashMap<&str, u32>,
    ) -> Result<(Key, u32), Error> {
        let full = || Error::BucketFull {
            due_ms,
            max: u32::MAX,
        };
        let mut key = core.next_key(due_ms).ok_or_else(full)?;
        key.slot = key.slot.checked_add(taken).ok_or_else(full)?;
        let subject = message.subject();
        let known = core.subjects.number(subject);
        if let Some(number) = known.or_else(|| new.get(subject).copied()) {
            return Ok((key, number));
        }
        let max = self.options.subjects_max;
        let number = (core.subjects.len() + new.len()) as u32;
        if number as usize >= max {
            return Err(Error::TooManySubjects { max });
        }
        Ok((key, number))
    }

    fn scheduled<'a>(&self, key: Key, number: u32, message: &'a Message) -> Event<'a> {
        Event::Scheduled {
            key,
            generation: self.generation,
            number,
            subject: message.subject(),
            body_len: message.body().len() as u32,
        }
    }

    /// Takes a record that is in the log now.
    pub(crate) fn took(
        &self,
        core: &mut Core,
        sequence: u64,
        event: &Event<'_>,
    ) -> Result<(), Error> {
        if sequence != core.next_sequence {
            let expected = core.next_sequence;
            return Err(Error::ForeignRecord { expected, sequence });
        }
        core.apply(event);
        if let Event::Scheduled { key, .. } | Event::Rescheduled(Move { to: key, .. }) = event {
            self.alarm.scheduled(key.due_ms);
        }
        Ok(())
    }

    /// Changes a pending message: `decide` makes the record, under the lock. `if_gone` is the answer for one that was cancelled before.
    fn change(
        &self,
        id: DelayId,
        if_gone: Cancelled,
        mut decide: impl FnMut(&Core, Key) -> Result<Change, DamagedRun>,
    ) -> Result<(Cancelled, Option<Appended>), Error> {
        let mut core = self.core_with_room()?;
        let home = match self.home_of(&core, id) {
            None => return Ok((Cancelled::Unknown, None)),
            Some((_, State::Gone)) => return Ok((if_gone, None)),
            Some((_, State::HandedOut | State::Dispatched)) => {
                return Ok((Cancelled::AlreadyFired, None));
            }
            Some((home, State::Pending)) => home,
        };
        let decided = self.healing(&mut core, |core| decide(core, home))?;
        let (record, event) = match decided {
            Ok(change) => change,
            Err(answer) => return Ok((answer, None)),
        };
        let appended = self.store.append_with(&record, Durability::Buffered)?;
        self.took(&mut core, appended.sequence, &event)?;
        Ok((Cancelled::Done, Some(appended)))
    }

    /// Where the message of a pending entry was scheduled first.
    pub(crate) fn home_of_entry(&self, core: &Core, entry: &Entry) -> Key {
        match entry.origin {
            Origin::Scheduled => entry.key,
            Origin::Rescheduled => self
                .moved_record(core, entry)
                .or_else(|| core.home_of_moved(entry.key))
                .unwrap_or(entry.key),
        }
    }

    /// Where the message of a rescheduled entry was scheduled first, as the record says that put it where it is.
    fn moved_record(&self, core: &Core, entry: &Entry) -> Option<Key> {
        let moved = self.bodies_with(core, entry.sequence);
        let record = self.record(moved.as_deref(), entry.sequence).ok()?;
        match Event::decode(record.body())? {
            Event::Rescheduled(one) if one.to == entry.key => Some(one.home),
            _ => None,
        }
    }

    /// Waits until an answer is durable. One that follows from what was done before is when that is.
    fn settle(
        &self,
        answer: Cancelled,
        appended: Option<Appended>,
        durability: Durability,
    ) -> Result<(), Error> {
        match appended {
            Some(appended) => self.wait(appended.end_offset, durability),
            None if answer == Cancelled::Unknown => Ok(()),
            None => self.wait(self.store.watermarks().written, durability),
        }
    }

    pub(crate) fn wait(&self, end_offset: u64, durability: Durability) -> Result<(), Error> {
        match durability {
            Durability::Buffered => Ok(()),
            _ => Ok(self.store.wait(end_offset, durability)?),
        }
    }
}
