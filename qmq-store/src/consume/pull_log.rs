//! Which messages a consumer holds: pull sequence to message sequence, for what it has not acked.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Consecutive pull sequences that stand for consecutive message sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PullRun {
    pub(crate) pull_first: u64,
    pub(crate) sequence_first: u64,
    /// Messages, at least 1.
    pub(crate) len: u64,
}

impl PullRun {
    /// The pull sequence behind its last. [`PullLog::push`] lets no run in for which it overflows.
    pub(crate) fn pull_end(&self) -> u64 {
        self.pull_first + self.len
    }

    /// The message sequence behind its last.
    pub(crate) fn sequence_end(&self) -> u64 {
        self.sequence_first + self.len
    }

    /// What of it lies in pull sequences `first..=last`.
    fn within(&self, first: u64, last: u64) -> Option<Self> {
        let from = first.max(self.pull_first);
        let end = last.saturating_add(1).min(self.pull_end());
        (from < end).then(|| Self {
            pull_first: from,
            sequence_first: self.sequence_first + (from - self.pull_first),
            len: end - from,
        })
    }
}

/// The unacked messages of one consumer, ordered by pull sequence.
///
/// A tree, not a queue: acks in random order cut one long run into as many pieces as there are
/// messages, and a queue would move half of them at each cut.
#[derive(Debug, Default)]
pub(crate) struct PullLog {
    /// First pull sequence -> first message sequence, length. No two neighbours could be one run.
    runs: BTreeMap<u64, (u64, u64)>,
    count: u64,
    /// Not persisted: pull sequences below were given again to a consumer that came back.
    pub(crate) resent: u64,
}

/// Equal when the persisted state is.
impl PartialEq for PullLog {
    fn eq(&self, other: &Self) -> bool {
        self.runs == other.runs
    }
}

impl PullLog {
    /// Unacked messages.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Pieces that they are in.
    pub(crate) fn pieces(&self) -> usize {
        self.runs.len()
    }

    /// Adds a run behind all others. False, and nothing is added, when it is not behind them, is
    /// empty, or ends beyond what 64 bits hold.
    pub(crate) fn push(&mut self, run: PullRun) -> bool {
        let ends = (
            run.pull_first.checked_add(run.len),
            run.sequence_first.checked_add(run.len),
        );
        if run.len == 0 || !matches!(ends, (Some(_), Some(_))) {
            return false;
        }
        if let Some(mut last) = self.runs.last_entry() {
            let (pull, (sequence, len)) = (*last.key(), last.get_mut());
            if run.pull_first < pull + *len {
                return false;
            }
            if run.pull_first == pull + *len && run.sequence_first == *sequence + *len {
                *len += run.len;
                self.count += run.len;
                return true;
            }
        }
        self.runs
            .insert(run.pull_first, (run.sequence_first, run.len));
        self.count += run.len;
        true
    }

    /// All runs, by pull sequence.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PullRun> + '_ {
        self.runs
            .iter()
            .map(|(&pull_first, &(sequence_first, len))| PullRun {
                pull_first,
                sequence_first,
                len,
            })
    }

    /// What is unacked among pull sequences `first..=last`, cut to that range.
    pub(crate) fn overlaps(&self, first: u64, last: u64) -> impl Iterator<Item = PullRun> + '_ {
        let before = self.runs.range(..first).next_back();
        let from = self
            .runs
            .range(first..)
            .take_while(move |(pull, _)| **pull <= last);
        before
            .into_iter()
            .chain(from)
            .filter_map(move |(&pull_first, &(sequence_first, len))| {
                PullRun {
                    pull_first,
                    sequence_first,
                    len,
                }
                .within(first, last)
            })
    }

    /// The message that a pull sequence stands for; none when it was acked or never given.
    pub(crate) fn sequence_of(&self, pull_sequence: u64) -> Option<u64> {
        self.overlaps(pull_sequence, pull_sequence)
            .next()
            .map(|run| run.sequence_first)
    }

    /// Takes pull sequences `first..=last` out and shows each piece taken. Returns the number of
    /// messages taken.
    pub(crate) fn remove(&mut self, first: u64, last: u64, mut taken: impl FnMut(PullRun)) -> u64 {
        let before = self.count;
        let mut from = self
            .runs
            .range(..=first)
            .next_back()
            .map_or(first, |(pull, _)| *pull);
        while let Some((&pull_first, &(sequence_first, len))) = self.runs.range(from..).next()
            && pull_first <= last
        {
            let run = PullRun {
                pull_first,
                sequence_first,
                len,
            };
            // Only the first looked at can lie wholly before the range.
            let Some(cut) = run.within(first, last) else {
                from = run.pull_end();
                continue;
            };
            if cut.pull_first == pull_first {
                self.runs.remove(&pull_first);
            } else {
                self.runs
                    .insert(pull_first, (sequence_first, cut.pull_first - pull_first));
            }
            if cut.pull_end() < run.pull_end() {
                self.runs.insert(
                    cut.pull_end(),
                    (cut.sequence_end(), run.pull_end() - cut.pull_end()),
                );
            }
            self.count -= cut.len;
            from = cut.pull_end();
            taken(cut);
        }
        before - self.count
    }

    /// Keeps only messages with sequences in `floor..end`. Returns the number dropped.
    pub(crate) fn keep_only(&mut self, floor: u64, end: u64) -> u64 {
        // The usual case allocates nothing: retention asks every group.
        if self
            .iter()
            .all(|run| run.sequence_first >= floor && run.sequence_end() <= end)
        {
            return 0;
        }
        let old = std::mem::take(self);
        self.resent = old.resent;
        for run in old.iter() {
            let first = run.sequence_first.max(floor);
            let kept_end = run.sequence_end().min(end);
            if first < kept_end {
                let pull_first = run.pull_first + (first - run.sequence_first);
                self.push(PullRun {
                    pull_first,
                    sequence_first: first,
                    len: kept_end - first,
                });
            }
        }
        old.count - self.count
    }

    /// The lowest message sequence in it.
    pub(crate) fn lowest(&self) -> Option<u64> {
        self.runs.values().map(|(sequence, _)| *sequence).min()
    }
}

/// The same numbers as ranges in order that do not overlap; usually they are that already.
pub(super) fn disjoint(ranges: &[(u64, u64)]) -> Cow<'_, [(u64, u64)]> {
    let in_order = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
    if in_order && ranges.iter().all(|(first, last)| first <= last) {
        return Cow::Borrowed(ranges);
    }
    let mut sorted: Vec<_> = ranges
        .iter()
        .copied()
        .filter(|(first, last)| first <= last)
        .collect();
    sorted.sort_unstable();
    sorted.dedup_by(|next, kept| {
        let overlaps = next.0 <= kept.1;
        if overlaps {
            kept.1 = kept.1.max(next.1);
        }
        overlaps
    });
    Cow::Owned(sorted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(pull_first: u64, sequence_first: u64, len: u64) -> PullRun {
        PullRun {
            pull_first,
            sequence_first,
            len,
        }
    }

    fn log(runs: &[PullRun]) -> PullLog {
        let mut log = PullLog::default();
        for run in runs {
            assert!(log.push(*run));
        }
        log
    }

    fn pieces(log: &PullLog) -> Vec<PullRun> {
        log.iter().collect()
    }

    #[test]
    fn runs_merge_only_when_both_sequences_continue() {
        let log = log(&[
            run(0, 100, 5),
            run(5, 105, 5),
            run(10, 200, 5),
            run(20, 205, 5),
        ]);
        assert_eq!(
            pieces(&log),
            [run(0, 100, 10), run(10, 200, 5), run(20, 205, 5)]
        );
        assert_eq!(log.count(), 20);
    }

    #[test]
    fn a_pull_sequence_is_never_taken_twice() {
        let mut log = log(&[run(10, 100, 5)]);
        for refused in [
            run(14, 200, 1),
            run(0, 200, 1),
            run(15, 200, 0),
            run(u64::MAX, 0, 1),
            run(20, u64::MAX, 1),
        ] {
            assert!(!log.push(refused), "{refused:?}");
        }
        assert_eq!(pieces(&log), [run(10, 100, 5)]);
    }

    #[test]
    fn an_ack_in_the_middle_leaves_both_sides() {
        let mut log = log(&[run(0, 100, 10), run(10, 300, 10)]);
        let mut taken = Vec::new();
        assert_eq!(log.remove(8, 11, |run| taken.push(run)), 4);
        assert_eq!(taken, [run(8, 108, 2), run(10, 300, 2)]);
        assert_eq!(pieces(&log), [run(0, 100, 8), run(12, 302, 8)]);
        assert_eq!(log.remove(8, 11, |_| {}), 0);
        assert_eq!(log.remove(0, u64::MAX, |_| {}), 16);
        assert_eq!(log, PullLog::default());
    }

    /// QMQ looks only for the block that begins before the pull sequence, and past its end returns
    /// another consumer's message.
    #[test]
    fn qmq_a6_a_lookup_past_a_block_finds_nothing() {
        let log = log(&[run(10, 100, 5), run(20, 200, 5)]);
        let found = [9, 10, 14, 15, 19, 20, 24, 25, u64::MAX].map(|pull| log.sequence_of(pull));
        assert_eq!(
            found,
            [
                None,
                Some(100),
                Some(104),
                None,
                None,
                Some(200),
                Some(204),
                None,
                None
            ]
        );
    }

    #[test]
    fn only_the_kept_sequences_stay() {
        let mut log = log(&[run(0, 100, 10), run(10, 50, 4), run(14, 110, 10)]);
        assert_eq!(log.keep_only(50, 120), 0);
        assert_eq!(log.keep_only(105, 115), 5 + 4 + 5);
        assert_eq!(pieces(&log), [run(5, 105, 5), run(14, 110, 5)]);
        assert_eq!((log.count(), log.lowest()), (10, Some(105)));
        assert_eq!(log.keep_only(200, 300), 10);
        assert_eq!(log.lowest(), None);
    }

    #[test]
    fn a_hundred_thousand_acks_in_random_order_leave_nothing() {
        // Miri is a thousand times slower.
        const COUNT: u64 = if cfg!(miri) { 400 } else { 100_000 };
        let mut log = log(&[run(0, 1_000, COUNT)]);
        // 54,321 and the count have no common divisor, so each pull sequence comes up once.
        for i in 0..COUNT {
            let pull = i * 54_321 % COUNT;
            let mut sequence = None;
            assert_eq!(
                log.remove(pull, pull, |run| sequence = Some(run.sequence_first)),
                1
            );
            assert_eq!(sequence, Some(pull + 1_000));
        }
        assert_eq!(log, PullLog::default());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map_of_single_messages(
            pushes in prop::collection::vec((0..3_u64, 0..40_u64, 1..8_u64), 0..12),
            cuts in prop::collection::vec((0..80_u64, 0..20_u64), 0..12),
            floor in 0..30_u64,
        ) {
            let (mut log, mut model, mut next) = (PullLog::default(), BTreeMap::new(), 0);
            for (gap, sequence, len) in pushes {
                prop_assert!(log.push(run(next + gap, sequence, len)));
                model.extend((0..len).map(|i| (next + gap + i, sequence + i)));
                next += gap + len;
            }
            for (first, more) in cuts {
                let mut shown = BTreeMap::new();
                let seen: BTreeMap<_, _> = flat(log.overlaps(first, first + more));
                let last = first + more;
                let taken = log.remove(first, last, |run| shown.extend(flat([run].into_iter())));
                let expected: BTreeMap<_, _> =
                    model.extract_if(first..=last, |_, _| true).collect();
                prop_assert_eq!(taken, expected.len() as u64);
                prop_assert_eq!(&shown, &expected);
                prop_assert_eq!(&seen, &expected);
            }
            log.keep_only(floor, 40);
            model.retain(|_, sequence| (floor..40).contains(sequence));
            prop_assert_eq!(flat(log.iter()), model.clone());
            prop_assert_eq!(log.count(), model.len() as u64);
            prop_assert_eq!(log.lowest(), model.values().min().copied());
            for pull in 0..next + 2 {
                prop_assert_eq!(log.sequence_of(pull), model.get(&pull).copied());
            }
        }
    }

    fn flat(runs: impl Iterator<Item = PullRun>) -> BTreeMap<u64, u64> {
        runs.flat_map(|run| (0..run.len).map(move |i| (run.pull_first + i, run.sequence_first + i)))
            .collect()
    }
}
