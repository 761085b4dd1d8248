//! Which records are needed still: how many of each stretch of the log, and of each file of bodies that were moved out of it.

use std::collections::BTreeMap;

use crate::event::take;

/// Sequences of a stretch.
const STRETCH: u64 = 1_024;

/// A file of moved records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Number of the file.
    pub(crate) number: u64,
    /// Records in it that are needed.
    pub(crate) live: u64,
    /// Records in it.
    pub(crate) count: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Records before this sequence are in files, or not needed.
    moved_below: u64,
    /// By the first sequence that may be in it; it goes on to that of the next, or to `moved_below`.
    files: BTreeMap<u64, Moved>,
    stretches: BTreeMap<u64, u32>,
}

impl Needed {
    pub(crate) fn add(&mut self, sequence: u64) {
        *self.stretches.entry(sequence / STRETCH).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, sequence: u64) {
        if sequence < self.moved_below {
            if let Some((_, file)) = self.files.range_mut(..=sequence).next_back() {
                file.live = file.live.saturating_sub(1);
            }
            return;
        }
        let stretch = sequence / STRETCH;
        if let Some(count) = self.stretches.get_mut(&stretch) {
            *count -= 1;
            if *count == 0 {
                self.stretches.remove(&stretch);
            }
        }
    }

    /// No record of the log before this sequence is needed; `None`: none is at all.
    pub(crate) fn first(&self) -> Option<u64> {
        let first = self.stretches.keys().next()?;
        Some((first * STRETCH).max(self.moved_below))
    }

    /// Records of the log before a sequence, where a stretch starts, that are needed.
    pub(crate) fn count_before(&self, end: u64) -> u64 {
        let before = self.stretches.range(..end / STRETCH);
        before.map(|(_, count)| u64::from(*count)).sum()
    }

    pub(crate) fn moved_below(&self) -> u64 {
        self.moved_below
    }

    /// The file that has a record, if it was moved.
    pub(crate) fn file_of(&self, sequence: u64) -> Option<u64> {
        let file = self.files.range(..=sequence).next_back();
        file.filter(|_| sequence < self.moved_below)
            .map(|(_, file)| file.number)
    }

    /// Files in the order of their records, each with its first sequence.
    pub(crate) fn files(&self) -> impl Iterator<Item = (u64, Moved)> {
        self.files.iter().map(|(&first, &file)| (first, file))
    }

    /// Where the stretch begins that has a sequence.
    pub(crate) fn stretch_start(sequence: u64) -> u64 {
        sequence - sequence % STRETCH
    }

    /// Where the stretch ends that has a sequence.
    pub(crate) fn stretch_end(sequence: u64) -> u64 {
        Self::stretch_start(sequence) + STRETCH
    }

    /// Records from `first` to before `end`, where a stretch starts, are in a file now, as far as they are needed.
    pub(crate) fn moved(&mut self, first: u64, end: u64, file: Moved) {
        if file.live > 0 {
            self.files.insert(first, file);
        }
        self.moved_below = end;
        self.stretches = self.stretches.split_off(&(end / STRETCH));
    }

    /// A file stands for another, and for the one behind that, if any.
    pub(crate) fn replaced(&mut self, first: u64, behind: Option<u64>, file: Moved) {
        self.files.insert(first, file);
        if let Some(behind) = behind {
            self.files.remove(&behind);
        }
    }

    /// Forgets files of which nothing is needed.
    pub(crate) fn drop_empty(&mut self) {
        self.files.retain(|_, file| file.live > 0);
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.moved_below.to_le_bytes());
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for (first, file) in &self.files {
            for word in [*first, file.number, file.live, file.count] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        out.extend_from_slice(&(self.stretches.len() as u32).to_le_bytes());
        for (stretch, count) in &self.stretches {
            out.extend_from_slice(&stretch.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        let mut needed = Self {
            moved_below: u64::from_le_bytes(take(input)?),
            ..Self::default()
        };
        for _ in 0..u32::from_le_bytes(take(input)?) {
            let mut word = || take(input).map(u64::from_le_bytes);
            let first = word()?;
            let (number, live, count) = (word()?, word()?, word()?);
            let file = Moved {
                number,
                live,
                count,
            };
            needed.files.insert(first, file);
        }
        for _ in 0..u32::from_le_bytes(take(input)?) {
            let stretch = u64::from_le_bytes(take(input)?);
            let count = u32::from_le_bytes(take(input)?);
            needed.stretches.insert(stretch, count);
        }
        Some(needed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_was_moved_counts_in_its_file_and_no_longer_in_the_log() {
        let mut needed = Needed::default();
        for sequence in [3, 5, STRETCH, 2 * STRETCH + 7] {
            needed.add(sequence);
        }
        assert_eq!(needed.first(), Some(0));
        let file = |number, live| Moved {
            number,
            live,
            count: 3,
        };
        needed.moved(0, 2 * STRETCH, file(9, 3));
        assert_eq!(needed.first(), Some(2 * STRETCH));
        assert_eq!(needed.file_of(5), Some(9));
        assert_eq!(needed.file_of(2 * STRETCH), None);
        needed.remove(5);
        needed.remove(2 * STRETCH + 7);
        assert_eq!(needed.files().collect::<Vec<_>>(), [(0, file(9, 2))]);
        assert_eq!(needed.first(), None);
        let mut bytes = Vec::new();
        needed.encode(&mut bytes);
        assert_eq!(Needed::decode(&mut &bytes[..]), Some(needed.clone()));
        needed.remove(3);
        needed.remove(STRETCH);
        needed.drop_empty();
        assert_eq!(needed.files().count(), 0);
    }
}
