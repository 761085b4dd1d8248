//! How a call becomes a record: it is decided under the lock, appended, and applied.

use std::collections::HashMap;

use qmq_store::{Appended, Durability, Message};

use crate::bucket::State;
use crate::core::Core;
use crate::entry::{Entry, Key, Origin};
use crate::error::Error;
use crate::event::{self, Event, Move};
use crate::id::{DelayId, Parts, is_generation};
use crate::run::DamagedRun;
use crate::scheduler::{Cancelled, Inner};

/// What a change writes and does, or why it does nothing.
pub(crate) type Change = Result<(Message, Event<'static>), Cancelled>;

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
    pub(crate) fn check_due(&self, due_ms: u64) -> Result<u64, Error> {
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

    pub(crate) fn schedule(
        &self,
        due_ms: u64,
        message: &Message,
    ) -> Result<(DelayId, Appended), Error> {
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

    pub(crate) fn schedule_batch(
        &self,
        messages: &[(u64, Message)],
    ) -> Result<(Vec<DelayId>, u64), Error> {
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
            if core.subjects.number(message.subject()) != Some(number) {
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
        let is_taken = |number: u32| new.values().any(|&other| other == number);
        let known = core.subjects.number(subject);
        let known = known.filter(|&number| !is_taken(number));
        if let Some(number) = new.get(subject).copied().or(known) {
            return Ok((key, number));
        }
        let max = self.options.subjects_max;
        let number = core.subjects.number_for_new(max, is_taken);
        Ok((key, number.ok_or(Error::TooManySubjects { max })?))
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
    pub(crate) fn change(
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
    pub(crate) fn settle(
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
