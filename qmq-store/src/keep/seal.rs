//! Turns the memory index of a finished segment into a file, and rebuilds such a file from its segment.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::disk::{Access, Disk};
use crate::index::active::{Entry, HOLE, Run};
use crate::index::catalog::Catalog;
use crate::index::sealed::{IndexBuilder, SealedIndex};
use crate::log::record::Kind;
use crate::log::scan::{Found, Scan};
use crate::log::segment::{SEGMENT_HEADER_LEN, Segment, index_name, log_name};
use crate::log::{Log, SealJob};

/// Seals the oldest finished segment. `false`: there is none.
pub(crate) fn seal_next(log: &Log, catalog: &Catalog) -> io::Result<bool> {
    let Some(job) = log.next_to_seal() else {
        return Ok(false);
    };
    match seal(log, catalog, &job) {
        Ok(()) => {
            log.sealed_one();
            Ok(true)
        }
        Err(error) => {
            log.seal_failed(job);
            Err(error)
        }
    }
}

fn seal(log: &Log, catalog: &Catalog, job: &SealJob) -> io::Result<()> {
    let Some(end) = job.segment.end() else {
        return Ok(());
    };
    let base = job.segment.base;
    if log.sync_to(end).is_err() {
        return Err(io::Error::other("the log takes no more writes"));
    }
    // The blocks beyond the last record go back to the disk.
    job.file.set_len(SEGMENT_HEADER_LEN + (end - base))?;
    job.file.sync()?;
    let mut touched = job.touched.clone();
    touched.sort_unstable();
    let mut touched = touched.into_iter().peekable();
    let subjects = catalog.all();
    let mut builder = IndexBuilder::new(base, job.subjects as usize);
    for subject in subjects.iter().take(job.subjects as usize) {
        let index = subject.index.lock();
        if touched.next_if_eq(&subject.id).is_some() {
            builder.subject(index.reached_before(base), index.run_of(base));
        } else {
            builder.subject(index.reached_before(base), None);
        }
    }
    let times = times(&job.segment);
    let bytes = builder.finish(end, times.0, times.1);
    log.with_reserve(|| write_index(&*log.disk, base, &bytes))?;
    let index = SealedIndex::open(job.segment.index_file().clone(), base, end)
        .map_err(|_| io::Error::other(format!("{} does not read back", index_name(base))))?;
    job.segment.set_sealed(Some(Arc::new(index)));
    for subject in &job.touched {
        if let Some(subject) = catalog.by_id(*subject) {
            subject.index.lock().drop_run(base);
        }
    }
    Ok(())
}

fn times(segment: &Segment) -> (u64, u64) {
    use std::sync::atomic::Ordering::Relaxed;
    (
        segment.first_time_ms.load(Relaxed),
        segment.last_time_ms.load(Relaxed),
    )
}

/// Writes an index file whole: under another name, synced, then renamed. Its name becomes durable with the next checkpoint.
pub(crate) fn write_index(disk: &dyn Disk, base: u64, bytes: &[u8]) -> io::Result<()> {
    write_whole(disk, &index_name(base), bytes)
}

/// Writes a file whole or not at all: under a temporary name, synced, then renamed.
pub(crate) fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
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
        if file.read_at(piece, SEGMENT_HEADER_LEN + offset).is_ok() {
            continue;
        }
        for (part, page) in piece.chunks_mut(4096).enumerate() {
            let offset = offset + part as u64 * 4096;
            if file.read_at(page, SEGMENT_HEADER_LEN + offset).is_err() {
                page.fill(0);
                unreadable.push((base + offset, page.len() as u64));
            }
        }
    }
    Ok((bytes, unreadable))
}

/// Rebuilds the index of a finished segment from its records. `before` tells where each subject stood when the segment began, if known;
/// `after` where it stood when it ended. Messages that are not found any more become holes.
pub(crate) fn rebuild_index(
    log_disk: &dyn Disk,
    catalog: &Catalog,
    segment: &Segment,
    before: &dyn Fn(u32) -> Option<u64>,
    after: &dyn Fn(u32) -> u64,
) -> io::Result<Vec<u8>> {
    let Some(end) = segment.end() else {
        return Err(io::Error::other("the segment is still being written"));
    };
    let (bytes, _) = match read_segment(log_disk, segment, end) {
        // A lost segment: all its messages are holes.
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), Vec::new()),
        read => read?,
    };
    let mut found: BTreeMap<u32, BTreeMap<u64, Entry>> = BTreeMap::new();
    let mut scan = Scan::new(&bytes, segment.base);
    let (mut first_time, mut last_time) = (u64::MAX, 0);
    while let Some(thing) = scan.next() {
        let (header, name) = match &thing {
            Found::Record { record, .. } => (record.header, record.subject),
            Found::BadBody { header, subject } => (*header, *subject),
            Found::Garbage { .. } | Found::Zeros { .. } => continue,
        };
        first_time = first_time.min(header.time_ms);
        last_time = last_time.max(header.time_ms);
        if header.kind != Kind::Message {
            continue;
        }
        if let Some(subject) = catalog.get(name) {
            let position = ((header.offset - segment.base) / 8) as u32;
            let entry = Entry {
                position,
                tag_fingerprint: header.tag_fingerprint,
            };
            found
                .entry(subject.id)
                .or_default()
                .insert(header.sequence, entry);
        }
    }
    let subjects = catalog.len() as u32;
    let mut builder = IndexBuilder::new(segment.base, subjects as usize);
    for id in 0..subjects {
        let entries = found.remove(&id).unwrap_or_default();
        let end = entries
            .keys()
            .next_back()
            .map_or(0, |last| last + 1)
            .max(after(id));
        let first = before(id)
            .or_else(|| entries.keys().next().copied())
            .unwrap_or(end)
            .min(end);
        let run = fill_holes(segment, first, end, &entries);
        builder.subject(first, (!run.entries.is_empty()).then_some(&run));
    }
    Ok(builder.finish(
        end,
        if first_time == u64::MAX {
            0
        } else {
            first_time
        },
        last_time,
    ))
}

fn fill_holes(segment: &Segment, first: u64, end: u64, found: &BTreeMap<u64, Entry>) -> Run {
    // No segment holds more records than it has room for: a wider gap is a damaged neighbour, not lost messages.
    let most = (segment.end().unwrap_or(segment.base) - segment.base) / 64 + 1;
    let end = end.min(first.saturating_add(most));
    let hole = Entry {
        position: HOLE,
        tag_fingerprint: u32::MAX,
    };
    let entries = (first..end)
        .map(|sequence| found.get(&sequence).copied().unwrap_or(hole))
        .collect();
    Run {
        segment: segment.base,
        first,
        entries,
    }
}
