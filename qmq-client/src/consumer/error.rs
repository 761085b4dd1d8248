//! What can go wrong with consuming.

use std::sync::Arc;
use std::time::Duration;

use qmq_wire::Code;

/// Why a subscription ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// Another process, or another consumer of this one, has taken over under the same consumer id.
    #[error(
        "{broker}: another session has taken over this consumer ({text}); give each its own consumer id"
    )]
    Fenced {
        /// The broker's address.
        broker: Arc<str>,
        /// What the broker says.
        text: String,
    },
    /// The broker refused the subscription for good, or a meta server to say which brokers have the subject.
    #[error("{broker} refused the subscription to {subject} ({code}): {text}")]
    Refused {
        /// The address of who refused.
        broker: Arc<str>,
        /// The subject.
        subject: String,
        /// Why.
        code: Code,
        /// Why, for a person.
        text: String,
    },
    /// The consumer is closed.
    #[error("the consumer is closed")]
    Closed,
}

/// Why a message was not settled as the application said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The consumer does not hold the message any more: somebody else has it, or had it.
    #[error(
        "the broker has given the message to somebody else; it may be handled twice. Renew or reconnect faster, or handle it faster"
    )]
    NotHeld,
    /// The broker was told, the connection was lost before it answered, and now the consumer does not hold the message any more: it may be settled, or
    /// somebody else may have it.
    #[error(
        "the connection was lost before the broker answered, and nobody can tell whether it knows; the message may come again"
    )]
    Unknown,
    /// Another session has taken over this consumer, and what it held has gone back to the group.
    #[error(
        "another session has taken over this consumer; the message is handed out again, and may be handled twice. Give each its own consumer id"
    )]
    Fenced,
    /// The broker refused.
    #[error("the broker refused ({code}): {text}")]
    Refused {
        /// Why.
        code: Code,
        /// Why, for a person.
        text: String,
    },
    /// The broker has not answered in time. The client goes on trying as long as the consumer lives.
    #[error("the broker did not confirm within {limit:?}; the client goes on trying")]
    TimedOut {
        /// How long it was waited for.
        limit: Duration,
    },
    /// The consumer closed before the broker knew.
    #[error("the consumer closed before the broker confirmed; the message may come again")]
    Closed,
}

/// How many messages were in hand when a consumer closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{messages} messages were not settled before the consumer closed; they will be handed out again"
)]
pub struct Unsettled {
    /// So many.
    pub messages: usize,
}
