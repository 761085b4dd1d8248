//! The near future in memory: every pending entry of a span of time before [`Window::end`], the first to be due on top.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::entry::{Entry, Key};

/// See the module.
#[derive(Debug)]
pub(crate) struct Window {
    heap: BinaryHeap<Reverse<Entry>>,
    start: Key,
    end: Key,
    /// Where its span of time ends.
    limit: Key,
    capacity: usize,
    /// The first entry that was passed over.
    passed: Option<Key>,
}

impl Window {
    /// Of the entries from `start` to `limit`.
    pub(crate) fn new(start: Key, limit: Key, capacity: usize) -> Self {
        Self {
            heap: BinaryHeap::new(),
            start,
            end: start,
            limit,
            capacity,
            passed: None,
        }
    }

    pub(crate) fn limit(&self) -> Key {
        self.limit
    }

    /// Whether all entries of its span are in memory.
    pub(crate) fn is_complete(&self) -> bool {
        self.end >= self.limit
    }

    /// Entries from here on are only in runs and in the stage.
    pub(crate) fn end(&self) -> Key {
        self.end
    }

    pub(crate) fn takes(&self, key: Key) -> bool {
        key < self.end
    }

    pub(crate) fn first(&self) -> Option<&Entry> {
        self.heap.peek().map(|Reverse(entry)| entry)
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Leaves the first entry aside until [`Self::look_again`].
    pub(crate) fn pass_over(&mut self) {
        if let Some(entry) = self.pop() {
            self.passed = Some(self.passed.map_or(entry.key, |first| first.min(entry.key)));
        }
    }

    /// The first entry that was passed over and not looked at again.
    pub(crate) fn passed(&self) -> Option<Key> {
        self.passed
    }

    /// Goes back to the first entry that was passed over.
    pub(crate) fn look_again(&mut self) {
        if let Some(first) = self.passed.take() {
            self.heap.clear();
            self.end = first;
        }
    }

    /// Takes an entry before the end. With twice the capacity the later half goes, and the end comes down to it.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.heap.push(Reverse(entry));
        if self.heap.len() >= 2 * self.capacity {
            let mut entries = std::mem::take(&mut self.heap).into_vec();
            entries.sort_unstable_by(|a, b| b.cmp(a));
            self.end = entries[self.capacity].0.key;
            entries.truncate(self.capacity);
            self.heap = entries.into();
        }
    }

    /// The next entries, in order, and where they end.
    pub(crate) fn refill(&mut self, entries: Vec<Entry>, end: Key) {
        self.heap.extend(entries.into_iter().map(Reverse));
        self.end = end;
    }

    /// Forgets everything, to be filled again from its start.
    pub(crate) fn rewind(&mut self) {
        self.heap.clear();
        self.end = self.start;
        self.passed = None;
    }

    /// How many entries are taken at a time.
    pub(crate) fn refill_entries(&self) -> usize {
        (self.capacity / 8).max(16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::Origin;

    proptest! {
        #[test]
        fn a_window_keeps_the_first_and_says_where_it_ends(dues in prop::collection::vec(0_u64..1_000, 1..300)) {
            let mut window = Window::new(Key::default(), Key::MAX, 16);
            window.refill(Vec::new(), Key::MAX);
            let mut all = Vec::new();
            for (slot, due_ms) in dues.into_iter().enumerate() {
                let key = Key { due_ms, slot: slot as u32 };
                let entry = Entry { key, sequence: 0, subject: 0, body_len: 0, origin: Origin::Scheduled };
                all.push(entry);
                if window.takes(key) {
                    window.push(entry);
                }
                prop_assert!(window.heap.len() < 32);
            }
            all.retain(|entry| entry.key < window.end());
            all.sort_unstable();
            let mut popped = Vec::new();
            while let Some(entry) = window.pop() {
                popped.push(entry);
            }
            prop_assert_eq!(popped, all);
        }
    }
}
