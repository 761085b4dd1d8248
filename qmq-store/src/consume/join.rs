//! The group that a pull is for: found, or created, and kept from having too many members.

use std::sync::Arc;

use super::pull::PullFailure;
use super::settle::unknown;
use super::write::action_part;
use super::{Action, Consumption, GroupKind, PullRequest, Start};
use crate::error::Error;
use crate::index::active::Subject;
use crate::index::catalog::floor;
use crate::log::writer::{How, Purpose};
use crate::store::Inner;

/// From so many consumers of a group on, those that hold nothing and are silent are forgotten.
const MEMBERS_WORTH_PRUNING: usize = 256;

impl Inner {
    /// A consumer may come before the first message: its group creates the subject.
    pub(super) fn create_with_group(&self, request: &PullRequest) -> Result<Arc<Subject>, Error> {
        self.check_new_subjects([&*request.subject])?;
        let action = create_action(request, 0, 0);
        let mut body = Vec::new();
        action.encode(&mut body);
        let part = action_part(&request.subject, &body);
        let mut appender = self.log.lock(part.record_len(), Purpose::Action)?;
        if let Some(subject) = self.catalog.get(&request.subject) {
            return Ok(subject);
        }
        self.check_new_subjects([&*request.subject])?;
        appender.put(&part, How::Store)?;
        appender.subject_created();
        let subject = self.catalog.prepare(&request.subject, 0);
        // Locked before anybody can find the subject: all others take this lock first and the append lock second.
        let mut consumption = subject.consumption.lock();
        self.catalog.admit(&subject);
        let end = appender.publish()?;
        consumption.apply(&action, end, &self.names);
        drop(consumption);
        Ok(subject)
    }

    /// Finds the group of a request, or creates it; one that is to start at a time at `at_time`.
    pub(super) fn find_group(
        &self,
        request: &PullRequest,
        subject: &Subject,
        consumption: &mut Consumption,
        at_time: Option<u64>,
    ) -> Result<usize, PullFailure> {
        if let Some(group) = consumption.named(&request.group) {
            if group.kind() != request.kind() {
                return Err(Error::KindMismatch {
                    subject: request.subject.clone(),
                    group: request.group.clone(),
                    broadcast: group.kind() == GroupKind::Broadcast,
                }
                .into());
            }
            if group.filter() != request.filter_if_any() {
                return Err(Error::FilterMismatch {
                    subject: request.subject.clone(),
                    group: request.group.clone(),
                }
                .into());
            }
        }
        if consumption
            .find(&request.group, &request.consumer)
            .is_none()
        {
            if consumption.groups.len() >= self.options.groups_max as usize {
                return Err(Error::TooManyGroups {
                    subject: request.subject.clone(),
                    max: self.options.groups_max,
                }
                .into());
            }
            let wanted = match request.start {
                Start::Earliest => 0,
                Start::Latest => u64::MAX,
                Start::Sequence(sequence) => sequence,
                Start::Time(time_ms) => match at_time {
                    Some(sequence) => sequence,
                    None => return Err(PullFailure::SequenceAt(time_ms)),
                },
            };
            let floor = floor(subject, &self.segments())?;
            let next = subject.index.lock().next;
            let cursor = wanted.clamp(floor.min(next), next);
            let action = create_action(request, cursor, consumption.pull_floor);
            self.act(subject, consumption, &action)?;
        }
        consumption
            .find(&request.group, &request.consumer)
            .ok_or_else(|| unknown(subject, &request.group).into())
    }

    /// Consumers come and go under new names: before a group gets too many, those that hold nothing and have been silent go.
    pub(super) fn prune_members(
        &self,
        request: &PullRequest,
        subject: &Arc<Subject>,
        consumption: &mut Consumption,
        at: usize,
        now: u64,
    ) -> Result<(), PullFailure> {
        let group = &consumption.groups[at];
        if group.members().count() < MEMBERS_WORTH_PRUNING {
            return Ok(());
        }
        let lease = u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX);
        for idle in group.idle_members(now, lease) {
            let action = Action::Gone {
                group: &request.group,
                consumer: &idle,
            };
            self.act(subject, consumption, &action)?;
        }
        Ok(())
    }
}

fn create_action(request: &PullRequest, cursor: u64, pull_floor: u64) -> Action<'_> {
    Action::Create {
        group: &request.group,
        consumer: request.part_of(),
        kind: request.kind(),
        filter: request.filter_if_any().cloned(),
        cursor,
        pull_floor,
    }
}
