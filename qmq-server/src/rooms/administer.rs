//! What operators ask, and what is counted for them.
//!
//! Answers look at every subject: the caller's thread must be one that may block.

mod activity;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use qmq_store::{Error, Store};
use qmq_wire::{
    Code, ConsumerStatus, ControlRequest, ControlResponse, GroupStatus, NodeStatus, Refusal,
    ResetTo, SubjectStatus,
};

pub use activity::{Activity, OTHER, SubjectActivity, SubjectCounts, Top};

use super::consumers::Consumers;
use super::produce::Producing;
use super::{AnswersControl, Caller};
use crate::access::{Pattern, Principal, Right};

const RIGHTS: [Right; 3] = [Right::Produce, Right::Consume, Right::Administer];
/// Most subjects of one answer.
const SUBJECTS_MAX: usize = 10_000;
/// A message has been refused for want of room, and there is less than so many segments of it: it is still full. The store's reserve has two, and it needs
/// one for messages.
const SEGMENTS_NEEDED: u64 = 3;

/// The room.
pub struct Administering {
    /// The store.
    pub store: Store,
    /// Messages in.
    pub producing: Producing,
    /// Who consumes.
    pub consumers: Consumers,
    /// What comes and goes, by subject.
    pub activity: std::sync::Arc<Activity>,
    /// Name of the node.
    pub node: String,
    /// Its broker group.
    pub group: parking_lot::RwLock<String>,
    /// When it started.
    pub since: Instant,
    /// Open connections.
    pub connections: std::sync::Arc<std::sync::atomic::AtomicU64>,
    /// Whether it is shutting down.
    pub draining: std::sync::Arc<AtomicBool>,
}

impl std::fmt::Debug for Administering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Administering")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl AnswersControl for Administering {
    fn answer(
        &self,
        number: u32,
        request: &ControlRequest,
        caller: &Caller,
    ) -> Result<ControlResponse, Refusal> {
        Self::answer(self, number, request, caller)
    }
}

impl Administering {
    /// Answers. May take long, and read from the disk.
    ///
    /// # Errors
    /// A refusal for that number.
    pub fn answer(
        &self,
        number: u32,
        request: &ControlRequest,
        caller: &Caller,
    ) -> Result<ControlResponse, Refusal> {
        match request {
            ControlRequest::Status => {
                // Whoever has a name may know how the node is.
                if *caller.principal() == Principal::Anonymous {
                    self.may_administer(number, "*", caller)?;
                }
                Ok(ControlResponse::Status(self.status()))
            }
            ControlRequest::Subjects {
                pattern,
                after,
                max,
            } => Ok(ControlResponse::Subjects(
                self.subjects(pattern, after, *max as usize, caller)
                    .map_err(|error| refused(number, &error))?,
            )),
            ControlRequest::Reset { subject, group, to } => {
                self.may_administer(number, subject, caller)?;
                let to = match *to {
                    ResetTo::Earliest => qmq_store::ResetTo::Earliest,
                    ResetTo::Latest => qmq_store::ResetTo::Latest,
                    ResetTo::Sequence(sequence) => qmq_store::ResetTo::Sequence(sequence),
                    ResetTo::Time(time) => qmq_store::ResetTo::Time(time),
                };
                let cursor = self
                    .store
                    .reset(subject, group, to)
                    .map_err(|error| refused(number, &error))?;
                tracing::info!(subject, group, cursor, "a group was reset");
                Ok(ControlResponse::Reset(cursor))
            }
            ControlRequest::DropGroup { subject, group } => {
                self.may_administer(number, subject, caller)?;
                self.store
                    .drop_group(subject, group)
                    .map_err(|error| refused(number, &error))?;
                tracing::info!(subject, group, "a group was deleted");
                Ok(ControlResponse::Dropped)
            }
            _ => Err(Refusal::new(
                number,
                Code::UnknownRequest,
                "this broker does not know the request; it is older than the tool that asks",
            )),
        }
    }

    fn may_administer(&self, number: u32, subject: &str, caller: &Caller) -> Result<(), Refusal> {
        caller
            .check(Right::Administer, subject)
            .map_err(|refused| Refusal::new(number, Code::Denied, refused.to_string()))
    }

    /// With fewer free bytes a disk that was full is still full.
    #[must_use]
    pub fn bytes_needed(&self) -> u64 {
        self.store.options().segment_bytes * SEGMENTS_NEEDED
    }

    /// How the node is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let stats = self.store.stats();
        let watermarks = stats.watermarks;
        let delivering = self.consumers.delivering().counters();
        let trouble = match self.store.health() {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        NodeStatus {
            node: self.node.clone(),
            group: self.group.read().clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            connections: self.connections.load(Ordering::Relaxed),
            subscriptions: self.consumers.attached(),
            subjects: stats.subjects,
            log_bytes: stats.log_bytes,
            unsynced_bytes: watermarks.written.saturating_sub(watermarks.synced),
            free_bytes: stats.free_bytes,
            produced: self.producing.counters().accepted.load(Ordering::Relaxed),
            delivered: delivering.delivered.load(Ordering::Relaxed),
            acked: self.consumers.counters().acked.load(Ordering::Relaxed),
            draining: self.draining.load(Ordering::Relaxed),
            trouble,
        }
    }

    fn subjects(
        &self,
        pattern: &str,
        after: &str,
        max: usize,
        caller: &Caller,
    ) -> Result<Vec<SubjectStatus>, Error> {
        let pattern = Pattern::new(if pattern.is_empty() { "*" } else { pattern });
        let mut names = self.store.subjects();
        names.retain(|name| {
            (after.is_empty() || name.as_str() > after)
                && pattern.matches(name)
                && RIGHTS.into_iter().any(|right| caller.may(right, name))
        });
        names.sort_unstable();
        names.truncate(max.min(SUBJECTS_MAX));
        names.iter().map(|name| self.subject(name)).collect()
    }

    fn subject(&self, name: &str) -> Result<SubjectStatus, Error> {
        let stats = self.store.subject_stats(name)?;
        let groups = stats.groups.into_iter().map(|group| GroupStatus {
            consumers: group
                .consumers
                .into_iter()
                .map(|consumer| ConsumerStatus {
                    online: self
                        .consumers
                        .is_attached(name, &group.group, &consumer.consumer),
                    consumer: consumer.consumer,
                    unacked: consumer.unacked,
                })
                .collect(),
            group: group.group,
            broadcast: group.broadcast,
            cursor: group.cursor,
            lag: group.lag,
            unacked: group.unacked,
            waiting: group.waiting,
            skipped: group.skipped,
        });
        Ok(SubjectStatus {
            subject: stats.subject,
            first_sequence: stats.first_sequence,
            next_sequence: stats.next_sequence,
            groups: groups.collect(),
        })
    }
}

fn refused(number: u32, error: &Error) -> Refusal {
    Refusal::new(number, super::refusals::code(error), error.to_string())
}
