//! Handing out what is due, and what becomes of it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use qmq_store::{Damaged, Durability, Message};

use crate::bodies::Bodies;
use crate::bucket::State;
use crate::core::{Again, Core};
use crate::entry::{ENTRY_LEN, Entry, Key};
use crate::error::Error;
use crate::event::{self, Event, KEY_LEN};
use crate::id::DelayId;
use crate::outlive::lost;
use crate::rebuild;
use crate::run::DamagedRun;
use crate::scheduler::{Inner, Scheduler};

/// Back-off after the first refusal; it doubles with each, up to [`BACK_OFF_MAX_MS`].
const BACK_OFF_MS: u64 = 1_000;
const BACK_OFF_MAX_MS: u64 = 60_000;

/// A message whose time has come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fired {
    /// Its name, for [`Scheduler::dispatched`] or [`Scheduler::refused`].
    pub id: DelayId,
    /// When it was due, in ms since 1970 UTC.
    pub due_ms: u64,
    /// How often it was refused before.
    pub refusals: u32,
    /// The message, as it was scheduled; or where its record is, if that is damaged.
    pub message: Result<Message, Damaged>,
}

/// Most messages that one call passes over: nothing else is done meanwhile.
const PASSED_MAX: usize = 50_000;

/// What is to become of a message whose time has come, for [`Scheduler::due_where`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is handed out.
    Take,
    /// It stays pending, and is not looked at before [`Scheduler::look_again`].
    PassOver,
    /// It stays pending, as does all that is due later: the call ends here.
    Stop,
}

/// A message that is handed out, and where its bytes are.
struct Named {
    id: DelayId,
    due_ms: u64,
    /// Sequence of its record, and the file that has it, if it was moved.
    body: u64,
    moved: Option<Arc<Bodies>>,
    refusals: u32,
}

/// How much a call takes.
#[derive(Clone, Copy)]
struct Wanted {
    now_ms: u64,
    room: usize,
}

/// What a call takes out of the state.
#[derive(Default)]
struct Batch {
    /// Handed out for the first time.
    first: Vec<(Entry, Key)>,
    /// Handed out again.
    again: Vec<Again>,
    dropped: Vec<(Entry, Key)>,
    /// How many of `first` fell due before the scheduler was opened.
    backlog: u64,
}

impl Scheduler {
    /// Hands out up to `max` messages that are due at `now_ms`, in the order of their due times, equal ones as they were scheduled. Those that
    /// come again after a refusal or a restart come first. A call gives no more than one record can name: 95,000 with the store's default limits.
    /// It is recorded in the log at [`Options::hand_out_durability`] before it returns. With [`Options::outstanding_max`] messages handed out
    /// and not dispatched, it hands out no new ones.
    ///
    /// [`Options::hand_out_durability`]: crate::Options::hand_out_durability
    /// [`Options::outstanding_max`]: crate::Options::outstanding_max
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Io`]; then nothing was handed out. If the wait for the record's durability failed, the messages come again
    /// after a restart.
    pub fn due(&self, now_ms: u64, max: usize) -> Result<Vec<Fired>, Error> {
        self.due_where(now_ms, max, &mut |_, _| Choice::Take)
    }

    /// As [`Self::due`], of those that `choose` takes: it is asked for each message that was not out before, with its subject and the bytes of its
    /// body. What it passes over stays pending, here and after a restart, so it can be cancelled and rescheduled; [`Self::look_again`] goes back to it.
    /// Memory does not grow with it. A call passes over 50,000 messages at most: while [`Self::next_due`] is not later than `now_ms`, another may
    /// have more.
    ///
    /// `choose` may be asked twice of one message, and must not call the scheduler.
    ///
    /// # Errors
    /// As [`Self::due`].
    pub fn due_where(
        &self,
        now_ms: u64,
        max: usize,
        choose: &mut dyn FnMut(&str, u32) -> Choice,
    ) -> Result<Vec<Fired>, Error> {
        let inner = &self.inner;
        let max = max.min(inner.record_max());
        let mut core = inner.core.lock();
        let batch = loop {
            let mut batch = Batch::default();
            let Err(_damaged) = inner.take_due(&mut core, &mut batch, now_ms, max, choose) else {
                break batch;
            };
            core.take_back(&batch.again);
            rebuild::restage(inner, &mut core)?;
        };
        let end_offset = match inner.record_batch(&mut core, &batch) {
            Ok(end_offset) => end_offset,
            Err(error) => {
                core.take_back(&batch.again);
                return Err(error);
            }
        };
        inner.pace.lock().handed_out(batch.backlog);
        let again = batch.again.iter().map(|one| (one.entry, one.home));
        let fired = again.chain(batch.first);
        let named: Vec<_> = fired
            .map(|(entry, home)| {
                let refusals = core.outstanding.get(&home).map_or(0, |one| one.refusals);
                let body = core.body_of(home, &entry);
                Named {
                    id: inner.id_of(home, core.generation_of(home)),
                    due_ms: entry.key.due_ms,
                    body,
                    moved: inner.bodies_with(&core, body),
                    refusals,
                }
            })
            .collect();
        drop(core);
        inner.spill_if_due();
        if end_offset > 0 {
            inner.wait(end_offset, inner.options.hand_out_durability)?;
        }
        Ok(inner.with_messages(&named))
    }

    /// Records that messages have reached where they were to go, buffered: a loss of power may hand them out again. Ids of messages that are not
    /// out are left aside. Returns how many were.
    ///
    /// # Errors
    /// [`Error::Store`]; then some of very many may have been recorded.
    pub fn dispatched(&self, ids: &[DelayId]) -> Result<usize, Error> {
        let inner = &self.inner;
        let mut core = inner.core.lock();
        let homes = inner.outstanding_of(&core, ids);
        let was_full = core.outstanding.len() >= inner.options.outstanding_max;
        for homes in homes.chunks(inner.record_max()) {
            let record = event::dispatched(homes);
            inner.append(&mut core, &record, &Event::Dispatched(homes.to_vec()))?;
        }
        drop(core);
        if was_full {
            inner.alarm.ring();
        }
        inner.spill_if_due();
        Ok(homes.len())
    }

    /// Says that messages could not be delivered: each comes again by itself, one second later the first time, then two, then four, up to a
    /// minute. Ids of messages that are not out are left aside.
    pub fn refused(&self, now_ms: u64, ids: &[DelayId]) {
        let mut core = self.inner.core.lock();
        for home in self.inner.outstanding_of(&core, ids) {
            let Some(one) = core.outstanding.get_mut(&home) else {
                continue;
            };
            let back_off = BACK_OFF_MS << one.refusals.min(6);
            one.refusals += 1;
            let at_ms = now_ms.saturating_add(back_off.min(BACK_OFF_MAX_MS));
            core.hand_out_again(home, at_ms);
        }
        drop(core);
        self.inner.alarm.ring();
    }

    /// Goes back to the first message that [`Self::due_where`] has passed over. Whether there was one.
    pub fn look_again(&self) -> bool {
        let mut core = self.inner.core.lock();
        let is_any = core.backlog.passed().or(core.near.passed()).is_some();
        core.backlog.look_again();
        core.near.look_again();
        is_any
    }

    /// Ends a [`Self::wait_due`] early; the next one, if nobody waits.
    pub fn wake(&self) {
        self.inner.alarm.wake();
    }

    /// When [`Self::due`] next has something, in ms since 1970 UTC, as far as is known now: [`Options::catch_up_per_second`] is counted in.
    /// `None`: nothing is pending, or [`Options::outstanding_max`] messages are out, and the next comes when one of them is dispatched.
    ///
    /// [`Options::catch_up_per_second`]: crate::Options::catch_up_per_second
    /// [`Options::outstanding_max`]: crate::Options::outstanding_max
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Store`], if a damaged run cannot be made anew.
    pub fn next_due(&self) -> Result<Option<u64>, Error> {
        self.inner.next_due(&mut self.inner.core.lock())
    }

    /// Waits until [`Self::due`] has something by a clock that shows `now` since 1970 UTC, for `timeout` at most. It ends early if somebody
    /// schedules what is due earlier than all that was known.
    ///
    /// # Errors
    /// As [`Self::next_due`].
    pub fn wait_due(&self, now: Duration, timeout: Duration) -> Result<(), Error> {
        let inner = &self.inner;
        let mut core = inner.core.lock();
        let next_ms = inner.next_due(&mut core)?;
        let until_next = next_ms.map(|at| Duration::from_millis(at).saturating_sub(now));
        let timeout = until_next.map_or(timeout, |next| next.min(timeout));
        // Set under the lock of the state: what is scheduled from here on is compared with it.
        inner.alarm.set(next_ms, core, timeout);
        Ok(())
    }
}

/// The first pending entry of a window that is due by `until_ms`, which stays there.
fn first_pending(
    core: &mut Core,
    backlog: bool,
    until_ms: u64,
) -> Result<Option<Entry>, DamagedRun> {
    loop {
        let window = if backlog { &core.backlog } else { &core.near };
        match window.first().copied() {
            Some(entry) if entry.key.due_ms > until_ms => return Ok(None),
            Some(entry) if core.is_pending(&entry) => return Ok(Some(entry)),
            Some(_) => {
                core.window(backlog).pop();
            }
            None if window.is_complete() || window.end().due_ms > until_ms => return Ok(None),
            None => core.refill(backlog)?,
        }
    }
}

impl Inner {
    fn next_due(&self, core: &mut Core) -> Result<Option<u64>, Error> {
        let may_ms = self.pace.lock().next_ms();
        let is_full = core.outstanding.len() >= self.options.outstanding_max;
        self.healing(core, |core| {
            let again = core.again.peek().map(|Reverse((at, ..))| *at);
            if is_full {
                return Ok(again);
            }
            let backlog = first_pending(core, true, u64::MAX)?;
            let near = first_pending(core, false, u64::MAX)?;
            let backlog = backlog.map(|one| one.key.due_ms.max(may_ms));
            let near = near.map(|one| one.key.due_ms);
            Ok([again, backlog, near].into_iter().flatten().min())
        })
    }

    /// Messages that one record of the log can name.
    fn record_max(&self) -> usize {
        let bytes = self.store.options().body_bytes_max as usize;
        (bytes.saturating_sub(event::ENTRIES_OVERHEAD) / (ENTRY_LEN + KEY_LEN)).max(1)
    }

    fn take_due(
        &self,
        core: &mut Core,
        batch: &mut Batch,
        now_ms: u64,
        max: usize,
        choose: &mut dyn FnMut(&str, u32) -> Choice,
    ) -> Result<(), DamagedRun> {
        while batch.again.len() < max {
            let Some(one) = core.pop_again(now_ms) else {
                break;
            };
            batch.again.push(one);
        }
        let out = core.outstanding.len();
        let room = self.options.outstanding_max.saturating_sub(out);
        let room = room.min(max - batch.again.len()).min(self.record_max());
        let paced = self.pace.lock().room(now_ms);
        let paced = room.min(usize::try_from(paced).unwrap_or(usize::MAX));
        let wanted = Wanted {
            now_ms,
            room: paced,
        };
        if self.take_first(core, batch, true, wanted, choose)? {
            batch.backlog = batch.first.len() as u64;
            let wanted = Wanted { now_ms, room };
            self.take_first(core, batch, false, wanted, choose)?;
        } else {
            batch.backlog = batch.first.len() as u64;
        }
        Ok(())
    }

    /// Takes messages from a window until the batch has as many that were not out before as there is room for. Whether to go on.
    fn take_first(
        &self,
        core: &mut Core,
        batch: &mut Batch,
        backlog: bool,
        Wanted { now_ms, room }: Wanted,
        choose: &mut dyn FnMut(&str, u32) -> Choice,
    ) -> Result<bool, DamagedRun> {
        let mut passed = 0;
        // Dropped in bounded portions, or one call could take for ever.
        while batch.first.len() < room && batch.dropped.len() < self.record_max() {
            let Some(entry) = first_pending(core, backlog, now_ms)? else {
                break;
            };
            // Runs made anew beside the old ones may hold the same.
            let is_last = |of: &[(Entry, Key)]| of.last().is_some_and(|(e, _)| e.key == entry.key);
            if is_last(&batch.first) || is_last(&batch.dropped) {
                core.window(backlog).pop();
                continue;
            }
            let late = now_ms - entry.key.due_ms;
            let is_late = |ttl: Duration| u128::from(late) > ttl.as_millis();
            let is_late = self.options.time_to_live.is_some_and(is_late);
            if !is_late {
                let subject = core.subjects.name(entry.subject).map_or("", |name| name);
                match choose(subject, entry.body_len) {
                    Choice::Take => {}
                    Choice::Stop => return Ok(false),
                    Choice::PassOver if passed == PASSED_MAX => return Ok(false),
                    Choice::PassOver => {
                        core.window(backlog).pass_over();
                        passed += 1;
                        continue;
                    }
                }
            }
            core.window(backlog).pop();
            let home = self.home_of_entry(core, &entry);
            if is_late {
                batch.dropped.push((entry, home));
            } else {
                batch.first.push((entry, home));
            }
        }
        Ok(true)
    }

    /// Records what a batch does. Returns where the record ends; 0 without one.
    fn record_batch(&self, core: &mut Core, batch: &Batch) -> Result<u64, Error> {
        let mut end_offset = 0;
        if !batch.dropped.is_empty() {
            let record = event::dropped(&batch.dropped);
            end_offset = self.append(core, &record, &Event::Dropped(batch.dropped.clone()))?;
        }
        if !batch.first.is_empty() {
            let record = event::handed_out(&batch.first);
            end_offset = self.append(core, &record, &Event::HandedOut(batch.first.clone()))?;
        }
        Ok(end_offset)
    }

    /// Appends a record and takes it. Returns where it ends.
    pub(crate) fn append(
        &self,
        core: &mut Core,
        record: &Message,
        event: &Event<'_>,
    ) -> Result<u64, Error> {
        let appended = self.store.append_with(record, Durability::Buffered)?;
        self.took(core, appended.sequence, event)?;
        Ok(appended.end_offset)
    }

    /// Which of these are handed out, each once.
    fn outstanding_of(&self, core: &Core, ids: &[DelayId]) -> Vec<Key> {
        let mut homes: Vec<Key> = ids
            .iter()
            .filter_map(|&id| match self.home_of(core, id) {
                Some((home, State::HandedOut)) => Some(home),
                _ => None,
            })
            .collect();
        homes.sort_unstable();
        homes.dedup();
        homes
    }

    /// Reads the messages. Records that follow each other in the log are read together.
    fn with_messages(&self, named: &[Named]) -> Vec<Fired> {
        let mut fired = Vec::with_capacity(named.len());
        let follow = |one: &Named, next: &Named| {
            next.body == one.body + 1 && one.moved.is_none() && next.moved.is_none()
        };
        for together in named.chunk_by(follow) {
            let first = &together[0];
            let mut messages = match &first.moved {
                Some(bodies) => vec![self.message(Some(bodies), first.body)],
                None => self.messages(first.body, together.len()),
            }
            .into_iter();
            for one in together {
                let read = messages.next();
                fired.push(Fired {
                    id: one.id,
                    due_ms: one.due_ms,
                    refusals: one.refusals,
                    message: read.unwrap_or_else(|| self.message(None, one.body)),
                });
            }
        }
        fired
    }

    /// The scheduled message of a record.
    pub(crate) fn message(
        &self,
        moved: Option<&Bodies>,
        sequence: u64,
    ) -> Result<Message, Damaged> {
        let record = self.record(moved, sequence).or_else(|damaged| {
            // It may have been moved since the caller looked where it is.
            let since = match moved {
                None => self.bodies_with(&self.core.lock(), sequence),
                Some(_) => None,
            };
            since.map_or(Err(damaged), |bodies| self.record(Some(&bodies), sequence))
        })?;
        event::original(&record).ok_or_else(|| lost(sequence))
    }

    /// The scheduled messages of records that follow each other in the log; fewer, if they cannot be read.
    fn messages(&self, first: u64, count: usize) -> Vec<Result<Message, Damaged>> {
        let mut messages = Vec::with_capacity(count);
        while messages.len() < count {
            let from = first + messages.len() as u64;
            let left = count - messages.len();
            let Ok(records) = self.store.read(event::SUBJECT, from, left) else {
                break;
            };
            let before = messages.len();
            for one in &records {
                if one.sequence() != first + messages.len() as u64 {
                    // Retention has taken what was asked for, and this is a later one.
                    return messages;
                }
                messages.push(one.message().and_then(|view| {
                    event::original(&view.to_message()).ok_or_else(|| lost(one.sequence()))
                }));
            }
            if messages.len() == before {
                break;
            }
        }
        messages
    }
}
