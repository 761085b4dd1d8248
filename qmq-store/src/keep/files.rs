//! Files written whole, so that a crash leaves the old one or the new one, and segments read whole by calls, so that a bad page is an error and not
//! a signal.

use std::io;

use crate::disk::{Access, Disk, DiskFile};
use crate::log::segment::{SEGMENT_HEADER_LEN, Segment, SegmentHeader, index_name, log_name};

/// Ends the name of a file that is being written.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Writes an index file whole: under another name, synced, then renamed. Its name becomes durable with the next checkpoint.
pub(crate) fn write_index(disk: &dyn Disk, base: u64, bytes: &[u8]) -> io::Result<()> {
    write_whole(disk, &index_name(base), bytes)
}

/// Of a temporary name, the name that the file would have got.
pub(crate) fn temporary_of(name: &str) -> Option<&str> {
    name.strip_suffix(TEMPORARY)
}

/// Writes a file whole or not at all: under a temporary name, synced, then renamed.
pub(crate) fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}{TEMPORARY}");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let file = disk.create(&temporary, bytes.len() as u64)?;
        file.write_at(bytes, 0)?;
        file.sync()
    };
    if let Err(error) = write() {
        // What is left behind would only take room; the next open removes it as well.
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    disk.rename(&temporary, name)
}

/// Whether the file of this name is a segment of another store than `store_id`.
pub(crate) fn is_foreign(disk: &dyn Disk, name: &str, store_id: u128) -> io::Result<bool> {
    let mut head = [0; SEGMENT_HEADER_LEN as usize];
    let read = disk
        .open(name, Access::Read)
        .and_then(|file| file.read_at(&mut head, 0));
    match read {
        Ok(()) => Ok(SegmentHeader::is_foreign(&head, store_id)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => Ok(false),
            _ => Err(error),
        },
    }
}

/// Gives a file of another store a name that is no store's: it may be the only one of its kind.
pub(crate) fn set_aside(disk: &dyn Disk, name: &str) -> io::Result<()> {
    let mut aside = format!("{name}.foreign");
    while disk.open(&aside, Access::Read).is_ok() {
        aside.push('~');
    }
    disk.rename(name, &aside)
}

/// Removes a file of the log, or sets it aside if it is another store's.
pub(crate) fn discard(disk: &dyn Disk, name: &str, store_id: u128) -> io::Result<()> {
    // A header that cannot be read says nothing.
    if is_foreign(disk, name, store_id).unwrap_or(false) {
        set_aside(disk, name)
    } else {
        disk.remove(name)
    }
}

/// Bytes of a segment, and offset and length in the log of what could not be read of it (zero in the bytes).
pub(crate) type SegmentBytes = (Vec<u8>, Vec<(u64, u64)>);

/// Reads all bytes of a segment's records by calls. Pages that cannot be read are left zero and reported.
pub(crate) fn read_segment(
    disk: &dyn Disk,
    segment: &Segment,
    until: u64,
) -> io::Result<SegmentBytes> {
    read_records(disk, segment.base, until)
}

/// As [`read_segment`], for the segment that starts at `base`.
pub(crate) fn read_records(disk: &dyn Disk, base: u64, until: u64) -> io::Result<SegmentBytes> {
    const PIECE: usize = 1 << 20;
    let file = disk.open(&log_name(base), Access::Read)?;
    // Of an open-ended segment, what was never written is not read: an open costs what was written.
    let end = if until == u64::MAX {
        file.data_end()?
    } else {
        file.len()?
    };
    let there = end.saturating_sub(SEGMENT_HEADER_LEN).min(until - base);
    let mut bytes = vec![0; there as usize];
    let mut unreadable = Vec::new();
    for (number, piece) in bytes.chunks_mut(PIECE).enumerate() {
        let offset = (number * PIECE) as u64;
        read_around_bad_pages(
            &*file,
            piece,
            SEGMENT_HEADER_LEN + offset,
            &mut |at, len| {
                unreadable.push((base + offset + at, len));
            },
        );
    }
    Ok((bytes, unreadable))
}

/// Fills `piece` from `position` by calls. Pages that cannot be read are left zero, and told by where they are in the piece, and their length.
pub(crate) fn read_around_bad_pages(
    file: &dyn DiskFile,
    piece: &mut [u8],
    position: u64,
    bad: &mut dyn FnMut(u64, u64),
) {
    if file.read_at(piece, position).is_ok() {
        return;
    }
    for (number, page) in piece.chunks_mut(4096).enumerate() {
        let at = number as u64 * 4096;
        if file.read_at(page, position + at).is_err() {
            page.fill(0);
            bad(at, page.len() as u64);
        }
    }
}
