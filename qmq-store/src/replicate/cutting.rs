//! A replica's log is cut where it parts from its master's, and what lies behind goes into a file.
//!
//! One write decides: the identity that says where the log ends. Before it is durable the whole log is there; from then on every open first
//! removes what lies behind, and only an open that has come through, with a checkpoint as of the cut, says that the cut is over. The segment that the
//! cut goes through is written anew, so the bytes behind are in no file of the log any more.

use std::io;

use super::{ReplicaError, lost};
use crate::consume::Names;
use crate::disk::{Access, Disk};
use crate::error::{Error, OpenError};
use crate::keep::checkpoint;
use crate::keep::files::{discard, is_foreign, read_records, write_whole};
use crate::keep::opening::OpenAs;
use crate::log::published::PUBLISHED_FILE;
use crate::log::segment::{
    SEGMENT_HEADER_LEN, SegmentHeader, index_base, index_name, log_base, log_name,
};
use crate::log::{RESERVE_FILES, SPARE_FILE};
use crate::replicate::LostTail;
use crate::store::{Inner, Store};

impl Store {
    /// Cuts a replica's log at `offset`, where a unit begins: everything from there on is written into a file beside the log
    /// ([`offline::dump_lost`](crate::offline::dump_lost) reads it), durably, and then taken off. Index, groups and epochs are as of the cut. A crash at any
    /// moment leaves the whole log or the cut one.
    ///
    /// Returns the store, opened anew under a raised incarnation; this handle and its clones are closed. With nothing to cut it is the same store.
    ///
    /// # Errors
    /// [`Error::NotReplica`]; [`ReplicaError::NotAUnit`], [`ReplicaError::Retired`], [`ReplicaError::BeyondEnd`];
    /// [`ReplicaError::CutTooDeep`] if the state as of the cut is not known any more. Nothing is changed then. [`Error::Io`],
    /// [`Error::Poisoned`], [`Error::Open`]: the store is closed; open it again.
    pub fn cut(&self, offset: u64) -> Result<(Self, LostTail), Error> {
        let inner = &self.inner;
        inner.check_open()?;
        inner.log.check_replica()?;
        let end = inner.log.settled_end();
        if let Err(begins) = inner.unit_begins(offset)? {
            return Err(ReplicaError::NotAUnit { offset, begins }.into());
        }
        if offset == end {
            let nothing = LostTail {
                file: None,
                offset,
                end,
            };
            return Ok((self.clone(), nothing));
        }
        inner.check_known(offset)?;
        inner.sync_to(end)?;
        self.stop();
        let cut = inner.cut(offset);
        inner.log.commit.call_off();
        let lost = cut?;
        let lock = inner.lock.lock().take();
        let (disk, options) = (&inner.log.disk, inner.options.clone());
        let store = Self::open_as(disk, options, OpenAs::Replica, lock)?;
        Ok((store, lost))
    }
}

impl Inner {
    /// Whether the state as of `offset` can be made again: from a checkpoint that knows nothing later, or from the log's very beginning.
    fn check_known(&self, offset: u64) -> Result<(), Error> {
        let disk = &*self.log.disk;
        let start = self.log.start_offset();
        if start == 0 {
            return Ok(());
        }
        let reading = || Error::io("reading the checkpoints");
        for name in checkpoint::names(disk).map_err(reading())? {
            let names = Names::default();
            let found = checkpoint::read(disk, &name, self.log.store_id, &names);
            if let checkpoint::Found::Good(summary, _) = found.map_err(reading())?
                && summary.synced_end.max(summary.state_end) <= offset
                && summary.replay_from >= start
            {
                return Ok(());
            }
        }
        Err(ReplicaError::CutTooDeep { offset }.into())
    }

    /// The threads have stopped.
    fn cut(&self, offset: u64) -> Result<LostTail, Error> {
        let _step = self.housekeeping.lock();
        let _taking = self.log.taking.lock();
        if self.lock.lock().is_none() {
            return Err(Error::Closed);
        }
        let end = self.log.close_for_appends();
        self.log.sync_to(end)?;
        let lost = lost::write(self, offset, end).map_err(Error::io("writing the lost tail"))?;
        let mut identity = self.identity();
        identity.cut = Some(offset);
        identity
            .write(&*self.log.disk)
            .map_err(Error::io("writing the identity"))?;
        Ok(lost)
    }
}

/// What an open does where the log is being cut at `end`, before all else. It may be done again.
pub(crate) fn finish(disk: &dyn Disk, store_id: u128, end: u64) -> Result<(), OpenError> {
    remove_checkpoints(disk, store_id, end)?;
    cut_files(disk, store_id, end)
        .and_then(|()| disk.sync_names())
        .map_err(OpenError::io("cutting the log"))
}

/// Removes the checkpoints that may know of what lies behind the cut.
fn remove_checkpoints(disk: &dyn Disk, store_id: u128, end: u64) -> Result<(), OpenError> {
    for name in checkpoint::names(disk).map_err(OpenError::io("listing the folder"))? {
        let found = checkpoint::read(disk, &name, store_id, &Names::default())
            .map_err(OpenError::unreadable(&name))?;
        if let checkpoint::Found::Good(summary, _) = found
            && summary.synced_end.max(summary.state_end) > end
        {
            disk.remove(&name)
                .map_err(OpenError::io(format!("removing {name}")))?;
        }
    }
    Ok(())
}

fn cut_files(disk: &dyn Disk, store_id: u128, end: u64) -> io::Result<()> {
    let listed = disk.list()?;
    // What was published is of the log as it was; spare and reserve are made anew, and their room may be needed.
    for name in [PUBLISHED_FILE, SPARE_FILE].iter().chain(&RESERVE_FILES) {
        if listed.iter().any(|file| file.name == *name) {
            disk.remove(name)?;
        }
    }
    let mut last = None;
    for file in &listed {
        match (log_base(&file.name), index_base(&file.name)) {
            (Some(base), _) if base >= end => discard(disk, &file.name, store_id)?,
            (_, Some(base)) if base >= end => disk.remove(&file.name)?,
            (Some(base), _) => last = last.max(Some(base)),
            _ => {}
        }
    }
    let Some(base) = last else { return Ok(()) };
    let name = log_name(base);
    let len = SEGMENT_HEADER_LEN + (end - base);
    if disk.open(&name, Access::Read)?.len()? <= len || is_foreign(disk, &name, store_id)? {
        return Ok(());
    }
    // What the disk does not give stays zero, and is damage as before.
    let (mut bytes, _) = read_records(disk, base, end)?;
    bytes.splice(0..0, SegmentHeader { base, store_id }.encode());
    if listed.iter().any(|file| file.name == index_name(base)) {
        disk.remove(&index_name(base))?;
    }
    write_whole(disk, &name, &bytes)
}
