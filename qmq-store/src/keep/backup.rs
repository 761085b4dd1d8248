//! A copy of a live store in another folder.
//!
//! One cut: a checkpoint is taken, then the log is copied up to where it was synced after that, so that no action is newer than the messages that it
//! names. The copy gets an identity of its own, and is verified by opening it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint;
use super::files::{is_foreign, write_whole};
use super::folder::{UNFINISHED_FILE, check_empty, check_finished};
use super::housekeeper;
use super::identity::{IDENTITY_FILE, Identity};
use super::opening::new_store_id;
use super::verify::VerifyReport;
use crate::disk::{Access, Disk, MappedDisk};
use crate::error::Error;
use crate::index::sealed::{HEADER_LEN as INDEX_HEADER_LEN, handed_over};
use crate::log::segment::{SEGMENT_HEADER_LEN, Segment, SegmentHeader};
use crate::options::{Background, Options};
use crate::store::{Inner, Store};

/// What a backup copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Segments copied.
    pub segments: u64,
    /// Bytes of log copied.
    pub bytes: u64,
    /// The cut: everything before this offset is in the copy.
    pub end_offset: u64,
    /// Identity of the copy.
    pub store_id: u128,
    /// What reading the copy back showed.
    pub verified: VerifyReport,
}

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;

impl Store {
    /// Copies the store to the folder `to`, which must not exist or be empty, while it works. `progress` is told bytes done and bytes in all.
    /// Nothing is retired meanwhile.
    ///
    /// # Errors
    /// [`Error::Open`] with `NotAStore` if `to` holds files; [`Error::Io`]; what opening the copy says.
    pub fn backup(
        &self,
        to: impl AsRef<Path>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupReport, Error> {
        let to = to.as_ref();
        let disk =
            MappedDisk::open(to, true).map_err(Error::io(format!("creating {}", to.display())))?;
        self.backup_on(Arc::new(disk), progress)
    }

    /// As [`Store::backup`], to any [`Disk`].
    ///
    /// # Errors
    /// As [`Store::backup`].
    pub fn backup_on(
        &self,
        to: Arc<dyn Disk>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupReport, Error> {
        let mut report = self.inner.copy_to(&*to, progress)?;
        let options = Options {
            background: Background::Manual,
            clock: Arc::clone(&self.inner.options.clock),
            retention: crate::Retention {
                max_age: None,
                ..crate::Retention::default()
            },
            ..Options::with_segment_bytes(self.inner.options.segment_bytes)
        };
        let copy = Self::open_on(to, options)?;
        report.verified = copy.verify(&mut |_, _| {})?;
        report
            .verified
            .damages
            .extend(copy.open_report().damages.iter().cloned());
        copy.close()?;
        Ok(report)
    }
}

impl Inner {
    fn copy_to(
        &self,
        to: &dyn Disk,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupReport, Error> {
        self.check_open()?;
        self.check_caught_up()?;
        check_finished(to)?;
        check_empty(to)?;
        let _held = self.hold_retention();
        let (checkpoint_name, mut checkpoint_bytes) = {
            let _step = self.housekeeping.lock();
            housekeeper::checkpoint(self)?;
            newest_checkpoint(&*self.log.disk).map_err(Error::io("reading the checkpoint"))?
        };
        let end = self.log.settled_end();
        self.sync_to(end)?;
        let segments: Vec<_> = self
            .segments()
            .iter()
            .filter(|segment| segment.base < end)
            .cloned()
            .collect();
        let start = segments.first().map_or(end, |segment| segment.base);
        let identity = Identity {
            store_id: new_store_id(
                self.options
                    .identity_seed
                    .map(|seed| seed.wrapping_add(end).wrapping_add(1)),
            ),
            created_ms: self.options.clock.now_ms(),
            incarnation: self.log.incarnation() + 1,
            clean_end: None,
            replica: false,
            held: self.options.retention_hold.is_some(),
            cut: None,
        };
        write_whole(to, UNFINISHED_FILE, &identity.encode())
            .and_then(|()| to.sync_names())
            .map_err(Error::io("writing the copy's identity"))?;
        for segment in &segments {
            let name = segment.data().name();
            copy_segment(&*self.log.disk, to, segment, end, identity.store_id)
                .map_err(Error::io(format!("copying {name}")))?;
            progress(segment.end().unwrap_or(end).min(end) - start, end - start);
        }
        checkpoint::hand_over(&mut checkpoint_bytes, identity.store_id);
        write_whole(to, &checkpoint_name, &checkpoint_bytes)
            .and_then(|()| to.sync_names())
            .map_err(Error::io("writing the copy's checkpoint"))?;
        // Only now is the copy a store.
        to.rename(UNFINISHED_FILE, IDENTITY_FILE)
            .and_then(|()| to.sync_names())
            .map_err(Error::io("naming the copy's identity"))?;
        Ok(BackupReport {
            segments: segments.len() as u64,
            bytes: end - start,
            end_offset: end,
            store_id: identity.store_id,
            verified: VerifyReport::default(),
        })
    }
}

fn newest_checkpoint(disk: &dyn Disk) -> io::Result<(String, Vec<u8>)> {
    let name = checkpoint::names(disk)?
        .pop()
        .ok_or(io::ErrorKind::NotFound)?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{name} is damaged"));
    let bytes = checkpoint::read_bytes(disk, &name)?.ok_or_else(damaged)?;
    Ok((name, bytes))
}

fn copy_segment(
    from: &dyn Disk,
    to: &dyn Disk,
    segment: &Segment,
    until: u64,
    store_id: u128,
) -> io::Result<()> {
    let end = segment.end().unwrap_or(until).min(until);
    let len = SEGMENT_HEADER_LEN + (end - segment.base);
    let header = SegmentHeader {
        base: segment.base,
        store_id,
    }
    .encode();
    // What is another store's stays so, and is not made to look like ours.
    let foreign = is_foreign(from, segment.data().name(), segment.data().store_id())?;
    let head: &[u8] = if foreign { &[] } else { &header };
    copy_file(from, to, segment.data().name(), len, head)?;
    if segment.sealed().is_some() && end == segment.end().unwrap_or(u64::MAX) {
        let index = from.open(segment.index_file().name(), Access::Read)?;
        let len = index.len()?;
        let mut head = [0; INDEX_HEADER_LEN];
        let head = match index.read_at(&mut head, 0) {
            Ok(()) => handed_over(&head, segment.data().store_id(), store_id),
            Err(_) => None,
        };
        let head = head.as_ref().map_or(&[][..], |head| &head[..]);
        copy_file(from, to, segment.index_file().name(), len, head)?;
    }
    Ok(())
}

/// Copies `len` bytes of a file, with `head` in place of its first bytes.
fn copy_file(from: &dyn Disk, to: &dyn Disk, name: &str, len: u64, head: &[u8]) -> io::Result<()> {
    let source = from.open(name, Access::Read)?;
    let target = to.create(name, len)?;
    let mut piece = vec![0; PIECE.min(len as usize)];
    let mut at = 0;
    while at < len {
        let take = (piece.len() as u64).min(len - at) as usize;
        source.read_at(&mut piece[..take], at)?;
        if at == 0 {
            piece[..head.len()].copy_from_slice(head);
        }
        target.write_at(&piece[..take], at)?;
        at += take as u64;
    }
    target.sync()
}
