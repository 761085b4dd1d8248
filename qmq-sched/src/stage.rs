//! Entries that no run has yet, in the order in which they came; each thousand of them is put in order of their keys, to be found.

use crate::entry::{Entry, Key};

const PIECE: usize = 1_024;

/// See the module.
#[derive(Clone, Debug, Default)]
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
    pub(crate) fn into_sorted(mut self) -> Vec<Entry> {
        // Stable on purpose: this sort makes use of pieces that are in order already.
        self.0.sort();
        self.0
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
            let sorted = stage.into_sorted();
            prop_assert_eq!(sorted.len(), dues.len());
            prop_assert!(sorted.is_sorted());
        }
    }
}
