//! A copy of everything, while it works: the store, the bodies that were moved out of it, and the state. Runs are not copied: the first open of
//! the copy makes them anew.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qmq_store::BackupReport;
use qmq_store::disk::Disk;

use crate::bodies;
use crate::checkpoint;
use crate::error::Error;
use crate::scheduler::Scheduler;

/// Stands in a checkpoint for the runs that a backup does not copy.
pub(crate) const NO_RUNS: u64 = u64::MAX;

/// Counts a backup for as long as it goes on.
struct Kept<'a>(&'a AtomicUsize);

impl<'a> Kept<'a> {
    fn new(backups: &'a AtomicUsize) -> Self {
        backups.fetch_add(1, Ordering::SeqCst);
        Self(backups)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scheduler {
    /// Copies the store to the disk `log` and the scheduler's index to `index`, which must both be empty, while both work. The copy is as of one
    /// moment; it is another store, so ids of the original are unknown to it. `progress` is told bytes done and bytes in all of the log.
    /// Retention takes nothing meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Io`]; [`Error::Io`] also if `index` holds files. Remove what is there then: it is not a copy.
    pub fn backup(
        &self,
        log: Arc<dyn Disk>,
        index: &dyn Disk,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupReport, Error> {
        let inner = &self.inner;
        let copying = || Error::io(format!("copying the index to {}", index.describe()));
        if !index.list().map_err(copying())?.is_empty() {
            let not_empty = io::Error::new(
                io::ErrorKind::DirectoryNotEmpty,
                "it holds files already; give an empty folder",
            );
            return Err(copying()(not_empty));
        }
        // Meanwhile no record goes from the log, and no file of bodies.
        let _kept = Kept::new(&inner.backups);
        let core = inner.core.lock();
        let mut summary = inner.summary(&core);
        summary.runs = vec![NO_RUNS];
        let mut state = checkpoint::encode(&core, &summary);
        let (next_sequence, files) = (core.next_sequence, core.bodies.clone());
        drop(core);
        // The log is cut after the state: what happens between the two is in the log.
        let report = inner.store.backup_on(log, progress)?;
        let mut copy = || {
            for file in &files {
                bodies::copy(&*inner.disk, index, file.number, report.store_id)?;
            }
            index.sync_names()?;
            checkpoint::set_store_id(&mut state, report.store_id);
            checkpoint::write(index, next_sequence, &state)?;
            index.sync_names()
        };
        copy().map_err(copying())?;
        Ok(report)
    }
}
