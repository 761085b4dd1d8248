//! From the stage to runs: writing one, merging many, and the checkpoint that goes with each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use qmq_store::{Background, RetentionHold};

use crate::bodies::{self, bodies_name};
use crate::checkpoint::{self, Summary};
use crate::core::{Core, Saved};
use crate::entry::{Entry, Key};
use crate::error::Error;
use crate::event::{self, Event};
use crate::rebuild;
use crate::recovery;
use crate::run::{self, DamagedRun, Merge, Run, run_name};
use crate::scheduler::{Checkpointed, Inner, Scheduler};
use crate::stage::Stage;

/// Entries that are looked up with one lock while a run is written.
const LOOKED_UP_AT_ONCE: usize = 4_096;
/// A checkpoint is taken once the log has grown by so many times what the store takes one of its own for.
const REPLAYED_CHECKPOINTS: u64 = 4;
/// Records after which one that says the scale is written again, so that those before it can go.
const SCALE_EVERY: u64 = 64;

impl Scheduler {
    /// Does what is due of the housekeeping: writes what is staged as a run and takes a checkpoint, if there is enough of it; moves out of the
    /// log what retention is to take. With [`qmq_store::Background::Threads`] a thread of the scheduler does it every second and when the
    /// stage is full.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Store`]; nothing is lost, and the next call tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        self.inner.maintain()
    }

    /// Writes what is staged and takes a checkpoint now, so that the next open has nothing to replay.
    ///
    /// # Errors
    /// As [`Self::maintain`].
    pub fn checkpoint(&self) -> Result<(), Error> {
        let _one = self.inner.spilling.lock();
        if self.inner.is_saved()? {
            return Ok(());
        }
        self.inner.spill()
    }
}

impl Inner {
    /// The state, once there is room for another entry.
    pub(crate) fn core_with_room(&self) -> Result<MutexGuard<'_, Core>, Error> {
        loop {
            let core = self.core.lock();
            if core.stage.len() < 2 * self.options.stage_entries {
                return Ok(core);
            }
            drop(core);
            let _one = self.spilling.lock();
            // Somebody else may have made room meanwhile.
            if self.core.lock().stage.len() >= self.options.stage_entries {
                self.spill()?;
            }
        }
    }

    /// Sees to it that a run is written, if it is time. What fails is tried again, and stops those who schedule when the stage is twice as full.
    pub(crate) fn spill_if_due(&self) {
        if !self.is_spill_due(&self.core.lock()) {
            return;
        }
        if self.store.options().background == Background::Threads {
            self.bell.ring();
        } else if let Some(_one) = self.spilling.try_lock() {
            let _ = self.spill();
        }
    }

    pub(crate) fn maintain(&self) -> Result<(), Error> {
        let _one = self.spilling.lock();
        let is_due = self.is_spill_due(&self.core.lock());
        if is_due || self.is_retention_waiting()? {
            self.spill()?;
        }
        Ok(())
    }

    /// Whether an open would have much to do.
    fn is_spill_due(&self, core: &Core) -> bool {
        let many = self.options.stage_entries;
        core.stage.len() >= many
            || core.next_sequence - core.saved.next_sequence >= many as u64
            || self
                .store
                .watermarks()
                .written
                .saturating_sub(core.saved.end_offset)
                >= REPLAYED_CHECKPOINTS * self.store.options().checkpoint_bytes
    }

    /// Whether retention would take what is held, and a checkpoint would help.
    fn is_retention_waiting(&self) -> Result<bool, Error> {
        let hold = &self.store.options().retention_hold;
        let held = hold.as_ref().map_or(u64::MAX, RetentionHold::offset);
        let due = self.store.retention_due()?;
        if due <= held {
            return Ok(false);
        }
        let core = self.core.lock();
        let (needed, first) = (core.checkpointed().needed_from, core.needed.first());
        let is_new = core.next_sequence > core.saved.next_sequence;
        drop(core);
        let can_let_go = || {
            let offset = recovery::offset_of(&self.store, needed);
            is_new && offset.is_some_and(|offset| offset > held)
        };
        Ok(can_let_go() || self.can_move_out(first, due)?)
    }

    /// Whether a checkpoint would say nothing new.
    fn is_saved(&self) -> Result<bool, Error> {
        let core = self.core.lock();
        let is_saved = core.stage.len() == 0 && core.next_sequence == core.saved.next_sequence;
        drop(core);
        Ok(is_saved && !self.is_retention_waiting()?)
    }

    /// Runs `look`; where a run is damaged, all are made anew first.
    pub(crate) fn healing<T>(
        &self,
        core: &mut Core,
        mut look: impl FnMut(&mut Core) -> Result<T, DamagedRun>,
    ) -> Result<T, Error> {
        loop {
            match look(core) {
                Ok(found) => return Ok(found),
                Err(_) => rebuild::restage(self, core)?,
            }
        }
    }

    /// The caller holds the lock of spilling.
    pub(crate) fn spill(&self) -> Result<(), Error> {
        self.merge()?;
        self.move_out()?;
        let mut core = self.core.lock();
        core.forget_settled(self.now_ms());
        self.renew_scale(&mut core)?;
        let frozen = Arc::new(std::mem::take(&mut core.stage));
        core.freezing = Arc::clone(&frozen);
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let mut summary = self.summary(&core);
        if frozen.len() > 0 {
            summary.runs.push(number);
        }
        let state = checkpoint::encode(&core, &summary);
        let saved = Saved {
            next_sequence: core.next_sequence,
            end_offset: self.store.watermarks().written,
        };
        let checkpointed = core.checkpointed();
        core.bodies
            .retain(|bodies| checkpointed.bodies.contains(&bodies.number));
        drop(core);
        let written = self.write_staged(number, &frozen).and_then(|run| {
            self.write_checkpoint(checkpointed, &state)?;
            self.remove_unnamed(&summary)?;
            Ok(run)
        });
        let mut core = self.core.lock();
        core.freezing = Arc::default();
        match written {
            Ok(run) => core.runs.extend(run.map(Arc::new)),
            Err(error) => {
                frozen.iter().for_each(|&entry| core.stage.push(entry));
                return Err(error);
            }
        }
        core.saved = saved;
        drop(core);
        self.release();
        Ok(())
    }

    /// An index that is lost is made anew from what retention left of the log, and that must say the scale.
    fn renew_scale(&self, core: &mut Core) -> Result<(), Error> {
        if core.opened + SCALE_EVERY > core.next_sequence {
            return Ok(());
        }
        let segment_scale_minute = self.options.segment_scale_minute;
        let opened = Event::Opened {
            segment_scale_minute,
        };
        self.append(core, &event::opened(segment_scale_minute), &opened)?;
        Ok(())
    }

    /// Lets retention take the records that no checkpoint needs.
    fn release(&self) {
        if self.backups.load(Ordering::SeqCst) > 0 {
            return;
        }
        let needed = self.checkpoints.lock();
        let needed = needed.iter().map(|one| one.needed_from).min();
        let (Some(hold), Some(sequence)) = (&self.store.options().retention_hold, needed) else {
            return;
        };
        if let Some(offset) = recovery::offset_of(&self.store, sequence) {
            hold.release_below(offset);
        }
    }

    /// Writes a run of what is pending among staged entries, if there are any. The log has then synced why the others are not.
    fn write_staged(&self, number: u64, staged: &Stage) -> Result<Option<Run>, Error> {
        if staged.len() == 0 {
            self.store.sync()?;
            return Ok(None);
        }
        let mut sorted = staged.sorted();
        let pending = self.pending(move || Ok::<_, io::Error>(sorted.next()));
        let run = self.write_run(number, staged.len() as u64, pending)?;
        self.store.sync()?;
        Ok(Some(run))
    }

    /// Writes a run of at most `most` entries.
    pub(crate) fn write_run(
        &self,
        number: u64,
        most: u64,
        entries: impl Iterator<Item = io::Result<Entry>>,
    ) -> Result<Run, Error> {
        self.write_entries(number, most, entries)
            .map_err(Error::io(format!("writing {}", run_name(number))))?;
        self.open_run(number)
    }

    fn write_entries<E: From<io::Error>>(
        &self,
        number: u64,
        most: u64,
        entries: impl Iterator<Item = Result<Entry, E>>,
    ) -> Result<u64, E> {
        let bucket_ms = self.options.bucket_ms();
        run::write(&*self.disk, number, self.store_id, bucket_ms, most, entries)
    }

    /// Those of the `next` entries, which come in order, that are pending, each once.
    fn pending<E>(
        &self,
        mut next: impl FnMut() -> Result<Option<Entry>, E>,
    ) -> impl Iterator<Item = Result<Entry, E>> {
        let mut ready = Vec::new().into_iter();
        std::iter::from_fn(move || {
            while ready.as_slice().is_empty() {
                let mut some = Vec::with_capacity(LOOKED_UP_AT_ONCE);
                while some.len() < LOOKED_UP_AT_ONCE {
                    match next() {
                        Ok(Some(entry)) => some.push(entry),
                        Ok(None) => break,
                        Err(error) => return Some(Err(error)),
                    }
                }
                if some.is_empty() {
                    return None;
                }
                let core = self.core.lock();
                some.retain(|entry| core.is_pending(entry));
                drop(core);
                // Runs made anew beside the old ones may hold the same.
                some.dedup();
                ready = some.into_iter();
            }
            ready.next().map(Ok)
        })
    }

    /// Writes a checkpoint; with it and the one before there are two.
    fn write_checkpoint(&self, checkpointed: Checkpointed, state: &[u8]) -> Result<(), Error> {
        let write = || {
            // Files that it counts on must have durable names first.
            self.disk.sync_names()?;
            checkpoint::write(&*self.disk, checkpointed.next_sequence, state)?;
            self.disk.sync_names()?;
            for older in checkpoint::names(&*self.disk)?.into_iter().skip(2) {
                self.disk.remove(&older)?;
            }
            Ok(())
        };
        write().map_err(Error::io("writing a checkpoint"))?;
        let mut checkpoints = self.checkpoints.lock();
        // One of the same name has been replaced.
        checkpoints.retain(|one| one.next_sequence != checkpointed.next_sequence);
        checkpoints.insert(0, checkpointed);
        checkpoints.truncate(2);
        Ok(())
    }

    fn open_run(&self, number: u64) -> Result<Run, Error> {
        let opened = Run::open(&*self.disk, number, self.store_id)
            .map_err(Error::io(format!("opening {}", run_name(number))))?;
        opened.map_err(|damaged| Error::Io {
            doing: format!("reading back {}", run_name(number)),
            source: Arc::new(io::Error::other(damaged.what)),
        })
    }

    pub(crate) fn summary(&self, core: &Core) -> Summary {
        Summary {
            store_id: self.store_id,
            segment_scale_minute: self.options.segment_scale_minute,
            next_run: self.next_run.load(Ordering::Relaxed),
            runs: core.runs.iter().map(|run| run.number).collect(),
            end_offset: self.store.watermarks().written,
            held_from: self.held_from(),
        }
    }

    fn held_from(&self) -> u64 {
        let hold = &self.store.options().retention_hold;
        let held = hold.as_ref().map_or(0, RetentionHold::offset);
        held.max(self.store.stats().start_offset)
    }

    /// Leaves out runs in which nothing is pending, and merges the smaller half of too many. The next checkpoint says so.
    fn merge(&self) -> Result<(), Error> {
        let mut core = self.core.lock();
        let frontier = core.frontier();
        core.runs
            .retain(|run| run.count > 0 && run.last_due_ms >= frontier.due_ms);
        if core.runs.len() < self.options.runs_max {
            return Ok(());
        }
        core.runs.sort_by_key(|run| std::cmp::Reverse(run.count));
        let small = core.runs[self.options.runs_max / 2..].to_vec();
        drop(core);
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        match self.write_merged(number, &small) {
            Ok(_) => {}
            Err(MergeError::Damaged) => {
                return rebuild::restage(self, &mut self.core.lock());
            }
            Err(MergeError::Io(error)) => {
                return Err(Error::io(format!("writing {}", run_name(number)))(error));
            }
        }
        let run = Arc::new(self.open_run(number)?);
        let mut core = self.core.lock();
        core.runs
            .retain(|run| small.iter().all(|one| one.number != run.number));
        core.runs.push(run);
        Ok(())
    }

    fn write_merged(&self, number: u64, small: &[Arc<Run>]) -> Result<u64, MergeError> {
        let most = small.iter().map(|run| run.count).sum();
        let mut merge = Merge::new(small, Key::default()).map_err(|_| MergeError::Damaged)?;
        let entries = self.pending(|| merge.next().map_err(|_| MergeError::Damaged));
        self.write_entries(number, most, entries)
    }

    /// Removes runs that the newest checkpoint does not name, and bodies that neither does: nothing else has those. What was made since its
    /// state was taken is not touched.
    pub(crate) fn remove_unnamed(&self, newest: &Summary) -> Result<(), Error> {
        let checkpoints = self.checkpoints.lock();
        let remove = || {
            for number in run::numbers(&*self.disk)? {
                if number < newest.next_run && !newest.runs.contains(&number) {
                    self.disk.remove(&run_name(number))?;
                }
            }
            for number in bodies::numbers(&*self.disk)? {
                if self.backups.load(Ordering::SeqCst) > 0 {
                    break;
                }
                if checkpoints.iter().all(|one| !one.bodies.contains(&number)) {
                    self.disk.remove(&bodies_name(number))?;
                }
            }
            Ok(())
        };
        remove().map_err(Error::io("removing a file that is not needed"))
    }
}

#[derive(Debug)]
enum MergeError {
    Damaged,
    Io(io::Error),
}

impl From<io::Error> for MergeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use qmq_store::disk::SimulatedDisk;
    use qmq_store::{Durability, ManualClock, Message, Options, Store};

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    /// A scheduler whose entries lie in three runs that hold the same, as after runs were made anew beside a spill.
    fn with_twins(runs_max: usize) -> Scheduler {
        let options = Options {
            background: Background::Manual,
            clock: Arc::new(ManualClock::at(NOW)),
            retention_hold: Some(RetentionHold::default()),
            ..Options::with_segment_bytes(1 << 20)
        };
        let store = Store::open_on(Arc::new(SimulatedDisk::new()), options).unwrap();
        let options = crate::Options {
            runs_max,
            ..crate::Options::default()
        };
        let scheduler = Scheduler::open(store, SimulatedDisk::new(), options).unwrap();
        for body in ["one", "two", "three"] {
            let message = Message::new("s", body);
            scheduler
                .schedule_with(NOW + 60_000, &message, Durability::Buffered)
                .unwrap();
        }
        scheduler.checkpoint().unwrap();
        let mut core = scheduler.inner.core.lock();
        let twin = Arc::clone(&core.runs[0]);
        core.runs.extend([Arc::clone(&twin), twin]);
        drop(core);
        scheduler
    }

    #[test]
    fn what_lies_in_several_runs_is_handed_out_once() {
        let scheduler = with_twins(32);
        assert_eq!(scheduler.due(NOW + 60_000, 10).unwrap().len(), 3);
        assert!(scheduler.due(NOW + 60_000, 10).unwrap().is_empty());
    }

    #[test]
    fn what_lies_in_several_runs_is_merged_into_one() {
        let scheduler = with_twins(2);
        scheduler.inner.merge().unwrap();
        let runs = scheduler.inner.core.lock().runs.clone();
        assert_eq!(
            runs.iter().map(|run| run.count).sum::<u64>(),
            3 * runs.len() as u64
        );
        runs.iter().for_each(|run| run.verify().unwrap());
        assert_eq!(scheduler.due(NOW + 60_000, 10).unwrap().len(), 3);
    }

    /// While a run is written, its entries are neither staged nor in a run.
    #[test]
    fn what_is_being_written_is_found() {
        let scheduler = with_twins(32);
        let message = Message::new("s", "four");
        let due_ms = NOW + 1;
        let id = scheduler.schedule_with(due_ms, &message, Durability::Buffered);
        let id = id.unwrap();
        let mut core = scheduler.inner.core.lock();
        core.freezing = Arc::new(std::mem::take(&mut core.stage));
        drop(core);
        assert!(scheduler.get(id).unwrap().is_some());
        assert_eq!(scheduler.next_due().unwrap(), Some(due_ms));
        assert_eq!(scheduler.cancel(id).unwrap(), crate::Cancelled::Done);
        assert_eq!(scheduler.next_due().unwrap(), Some(NOW + 60_000));
    }

    /// Runs can be made anew while one is written.
    #[test]
    fn a_run_that_is_newer_than_a_checkpoint_is_not_removed_by_it() {
        let scheduler = with_twins(32);
        let inner = &scheduler.inner;
        let summary = inner.summary(&inner.core.lock());
        let newer = inner.next_run.fetch_add(1, Ordering::Relaxed);
        inner.write_run(newer, 0, std::iter::empty()).unwrap();
        inner.remove_unnamed(&summary).unwrap();
        assert!(run::numbers(&*inner.disk).unwrap().contains(&newer));
        let summary = inner.summary(&inner.core.lock());
        inner.remove_unnamed(&summary).unwrap();
        assert!(!run::numbers(&*inner.disk).unwrap().contains(&newer));
    }
}
