//! What a consumer subscribes to, and how.

use std::sync::Arc;
use std::time::Duration;

use qmq_message::{
    SubjectName, TagFilter, check_consumer, check_group, check_subject, dead_letter_subject, parse,
    retry_subject,
};
use qmq_wire::{BATCH_MESSAGES_MAX, Durability, Flow, FlowFlags, Start};

use crate::config::check_number;
use crate::error::ConfigError;
use crate::random;

/// A subject, a group, and how this consumer takes part.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before it is given to a client"]
pub struct Subscription {
    subject: String,
    group: String,
    consumer: Option<String>,
    session: u64,
    filter: TagFilter,
    start: Start,
    broadcast: bool,
    retry_subject: bool,
    pub(crate) at_most_once: bool,
    pub(crate) durability: Durability,
    pub(crate) window_messages: u32,
    pub(crate) window_bytes: u64,
    pub(crate) concurrency: usize,
    pub(crate) settle_timeout: Duration,
    pub(crate) close_timeout: Duration,
}

impl Subscription {
    /// The messages of `subject` for `group`: each goes to one consumer of it.
    pub fn new(subject: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            group: group.into(),
            consumer: None,
            session: 0,
            filter: TagFilter::All,
            start: Start::Latest,
            broadcast: false,
            retry_subject: false,
            at_most_once: false,
            durability: Durability::Default,
            window_messages: 1_000,
            window_bytes: 16 << 20,
            concurrency: 16,
            settle_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
        }
    }

    /// Which messages the group gets. All its consumers must say the same. Default: all.
    pub fn tags(mut self, filter: TagFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Every consumer of the group gets every message. A consumer that wants to go on where it was needs a lasting [`Subscription::consumer_id`].
    /// Default: off.
    pub fn broadcast(mut self, broadcast: bool) -> Self {
        self.broadcast = broadcast;
        self
    }

    /// Messages count as acknowledged when they are handed out: none comes twice, and some may never be handled. Default: off.
    pub fn at_most_once(mut self, at_most_once: bool) -> Self {
        self.at_most_once = at_most_once;
        self
    }

    /// Where a group begins that has never been on the subject. Default: behind the newest message.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// A lasting name of this consumer, unique in its group. After a restart the broker gives what it held to the same name at once. Default:
    /// random, new with each subscription.
    pub fn consumer_id(mut self, name: impl Into<String>) -> Self {
        self.consumer = Some(name.into());
        self
    }

    /// Most messages (1 to 10,000, default 1,000) and bytes (1 to 1 GiB, default 16 MiB; one message comes whatever its size) from each broker that
    /// are under way or in hand.
    pub fn window(mut self, messages: u32, bytes: u64) -> Self {
        self.window_messages = messages;
        self.window_bytes = bytes;
        self
    }

    /// How many messages a listener handles at a time: 1 to 10,000, default 16.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Also consumes the subject to which QMQ's own clients send what they could not handle (`%RETRY%subject%group`), and shows its messages under
    /// that name. qmq's brokers hand such messages out again in place; only what was put off for longer than they keep a message back comes by that
    /// subject, which is consumed by itself where there are delay servers. Default: off.
    pub fn with_retry_subject(mut self, retry: bool) -> Self {
        self.retry_subject = retry;
        self
    }

    /// What acks and nacks must survive before they are answered. Default: the death of the broker's process.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long [`Received::ack`](crate::Received::ack) waits for the broker: 10 ms to 10 min, default 30 s.
    pub fn settle_timeout(mut self, limit: Duration) -> Self {
        self.settle_timeout = limit;
        self
    }

    /// How long closing waits for what is in hand: up to 1 h, default 30 s.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    /// What is checked and has its names: each use of a subscription is another consumer.
    pub(crate) fn checked(mut self) -> Result<Self, ConfigError> {
        check_subject(&self.subject)?;
        check_group(&self.group)?;
        // 0 is no session.
        self.session = random::u64().max(1);
        let random = || format!("{:032x}", random::u128());
        check_consumer(self.consumer.get_or_insert_with(random))?;
        self.filter.check()?;
        if self.retry_subject {
            check_subject(&retry_subject(&self.subject, &self.group))?;
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let messages_max = u64::from(BATCH_MESSAGES_MAX);
        let numbers = [
            (
                "window messages",
                u64::from(self.window_messages),
                (1, messages_max),
            ),
            ("window bytes", self.window_bytes, (1, 1 << 30)),
            ("concurrency", self.concurrency as u64, (1, 10_000)),
            (
                "settle_timeout in ms",
                ms(self.settle_timeout),
                (10, 600_000),
            ),
            (
                "close_timeout in ms",
                ms(self.close_timeout),
                (0, 3_600_000),
            ),
        ];
        for (what, value, range) in numbers {
            check_number(what, value, range)?;
        }
        Ok(self)
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// The consumer's name, once it is checked.
    pub(crate) fn consumer(&self) -> &str {
        self.consumer.as_deref().unwrap_or_default()
    }

    /// What is consumed in any case.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::of(&self.subject)];
        if self.retry_subject {
            parts.push(Part::of(&retry_subject(&self.subject, &self.group)));
        }
        parts
    }

    /// What is consumed where there are delay servers.
    pub(crate) fn parts_with_retries(&self) -> Vec<Part> {
        let mut parts = self.parts();
        parts.extend(self.retries());
        parts
    }

    /// The subject by whose way messages come back that were put off for longer than their broker keeps one back; `None`: none do, or the
    /// application consumes it itself.
    pub(crate) fn retries(&self) -> Option<Part> {
        let subject = self.put_off_to().filter(|_| !self.retry_subject)?;
        Some(Part {
            subject: subject.into(),
            shown: self.subject.as_str().into(),
            optional: true,
        })
    }

    /// Where messages go that are put off for longer than their broker keeps one back.
    pub(crate) fn put_off_to(&self) -> Option<String> {
        let plain = matches!(parse(&self.subject), SubjectName::Plain(_));
        let subject = retry_subject(&self.subject, &self.group);
        let own = self.broadcast || self.at_most_once;
        (plain && !own && check_subject(&subject).is_ok()).then_some(subject)
    }

    /// Where messages end that failed too often; `None` if their broker alone sees to that.
    pub(crate) fn dead_letters(&self) -> Option<String> {
        self.put_off_to()?;
        let subject = dead_letter_subject(&self.subject, &self.group);
        check_subject(&subject).is_ok().then_some(subject)
    }

    pub(crate) fn flow(&self, part: &Part) -> Flow {
        Flow {
            subject: part.subject.to_string(),
            group: self.group.clone(),
            consumer: self.consumer().to_owned(),
            session: self.session,
            flags: FlowFlags {
                broadcast: self.broadcast,
                at_most_once: self.at_most_once,
                fresh: true,
                // Most messages are never put off for long: brokers need no subject for those that might be.
                existing: part.optional,
            },
            start: match part.optional {
                // What was put off is not skipped.
                true => Start::Earliest,
                false => self.start,
            },
            filter: self.filter.clone(),
        }
    }
}

/// A subject of a subscription.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) subject: Arc<str>,
    /// What the application sees as the subject.
    pub(crate) shown: Arc<str>,
    /// The subscription goes on without it.
    pub(crate) optional: bool,
}

impl Part {
    /// Whether messages come by it that were sent again.
    pub(crate) fn is_retry(&self) -> bool {
        matches!(parse(&self.subject), SubjectName::Retry { .. })
    }

    fn of(subject: &str) -> Self {
        Self {
            subject: subject.into(),
            shown: subject.into(),
            optional: false,
        }
    }
}
