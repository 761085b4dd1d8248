//! Makes the index file of a sealed segment anew, from the segment and what its neighbours say.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::files::{is_foreign, read_segment, write_index};
use crate::disk::Disk;
use crate::index::active::{Entry, HOLE, Run};
use crate::index::catalog::Catalog;
use crate::index::sealed::{IndexBuilder, IndexDamaged, SealedIndex, Share};
use crate::log::record::Kind;
use crate::log::scan::{Found, Scan};
use crate::log::segment::Segment;

/// Makes the index file of the finished segment `segments[at]` anew and puts it in the place of the one there, if any.
pub(crate) fn rebuild(
    disk: &dyn Disk,
    catalog: &Catalog,
    segments: &[Arc<Segment>],
    at: usize,
) -> io::Result<()> {
    let segment = &segments[at];
    let (before, after) = neighbours(segments, at, catalog);
    let bytes = rebuild_index(disk, catalog, segment, &before, &after)?;
    write_index(disk, segment.base, &bytes)?;
    segment.index_file().forget();
    let end = segment.end().unwrap_or(segment.base);
    let index = SealedIndex::open(segment.index_file().clone(), segment.base, end)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not read back"))?;
    segment.set_sealed(Some(Arc::new(index)));
    Ok(())
}

/// Rebuilds the index of a finished segment from its records. `before` tells where each subject stood when the segment began, if known;
/// `after` where it stood when it ended. Messages that are not found any more become holes.
fn rebuild_index(
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
        // A segment that is lost, or not ours: all its messages are holes.
        Ok(_) if is_foreign(log_disk, segment.data().name(), segment.data().store_id())? => {
            (Vec::new(), Vec::new())
        }
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
    let mut builder = IndexBuilder::new(segment.data().store_id(), segment.base, subjects as usize);
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

type Bound<'a, T> = Box<dyn Fn(u32) -> T + 'a>;

/// Where each subject stood before and after the segment `at`, from its neighbours.
fn neighbours<'a>(
    segments: &'a [Arc<Segment>],
    at: usize,
    catalog: &'a Catalog,
) -> (Bound<'a, Option<u64>>, Bound<'a, u64>) {
    let share = |segment: &Arc<Segment>, id: u32| -> Result<Option<Share>, IndexDamaged> {
        let index = segment.sealed().ok_or(IndexDamaged)?;
        let region = index.region().map_err(|_| IndexDamaged)?;
        index.share(&region, id)
    };
    let before = move |id| {
        let previous = at.checked_sub(1).map(|previous| &segments[previous])?;
        // A subject without a share came later; where one stood that is damaged is not known.
        let share = share(previous, id).ok()?;
        Some(share.map_or(0, |share| share.end()))
    };
    let after = move |id| match segments.get(at + 1).filter(|next| next.sealed().is_some()) {
        Some(next) => share(next, id)
            .ok()
            .flatten()
            .map_or(0, |share| share.first),
        None => catalog.by_id(id).map_or(0, |subject| {
            let index = subject.index.lock();
            segments
                .get(at + 1)
                .map_or(index.next, |next| index.reached_before(next.base))
        }),
    };
    (Box::new(before), Box::new(after))
}
