//! What a consumer holds, and until when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Pull sequences with deadlines. Ranges do not overlap.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By first: (last, deadline).
    ranges: BTreeMap<u64, (u64, Instant)>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The consumer has got these, or still works on them if they are among what it holds already.
    pub(super) fn insert(&mut self, first: u64, last: u64, deadline: Instant) {
        self.remove(first, last);
        // What was handed out in a row at about the same time is one range.
        if let Some((_, (before_last, before_deadline))) =
            self.ranges.range_mut(..first).next_back()
            && *before_last + 1 == first
            && *before_deadline == deadline
        {
            *before_last = last;
            return;
        }
        self.ranges.insert(first, (last, deadline));
    }

    /// The consumer does not hold these any more.
    pub(super) fn remove(&mut self, first: u64, last: u64) {
        let touched = self.overlapping(first, last);
        for (start, (end, deadline)) in touched {
            self.ranges.remove(&start);
            if start < first {
                self.ranges.insert(start, (first - 1, deadline));
            }
            if end > last {
                self.ranges.insert(last + 1, (end, deadline));
            }
        }
    }

    /// Moves the deadline of those among these that it holds.
    pub(super) fn renew(&mut self, first: u64, last: u64, deadline: Instant) {
        for (start, (end, _)) in self.overlapping(first, last) {
            self.insert(start.max(first), end.min(last), deadline);
        }
    }

    /// Moves all deadlines.
    pub(super) fn postpone(&mut self, by: Duration) {
        for (_, deadline) in self.ranges.values_mut() {
            *deadline += by;
        }
    }

    fn overlapping(&self, first: u64, last: u64) -> Vec<(u64, (u64, Instant))> {
        let before = self
            .ranges
            .range(..first)
            .next_back()
            .filter(|(_, (end, _))| *end >= first);
        before
            .into_iter()
            .chain(self.ranges.range(first..=last))
            .map(|(start, held)| (*start, *held))
            .collect()
    }

    /// Takes out what is held beyond its deadline.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<(u64, u64)> {
        self.ranges
            .extract_if(.., |_, (_, deadline)| *deadline <= now)
            .map(|(first, (last, _))| (first, last))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    proptest! {
        #[test]
        fn ranges_say_what_a_table_of_single_messages_says(
            steps in proptest::collection::vec((0_u8..4, 0_u64..40, 0_u64..8, 0_u64..50), 0..60),
        ) {
            let start = Instant::now();
            let at = |ms| start + Duration::from_millis(ms);
            let mut held = Held::default();
            let mut model: BTreeMap<u64, Instant> = BTreeMap::new();
            for (what, first, more, ms) in steps {
                let last = first + more;
                match what {
                    0 => {
                        held.insert(first, last, at(ms));
                        model.extend((first..=last).map(|n| (n, at(ms))));
                    }
                    1 => {
                        held.remove(first, last);
                        model.retain(|n, _| !(first..=last).contains(n));
                    }
                    2 => {
                        held.renew(first, last, at(ms));
                        for (_, deadline) in model.range_mut(first..=last) {
                            *deadline = at(ms);
                        }
                    }
                    _ => {
                        let expired: Vec<u64> = held
                            .take_expired(at(ms))
                            .into_iter()
                            .flat_map(|(first, last)| first..=last)
                            .collect();
                        let due: Vec<u64> = model
                            .extract_if(.., |_, deadline| *deadline <= at(ms))
                            .map(|(n, _)| n)
                            .collect();
                        prop_assert_eq!(expired, due);
                    }
                }
                let all: Vec<(u64, Instant)> = held
                    .ranges
                    .iter()
                    .flat_map(|(first, (last, deadline))| (*first..=*last).map(|n| (n, *deadline)))
                    .collect();
                prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(held.is_empty(), model.is_empty());
            }
        }
    }
}
