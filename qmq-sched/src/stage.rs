//! Entries that no run has yet, in the order in which they came; each thousand of them is put in order of their keys, to be found.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::entry::{Entry, Key};

const PIECE: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Stage(Vec<Entry>);

impl Stage {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
        if self.0.len().is_multiple_of(PIECE) {
            let start = self.0.len() - PIECE;
            self.0[start..].sort_unstable();
        }
    }

    pub(crate) fn find(&self, key: Key) -> Option<Entry> {
        let (pieces, rest) = self.0.as_chunks::<PIECE>();
        let in_piece = |piece: &[Entry; PIECE]| {
            let at = piece.binary_search_by_key(&key, |entry| entry.key).ok()?;
            Some(piece[at])
        };
        let in_rest = rest.iter().find(|entry| entry.key == key).copied();
        in_rest.or_else(|| pieces.iter().rev().find_map(in_piece))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// All of them, in order.
    pub(crate) fn sorted(&self) -> Sorted<'_> {
        let (pieces, rest) = self.0.as_chunks::<PIECE>();
        let mut rest = rest.to_vec();
        rest.sort_unstable_by(|a, b| b.cmp(a));
        let mut sorted = Sorted {
            pieces: pieces.iter().map(|piece| piece.iter()).collect(),
            rest,
            first: BinaryHeap::new(),
        };
        for piece in 0..=pieces.len() {
            sorted.look_at(piece);
        }
        sorted
    }
}

/// Merges the pieces, so that nothing is copied but the last.
#[derive(Debug)]
pub(crate) struct Sorted<'a> {
    pieces: Vec<std::slice::Iter<'a, Entry>>,
    /// What is not a piece yet, the first at the end.
    rest: Vec<Entry>,
    /// The first of each, and of which piece it is.
    first: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Sorted<'_> {
    fn look_at(&mut self, piece: usize) {
        let next = match self.pieces.get_mut(piece) {
            Some(piece) => piece.next().copied(),
            None => self.rest.pop(),
        };
        self.first.extend(next.map(|entry| Reverse((entry, piece))));
    }
}

impl Iterator for Sorted<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let Reverse((entry, piece)) = self.first.pop()?;
        self.look_at(piece);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::Origin;

    proptest! {
        #[test]
        fn what_was_staged_is_found(dues in prop::collection::vec(0_u64..100, 0..3_000)) {
            let mut stage = Stage::default();
            for (slot, due_ms) in dues.iter().copied().enumerate() {
                let key = Key { due_ms, slot: slot as u32 };
                stage.push(Entry { key, sequence: 9, subject: 0, body_len: 0, origin: Origin::Scheduled });
            }
            for (slot, due_ms) in dues.iter().copied().enumerate() {
                let key = Key { due_ms, slot: slot as u32 };
                prop_assert_eq!(stage.find(key).map(|entry| entry.key), Some(key));
                prop_assert_eq!(stage.find(Key { due_ms: due_ms + 100, ..key }), None);
            }
            let sorted: Vec<Entry> = stage.sorted().collect();
            prop_assert_eq!(sorted.len(), dues.len());
            prop_assert!(sorted.is_sorted());
        }
    }
}
