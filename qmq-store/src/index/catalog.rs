//! All subjects of a store, and where their messages stand.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;
use parking_lot::RwLock;

use super::active::{Entry, Subject};
use super::sealed::{IndexDamaged, SealedIndex, Share};
use crate::error::Error;
use crate::log::epochs::Epochs;
use crate::log::segment::Segment;

/// Orders a set of subjects by name without storing the name twice.
#[derive(Debug)]
struct ByName(Arc<Subject>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

/// The subjects, by name and by number. Numbers are given in the order of first appearance in the log, so a replay gives the same.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    by_name: RwLock<HashSet<ByName, RandomState>>,
    by_id: RwLock<Vec<Arc<Subject>>>,
    /// Beside the subjects, since a replay makes both and a checkpoint keeps both.
    pub(crate) epochs: Epochs,
    /// Offset as of which the groups stand, if the log of a replica may not have reached it yet.
    pub(crate) state_end: AtomicU64,
}

impl Catalog {
    /// See `state_end`; 0 if the log reaches it with `end`.
    pub(crate) fn state_beyond(&self, end: u64) -> u64 {
        let state_end = self.state_end.load(Ordering::Relaxed);
        if end < state_end { state_end } else { 0 }
    }

    #[inline]
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Subject>> {
        self.by_name
            .read()
            .get(name)
            .map(|entry| Arc::clone(&entry.0))
    }

    /// The subject of that name, for a caller who counts on it.
    pub(crate) fn known(&self, name: &str) -> Result<Arc<Subject>, Error> {
        self.get(name).ok_or_else(|| Error::UnknownSubject {
            subject: name.to_owned(),
        })
    }

    pub(crate) fn by_id(&self, id: u32) -> Option<Arc<Subject>> {
        self.by_id.read().get(id as usize).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.read().len()
    }

    /// All subjects, in the order of their numbers.
    pub(crate) fn all(&self) -> Vec<Arc<Subject>> {
        self.by_id.read().clone()
    }

    /// Their names, in the same order.
    pub(crate) fn names(&self) -> Vec<String> {
        let named = |subject: &Arc<Subject>| subject.name.to_string();
        self.all().iter().map(named).collect()
    }

    pub(crate) fn reserve(&self, subjects: usize) {
        self.by_id.write().reserve_exact(subjects);
        self.by_name.write().reserve(subjects);
    }

    /// Adds a subject that stands at sequence `next`. The caller holds the append lock, or is recovery, and has looked for the
    /// name before.
    pub(crate) fn create(&self, name: &str, next: u64) -> Arc<Subject> {
        let subject = self.prepare(name, next);
        self.admit(&subject);
        subject
    }

    /// A subject that nobody can find before `admit`. The append lock is held from here to there, so its number stays free.
    pub(crate) fn prepare(&self, name: &str, next: u64) -> Arc<Subject> {
        Arc::new(Subject::new(self.len() as u32, name, next))
    }

    /// Lets everybody find a subject.
    pub(crate) fn admit(&self, subject: &Arc<Subject>) {
        self.by_id.write().push(Arc::clone(subject));
        self.by_name.write().insert(ByName(Arc::clone(subject)));
    }
}

/// The index of a segment does not say what it should, or its file says nothing.
#[derive(Clone, Debug)]
pub(crate) struct DamagedIndex(pub(crate) Arc<Segment>, Option<Arc<io::Error>>);

impl DamagedIndex {
    fn unreadable(segment: &Arc<Segment>, error: io::Error) -> Self {
        Self(Arc::clone(segment), Some(Arc::new(error)))
    }

    /// Whether it is the file's content that is at fault, which can be made anew.
    pub(crate) fn check_readable(&self) -> Result<(), Error> {
        match &self.1 {
            Some(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Io {
                doing: format!("reading {}", self.0.index_file().name()),
                source: Arc::clone(error),
            }),
            _ => Ok(()),
        }
    }
}

/// Entries copied out of the memory index at a time, so that the subject's lock is held briefly.
const COPY_ENTRIES: usize = 256;

/// Calls `each` with the entries of a subject from sequence `from` on, in order, until it answers `false`, there is no more, or the first
/// whose record is not below `visible`. Entries that were retired are passed over.
pub(crate) fn walk(
    subject: &Subject,
    segments: &dyn Fn() -> Arc<Vec<Arc<Segment>>>,
    from: u64,
    visible: u64,
    mut each: impl FnMut(&Arc<Segment>, u64, Entry) -> bool,
) -> Result<(), DamagedIndex> {
    let mut from = from;
    let mut copied: Vec<Entry> = Vec::new();
    loop {
        let in_memory = {
            let index = subject.index.lock();
            // Behind what is in memory there may be a gap that damage left: never back.
            let following = index.runs().find(|run| run.first > from);
            let following = following.map_or(index.next, |run| run.first);
            if from >= index.next {
                return Ok(());
            }
            let run = index
                .runs()
                .find(|run| run.first <= from && from < run.end());
            run.map(|run| {
                let skip = (from - run.first) as usize;
                let until = run.entries.len().min(skip + COPY_ENTRIES);
                copied.clear();
                copied.extend_from_slice(&run.entries[skip..until]);
                run.segment
            })
            .ok_or(following)
        };
        let list = segments();
        match in_memory {
            Ok(base) => {
                let at = list.partition_point(|segment| segment.base < base);
                let Some(segment) = list.get(at).filter(|segment| segment.base == base) else {
                    // Retired between the two locks.
                    from += copied.len() as u64;
                    continue;
                };
                for entry in &copied {
                    if !is_visible(segment, *entry, visible) || !each(segment, from, *entry) {
                        return Ok(());
                    }
                    from += 1;
                }
            }
            Err(following) => {
                // Sealing publishes the file before it drops the memory, so what is not in memory is sealed, or retired.
                let Some((segment, index, share)) = find_sealed(&list, subject.id, from)?
                    .filter(|(_, _, share)| from < share.end())
                else {
                    from = following;
                    continue;
                };
                from = from.max(share.first);
                let region = index
                    .region()
                    .map_err(|error| DamagedIndex::unreadable(&segment, error))?;
                let mut more = true;
                let mut next = from;
                index
                    .entries(&region, share, from, |sequence, entry| {
                        more =
                            is_visible(&segment, entry, visible) && each(&segment, sequence, entry);
                        next = sequence + 1;
                        more
                    })
                    .map_err(|IndexDamaged| DamagedIndex(Arc::clone(&segment), None))?;
                if !more {
                    return Ok(());
                }
                from = next;
            }
        }
    }
}

#[inline]
fn is_visible(segment: &Segment, entry: Entry, visible: u64) -> bool {
    entry.position == super::active::HOLE || segment.base + u64::from(entry.position) * 8 < visible
}

type SealedShare = (Arc<Segment>, Arc<SealedIndex>, Share);

/// A subject's share of one sealed segment; a subject that came later has an empty share at 0.
fn share_of(
    segment: &Arc<Segment>,
    subject: u32,
) -> Result<Option<(Arc<SealedIndex>, Share)>, DamagedIndex> {
    let Some(index) = segment.sealed() else {
        return Ok(None);
    };
    let damaged = |_| DamagedIndex(Arc::clone(segment), None);
    let region = index
        .region()
        .map_err(|error| DamagedIndex::unreadable(segment, error))?;
    let share = index.share(&region, subject).map_err(damaged)?;
    Ok(share.map(|share| (index, share)))
}

/// The last sealed segment whose share begins at or before `from`; the first one with a share if all begin later.
fn find_sealed(
    segments: &[Arc<Segment>],
    subject: u32,
    from: u64,
) -> Result<Option<SealedShare>, DamagedIndex> {
    let sealed = segments.partition_point(|segment| segment.sealed().is_some());
    let (mut low, mut high) = (0, sealed);
    while low < high {
        let middle = usize::midpoint(low, high);
        let starts_by_then =
            share_of(&segments[middle], subject)?.is_none_or(|(_, share)| share.first <= from);
        if starts_by_then {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let at = low.saturating_sub(1);
    for segment in segments[..sealed].get(at..).unwrap_or_default() {
        if let Some((index, share)) = share_of(segment, subject)? {
            return Ok(Some((Arc::clone(segment), index, share)));
        }
    }
    Ok(None)
}

/// The first sequence of a subject that is still kept; its next one if none is.
pub(crate) fn floor(subject: &Subject, segments: &[Arc<Segment>]) -> Result<u64, DamagedIndex> {
    let Some(first) = segments.first() else {
        return Ok(subject.index.lock().next);
    };
    if first.sealed().is_some() {
        return Ok(share_of(first, subject.id)?.map_or(0, |(_, share)| share.first));
    }
    let index = subject.index.lock();
    Ok(index.runs().next().map_or(index.next, |run| run.first))
}
