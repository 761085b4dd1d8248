//! What a consumer asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qmq_message::{TagFilter, check_consumer, check_group, check_subject};

use super::GroupKind;
use crate::error::Error;

/// Where a group begins that has never pulled before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message kept.
    #[default]
    Earliest,
    /// Behind the newest message, as groups do in QMQ.
    Latest,
    /// At this sequence, or the nearest that is kept; of a subject without messages at its first.
    Sequence(u64),
    /// At the first message kept whose record time is not before this, in ms since the Unix epoch; behind the newest if there is none.
    Time(u64),
}

/// Messages that a pull hands out at most, if the request does not say.
const MAX_DEFAULT: usize = 100;
/// Bytes of bodies that a pull hands out at most, if the request does not say.
const MAX_BYTES_DEFAULT: u64 = 16 << 20;
/// Messages that a pull hands out at most, whatever the request says (QMQ's limit).
const MAX_LIMIT: usize = 10_000;

/// Who pulls what, and how much.
#[derive(Clone, Debug)]
pub struct PullRequest {
    pub(super) subject: String,
    pub(super) group: String,
    pub(super) consumer: String,
    pub(super) max: usize,
    pub(super) max_bytes: u64,
    pub(super) filter: TagFilter,
    pub(super) broadcast: bool,
    pub(super) returning: bool,
    pub(super) start: Start,
    unless: Option<Arc<AtomicBool>>,
}

impl PullRequest {
    /// At most 100 messages and 16 MiB for `consumer` of `group`.
    pub fn new(
        subject: impl Into<String>,
        group: impl Into<String>,
        consumer: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            group: group.into(),
            consumer: consumer.into(),
            max: MAX_DEFAULT,
            max_bytes: MAX_BYTES_DEFAULT,
            filter: TagFilter::All,
            broadcast: false,
            returning: false,
            start: Start::Earliest,
            unless: None,
        }
    }

    /// At most so many messages, and never more than 10,000. With 0 a pull hands out nothing and waits for nothing; its
    /// group comes into being all the same.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.max = max.min(MAX_LIMIT);
        self
    }

    /// At most so many bytes of attributes and bodies; the first message is handed out whatever its size.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Only messages that pass `filter`. It belongs to the group: all its members pull with the same one.
    #[must_use]
    pub fn filter(mut self, filter: TagFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Whether every consumer of the group gets every message.
    #[must_use]
    pub fn broadcast(mut self, broadcast: bool) -> Self {
        self.broadcast = broadcast;
        self
    }

    /// Whether the consumer has started anew and wants what it still holds once more, under the same pull sequences. For its first
    /// pull only; after an open of the store it is understood.
    #[must_use]
    pub fn returning(mut self, returning: bool) -> Self {
        self.returning = returning;
        self
    }

    /// Where the group begins if it has never pulled before.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Hands out nothing once `ended` is true. Whoever sets it and then asks what the consumer holds ([`Store::held_by`](crate::Store::held_by)), or
    /// declares it gone, learns of all that pulls with this request were given: none gets anything afterwards, also if it had begun before.
    #[must_use]
    pub fn unless(mut self, ended: Arc<AtomicBool>) -> Self {
        self.unless = Some(ended);
        self
    }

    /// To be asked with the lock under which consumers are declared gone.
    pub(super) fn is_ended(&self) -> bool {
        self.unless
            .as_ref()
            .is_some_and(|ended| ended.load(Ordering::SeqCst))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        check_subject(&self.subject)?;
        check_group(&self.group)?;
        check_consumer(&self.consumer)?;
        Ok(self.filter.check()?)
    }

    pub(super) fn kind(&self) -> GroupKind {
        if self.broadcast {
            GroupKind::Broadcast
        } else {
            GroupKind::Shared
        }
    }

    pub(super) fn filter_if_any(&self) -> Option<&TagFilter> {
        Some(&self.filter).filter(|filter| **filter != TagFilter::All)
    }

    /// In a group's own part only broadcast groups name the consumer.
    pub(super) fn part_of(&self) -> &str {
        if self.broadcast { &self.consumer } else { "" }
    }
}
