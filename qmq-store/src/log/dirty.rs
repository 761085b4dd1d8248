//! What is not synced, and the sync that covers it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use super::segment::Segment;
use crate::disk::DiskFile;
use crate::error::Error;

/// A sync of more than this has most of it written back before.
const MUCH: u64 = 1 << 20;
/// What is written back before a sync ends at a multiple of this.
const BORDER: u64 = 64 << 10;

/// Segments with bytes that are not synced, and whether names are.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(super) names: bool,
    pub(super) files: Vec<(Arc<Segment>, Arc<dyn DiskFile>)>,
}

impl Dirty {
    /// The files that hold bytes below `end`.
    fn below(&self, end: u64) -> Vec<Arc<dyn DiskFile>> {
        self.files
            .iter()
            .filter(|(segment, _)| segment.base < end)
            .map(|(_, file)| Arc::clone(file))
            .collect()
    }
}

impl Log {
    /// Syncs everything written by now and returns the offset covered.
    fn sync_once(&self) -> io::Result<u64> {
        let covered = self.commit.written();
        let (names, files) = {
            let mut dirty = self.dirty.lock();
            (std::mem::take(&mut dirty.names), dirty.below(covered))
        };
        self.write_back(covered)?;
        for file in &files {
            file.sync()?;
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if names {
            self.disk.sync_names()?;
        }
        let active = self
            .segments
            .read()
            .last()
            .map_or(0, |segment| segment.base);
        // A finished segment that is synced to its end leaves the list, and with it goes its descriptor.
        self.dirty.lock().files.retain(|(segment, _)| {
            segment.base >= active || segment.end().is_none_or(|end| end > covered)
        });
        Ok(covered)
    }

    /// Has most of the active segment's unsynced bytes written, all but the last page, which an append writes next: while a sync prepares many
    /// pages, it keeps all of them locked, and who writes into one of them waits for tens of milliseconds.
    fn write_back(&self, covered: u64) -> io::Result<()> {
        let active = {
            let dirty = self.dirty.lock();
            dirty.files.last().cloned()
        };
        let Some((segment, file)) = active else {
            return Ok(());
        };
        let from = self.commit.synced().max(segment.base);
        if covered.saturating_sub(from) <= MUCH {
            return Ok(());
        }
        let from = segment.position(from) / BORDER * BORDER;
        let to = segment.position(covered) / BORDER * BORDER;
        file.write_back(from, to.saturating_sub(from))
    }

    /// Makes all names durable. A failure poisons the log: it may have taken the name of a segment with it, and no later sync would tell.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names().inspect_err(|error| {
            self.commit
                .poison(io::Error::new(error.kind(), error.to_string()));
        })
    }

    /// Returns once the log is synced up to `end`.
    pub(crate) fn sync_to(&self, end: u64) -> Result<(), Error> {
        self.commit.sync_to(end, &|| self.sync_once())
    }
}
