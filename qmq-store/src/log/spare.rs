//! The next segment's file, prepared ahead so that the writer does not wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use super::segment::SEGMENT_HEADER_LEN;
use crate::disk::{Access, DiskFile};
use crate::error::is_full;

/// Name of the file.
pub(crate) const SPARE_FILE: &str = "spare";

/// So many syncs since the last spare was taken, with fewer bytes to each than the second number, make it worth writing zeros into the next. With
/// more bytes to a sync the zeros cost the disk more than they save.
const MANY_SYNCS: u64 = 100;
const FEW_BYTES_A_SYNC: u64 = 16 << 10;

/// What there is of it.
#[derive(Debug, Default)]
pub(super) struct Spare {
    ready: bool,
    /// Its blocks are written, not only allocated.
    written: bool,
    /// The log's end and its syncs when the last spare was taken.
    taken_end: u64,
    taken_syncs: u64,
}

impl Spare {
    /// None yet, of a log that starts at `end`.
    pub(super) fn none(end: u64) -> Self {
        Self {
            taken_end: end,
            ..Self::default()
        }
    }
}

impl Log {
    /// A segment's file under the name `name`, with room for a unit of `len` bytes: the spare if it is ready, else a new one. What a master with
    /// larger segments wrote gets a segment of its own size.
    pub(super) fn new_segment_file(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        if len > self.segment_bytes {
            return self.disk.create(name, SEGMENT_HEADER_LEN + len);
        }
        if self.take_spare() {
            let file = self.disk.open(SPARE_FILE, Access::Write)?;
            self.disk.rename(SPARE_FILE, name)?;
            return Ok(file);
        }
        self.disk
            .create(name, SEGMENT_HEADER_LEN + self.segment_bytes)
    }

    fn take_spare(&self) -> bool {
        let mut spare = self.spare.lock();
        let ready = spare.ready;
        *spare = Spare {
            taken_end: self.commit.written(),
            taken_syncs: self.syncs.load(Ordering::Relaxed),
            ..Spare::default()
        };
        ready
    }

    /// Prepares the next segment's file, so that the writer does not wait for it. Only housekeeping calls this, one thread at a time.
    pub(crate) fn prepare_spare(&self) -> io::Result<()> {
        let (was_ready, write_zeros) = {
            let mut spare = self.spare.lock();
            let syncs = self.syncs.load(Ordering::Relaxed) - spare.taken_syncs;
            let bytes = self.commit.written().saturating_sub(spare.taken_end);
            let synced_often = syncs >= MANY_SYNCS && bytes < syncs * FEW_BYTES_A_SYNC;
            if spare.ready && (spare.written || !synced_often) {
                return Ok(());
            }
            // Not to be taken meanwhile: a writer that needs a segment now creates one.
            (std::mem::take(&mut spare.ready), synced_often)
        };
        if !was_ready {
            let len = SEGMENT_HEADER_LEN + self.segment_bytes;
            match self.disk.create(SPARE_FILE, len) {
                Ok(_) => {}
                Err(error) if is_full(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if write_zeros {
            let _ = self.disk.write_zeros(SPARE_FILE);
        }
        let mut spare = self.spare.lock();
        spare.ready = true;
        spare.written = write_zeros;
        Ok(())
    }

    /// The store closes: a spare is only ahead of its time.
    pub(crate) fn remove_spare(&self) -> io::Result<()> {
        if self.take_spare() {
            self.disk.remove(SPARE_FILE)?;
        }
        Ok(())
    }
}
