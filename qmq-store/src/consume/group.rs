//! The state of one consumer group on one subject.
//!
//! It changes only by [`Group::apply`] (what is in the log), and by [`Group::raise_floor`] and
//! [`Group::clamp`] (what the log no longer has). Live work and recovery take the same way, so they
//! cannot differ. Nothing here reads a clock, a file or another thread.

use std::sync::Arc;

use qmq_message::TagFilter;

use super::action::{Action, GroupKind};
use super::pull_log::{PullLog, Run, disjoint};
use super::redelivery::Redelivery;

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

/// One consumer of a group, as statistics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberState<'a> {
    pub(crate) name: &'a Arc<str>,
    /// The pull sequence behind its last.
    pub(crate) next_pull: u64,
    /// Messages it holds.
    pub(crate) unacked: u64,
    /// When it was last heard of, in ms; 0 for never since the store was opened.
    pub(crate) seen_ms: u64,
}

/// There is one for each consumer of each group of each subject, so bytes count.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Arc<str>,
    /// Lower pull sequences are not this member's.
    pub(super) first_pull: u64,
    pub(super) next_pull: u64,
    /// None when nothing is unacked.
    pub(super) pull_log: Option<Box<PullLog>>,
    /// Not persisted: twice the time in ms when it was last heard of, plus 1 when it has pulled
    /// since the store was opened.
    pub(super) seen: u64,
}

impl Member {
    fn unacked(&self) -> u64 {
        self.pull_log.as_ref().map_or(0, |log| log.count())
    }

    fn seen_ms(&self) -> u64 {
        self.seen >> 1
    }

    /// All that it was given until now is not its own any more.
    fn disown(&mut self) {
        self.first_pull = self.next_pull;
        self.pull_log = None;
    }

    /// Changes its pull log; an empty one is given back.
    fn change<T>(&mut self, change: impl FnOnce(&mut PullLog) -> T) -> T {
        let log = self.pull_log.get_or_insert_default();
        let result = change(log);
        if log.count() == 0 {
            self.pull_log = None;
        }
        result
    }
}

/// Equal when the persisted state is.
impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.first_pull, self.next_pull, &self.pull_log)
            == (
                &other.name,
                other.first_pull,
                other.next_pull,
                &other.pull_log,
            )
    }
}

/// What most groups do not have.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Extra {
    pub(super) filter: Option<TagFilter>,
    pub(super) skipped: u64,
    pub(super) redelivery: Redelivery,
}

/// A consumer group on one subject; of a broadcast group, the part of one consumer.
#[derive(Debug, PartialEq)]
pub(crate) struct Group {
    pub(super) name: Arc<str>,
    /// The next message sequence to hand out for the first time.
    pub(super) cursor: u64,
    /// Log end offset of the last action applied.
    pub(super) applied: u64,
    /// Pull sequences of new members start here, above those of all who went.
    pub(super) pull_floor: u64,
    /// Sum over the members.
    pub(super) unacked: u64,
    /// By name.
    pub(super) members: Box<[Member]>,
    /// None when it would be empty.
    pub(super) extra: Option<Box<Extra>>,
    pub(super) kind: GroupKind,
}

impl Group {
    /// A group before its first action.
    pub(crate) fn new(
        name: Arc<str>,
        kind: GroupKind,
        filter: Option<TagFilter>,
        cursor: u64,
    ) -> Self {
        let mut group = Self {
            name,
            cursor,
            applied: 0,
            pull_floor: 0,
            unacked: 0,
            members: Box::default(),
            extra: None,
            kind,
        };
        group.set_filter(filter);
        group
    }

    /// Makes an action's change, unless an action at or behind `end_offset`, the log offset where
    /// its record ends, has been applied already. `intern` is asked for the name of a new member.
    pub(crate) fn apply(
        &mut self,
        action: &Action<'_>,
        end_offset: u64,
        intern: &mut dyn FnMut(&str) -> Arc<str>,
    ) {
        if end_offset <= self.applied {
            return;
        }
        match action {
            Action::Create {
                consumer,
                kind,
                filter,
                cursor,
                ..
            } => {
                // A second one must not move the cursor of a group at work.
                if self.applied == 0 {
                    self.kind = *kind;
                    self.cursor = *cursor;
                }
                // By its member a broadcast group is told from those of other consumers.
                if self.kind == GroupKind::Broadcast {
                    self.join(consumer, self.pull_floor, intern);
                }
                self.set_filter(filter.clone());
            }
            Action::Pull {
                consumer,
                pull_first,
                cursor_before,
                cursor_after,
                redelivered,
                runs,
                ..
            } => {
                if *cursor_before > self.cursor {
                    self.skip(*cursor_before - self.cursor);
                }
                self.cursor = *cursor_after;
                self.hand_out(consumer, *pull_first, redelivered, runs, intern);
            }
            Action::Ack {
                consumer, ranges, ..
            } => self.ack(consumer, ranges),
            Action::Nack {
                consumer,
                ranges,
                available_at_ms,
                ..
            } => {
                if let Ok(at) = self.find(consumer) {
                    for &(first, last) in ranges.iter() {
                        self.fail(at, first, last, *available_at_ms);
                    }
                }
            }
            Action::Gone { consumer, .. } => self.gone(consumer),
            Action::Reset { cursor, .. } => self.reset(*cursor),
            // Its owner lets go of it.
            Action::Drop { .. } => {}
        }
        self.tidy();
        self.applied = end_offset;
    }

    /// Where the member of that name is; a new one owns pull sequences from `first_pull` on.
    fn join(
        &mut self,
        consumer: &str,
        first_pull: u64,
        intern: &mut dyn FnMut(&str) -> Arc<str>,
    ) -> usize {
        self.find(consumer).unwrap_or_else(|at| {
            let mut members = std::mem::take(&mut self.members).into_vec();
            members.reserve_exact(1);
            let member = Member {
                name: intern(consumer),
                first_pull,
                next_pull: first_pull,
                pull_log: None,
                seen: 0,
            };
            members.insert(at, member);
            self.members = members.into_boxed_slice();
            at
        })
    }

    fn gone(&mut self, consumer: &str) {
        let Ok(at) = self.find(consumer) else { return };
        self.fail(at, 0, u64::MAX, 0);
        if self.kind == GroupKind::Broadcast {
            // Nobody else will take its messages: the group waits for it to come back.
            self.members[at].disown();
            return;
        }
        let mut members = std::mem::take(&mut self.members).into_vec();
        self.pull_floor = self.pull_floor.max(members.remove(at).next_pull);
        self.members = members.into_boxed_slice();
    }

    fn hand_out(
        &mut self,
        consumer: &str,
        pull_first: u64,
        redelivered: &[u64],
        runs: &[(u64, u32)],
        intern: &mut dyn FnMut(&str) -> Arc<str>,
    ) {
        let at = self.join(consumer, pull_first, intern);
        if let Some(extra) = &mut self.extra {
            for sequence in redelivered {
                extra.redelivery.remove(*sequence);
            }
        }
        let member = &mut self.members[at];
        // Never below what was given: a number must not come to stand for a second message.
        let mut pull_first = pull_first.max(member.next_pull);
        if member.first_pull == member.next_pull {
            member.first_pull = pull_first;
        }
        let single = redelivered.iter().map(|sequence| (*sequence, 1));
        let runs = runs.iter().map(|(first, len)| (*first, u64::from(*len)));
        let before = member.unacked();
        member.change(|log| {
            for (sequence_first, len) in single.chain(runs) {
                if log.push(Run {
                    pull_first,
                    sequence_first,
                    len,
                }) {
                    pull_first += len;
                }
            }
        });
        member.next_pull = pull_first;
        self.unacked += member.unacked() - before;
    }

    fn ack(&mut self, consumer: &str, ranges: &[(u64, u64)]) {
        let Ok(at) = self.find(consumer) else { return };
        let Self { members, extra, .. } = self;
        self.unacked -= members[at].change(|log| {
            let mut removed = 0;
            for &(first, last) in ranges {
                removed += log.remove(first, last, |run| {
                    if let Some(extra) = extra {
                        extra.redelivery.settled(run);
                    }
                });
            }
            removed
        });
    }

    fn fail(&mut self, at: usize, first: u64, last: u64, available_at_ms: u64) {
        let extra = self.extra.get_or_insert_default();
        self.unacked -= self.members[at].change(|log| {
            log.remove(first, last, |run| {
                extra.redelivery.failed(run, available_at_ms);
            })
        });
    }

    fn reset(&mut self, cursor: u64) {
        self.cursor = cursor;
        for member in &mut self.members {
            member.disown();
        }
        self.unacked = 0;
        if let Some(extra) = &mut self.extra {
            **extra = Extra {
                filter: extra.filter.take(),
                ..Extra::default()
            };
        }
    }

    /// Retention moved the subject's first kept sequence to `floor`: what lies below can no longer
    /// be read, and counts as skipped, never as acked.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        let overtaken = floor.saturating_sub(self.cursor);
        self.cursor = self.cursor.max(floor);
        let skipped = overtaken + self.keep_only(floor, u64::MAX);
        if skipped > 0 {
            self.skip(skipped);
        }
        self.tidy();
    }

    /// The log was recovered shorter than it was: nothing at or beyond sequence `end` may stay.
    pub(crate) fn clamp(&mut self, end: u64) {
        self.cursor = self.cursor.min(end);
        self.keep_only(0, end);
        self.tidy();
    }

    /// Drops what is unacked or waits outside sequences `floor..end`; returns how many messages.
    fn keep_only(&mut self, floor: u64, end: u64) -> u64 {
        let mut unacked = 0;
        for member in &mut self.members {
            if member.pull_log.is_some() {
                unacked += member.change(|log| log.keep_only(floor, end));
            }
        }
        self.unacked -= unacked;
        let mut waiting = 0;
        if let Some(extra) = &mut self.extra {
            waiting = extra.redelivery.keep_only(floor, end);
        }
        unacked + waiting
    }

    fn set_filter(&mut self, filter: Option<TagFilter>) {
        let filter = filter.filter(|filter| *filter != TagFilter::All);
        if filter.is_some() || self.extra.is_some() {
            self.extra().filter = filter;
        }
    }

    fn skip(&mut self, messages: u64) {
        let extra = self.extra();
        extra.skipped = extra.skipped.saturating_add(messages);
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Gives memory back; also what makes equal states equal.
    fn tidy(&mut self) {
        if self
            .extra
            .as_deref()
            .is_some_and(|extra| *extra == Extra::default())
        {
            self.extra = None;
        }
    }

    fn find(&self, consumer: &str) -> Result<usize, usize> {
        self.members
            .binary_search_by(|member| (*member.name).cmp(consumer))
    }

    fn member(&self, consumer: &str) -> Option<&Member> {
        self.find(consumer).ok().map(|at| &self.members[at])
    }

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

    /// What a consumer that came back after the store was opened holds and was not given again yet,
    /// at most `max` messages, as [`Self::pending_of`]. Ask it before each pull: only when it gives
    /// nothing may the consumer have others.
    pub(crate) fn resend(&mut self, consumer: &str, max: usize) -> Vec<(u64, u64, u32)> {
        let Ok(at) = self.find(consumer) else {
            return Vec::new();
        };
        let member = &self.members[at];
        if member.seen & 1 == 1 || max == 0 {
            return Vec::new();
        }
        let after = member
            .pull_log
            .as_ref()
            .and_then(|log| log.resent.checked_sub(1));
        let pending = self.pending_of(consumer, after, max);
        let member = &mut self.members[at];
        match (&mut member.pull_log, pending.last()) {
            (Some(log), Some((last, ..))) => log.resent = last + 1,
            _ => member.seen |= 1,
        }
        pending
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

    /// Messages never handed out, of a subject that ends at sequence `end`.
    pub(crate) fn lag(&self, end: u64) -> u64 {
        end.saturating_sub(self.cursor)
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
    pub(crate) fn members(&self) -> impl Iterator<Item = MemberState<'_>> + '_ {
        self.members.iter().map(|member| MemberState {
            name: &member.name,
            next_pull: member.next_pull,
            unacked: member.unacked(),
            seen_ms: member.seen_ms(),
        })
    }

    /// Notes a sign of life of `consumer`, if it is a member.
    pub(crate) fn touch(&mut self, consumer: &str, now_ms: u64) {
        if let Ok(at) = self.find(consumer) {
            let member = &mut self.members[at];
            member.seen = now_ms << 1 | member.seen & 1;
        }
    }

    /// As [`Self::touch`], after a pull was applied: a consumer that joined by it has nothing to be
    /// given again.
    pub(crate) fn touch_pulled(&mut self, consumer: &str, now_ms: u64) {
        if let Ok(at) = self.find(consumer) {
            self.members[at].seen = now_ms << 1 | 1;
        }
    }

    /// As [`Self::touch`] for all members: at open, so that leases do not run while it was closed.
    pub(crate) fn touch_all(&mut self, now_ms: u64) {
        for member in &mut self.members {
            member.seen = now_ms << 1 | member.seen & 1;
        }
    }

    /// Members that hold messages and were not heard of for more than `lease_ms`.
    pub(crate) fn expired(&self, now_ms: u64, lease_ms: u64) -> Vec<Arc<str>> {
        self.silent(now_ms, lease_ms, true)
    }

    /// Members that hold nothing and were not heard of for more than `idle_ms`. None of a broadcast
    /// group, which keeps its member however often that is declared gone.
    pub(crate) fn idle_members(&self, now_ms: u64, idle_ms: u64) -> Vec<Arc<str>> {
        if self.kind == GroupKind::Broadcast {
            return Vec::new();
        }
        self.silent(now_ms, idle_ms, false)
    }

    fn silent(&self, now_ms: u64, for_ms: u64, holding: bool) -> Vec<Arc<str>> {
        let silent = |member: &&Member| now_ms.saturating_sub(member.seen_ms()) > for_ms;
        let members = self
            .members
            .iter()
            .filter(|member| member.pull_log.is_some() == holding);
        members
            .filter(silent)
            .map(|member| Arc::clone(&member.name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        Group::new("ticket".into(), GroupKind::Shared, None, 0)
    }

    /// Applies it the way recovery does: from bytes.
    fn act(group: &mut Group, action: &Action<'_>) {
        let mut bytes = Vec::new();
        action.encode(&mut bytes);
        let action = Action::decode(&bytes).unwrap();
        let end_offset = group.applied + bytes.len() as u64;
        group.apply(&action, end_offset, &mut |name| name.into());
    }

    /// Hands out all that waits at `now_ms`, then `count` new messages, as the store would.
    fn pull(group: &mut Group, consumer: &str, incarnation: u32, count: u32, now_ms: u64) {
        let cursor = group.cursor;
        let action = Action::Pull {
            group: "ticket",
            consumer,
            pull_first: group.next_pull_sequence(consumer, incarnation),
            cursor_before: cursor,
            cursor_after: cursor + u64::from(count),
            redelivered: group.due(now_ms, usize::MAX).into(),
            runs: vec![(cursor, count)].into(),
        };
        act(group, &action);
    }

    fn settle(
        group: &Group,
        consumer: &str,
        ranges: &[(u64, u64)],
    ) -> (AckOutcome, Vec<(u64, u64)>) {
        let mut pending = vec![(77, 77)];
        let outcome = group.settle(consumer, ranges, &mut pending);
        (outcome, pending)
    }

    fn ack(group: &mut Group, consumer: &str, ranges: &[(u64, u64)]) -> AckOutcome {
        let (outcome, _) = settle(group, consumer, ranges);
        act(
            group,
            &Action::Ack {
                group: "ticket",
                consumer,
                ranges: ranges.into(),
            },
        );
        outcome
    }

    fn nack(group: &mut Group, consumer: &str, ranges: &[(u64, u64)], available_at_ms: u64) {
        let ranges = ranges.into();
        act(
            group,
            &Action::Nack {
                group: "ticket",
                consumer,
                ranges,
                available_at_ms,
            },
        );
    }

    fn gone(group: &mut Group, consumer: &str) {
        act(
            group,
            &Action::Gone {
                group: "ticket",
                consumer,
            },
        );
    }

    fn outcome(acked: u64, already: u64, not_owned: u64) -> AckOutcome {
        AckOutcome {
            acked,
            already,
            not_owned,
        }
    }

    fn held(group: &Group, consumer: &str) -> Vec<(u64, u64)> {
        let pending = group.pending_of(consumer, None, usize::MAX);
        pending
            .into_iter()
            .map(|(pull, sequence, _)| (pull, sequence))
            .collect()
    }

    #[test]
    fn an_idle_group_with_one_consumer_takes_at_most_128_bytes() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 100, 0);
        ack(&mut group, "host-1", &[(0, 99)]);
        assert!(group.extra.is_none());
        assert!(group.members[0].pull_log.is_none());
        assert!(size_of::<Group>() + size_of_val(&*group.members) <= 128);
    }

    /// QMQ acks them itself, and nobody gets them again.
    #[test]
    fn qmq_a1_a_dead_consumers_unacked_messages_are_redelivered_not_acked() {
        let mut group = group();
        pull(&mut group, "dead", 0, 10, 0);
        ack(&mut group, "dead", &[(2, 4)]);
        gone(&mut group, "dead");
        assert_eq!(
            (group.unacked(), group.waiting(), group.lowest_unsettled()),
            (0, 7, 0)
        );

        pull(&mut group, "alive", 0, 1, 0);
        let sequences: Vec<u64> = held(&group, "alive").iter().map(|held| held.1).collect();
        assert_eq!(sequences, [0, 1, 5, 6, 7, 8, 9, 10]);
        assert_eq!(
            [0, 2, 9, 10].map(|sequence| group.attempt(sequence)),
            [1, 0, 1, 0]
        );
        assert_eq!(group.skipped(), 0);
    }

    /// QMQ starts again at numbers that its clients still hold; their acks hit other messages.
    #[test]
    fn qmq_a5_pull_sequences_are_never_used_again_after_a_restart() {
        let mut group = group();
        pull(&mut group, "host-1", 1, 10, 0);
        assert_eq!(held(&group, "host-1")[0], (1 << 40, 0));
        // The pulls of sequences 10..20 were buffered only, and power was lost.
        assert_eq!(group.next_pull_sequence("host-1", 1), (1 << 40) + 10);
        pull(&mut group, "host-1", 2, 10, 0);
        assert_eq!(held(&group, "host-1")[10], (2 << 40, 10));

        let lost = ((1 << 40) + 10, (1 << 40) + 19);
        assert_eq!(ack(&mut group, "host-1", &[lost]), outcome(0, 10, 0));
        assert_eq!(group.unacked(), 20);
        assert_eq!(group.next_pull_sequence("another", 2), 2 << 40);
        assert_eq!(
            group.next_pull_sequence("another", 1 << 24),
            ((1 << 24) - 1) << 40
        );
    }

    #[test]
    fn a_broadcast_consumer_finds_its_messages_when_it_comes_back_after_it_was_gone() {
        let (kind, filter) = (GroupKind::Broadcast, None);
        let mut group = Group::new("ticket".into(), kind, None, 0);
        let (consumer, cursor) = ("host-1", 30);
        let create = Action::Create {
            group: "ticket",
            consumer,
            kind,
            filter,
            cursor,
        };
        act(&mut group, &create);
        assert!(group.members().eq([MemberState {
            name: &"host-1".into(),
            next_pull: 0,
            unacked: 0,
            seen_ms: 0
        }]));
        pull(&mut group, "host-1", 1, 2, 0);
        assert_eq!(ack(&mut group, "host-1", &[(0, 9)]), outcome(0, 0, 10));
        gone(&mut group, "host-1");
        assert_eq!((group.waiting(), group.members().count()), (2, 1));
        let given = [(1 << 40, (1 << 40) + 1)];
        assert_eq!(ack(&mut group, "host-1", &given), outcome(0, 0, 2));
        assert!(group.idle_members(u64::MAX, 0).is_empty());
        pull(&mut group, "host-1", 1, 0, 0);
        let again = [((1 << 40) + 2, 30), ((1 << 40) + 3, 31)];
        assert_eq!(held(&group, "host-1"), again);
    }

    #[test]
    fn one_who_comes_back_after_it_was_gone_does_not_meet_its_old_numbers() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        gone(&mut group, "host-1");
        assert_eq!(group.next_pull_sequence("host-1", 0), 10);
        assert_eq!(group.next_pull_sequence("host-2", 0), 10);
        pull(&mut group, "host-1", 0, 0, 0);
        assert_eq!(ack(&mut group, "host-1", &[(0, 9)]), outcome(0, 0, 10));
        assert_eq!(group.unacked(), 10);
        assert_eq!(ack(&mut group, "host-1", &[(0, 14)]), outcome(5, 0, 10));
    }

    /// QMQ answers with another consumer's message.
    #[test]
    fn qmq_a6_a_lookup_past_a_consumers_block_finds_nothing() {
        let mut group = group();
        pull(&mut group, "a", 0, 5, 0);
        pull(&mut group, "b", 0, 5, 0);
        assert_eq!(group.sequence_of("a", 4), Some(4));
        assert_eq!(group.sequence_of("b", 4), Some(9));
        assert_eq!(
            [5, 9, u64::MAX].map(|pull| group.sequence_of("a", pull)),
            [None; 3]
        );
        assert_eq!(group.sequence_of("c", 0), None);
        assert_eq!(ack(&mut group, "a", &[(5, 9)]), outcome(0, 0, 5));
        assert_eq!(group.unacked(), 10);
    }

    /// QMQ acks a whole range when it cannot find out what the range stands for.
    #[test]
    fn qmq_a7_what_cannot_be_found_is_not_acked() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        // A pull whose record is damaged: its numbers are in no log.
        let action = Action::Pull {
            group: "ticket",
            consumer: "host-1",
            pull_first: 20,
            cursor_before: 10,
            cursor_after: 15,
            redelivered: Vec::new().into(),
            runs: vec![(10, 5)].into(),
        };
        act(&mut group, &action);
        let (found, pending) = settle(&group, "host-1", &[(10, 19)]);
        assert_eq!((found, pending), (outcome(0, 10, 0), vec![]));
        ack(&mut group, "host-1", &[(10, 19)]);
        ack(&mut group, "unknown", &[(0, u64::MAX)]);
        assert!(group.pending_of("unknown", None, 10).is_empty());
        assert_eq!((group.unacked(), group.lowest_unsettled()), (15, 0));
    }

    #[test]
    fn acks_in_any_order_leave_holes_and_repeat_harmlessly() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        assert_eq!(
            ack(&mut group, "host-1", &[(4, 5), (8, 8)]),
            outcome(3, 0, 0)
        );
        assert_eq!(ack(&mut group, "host-1", &[(4, 8)]), outcome(2, 3, 0));
        assert_eq!(ack(&mut group, "host-1", &[(0, 9)]), outcome(5, 5, 0));
        assert_eq!((group.unacked(), group.lowest_unsettled()), (0, 10));
    }

    #[test]
    fn the_ranges_to_write_are_those_pending() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        ack(&mut group, "host-1", &[(3, 4)]);
        nack(&mut group, "host-1", &[(5, 5)], 0);
        pull(&mut group, "host-1", 0, 1, 0);
        // 10 and 11 are neighbours as pulls though not as messages: they stand for 5 and 10.
        let (found, pending) = settle(&group, "host-1", &[(2, 8), (10, 20)]);
        assert_eq!(
            (found, pending),
            (outcome(6, 3, 9), vec![(2, 2), (6, 8), (10, 11)])
        );
    }

    #[test]
    fn a_pull_sequence_given_before_does_not_come_to_stand_for_another_message() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        ack(&mut group, "host-1", &[(0, 8)]);
        // The store does not write this; a log that says so must still lose no message.
        let action = Action::Pull {
            group: "ticket",
            consumer: "host-1",
            pull_first: 5,
            cursor_before: 10,
            cursor_after: 12,
            redelivered: Vec::new().into(),
            runs: vec![(10, 2)].into(),
        };
        act(&mut group, &action);
        assert_eq!(held(&group, "host-1"), [(9, 9), (10, 10), (11, 11)]);
        assert_eq!(ack(&mut group, "host-1", &[(5, 6)]), outcome(0, 2, 0));
    }

    #[test]
    fn a_number_named_twice_counts_once_and_a_backward_range_names_none() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        let (twice, pending) = settle(&group, "host-1", &[(5, 12), (9, 2), (0, 6), (5, 5)]);
        assert_eq!((twice, pending), (outcome(10, 0, 3), vec![(0, 9)]));
        nack(&mut group, "host-1", &[(9, 2)], 0);
        assert_eq!(ack(&mut group, "host-1", &[(9, 2)]), AckOutcome::default());
        assert_eq!(group.unacked(), 10);
    }

    #[test]
    fn a_range_of_all_numbers_is_no_more_work_than_what_is_pending() {
        let mut group = group();
        assert_eq!(
            ack(&mut group, "host-1", &[(0, u64::MAX)]),
            outcome(0, 0, u64::MAX)
        );
        pull(&mut group, "host-1", 1, 10, 0);
        let all = outcome(10, 0, u64::MAX - 9);
        assert_eq!(ack(&mut group, "host-1", &[(0, u64::MAX)]), all);
        assert_eq!(group.unacked(), 0);
    }

    #[test]
    fn a_refused_message_waits_for_its_time_and_counts_its_attempts() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 3, 0);
        nack(&mut group, "host-1", &[(1, 1)], 500);
        assert_eq!((group.due(499, 10), group.due(500, 10)), (vec![], vec![1]));
        assert_eq!((group.next_due(), group.unacked()), (Some(500), 2));
        pull(&mut group, "host-2", 0, 0, 500);
        assert_eq!(group.pending_of("host-2", None, 10), [(0, 1, 1)]);
        nack(&mut group, "host-2", &[(0, 0)], 900);
        pull(&mut group, "host-2", 0, 0, 900);
        assert_eq!(group.pending_of("host-2", None, 10), [(1, 1, 2)]);
        ack(&mut group, "host-2", &[(1, 1)]);
        assert_eq!(group.attempt(1), 0);
        assert!(group.extra.is_none());
    }

    #[test]
    fn one_who_returns_is_given_what_it_holds_once_under_its_old_numbers() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 5, 0);
        ack(&mut group, "host-1", &[(1, 1)]);
        assert_eq!(group.pending_of("host-1", Some(2), 1), [(3, 3, 0)]);
        assert_eq!(group.pending_of("host-1", Some(u64::MAX), 1), []);
        assert_eq!(group.resend("host-1", 3), [(0, 0, 0), (2, 2, 0), (3, 3, 0)]);
        ack(&mut group, "host-1", &[(2, 2)]);
        group.raise_floor(1);
        assert_eq!(group.resend("host-1", 3), [(4, 4, 0)]);
        assert_eq!([(); 2].map(|()| group.resend("host-1", 3)), [[], []]);
        // One who joined after the open holds nothing that it does not know of.
        pull(&mut group, "host-2", 0, 5, 0);
        group.touch_pulled("host-2", 0);
        assert_eq!(group.resend("host-2", 3), []);
    }

    #[test]
    fn a_reset_takes_everything_back() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        nack(&mut group, "host-1", &[(0, 0)], 0);
        act(
            &mut group,
            &Action::Reset {
                group: "ticket",
                consumer: "",
                cursor: 4,
            },
        );
        assert_eq!(
            (group.cursor(), group.unacked(), group.waiting()),
            (4, 0, 0)
        );
        assert_eq!(ack(&mut group, "host-1", &[(0, 9)]), outcome(0, 0, 10));
        pull(&mut group, "host-1", 0, 1, 0);
        assert_eq!(held(&group, "host-1"), [(10, 4)]);
    }

    #[test]
    fn what_retention_took_counts_as_skipped_never_as_acked() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        nack(&mut group, "host-1", &[(0, 1), (8, 8)], 0);
        for _ in 0..2 {
            group.raise_floor(5);
            assert_eq!(
                (group.skipped(), group.unacked(), group.waiting()),
                (5, 4, 1)
            );
            assert_eq!(
                (group.attempt(1), group.attempt(8), group.lowest_unsettled()),
                (0, 1, 5)
            );
        }
        assert_eq!(ack(&mut group, "host-1", &[(2, 5)]), outcome(1, 3, 0));
        group.raise_floor(20);
        assert_eq!(
            (group.skipped(), group.cursor(), group.lag(25)),
            (5 + 4 + 10, 20, 5)
        );
    }

    #[test]
    fn messages_that_a_pull_found_gone_count_as_skipped() {
        let mut group = group();
        let action = Action::Pull {
            group: "ticket",
            consumer: "c",
            pull_first: 0,
            cursor_before: 30,
            cursor_after: 40,
            redelivered: Vec::new().into(),
            runs: vec![(30, 1), (35, 2)].into(),
        };
        act(&mut group, &action);
        assert_eq!(
            (group.skipped(), group.cursor(), group.unacked()),
            (30, 40, 3)
        );
        assert_eq!(held(&group, "c"), [(0, 30), (1, 35), (2, 36)]);
    }

    #[test]
    fn nothing_refers_beyond_a_recovered_end() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        nack(&mut group, "host-1", &[(1, 1), (9, 9)], 0);
        group.clamp(5);
        assert_eq!(
            (group.cursor(), group.unacked(), group.waiting()),
            (5, 4, 1)
        );
        assert_eq!((group.skipped(), group.attempt(9)), (0, 0));
        assert_eq!(group.next_pull_sequence("host-1", 0), 10);
    }

    #[test]
    fn an_action_is_applied_once() {
        let mut group = group();
        pull(&mut group, "host-1", 0, 10, 0);
        let end = group.applied();
        let reset = Action::Reset {
            group: "ticket",
            consumer: "",
            cursor: 0,
        };
        group.apply(&reset, end, &mut |name| name.into());
        assert_eq!((group.cursor(), group.applied()), (10, end));
        group.apply(&reset, end + 1, &mut |name| name.into());
        assert_eq!((group.cursor(), group.applied()), (0, end + 1));
    }

    #[test]
    fn a_second_creation_changes_the_filter_and_nothing_else() {
        let create = |filter| Action::Create {
            group: "ticket",
            consumer: "",
            kind: GroupKind::Shared,
            filter,
            cursor: 40,
        };
        let mut group = group();
        act(&mut group, &create(None));
        assert_eq!(group.cursor(), 40);
        pull(&mut group, "host-1", 0, 10, 0);
        let filter = TagFilter::Any(vec!["pay".into()]);
        act(&mut group, &create(Some(filter.clone())));
        assert_eq!((group.cursor(), group.filter()), (50, Some(&filter)));
        act(&mut group, &create(Some(TagFilter::All)));
        assert!(group.filter().is_none() && group.extra.is_none());
    }

    #[test]
    fn a_lease_ends_only_for_the_silent_who_hold_messages() {
        let mut group = group();
        pull(&mut group, "holds", 0, 10, 0);
        pull(&mut group, "idle", 0, 0, 0);
        group.touch_all(1_000);
        assert!(group.expired(1_500, 500).is_empty());
        assert_eq!(group.expired(1_501, 500), ["holds".into()]);
        assert_eq!(group.idle_members(1_501, 500), ["idle".into()]);
        group.touch("holds", 1_400);
        assert!(group.expired(1_501, 500).is_empty());
        assert_eq!((group.room(12), group.room(5)), (2, 0));
        let states = group.members().map(|m| (m.unacked, m.next_pull, m.seen_ms));
        assert_eq!(states.collect::<Vec<_>>(), [(10, 10, 1_400), (0, 0, 1_000)]);
    }
}
