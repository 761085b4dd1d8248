//! What a consumer held for too long, so that it went back to its group.

use std::collections::BTreeMap;

/// Ranges that are remembered; of more, those handed out first are forgotten.
const RANGES_MAX: usize = 1_024;

/// Pull sequences that a consumer lost. Ranges neither overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// First to last.
    ranges: BTreeMap<u64, u64>,
}

impl Lost {
    /// A pull sequence stands for one delivery, so it is lost once at most.
    pub(super) fn insert(&mut self, mut first: u64, mut last: u64) {
        if let Some((&before, &end)) = self.ranges.range(..first).next_back()
            && end + 1 == first
        {
            first = before;
        }
        if let Some(end) = last
            .checked_add(1)
            .and_then(|next| self.ranges.remove(&next))
        {
            last = end;
        }
        self.ranges.insert(first, last);
        if self.ranges.len() > RANGES_MAX {
            self.ranges.pop_first();
        }
    }

    /// How many of the pull sequences in `ranges` are among them; each counts once, however often it is named.
    pub(super) fn count(&self, ranges: &[(u64, u64)]) -> u64 {
        if self.ranges.is_empty() {
            return 0;
        }
        let mut sorted = ranges.to_vec();
        sorted.sort_unstable();
        let mut count = 0;
        let mut from = 0;
        for (first, last) in sorted {
            let first = first.max(from);
            if first > last {
                continue;
            }
            let before = self.ranges.range(..first).next_back();
            let overlapping = before.into_iter().chain(self.ranges.range(first..=last));
            count += overlapping
                .map(|(&start, &end)| {
                    let end = end.min(last).saturating_add(1);
                    end.saturating_sub(start.max(first))
                })
                .sum::<u64>();
            from = last.saturating_add(1);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_count_what_a_set_of_single_numbers_counts(
            numbers in proptest::collection::btree_set(0_u64..60, 0..40),
            order in any::<u64>(),
            asked in proptest::collection::vec((0_u64..60, 0_u64..9), 0..12),
        ) {
            let mut shuffled: Vec<u64> = numbers.iter().copied().collect();
            shuffled.sort_by_key(|number| number.wrapping_mul(order | 1) % 61);
            let mut lost = Lost::default();
            for number in shuffled {
                lost.insert(number, number);
            }
            let ranges: Vec<(u64, u64)> = asked.iter().map(|(first, more)| (*first, first + more)).collect();
            let named: BTreeSet<u64> = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(lost.count(&ranges), named.intersection(&numbers).count() as u64);
            let touching = lost.ranges.iter().zip(lost.ranges.keys().skip(1)).any(|((_, end), next)| end + 1 >= *next);
            prop_assert!(!touching, "{:?}", lost);
        }
    }

    #[test]
    fn of_too_many_the_first_are_forgotten() {
        let mut lost = Lost::default();
        for n in 0..RANGES_MAX as u64 + 1 {
            lost.insert(n * 2, n * 2);
        }
        assert_eq!(lost.count(&[(0, u64::MAX)]), RANGES_MAX as u64);
        assert_eq!(lost.count(&[(0, 1)]), 0);
    }
}
