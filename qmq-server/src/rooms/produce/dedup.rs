//! What is remembered of producers, so that a repeat gets the first answer.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Numbers that were accepted together: message `first + i` has sequence `sequence + i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) len: u64,
    pub(super) sequence: u64,
    /// What to wait for.
    pub(super) end_offset: u64,
}

impl Run {
    /// Takes a number in, if it and its sequence follow.
    pub(super) fn takes(&mut self, number: u64, sequence: u64) -> bool {
        let follows = self.first + self.len == number && self.sequence + self.len == sequence;
        self.len += u64::from(follows);
        follows
    }
}

/// What is known of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Never accepted: append it.
    New,
    /// Accepted before.
    Accepted { sequence: u64, end_offset: u64 },
    /// So old that nobody knows.
    Forgotten,
    /// An ordered producer must send this one first.
    Expected(u64),
}

#[derive(Debug, Default)]
struct Producer {
    /// By first number.
    runs: BTreeMap<u64, Run>,
    /// One above the greatest number accepted.
    next: u64,
    /// When it was last heard of, in requests of all.
    used: u64,
}

/// The producers known, at most so many, with so many numbers each.
#[derive(Debug)]
pub(super) struct Dedup {
    producers: HashMap<u128, Producer>,
    /// (used, producer) in the order of use; entries whose producer was used since mean nothing.
    by_use: VecDeque<(u64, u128)>,
    window: u64,
    producers_max: usize,
    clock: u64,
}

impl Dedup {
    pub(super) fn new(window: u64, producers_max: usize) -> Self {
        Self {
            producers: HashMap::new(),
            by_use: VecDeque::new(),
            window: window.max(1),
            producers_max: producers_max.max(1),
            clock: 0,
        }
    }

    /// What is known of `number`. Messages of an ordered producer must follow each other: `next` is the one that must come.
    pub(super) fn look(&self, producer: u128, number: u64, next: Option<u64>) -> Known {
        let known = self.producers.get(&producer);
        if let Some(known) = known {
            let before = known.runs.range(..=number).next_back();
            if let Some((_, run)) = before.filter(|(_, run)| number - run.first < run.len) {
                return Known::Accepted {
                    sequence: run.sequence + (number - run.first),
                    end_offset: run.end_offset,
                };
            }
            if number < known.next.saturating_sub(self.window) {
                return Known::Forgotten;
            }
        }
        match next {
            Some(next) if number != next => Known::Expected(next),
            _ => Known::New,
        }
    }

    /// The number that an ordered producer must send next; `None` if it is not known.
    pub(super) fn next(&self, producer: u128) -> Option<u64> {
        self.producers.get(&producer).map(|known| known.next)
    }

    /// A message of an ordered producer was refused: nothing behind it may be accepted before it.
    pub(super) fn refused_in_order(&mut self, producer: u128, number: u64) {
        if self.producers.contains_key(&producer) {
            return;
        }
        self.clock += 1;
        let known = Producer {
            next: number,
            used: self.clock,
            ..Producer::default()
        };
        self.producers.insert(producer, known);
        self.by_use.push_back((self.clock, producer));
        self.forget();
    }

    /// Numbers were accepted.
    pub(super) fn accepted(&mut self, producer: u128, run: Run) {
        self.clock += 1;
        let used = self.clock;
        let known = self.producers.entry(producer).or_default();
        known.used = used;
        known.next = known.next.max(run.first + run.len);
        match known.runs.range_mut(..=run.first).next_back() {
            Some((_, last))
                if last.first + last.len == run.first
                    && last.sequence + last.len == run.sequence =>
            {
                last.len += run.len;
                last.end_offset = run.end_offset;
            }
            _ => {
                known.runs.insert(run.first, run);
            }
        }
        let floor = known.next.saturating_sub(self.window);
        while let Some(entry) = known.runs.first_entry() {
            let oldest = entry.get();
            if oldest.first + oldest.len > floor {
                break;
            }
            entry.remove();
        }
        self.by_use.push_back((used, producer));
        self.forget();
    }

    /// Keeps within the bounds: who has not sent for longest is forgotten.
    fn forget(&mut self) {
        while let Some((used, producer)) = self.by_use.front().copied() {
            let current = self.producers.get(&producer).map(|known| known.used);
            if current == Some(used) {
                if self.producers.len() <= self.producers_max {
                    break;
                }
                self.producers.remove(&producer);
            }
            self.by_use.pop_front();
        }
        // Entries of producers that send all the time lie behind one that does not.
        if self.by_use.len() > self.producers.len() * 2 + 1024 {
            let producers = &self.producers;
            self.by_use.retain(|(used, producer)| {
                producers
                    .get(producer)
                    .is_some_and(|known| known.used == *used)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, len: u64, sequence: u64) -> Run {
        Run {
            first,
            len,
            sequence,
            end_offset: first * 100,
        }
    }

    #[test]
    fn a_repeat_within_the_window_gets_the_first_sequence() {
        let mut dedup = Dedup::new(100, 10);
        dedup.accepted(7, run(10, 5, 1000));
        let known = |number| dedup.look(7, number, None);
        assert_eq!(
            known(12),
            Known::Accepted {
                sequence: 1002,
                end_offset: 1000
            }
        );
        assert_eq!(known(15), Known::New);
        assert_eq!(known(9), Known::New, "it was never accepted");
        assert_eq!(dedup.look(8, 12, None), Known::New, "another producer");
    }

    #[test]
    fn what_is_older_than_the_window_is_not_taken_for_new() {
        let mut dedup = Dedup::new(10, 10);
        dedup.accepted(7, run(0, 1, 0));
        dedup.accepted(7, run(50, 1, 9));
        assert_eq!(dedup.look(7, 0, None), Known::Forgotten);
        assert_eq!(dedup.look(7, 40, None), Known::Forgotten);
        assert_eq!(dedup.look(7, 41, None), Known::New);
    }

    #[test]
    fn an_ordered_producer_cannot_leave_a_number_out() {
        let mut dedup = Dedup::new(10, 10);
        assert_eq!(dedup.look(7, 5, dedup.next(7)), Known::New);
        dedup.accepted(7, run(5, 1, 0));
        let next = dedup.next(7);
        assert_eq!(dedup.look(7, 7, next), Known::Expected(6));
        assert_eq!(dedup.look(7, 6, next), Known::New);
        assert!(matches!(dedup.look(7, 5, next), Known::Accepted { .. }));
    }

    #[test]
    fn nothing_of_an_ordered_producer_passes_its_first_message_that_was_refused() {
        let mut dedup = Dedup::new(10, 10);
        dedup.refused_in_order(7, 0);
        let next = dedup.next(7);
        assert_eq!(dedup.look(7, 3, next), Known::Expected(0));
        assert_eq!(dedup.look(7, 0, next), Known::New);
        dedup.accepted(7, run(0, 1, 0));
        dedup.refused_in_order(7, 9);
        assert_eq!(dedup.next(7), Some(1), "what is known stays");
    }

    #[test]
    fn who_has_not_sent_for_longest_is_forgotten_first() {
        let mut dedup = Dedup::new(10, 2);
        dedup.accepted(1, run(0, 1, 0));
        dedup.accepted(2, run(0, 1, 1));
        dedup.accepted(1, run(1, 1, 2));
        dedup.accepted(3, run(0, 1, 3));
        assert_eq!(dedup.next(2), None);
        assert_eq!((dedup.next(1), dedup.next(3)), (Some(2), Some(1)));
    }

    #[test]
    fn memory_follows_the_bounds_not_what_was_sent() {
        let mut dedup = Dedup::new(64, 3);
        for n in 0..100_000_u64 {
            dedup.accepted(u128::from(n % 5), run(n * 2, 1, n * 3));
        }
        assert!(dedup.producers.len() <= 3);
        assert!(dedup.by_use.len() <= 2048);
        assert!(dedup.producers.values().all(|known| known.runs.len() <= 64));
    }
}
