//! One consumer of a group: what it was given, what it still holds, when it was last heard of.

use std::sync::Arc;

use super::pull_log::PullLog;

/// One consumer of a group, as statistics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberView<'a> {
    pub(crate) name: &'a Arc<str>,
    /// The pull sequence behind its last.
    pub(crate) next_pull: u64,
    /// Messages it holds.
    pub(crate) unacked: u64,
    /// When it was last heard of, in ms; 0 for never since the store was opened.
    pub(crate) seen_ms: u64,
}

/// The group's own record of one consumer. There is one for each consumer of each group of each subject, so bytes count.
#[derive(Debug)]
pub(super) struct MemberState {
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

impl MemberState {
    pub(super) fn unacked(&self) -> u64 {
        self.pull_log.as_ref().map_or(0, |log| log.count())
    }

    pub(super) fn seen_ms(&self) -> u64 {
        self.seen >> 1
    }

    /// All that it was given until now is not its own any more.
    pub(super) fn disown(&mut self) {
        self.first_pull = self.next_pull;
        self.pull_log = None;
    }

    /// Changes its pull log; an empty one is given back.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut PullLog) -> T) -> T {
        let log = self.pull_log.get_or_insert_default();
        let result = change(log);
        if log.count() == 0 {
            self.pull_log = None;
        }
        result
    }
}

/// Equal when the persisted state is.
impl PartialEq for MemberState {
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
