//! From the stage to runs: writing one, merging many, and the checkpoint that goes with each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::bodies::{self, bodies_name};
use crate::checkpoint::{self, Summary};
use crate::core::Core;
use crate::entry::{Entry, Key};
use crate::error::Error;
use crate::event::{self, Event};
use crate::recovery;
use crate::run::{self, DamagedRun, Merge, Run, run_name};
use crate::scheduler::{Checkpointed, Inner, Scheduler};
use crate::stage::Stage;

/// Entries that are looked up at a time while runs are merged.
const MERGED_AT_ONCE: usize = 8_192;
/// Records after which one that says the scale is written again, so that those before it can go.
const SCALE_EVERY: u64 = 64;

impl Scheduler {
    /// Merges runs if there are many, writes what is staged as another, and takes a checkpoint, so that an open has little to replay. Called on
    /// a timer, it keeps those who schedule from having to.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Store`]; nothing is lost, and the next call tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        let _one = self.inner.spilling.lock();
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

    /// Writes a run if it is time and nobody else does. What fails is tried again, and stops those who schedule when the stage is twice as full.
    pub(crate) fn spill_if_full(&self) {
        if self.core.lock().stage.len() < self.options.stage_entries {
            return;
        }
        if let Some(_one) = self.spilling.try_lock() {
            let _ = self.spill();
        }
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
                Err(_) => recovery::restage(self, core)?,
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
        summary.runs.push(number);
        let state = checkpoint::encode(&core, &summary);
        let checkpointed = core.checkpointed();
        core.bodies
            .retain(|bodies| checkpointed.bodies.contains(&bodies.number));
        drop(core);
        let written = self.write_staged(number, &frozen).and_then(|run| {
            self.write_checkpoint(checkpointed, &state)?;
            self.remove_unnamed(&summary.runs)?;
            Ok(run)
        });
        let mut core = self.core.lock();
        core.freezing = Arc::default();
        match written {
            Ok(run) => core.runs.push(Arc::new(run)),
            Err(error) => {
                frozen.iter().for_each(|&entry| core.stage.push(entry));
                return Err(error);
            }
        }
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
        let needed = self.checkpoints.lock();
        let needed = needed.iter().map(|one| one.needed_from).min();
        let (Some(hold), Some(sequence)) = (&self.store.options().retention_hold, needed) else {
            return;
        };
        let records = self.store.read(event::SUBJECT, sequence, 1);
        let first = records.ok().and_then(|records| {
            let one = records.iter().next()?;
            one.message().ok().map(|view| view.offset())
        });
        if let Some(offset) = first {
            hold.release_below(offset);
        }
    }

    /// Writes a run of what is pending among staged entries. The log has then synced why the others are not.
    pub(crate) fn write_staged(&self, number: u64, staged: &Stage) -> Result<Run, Error> {
        let mut entries = staged.clone().into_sorted();
        {
            let core = self.core.lock();
            entries.retain(|entry| core.is_pending(entry));
        }
        self.store.sync()?;
        self.write_run(number, &entries)
    }

    pub(crate) fn write_run(&self, number: u64, entries: &[Entry]) -> Result<Run, Error> {
        let all = entries.iter().copied().map(Ok::<_, io::Error>);
        run::write(
            &*self.disk,
            number,
            self.store_id,
            entries.len() as u64,
            all,
        )
        .map_err(Error::io(format!("writing {}", run_name(number))))?;
        self.open_run(number)
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
        }
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
                return recovery::restage(self, &mut self.core.lock());
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
        let mut ready = Vec::new().into_iter();
        let entries = std::iter::from_fn(|| {
            while ready.as_slice().is_empty() {
                let mut some = Vec::with_capacity(MERGED_AT_ONCE);
                while some.len() < MERGED_AT_ONCE {
                    match merge.next() {
                        Ok(Some(entry)) => some.push(entry),
                        Ok(None) => break,
                        Err(_) => return Some(Err(MergeError::Damaged)),
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
        });
        run::write(&*self.disk, number, self.store_id, most, entries)
    }

    /// Removes runs that the newest checkpoint does not name, and bodies that neither does: nothing else has those.
    pub(crate) fn remove_unnamed(&self, runs: &[u64]) -> Result<(), Error> {
        let checkpoints = self.checkpoints.lock();
        let remove = || {
            for number in run::numbers(&*self.disk)? {
                if !runs.contains(&number) {
                    self.disk.remove(&run_name(number))?;
                }
            }
            for number in bodies::numbers(&*self.disk)? {
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
