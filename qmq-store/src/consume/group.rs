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

    /// Damage took the records of pulls up to `cursor`: the messages `lost` that they handed out wait
    /// for another member, and what else lies there counts as skipped.
    pub(crate) fn take_back(&mut self, lost: &[u64], cursor: u64) {
        let passed = cursor.saturating_sub(self.cursor);
        let extra = self.extra();
        extra.skipped = extra
            .skipped
            .saturating_add(passed.saturating_sub(lost.len() as u64));
        for sequence in lost {
            extra.redelivery.insert(*sequence, 0);
        }
        self.cursor = self.cursor.max(cursor);
        self.tidy();
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

    /// The log was recovered shorter than it was: nothing at or beyond sequence `end` may stay, and actions from `log_end` on are new.
    pub(crate) fn clamp(&mut self, end: u64, log_end: u64) {
        self.applied = self.applied.min(log_end);
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

    /// What a consumer that came back holds and was not given again yet, at most `max` messages, as
    /// [`Self::pending_of`]. Ask it before each pull: only when it gives nothing may the consumer
    /// have others.
    pub(crate) fn to_resend(&self, consumer: &str, max: usize) -> Vec<(u64, u64, u32)> {
        let Some(member) = self.member(consumer) else {
            return Vec::new();
        };
        if member.seen & 1 == 1 {
            return Vec::new();
        }
        let log = member.pull_log.as_ref();
        let after = log.and_then(|log| log.resent.checked_sub(1));
        self.pending_of(consumer, after, max)
    }

    /// The consumer has been given again what it holds up to pull sequence `last`.
    pub(crate) fn resent(&mut self, consumer: &str, last: u64) {
        if let Ok(at) = self.find(consumer)
            && let Some(log) = &mut self.members[at].pull_log
        {
            log.resent = last + 1;
        }
    }

    /// The consumer has started anew and wants what it holds once more.
    pub(crate) fn came_back(&mut self, consumer: &str) {
        if let Ok(at) = self.find(consumer) {
            let member = &mut self.members[at];
            member.seen &= !1;
            if let Some(log) = &mut member.pull_log {
                log.resent = 0;
            }
        }
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
mod tests;
