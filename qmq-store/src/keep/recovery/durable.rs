//! What was recovered is brought to the disk before anything is built on it.

use std::io;
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile};
use crate::error::is_full;
use crate::keep::files::TEMPORARY;
use crate::log::scan::first_nonzero;
use crate::log::segment::Segment;

/// Zeroes what follows `end` in the active segment, and syncs all segments that were replayed: what was recovered from the page cache may not be
/// on the disk yet, and what was cut must not come back.
///
/// What nothing says to be synced is written again first, under a name that is given again. A sync that failed in the process before this one has
/// left it in the page cache, marked clean: a sync alone would report success and write nothing.
pub(crate) fn make_durable(
    disk: &dyn Disk,
    segments: &[Arc<Segment>],
    synced: u64,
    end: u64,
) -> io::Result<()> {
    for segment in segments.iter().filter(|segment| segment.sealed().is_none()) {
        let open = || disk.open(segment.data().name(), Access::Write);
        let mut file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let until = segment.position(segment.end().unwrap_or(end));
        if synced > segment.base {
            write_again(&*file, segment.position(synced), until)?;
        } else {
            match write_anew(disk, segment.data().name(), &*file, until) {
                Err(error) if is_full(&error) => {
                    write_length_again(&*file)?;
                    write_again(&*file, 0, until)?;
                }
                outcome => outcome?,
            }
            segment.forget();
            file = open()?;
        }
        if segment.end().is_none() {
            zero_after(&*file, segment.position(end))?;
        }
        file.sync()?;
    }
    disk.sync_names()
}

/// Puts a copy in the place of a file, up to `until`; what follows is zeros.
fn write_anew(disk: &dyn Disk, name: &str, file: &dyn DiskFile, until: u64) -> io::Result<()> {
    let temporary = format!("{name}{TEMPORARY}");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let copy = disk.create(&temporary, file.len()?)?;
        pieces(file, 0, until, |at, piece| copy.write_at(piece, at))?;
        copy.sync()
    };
    write().inspect_err(|_| {
        // What is left behind would only take room.
        let _ = disk.remove(&temporary);
    })?;
    disk.rename(&temporary, name)
}

/// Sets another length and the old one again, where there is room for that.
fn write_length_again(file: &dyn DiskFile) -> io::Result<()> {
    let len = file.len()?;
    match file.set_len(len + 1) {
        Err(error) if is_full(&error) => Ok(()),
        outcome => outcome.and_then(|()| file.set_len(len)),
    }
}

fn write_again(file: &dyn DiskFile, from: u64, until: u64) -> io::Result<()> {
    pieces(file, from, until, |at, piece| file.write_at(piece, at))
}

/// Reads a part of a file, piece by piece.
fn pieces(
    file: &dyn DiskFile,
    from: u64,
    until: u64,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let until = until.min(file.len()?);
    let mut piece = Vec::new();
    let mut at = from;
    while at < until {
        let len = PIECE.min(until - at);
        piece.resize(len as usize, 0);
        file.read_at(&mut piece, at)?;
        take(at, &piece)?;
        at += len;
    }
    Ok(())
}

fn zero_after(file: &dyn DiskFile, from: u64) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let len = file.data_end()?;
    let mut at = from;
    let mut piece = Vec::new();
    while at < len {
        let take = PIECE.min(len - at);
        piece.resize(take as usize, 0);
        file.read_at(&mut piece, at)?;
        if let Some(dirty) = first_nonzero(&piece) {
            piece.fill(0);
            file.write_at(&piece[dirty..], at + dirty as u64)?;
        }
        at += take;
    }
    Ok(())
}
