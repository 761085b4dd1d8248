//! The state of one consumer group on one subject, and how actions change it.
//!
//! It changes only by [`Group::apply`] (what is in the log), and by [`Group::raise_floor`],
//! [`Group::take_back`] and [`Group::clamp`] (what the log no longer has). Live work and recovery
//! take the same way, so they cannot differ. Nothing here reads a clock, a file or another thread.
//!
//! What can be asked of a group is in `view`; who of its members was heard of, which is not
//! persisted, in `presence`.

mod presence;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use qmq_message::TagFilter;

pub use view::AckOutcome;

use super::action::{Action, GroupKind};
use super::member::MemberState;
use super::pull_log::PullRun;
use super::redelivery::Redelivery;
use presence::Looked;

/// What most groups do not have.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Extra {
    pub(super) filter: Option<TagFilter>,
    pub(super) skipped: u64,
    pub(super) redelivery: Redelivery,
    pub(super) looked: Looked,
}

/// A consumer group on one subject; of a broadcast group, the part of one consumer.
#[derive(Debug, PartialEq)]
pub(crate) struct Group {
    pub(super) name: Arc<str>,
    /// The next message sequence to hand out for the first time.
    pub(super) cursor: u64,
    /// Log end offset of the last action applied.
    pub(super) applied: u64,
    /// Pull sequences of new members start here, above those of all who went and of groups that were dropped.
    pub(super) pull_floor: u64,
    /// Sum over the members.
    pub(super) unacked: u64,
    /// By name.
    pub(super) members: Box<[MemberState]>,
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
                pull_floor,
                ..
            } => {
                // A second one must not move the cursor of a group at work.
                if self.applied == 0 {
                    self.kind = *kind;
                    self.cursor = *cursor;
                    self.pull_floor = *pull_floor;
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
            } => {
                self.ack(consumer, ranges);
            }
            Action::AckSkipped {
                consumer,
                ranges,
                skipped,
                ..
            } => {
                self.ack(consumer, ranges);
                // The first ones may be among the second ones, and are gone by now.
                match self.ack(consumer, skipped) {
                    0 => {}
                    kept => self.skip(kept),
                }
            }
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
            Action::Release {
                consumer,
                ranges,
                available_at_ms,
                ..
            } => {
                if let Ok(at) = self.find(consumer) {
                    for &(first, last) in ranges.iter() {
                        self.release(at, first, last, *available_at_ms);
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
            let member = MemberState {
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
                if log.push(PullRun {
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

    /// Returns how many messages were waiting for it.
    fn ack(&mut self, consumer: &str, ranges: &[(u64, u64)]) -> u64 {
        let Ok(at) = self.find(consumer) else {
            return 0;
        };
        let Self { members, extra, .. } = self;
        let acked = members[at].change(|log| {
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
        self.unacked -= acked;
        acked
    }

    fn fail(&mut self, at: usize, first: u64, last: u64, available_at_ms: u64) {
        self.come_again(at, (first, last), |redelivery, run| {
            redelivery.failed(run, available_at_ms);
        });
    }

    fn release(&mut self, at: usize, first: u64, last: u64, available_at_ms: u64) {
        self.come_again(at, (first, last), |redelivery, run| {
            redelivery.released(run, available_at_ms);
        });
    }

    fn come_again(
        &mut self,
        at: usize,
        (first, last): (u64, u64),
        mut how: impl FnMut(&mut Redelivery, PullRun),
    ) {
        let extra = self.extra.get_or_insert_default();
        self.unacked -= self.members[at]
            .change(|log| log.remove(first, last, |run| how(&mut extra.redelivery, run)));
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
        if let Some(extra) = &mut self.extra {
            extra.looked = Looked::default();
        }
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
            let extra = self.extra();
            extra.filter = filter;
            extra.looked = Looked::default();
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

    fn member(&self, consumer: &str) -> Option<&MemberState> {
        self.find(consumer).ok().map(|at| &self.members[at])
    }
}
