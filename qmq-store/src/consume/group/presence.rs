//! Which members were heard of, which have come back and are to be given again what they hold, and how far the group has looked in vain. None of it is
//! persisted.

use std::sync::Arc;

use super::{Group, GroupKind};
use crate::consume::member::MemberState;

/// Message sequences below were looked at: from the cursor on none of them passes the filter. No part of what makes groups equal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looked(u64);

impl PartialEq for Looked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Group {
    /// A pull has looked at all up to message sequence `end`, and found nothing from the cursor on.
    pub(crate) fn looked_in_vain(&mut self, end: u64) {
        // Without a filter there is nothing that it would go past.
        if let Some(extra) = &mut self.extra {
            extra.looked.0 = extra.looked.0.max(end);
        }
    }

    /// Messages that wait to be looked at for the first time, of a subject that ends at sequence `end`.
    pub(crate) fn lag(&self, end: u64) -> u64 {
        let looked = self.extra.as_ref().map_or(0, |extra| extra.looked.0);
        end.saturating_sub(self.cursor.max(looked))
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

    /// As [`Self::touch_all`], and all have come back: what they hold was given to them by another store, or by this one before it took
    /// another's log.
    pub(crate) fn start_over(&mut self, now_ms: u64) {
        for member in &mut self.members {
            member.seen = now_ms << 1;
            if let Some(log) = &mut member.pull_log {
                log.resent = 0;
            }
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
        let silent = |member: &&MemberState| now_ms.saturating_sub(member.seen_ms()) > for_ms;
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
