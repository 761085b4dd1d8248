//! What can be asked of a group; nothing here changes it.

use std::sync::Arc;

use qmq_message::TagFilter;

use super::{Group, GroupKind};
use crate::consume::member::MemberView;
use crate::consume::pull_log::disjoint;

/// Pull sequences of one incarnation: 2^40, at a million a second for one consumer twelve days.
const INCARNATION_SHIFT: u32 = 40;

/// What an acknowledgement (or a refusal) of pull sequences came to. Each pull sequence counts
/// once, however often the ranges name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckOutcome {
    /// Messages that were waiting for it.
    pub acked: u64,
    /// Pull sequences that were settled before, or that stand for no message.
    pub already: u64,
    /// Pull sequences that are not this consumer's: never handed to it, or handed to it before it
    /// was declared gone or the group was reset. Others may get these messages again.
    pub not_owned: u64,
}

impl Group {
    /// What an ack or nack of pull sequences (first to last inclusive) would come to. `pending` is
    /// filled with the ranges that are pending now, which are what to write: an action that names
    /// only these means the same whether or not retention comes before it in a replay.
    pub(crate) fn settle(
        &self,
        consumer: &str,
        ranges: &[(u64, u64)],
        pending: &mut Vec<(u64, u64)>,
    ) -> AckOutcome {
        pending.clear();
        // 0..=u64::MAX has one number more than a u64 can count.
        let (mut acked, mut already, mut not_owned) = (0_u64, 0_u128, 0_u128);
        let member = self.member(consumer);
        for &(first, last) in disjoint(ranges).iter() {
            let named = u128::from(last - first) + 1;
            let Some(member) = member else {
                not_owned += named;
                continue;
            };
            let from = first.max(member.first_pull);
            let end = (u128::from(last) + 1).min(u128::from(member.next_pull));
            let owned = end.saturating_sub(u128::from(from));
            not_owned += named - owned;
            already += owned;
            for run in member
                .pull_log
                .iter()
                .flat_map(|log| log.overlaps(first, last))
            {
                acked += run.len;
                already -= u128::from(run.len);
                match pending.last_mut() {
                    Some(before) if before.1 + 1 == run.pull_first => before.1 = run.pull_end() - 1,
                    _ => pending.push((run.pull_first, run.pull_end() - 1)),
                }
            }
        }
        let narrow = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
        AckOutcome {
            acked,
            already: narrow(already),
            not_owned: narrow(not_owned),
        }
    }

    /// Of pull sequences (first to last inclusive) those that are `consumer`'s and of which retention may have taken
    /// messages that a replica still keeps; none while this group has skipped nothing.
    pub(crate) fn maybe_skipped(&self, consumer: &str, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut own: Vec<(u64, u64)> = Vec::new();
        let Some(member) = self.member(consumer).filter(|_| self.skipped() > 0) else {
            return own;
        };
        for &(first, last) in disjoint(ranges).iter() {
            let (first, end) = (first.max(member.first_pull), member.next_pull);
            let Some(last) = end.checked_sub(1).map(|end| last.min(end)) else {
                break;
            };
            match own.last_mut() {
                _ if first > last => {}
                Some(before) if before.1 + 1 == first => before.1 = last,
                _ => own.push((first, last)),
            }
        }
        own
    }

    /// The first pull sequence of `consumer`'s next pull. After an unclean open the incarnation is
    /// higher, and so are all pull sequences: those whose pulls were lost with the log's tail are
    /// not given again. The range between stands for no message.
    pub(crate) fn next_pull_sequence(&self, consumer: &str, incarnation: u32) -> u64 {
        // More than 2^24 unclean opens would shift the top away and go back.
        let incarnation = u64::from(incarnation).min(u64::MAX >> INCARNATION_SHIFT);
        let next = self
            .member(consumer)
            .map_or(self.pull_floor, |member| member.next_pull);
        next.max(incarnation << INCARNATION_SHIFT)
    }

    /// Above all pull sequences given.
    pub(crate) fn pull_end(&self) -> u64 {
        let ends = self.members.iter().map(|member| member.next_pull);
        ends.fold(self.pull_floor, u64::max)
    }

    /// What a consumer holds behind `after_pull`, at most `max` messages: pull sequence, message
    /// sequence, attempt.
    pub(crate) fn pending_of(
        &self,
        consumer: &str,
        after_pull: Option<u64>,
        max: usize,
    ) -> Vec<(u64, u64, u32)> {
        let first = after_pull.map_or(Some(0), |after| after.checked_add(1));
        let log = self
            .member(consumer)
            .and_then(|member| member.pull_log.as_deref());
        let Some((log, first)) = log.zip(first) else {
            return Vec::new();
        };
        log.overlaps(first, u64::MAX)
            .flat_map(|run| (0..run.len).map(move |i| (run.pull_first + i, run.sequence_first + i)))
            .take(max)
            .map(|(pull, sequence)| (pull, sequence, self.attempt(sequence)))
            .collect()
    }

    /// The message that a consumer holds under a pull sequence.
    pub(crate) fn sequence_of(&self, consumer: &str, pull_sequence: u64) -> Option<u64> {
        self.member(consumer)?
            .pull_log
            .as_ref()?
            .sequence_of(pull_sequence)
    }

    /// How often a message was handed out and failed; 0 for its first time.
    pub(crate) fn attempt(&self, sequence: u64) -> u32 {
        self.extra
            .as_ref()
            .map_or(0, |extra| extra.redelivery.attempt(sequence))
    }

    /// At most `max` failed messages that may be handed out again at `now_ms`, by sequence.
    pub(crate) fn due(&self, now_ms: u64, max: usize) -> Vec<u64> {
        self.extra
            .as_ref()
            .map_or_else(Vec::new, |extra| extra.redelivery.due(now_ms, max))
    }

    /// When the next failed message may be handed out again, in ms; it may be past.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.extra
            .as_ref()
            .and_then(|extra| extra.redelivery.next_due())
    }

    /// Failed messages that nobody holds.
    pub(crate) fn waiting(&self) -> usize {
        self.extra
            .as_ref()
            .map_or(0, |extra| extra.redelivery.len())
    }

    /// Messages handed out and not acked, of all members.
    pub(crate) fn unacked(&self) -> u64 {
        self.unacked
    }

    /// How many more may be handed out when `max_unacked` is the limit.
    pub(crate) fn room(&self, max_unacked: u64) -> u64 {
        max_unacked.saturating_sub(self.unacked)
    }

    /// The lowest message sequence that this group still needs.
    pub(crate) fn lowest_unsettled(&self) -> u64 {
        let logs = self
            .members
            .iter()
            .filter_map(|member| member.pull_log.as_ref()?.lowest());
        let waiting = self
            .extra
            .as_ref()
            .and_then(|extra| extra.redelivery.lowest());
        logs.chain(waiting).fold(self.cursor, u64::min)
    }

    /// Messages that retention took before they were acked, since the group began or was reset.
    pub(crate) fn skipped(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.skipped)
    }

    /// The filter of its messages; none lets all through.
    pub(crate) fn filter(&self) -> Option<&TagFilter> {
        self.extra.as_ref()?.filter.as_ref()
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn kind(&self) -> GroupKind {
        self.kind
    }

    /// The next message sequence to hand out for the first time.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Log end offset of the last action applied.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// Its members, by name.
    pub(crate) fn members(&self) -> impl Iterator<Item = MemberView<'_>> + '_ {
        self.members.iter().map(|member| MemberView {
            name: &member.name,
            next_pull: member.next_pull,
            unacked: member.unacked(),
            seen_ms: member.seen_ms(),
        })
    }
}
