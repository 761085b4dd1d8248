//! What an operator wants to see.

use crate::consume::{Group, GroupKind};
use crate::error::Error;
use crate::index::active::Subject;
use crate::log::commit::Watermarks;
use crate::read::{Source, body_bytes, bounds};
use crate::store::{Inner, Store};

/// The store as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Identity of the store; a backup has another.
    pub store_id: u128,
    /// Raised by each open that does not follow a clean close.
    pub incarnation: u32,
    /// When the store was created, in ms since the Unix epoch.
    pub created_ms: u64,
    /// Subjects known.
    pub subjects: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Segments whose index is still in memory, the active one not counted.
    pub unsealed_segments: u64,
    /// Offset of the oldest record kept.
    pub start_offset: u64,
    /// Bytes of records kept.
    pub log_bytes: u64,
    /// How far the log is written, synced and replicated.
    pub watermarks: Watermarks,
    /// Bytes of retired segments that readers still hold.
    pub pinned_bytes: u64,
    /// Files mapped at the moment.
    pub mapped_files: u64,
    /// Bytes to replay if the process died now.
    pub since_checkpoint_bytes: u64,
    /// Free bytes of the disk.
    pub free_bytes: u64,
    /// How often sealing, retention, a checkpoint or the preparation of a segment failed since the open. Each is tried again; a number that
    /// goes on rising needs a person.
    pub housekeeping_failures: u64,
    /// What the last of these failures said.
    pub last_housekeeping_error: Option<String>,
}

/// One subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubjectStats {
    /// Its name.
    pub subject: String,
    /// Sequence of the oldest message kept.
    pub first_sequence: u64,
    /// Sequence of the next message.
    pub next_sequence: u64,
    /// Its groups.
    pub groups: Vec<GroupStats>,
}

/// A group on a subject; of a broadcast group, the part of one consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Its name.
    pub group: String,
    /// Whether every consumer gets every message.
    pub broadcast: bool,
    /// Next message to be handed out for the first time.
    pub cursor: u64,
    /// Messages not handed out yet, but for those that a consumer has asked about and that do not pass the group's filter.
    pub lag: u64,
    /// Messages handed out and neither acknowledged nor refused.
    pub unacked: u64,
    /// Messages that wait to be handed out again.
    pub waiting: u64,
    /// Messages that retention took before the group had acknowledged them.
    pub skipped: u64,
    /// Its consumers.
    pub consumers: Vec<ConsumerStats>,
}

/// A consumer of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Its name.
    pub consumer: String,
    /// Messages that it holds.
    pub unacked: u64,
    /// Pull sequence of the next message that it gets.
    pub next_pull_sequence: u64,
    /// When it last pulled or settled, in ms since the Unix epoch; when the store was opened, if not since.
    pub seen_ms: u64,
}

/// Statistics of a subject: what the catalog and a source of segments know.
pub(crate) fn subject_stats(source: &dyn Source, subject: &Subject) -> Result<SubjectStats, Error> {
    let (first_sequence, next_sequence) = bounds(source, subject)?;
    let mut consumption = subject.consumption.lock();
    for group in &mut consumption.groups {
        // What retention took is skipped, whether or not anybody has pulled since.
        group.raise_floor(first_sequence);
    }
    let groups = consumption
        .groups
        .iter()
        .map(|group| group_stats(group, next_sequence))
        .collect();
    Ok(SubjectStats {
        subject: subject.name.to_string(),
        first_sequence,
        next_sequence,
        groups,
    })
}

fn group_stats(group: &Group, next: u64) -> GroupStats {
    let consumers = group.members().map(|member| ConsumerStats {
        consumer: member.name.to_string(),
        unacked: member.unacked,
        next_pull_sequence: member.next_pull,
        seen_ms: member.seen_ms,
    });
    GroupStats {
        group: group.name().to_string(),
        broadcast: group.kind() == GroupKind::Broadcast,
        cursor: group.cursor(),
        lag: group.lag(next),
        unacked: group.unacked(),
        waiting: group.waiting() as u64,
        skipped: group.skipped(),
        consumers: consumers.collect(),
    }
}

impl Inner {
    fn stats(&self) -> StoreStats {
        let log = &self.log;
        let watermarks = log.commit.marks();
        let start_offset = log.start_offset();
        let failures = self.failures.lock().clone();
        StoreStats {
            store_id: log.store_id,
            incarnation: log.incarnation(),
            created_ms: self.created_ms,
            subjects: self.catalog.len() as u64,
            segments: log.segments().len() as u64,
            unsealed_segments: log.unsealed() as u64,
            start_offset,
            log_bytes: watermarks.written.saturating_sub(start_offset),
            watermarks,
            pinned_bytes: self
                .retired
                .lock()
                .iter()
                .map(super::retention::Retired::bytes)
                .sum(),
            mapped_files: log.maps.mapped() as u64,
            since_checkpoint_bytes: watermarks.written.saturating_sub(
                self.last_checkpoint
                    .load(std::sync::atomic::Ordering::Relaxed),
            ),
            free_bytes: log.disk.free_bytes().unwrap_or(0),
            housekeeping_failures: failures.count,
            last_housekeeping_error: failures.last,
        }
    }
}

impl Store {
    /// Statistics of the store, in constant time.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    /// Names of all subjects, in the order of their first message.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        self.inner.catalog.names()
    }

    /// Statistics of a subject and its groups.
    ///
    /// # Errors
    /// [`Error::UnknownSubject`], [`Error::Io`].
    pub fn subject_stats(&self, subject: &str) -> Result<SubjectStats, Error> {
        let subject = self.inner.known_subject(subject)?;
        subject_stats(&*self.inner, &subject)
    }

    /// Bytes of the bodies of a subject's messages from sequence `from` on: with 0 what the subject holds, with a group's cursor the
    /// bytes that it lags. Looks at the header of each message.
    ///
    /// # Errors
    /// [`Error::UnknownSubject`], [`Error::Io`].
    pub fn subject_bytes(&self, subject: &str, from: u64) -> Result<u64, Error> {
        body_bytes(&*self.inner, &self.inner.known_subject(subject)?, from)
    }
}
