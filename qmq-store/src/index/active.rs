//! The index of segments that are not sealed: per subject, in memory.

use std::sync::atomic::AtomicBool;

use std::sync::Arc;

use parking_lot::Mutex;

use crate::consume::Consumption;

/// Where a record stands: offset in its segment divided by 8, or [`HOLE`].
pub(crate) type Position = u32;

/// Position of a message whose record was found to be destroyed when the index was rebuilt.
pub(crate) const HOLE: Position = Position::MAX;

/// An index entry in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) tag_fingerprint: u32,
}

/// The entries of one subject in one segment, for consecutive sequences.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Base offset of the segment.
    pub(crate) segment: u64,
    /// Sequence of the first entry.
    pub(crate) first: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Run {
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// A subject's part of the index that is not in sealed files.
#[derive(Debug, Default)]
pub(crate) struct SubjectIndex {
    /// Sequence of the next message.
    pub(crate) next: u64,
    current: Run,
    /// Runs of segments that wait to be sealed, oldest first. Boxed, since most subjects have none and there are many subjects.
    #[expect(
        clippy::box_collection,
        reason = "16 bytes a subject, for a case that is rare"
    )]
    older: Option<Box<Vec<Run>>>,
}

impl SubjectIndex {
    pub(crate) fn starting_at(next: u64) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    /// Adds the entry of message `self.next`. Returns whether it is the subject's first in this segment.
    #[inline]
    pub(crate) fn push(&mut self, segment: u64, entry: Entry) -> bool {
        let first_here = self.current.entries.is_empty() || self.current.segment != segment;
        if first_here {
            self.start_run(segment);
        }
        self.current.entries.push(entry);
        self.next += 1;
        first_here
    }

    /// Recovery adds the entry of message `sequence`, in the order of the log. Messages of this segment that are missing before it become
    /// holes. `None`: the sequence has been seen before, which no healthy log has.
    pub(crate) fn restore(&mut self, segment: u64, sequence: u64, entry: Entry) -> Option<bool> {
        let last_end = self.runs().next_back().map(Run::end);
        if last_end.is_some_and(|end| sequence < end) {
            return None;
        }
        let first_here = self.current.entries.is_empty() || self.current.segment != segment;
        if first_here {
            let finished = std::mem::replace(
                &mut self.current,
                Run {
                    segment,
                    first: last_end.unwrap_or(sequence),
                    entries: Vec::new(),
                },
            );
            if !finished.entries.is_empty() {
                self.older.get_or_insert_default().push(finished);
            }
        }
        self.fill_holes(sequence);
        self.current.entries.push(entry);
        self.next = self.next.max(sequence + 1);
        Some(first_here)
    }

    /// Adds holes to the current run up to `end`.
    pub(crate) fn fill_holes(&mut self, end: u64) {
        let missing = end.saturating_sub(self.current.end()) as usize;
        let holes = std::iter::repeat_n(
            Entry {
                position: HOLE,
                tag_fingerprint: u32::MAX,
            },
            missing,
        );
        self.current.entries.extend(holes);
    }

    /// Recovery puts holes before the first entry in memory, down to `first`: that many messages were lost at the start of its segment.
    pub(crate) fn prepend_holes(&mut self, first: u64) {
        let run = match &mut self.older {
            Some(older) if !older.is_empty() => &mut older[0],
            _ => &mut self.current,
        };
        if run.entries.is_empty() || run.first <= first {
            return;
        }
        let missing = (run.first - first) as usize;
        let hole = Entry {
            position: HOLE,
            tag_fingerprint: u32::MAX,
        };
        run.entries.splice(0..0, std::iter::repeat_n(hole, missing));
        run.first = first;
    }

    /// Recovery: everything of the subject from `first` to `self.next` in this segment is lost.
    pub(crate) fn restore_lost(&mut self, segment: u64, first: u64) {
        if self.runs().next().is_none() {
            self.current = Run {
                segment,
                first,
                entries: Vec::new(),
            };
        }
        self.fill_holes(self.next);
    }

    fn start_run(&mut self, segment: u64) {
        let run = Run {
            segment,
            first: self.next,
            entries: Vec::new(),
        };
        let finished = std::mem::replace(&mut self.current, run);
        if !finished.entries.is_empty() {
            self.older.get_or_insert_default().push(finished);
        }
    }

    /// All runs in memory, oldest first.
    pub(crate) fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        let older = self.older.iter().flat_map(|runs| runs.iter());
        older.chain(std::iter::once(&self.current).filter(|run| !run.entries.is_empty()))
    }

    /// The sequence that the subject had reached when the segment at `base` began: what is in memory of this and later segments, or all.
    pub(crate) fn reached_before(&self, base: u64) -> u64 {
        self.runs()
            .find(|run| run.segment >= base)
            .map_or(self.next, |run| run.first)
    }

    pub(crate) fn run_of(&self, segment: u64) -> Option<&Run> {
        self.runs().find(|run| run.segment == segment)
    }

    /// Drops the run of a segment that has been sealed or retired.
    pub(crate) fn drop_run(&mut self, segment: u64) {
        if self.current.segment == segment {
            self.current = Run {
                segment,
                ..Run::default()
            };
        }
        if let Some(older) = &mut self.older {
            older.retain(|run| run.segment != segment);
            if older.is_empty() {
                self.older = None;
            }
        }
    }
}

/// Everything the store keeps in memory of one subject.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) id: u32,
    pub(crate) name: Arc<str>,
    pub(crate) index: Mutex<SubjectIndex>,
    pub(crate) consumption: Mutex<Consumption>,
    /// Whether anybody waits for a message; see `consume::wakeup`.
    pub(crate) has_waiters: AtomicBool,
}

impl Subject {
    pub(crate) fn new(id: u32, name: &str, next: u64) -> Self {
        Self {
            id,
            name: name.into(),
            index: Mutex::new(SubjectIndex::starting_at(next)),
            consumption: Mutex::new(Consumption::default()),
            has_waiters: AtomicBool::new(false),
        }
    }
}
