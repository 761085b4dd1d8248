//! Messages that wait to be handed out again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::pull_log::PullRun;

/// Messages of one group that were handed out, failed, and wait for another consumer; each once.
/// How often each failed is kept until it is settled, also while another consumer holds it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Redelivery {
    /// Message sequence -> time in ms from which it may be handed out.
    by_sequence: BTreeMap<u64, u64>,
    /// The same as (time, message sequence).
    by_time: BTreeSet<(u64, u64)>,
    /// Message sequence -> how often it was handed out and failed; at least 1.
    attempts: BTreeMap<u64, u32>,
}

impl Redelivery {
    /// Messages waiting.
    pub(crate) fn len(&self) -> usize {
        self.by_sequence.len()
    }

    /// Lets `sequence` wait until `available_at_ms`; if it waits already, that time replaces the
    /// old one.
    pub(crate) fn insert(&mut self, sequence: u64, available_at_ms: u64) {
        if let Some(old) = self.by_sequence.insert(sequence, available_at_ms) {
            self.by_time.remove(&(old, sequence));
        }
        self.by_time.insert((available_at_ms, sequence));
    }

    /// True when it waited.
    pub(crate) fn remove(&mut self, sequence: u64) -> bool {
        match self.by_sequence.entry(sequence) {
            Entry::Vacant(_) => false,
            Entry::Occupied(entry) => self.by_time.remove(&(entry.remove(), sequence)),
        }
    }

    /// The messages of `run` failed once more, and wait.
    pub(crate) fn failed(&mut self, run: PullRun, available_at_ms: u64) {
        for sequence in run.sequence_first..run.sequence_end() {
            let attempts = self.attempts.entry(sequence).or_default();
            *attempts = attempts.saturating_add(1);
            self.insert(sequence, available_at_ms);
        }
    }

    /// The messages of `run` wait as before: they were handed out, and nobody looked at them.
    pub(crate) fn released(&mut self, run: PullRun, available_at_ms: u64) {
        for sequence in run.sequence_first..run.sequence_end() {
            self.insert(sequence, available_at_ms);
        }
    }

    /// The messages of `run` are done.
    pub(crate) fn settled(&mut self, run: PullRun) {
        let sequences = run.sequence_first..run.sequence_end();
        self.attempts
            .extract_if(sequences, |_, _| true)
            .for_each(drop);
    }

    /// How often a message was handed out and failed.
    pub(crate) fn attempt(&self, sequence: u64) -> u32 {
        self.attempts.get(&sequence).copied().unwrap_or(0)
    }

    /// At most `max` messages that may be handed out at `now_ms`, in the order of their
    /// sequences. When there are more, those due for longest are chosen, so that none starves.
    pub(crate) fn due(&self, now_ms: u64, max: usize) -> Vec<u64> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now_ms);
        let mut due: Vec<u64> = due.take(max).map(|(_, sequence)| *sequence).collect();
        due.sort_unstable();
        due
    }

    /// When the next one may be handed out, in ms; it may be past.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The lowest message sequence in it.
    pub(crate) fn lowest(&self) -> Option<u64> {
        self.by_sequence
            .first_key_value()
            .map(|(sequence, _)| *sequence)
    }

    /// Keeps only messages with sequences in `floor..end`. Returns the number dropped.
    pub(crate) fn keep_only(&mut self, floor: u64, end: u64) -> u64 {
        let mut dropped = 0;
        while let Some(sequence) = self.lowest().filter(|lowest| *lowest < floor) {
            self.remove(sequence);
            dropped += 1;
        }
        while let Some(sequence) = self
            .by_sequence
            .last_key_value()
            .map(|(last, _)| *last)
            .filter(|last| *last >= end)
        {
            self.remove(sequence);
            dropped += 1;
        }
        self.attempts
            .retain(|sequence, _| (floor..end).contains(sequence));
        dropped
    }

    /// (message sequence, time in ms) of all, by sequence.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_sequence
            .iter()
            .map(|(sequence, at)| (*sequence, *at))
    }

    /// (message sequence, how often it failed) of all that failed, by sequence.
    pub(crate) fn attempts(&self) -> impl ExactSizeIterator<Item = (u64, u32)> + '_ {
        self.attempts
            .iter()
            .map(|(sequence, attempts)| (*sequence, *attempts))
    }

    /// As recorded in a snapshot.
    pub(super) fn set_attempts(&mut self, sequence: u64, attempts: u32) {
        self.attempts.insert(sequence, attempts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(entries: &[(u64, u64)]) -> Redelivery {
        let mut redelivery = Redelivery::default();
        for &(sequence, at) in entries {
            redelivery.insert(sequence, at);
        }
        redelivery
    }

    #[test]
    fn nothing_is_due_before_its_time_and_the_due_come_in_sequence_order() {
        let redelivery = waiting(&[(7, 100), (3, 200), (5, 100), (1, 300)]);
        assert_eq!(redelivery.due(99, 10), []);
        assert_eq!(redelivery.due(100, 10), [5, 7]);
        assert_eq!(redelivery.due(200, 10), [3, 5, 7]);
        assert_eq!(redelivery.next_due(), Some(100));
    }

    #[test]
    fn of_too_many_those_due_for_longest_are_chosen() {
        let redelivery = waiting(&[(1, 300), (2, 300), (8, 100), (9, 200)]);
        assert_eq!(redelivery.due(1_000, 2), [8, 9]);
        assert_eq!(redelivery.due(1_000, 3), [1, 8, 9]);
        assert_eq!(redelivery.due(1_000, 0), []);
    }

    #[test]
    fn a_message_waits_only_once() {
        let mut redelivery = waiting(&[(5, 100), (5, 200)]);
        assert_eq!((redelivery.len(), redelivery.next_due()), (1, Some(200)));
        assert!(redelivery.remove(5));
        assert!(!redelivery.remove(5));
        assert_eq!(redelivery, Redelivery::default());
    }

    #[test]
    fn a_failure_is_counted_until_the_message_is_settled() {
        let run = |sequence_first, len| PullRun {
            pull_first: 0,
            sequence_first,
            len,
        };
        let mut redelivery = Redelivery::default();
        redelivery.failed(run(10, 3), 100);
        redelivery.remove(11);
        redelivery.failed(run(11, 1), 200);
        assert_eq!(
            [9, 10, 11, 12, 13].map(|s| redelivery.attempt(s)),
            [0, 1, 2, 1, 0]
        );
        redelivery.settled(run(11, 1));
        assert_eq!(
            [9, 10, 11, 12, 13].map(|s| redelivery.attempt(s)),
            [0, 1, 0, 1, 0]
        );
    }

    #[test]
    fn only_the_kept_sequences_stay() {
        let mut redelivery = waiting(&[(1, 9), (2, 8), (3, 7), (4, 6)]);
        assert_eq!(redelivery.keep_only(2, 4), 2);
        assert_eq!(redelivery, waiting(&[(2, 8), (3, 7)]));
        assert_eq!(redelivery.lowest(), Some(2));
        assert_eq!(redelivery.keep_only(2, 4), 0);
    }
}
