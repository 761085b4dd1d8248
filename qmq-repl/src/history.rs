//! Where two logs part, found by their tables of epochs.
//!
//! Each epoch has one master, and it begins with a record in the log. Two logs that have the same epoch at the same offset are equal up to there, since
//! whoever follows a master first makes its log a prefix of the master's. Within the epoch both have what its one master wrote; so they are
//! equal up to where the epoch ends in either. It is the argument of Raft's log matching, and Kafka finds the end of a leader's epoch this way.

use crate::codec::EPOCHS_MAX;
use crate::log::Epoch;

/// One side's log, as far as its table tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History<'a> {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) epochs: &'a [Epoch],
}

impl History<'_> {
    /// What stands before the first epoch counts as epoch 0: all logs have its beginning, and a store that was alone at first has a part of it.
    /// An epoch that begins behind the end is none of this log yet: a snapshot told of it.
    fn all(&self) -> Vec<Epoch> {
        let there = self.epochs.iter().filter(|epoch| epoch.start < self.end);
        let first = there.clone().next().map_or(u64::MAX, |epoch| epoch.start);
        let reaches = self.start < first || self.start == 0;
        // A table that is full may have had earlier ones, which were left out.
        let zero = (reaches && self.epochs.len() < EPOCHS_MAX).then_some(Epoch {
            number: 0,
            start: 0,
        });
        zero.into_iter().chain(there.copied()).collect()
    }
}

/// End of what both logs have, or had before it was retired. `None`: their tables do not reach back to where they were equal.
pub(crate) fn common_end(one: History<'_>, other: History<'_>) -> Option<u64> {
    let (ours, theirs) = (one.all(), other.all());
    let end_in = |epochs: &[Epoch], at: usize, end: u64| {
        epochs.get(at + 1).map_or(end, |next: &Epoch| next.start)
    };
    for (at, epoch) in ours.iter().enumerate().rev() {
        if let Some(there) = theirs.iter().position(|it| it == epoch) {
            let (here, there) = (
                end_in(&ours, at, one.end),
                end_in(&theirs, there, other.end),
            );
            return Some(here.min(there));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(one: (&[(u64, u64)], u64), other: (&[(u64, u64)], u64)) -> Option<u64> {
        let epochs = |list: &[(u64, u64)]| -> Vec<Epoch> {
            list.iter()
                .map(|&(number, start)| Epoch { number, start })
                .collect()
        };
        let (ours, theirs) = (epochs(one.0), epochs(other.0));
        let of = |epochs, end| History {
            start: 0,
            end,
            epochs,
        };
        let found = common_end(of(&ours, one.1), of(&theirs, other.1));
        assert_eq!(found, common_end(of(&theirs, other.1), of(&ours, one.1)));
        found
    }

    #[test]
    fn logs_part_where_their_last_common_epoch_ends_first() {
        assert_eq!(common((&[(1, 0)], 100), (&[(1, 0)], 60)), Some(60));
        let new_master: &[(u64, u64)] = &[(1, 0), (2, 80)];
        assert_eq!(common((new_master, 200), (&[(1, 0)], 120)), Some(80));
        assert_eq!(common((new_master, 200), (&[(1, 0)], 50)), Some(50));
        // Three masters, and one that missed the second.
        let old: &[(u64, u64)] = &[(1, 0), (2, 80)];
        let new: &[(u64, u64)] = &[(1, 0), (3, 70)];
        assert_eq!(common((old, 300), (new, 90)), Some(70));
    }

    #[test]
    fn a_log_from_before_the_first_epoch_counts_as_epoch_0() {
        assert_eq!(common((&[], 0), (&[(1, 500)], 900)), Some(0));
        assert_eq!(common((&[], 500), (&[(1, 500)], 900)), Some(500));
        assert_eq!(common((&[], 0), (&[(1, 0)], 900)), Some(0));
    }

    #[test]
    fn a_table_with_its_beginning_left_out_says_nothing_of_epoch_0() {
        let all: Vec<(u64, u64)> = (1..3_000).map(|n| (n, n * 500)).collect();
        let (old, end) = (&all[..5], 2_900);
        assert_eq!(common((old, end), (&all, 2_000_000)), Some(end));
        let latest = &all[all.len() - EPOCHS_MAX..];
        assert_eq!(common((old, end), (latest, 2_000_000)), None);
        let few = &all[all.len() - 10..];
        assert_eq!(
            common((few, 2_000_000), (latest, 2_000_000)),
            Some(2_000_000)
        );
    }

    #[test]
    fn an_epoch_behind_the_end_is_not_there_yet() {
        let told: &[(u64, u64)] = &[(1, 0), (2, 900)];
        assert_eq!(common((told, 100), (&[(1, 0)], 500)), Some(100));
        assert_eq!(common((told, 900), (&[(1, 0), (3, 850)], 990)), Some(850));
        assert_eq!(common((told, 100), (told, 990)), Some(100));
    }

    #[test]
    fn tables_that_share_nothing_have_no_common_end() {
        let retired = [Epoch {
            number: 4,
            start: 900,
        }];
        let young = History {
            start: 1000,
            end: 2000,
            epochs: &retired,
        };
        let empty = History {
            start: 0,
            end: 0,
            epochs: &[],
        };
        assert_eq!(common_end(young, empty), None);
    }
}
