//! Which slots of which buckets a run can have. Slots are given out as messages arrive, and so are runs written: for most messages only one run
//! is in question.
//!
//! A range is the number of a bucket u32, the least and the greatest slot u32 of it in the run. They are in order. A run of more buckets than
//! [`RANGES_MAX`] has none.

use super::u32_at;
use crate::entry::Key;

/// Bytes of a range.
pub(crate) const RANGE_LEN: usize = 12;
/// Ranges of a run: 12 bytes of memory each while it is written.
const RANGES_MAX: usize = 1 << 16;

/// The ranges of a run that is being written.
#[derive(Debug)]
pub(super) struct Ranges {
    bucket_ms: u64,
    ranges: Vec<(u32, u32, u32)>,
    are_too_many: bool,
}

impl Ranges {
    pub(super) fn new(bucket_ms: u64) -> Self {
        Self {
            bucket_ms,
            ranges: Vec::new(),
            are_too_many: false,
        }
    }

    /// Takes the next key.
    pub(super) fn add(&mut self, key: Key) {
        let (bucket, slot) = (bucket_of(self.bucket_ms, key), key.slot);
        if let Some((last, least, greatest)) = self.ranges.last_mut()
            && *last == bucket
        {
            (*least, *greatest) = (slot.min(*least), slot.max(*greatest));
        } else if self.ranges.len() < RANGES_MAX {
            self.ranges.push((bucket, slot, slot));
        } else {
            self.are_too_many = true;
        }
    }

    /// Appends them, and says how many there are.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u64 {
        if self.are_too_many {
            return 0;
        }
        for &(bucket, least, greatest) in &self.ranges {
            for word in [bucket, least, greatest] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        self.ranges.len() as u64
    }
}

fn bucket_of(bucket_ms: u64, key: Key) -> u32 {
    u32::try_from(key.due_ms / bucket_ms).unwrap_or(u32::MAX)
}

/// Whether a run with these ranges can have a key.
pub(super) fn may_have(ranges: &[[u8; RANGE_LEN]], bucket_ms: u64, key: Key) -> bool {
    if ranges.is_empty() {
        return true;
    }
    let bucket = bucket_of(bucket_ms, key);
    let found = ranges.binary_search_by_key(&bucket, |range| u32_at(range, 0));
    found.is_ok_and(|at| (u32_at(&ranges[at], 4)..=u32_at(&ranges[at], 8)).contains(&key.slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dues: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut ranges = Ranges::new(10);
        for (slot, due_ms) in (0..).zip(dues) {
            ranges.add(Key { due_ms, slot });
        }
        let mut bytes = Vec::new();
        ranges.encode(&mut bytes);
        bytes
    }

    #[test]
    fn ranges_tell_buckets_and_slots_apart() {
        let bytes = of([5, 7, 31, 35].into_iter());
        let has = |due_ms, slot| may_have(bytes.as_chunks().0, 10, Key { due_ms, slot });
        assert!(has(0, 0) && has(9, 1) && has(30, 2) && has(39, 3));
        assert!(!has(0, 2) && !has(10, 1) && !has(29, 2) && !has(30, 1) && !has(40, 4));
    }

    #[test]
    fn a_run_of_very_many_buckets_has_none_and_may_have_all() {
        let most = RANGES_MAX as u64;
        assert_eq!(of((0..most).map(|n| n * 10)).len(), RANGES_MAX * RANGE_LEN);
        assert!(of((0..=most).map(|n| n * 10)).is_empty());
        assert!(may_have(&[], 10, Key::default()));
    }
}
