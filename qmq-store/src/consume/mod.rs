//! Who has got what: consumer groups, pull logs, redelivery, and the wake-up of those who wait.

mod action;
mod batch;
mod bytes;
mod copy;
mod group;
mod holders;
mod join;
pub(crate) mod later;
mod member;
pub(crate) mod poll;
mod pull;
mod pull_log;
mod redelivery;
mod request;
pub(crate) mod settle;
mod snapshot;
#[cfg(test)]
mod tests;
pub(crate) mod wakeup;
mod write;

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use action::Action;
pub use action::GroupKind;
pub use batch::{Batch, Member};
pub use group::AckOutcome;
pub(crate) use group::Group;
pub use holders::Holder;
pub use poll::PollPull;
pub use request::{PullRequest, Start};
use wakeup::Waiters;
pub use wakeup::Waiting;

/// The groups of a subject, and who waits for its messages.
#[derive(Debug, Default)]
pub(crate) struct Consumption {
    pub(crate) groups: Vec<Group>,
    /// Above all pull sequences of groups that were dropped: who holds one of them must not settle messages of a later group.
    pub(crate) pull_floor: u64,
    pub(crate) waiters: Waiters,
}

impl Consumption {
    /// The group that a pull or an action is about: of a broadcast group, the consumer's own part.
    pub(crate) fn find(&self, group: &str, consumer: &str) -> Option<usize> {
        self.groups.iter().position(|candidate| {
            &**candidate.name() == group
                && (candidate.kind() == GroupKind::Shared
                    || candidate.members().any(|member| &**member.name == consumer))
        })
    }

    /// The group of that name; of a broadcast group any part, since they are of one kind and have one filter.
    pub(crate) fn named(&self, group: &str) -> Option<&Group> {
        self.groups
            .iter()
            .find(|candidate| &**candidate.name() == group)
    }

    /// Makes an action's change, whose record ends at `end_offset`. Live work and recovery both come this way.
    pub(crate) fn apply(&mut self, action: &Action<'_>, end_offset: u64, names: &Names) {
        let mut intern = |name: &str| names.intern(name);
        if let Action::Drop { group } = action {
            let dropped = self.groups.extract_if(.., |candidate| {
                &**candidate.name() == *group && candidate.applied() < end_offset
            });
            let ends = dropped.map(|group| group.pull_end());
            self.pull_floor = ends.fold(self.pull_floor, u64::max);
            return;
        }
        if let Action::Create {
            group,
            consumer,
            kind,
            filter,
            cursor,
            ..
        } = action
            && self.find(group, consumer).is_none()
        {
            // Most subjects have few groups, and there are many subjects.
            self.groups.reserve_exact(1);
            self.groups.push(Group::new(
                names.intern(group),
                *kind,
                filter.clone(),
                *cursor,
            ));
            let created = self.groups.len() - 1;
            self.groups[created].apply(action, end_offset, &mut intern);
            return;
        }
        if let Some(at) = self.find(action.group(), action.consumer()) {
            self.groups[at].apply(action, end_offset, &mut intern);
        }
    }
}

/// Names of groups and consumers, each kept once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Mutex<HashSet<Arc<str>>>,
}

impl Names {
    pub(crate) fn intern(&self, name: &str) -> Arc<str> {
        let mut names = self.names.lock();
        if let Some(known) = names.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        names.insert(Arc::clone(&name));
        name
    }

    /// Forgets names that nobody uses any more.
    pub(crate) fn prune(&self) {
        self.names.lock().retain(|name| Arc::strong_count(name) > 1);
    }
}
