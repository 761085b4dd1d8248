//! What became of a message.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use qmq_message::{Message, MessageError, NameError};
use qmq_wire::Code;
use tokio::sync::oneshot;

use crate::delay::Delayed;

/// A broker has the message, or a delay server until it is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its place in its subject on that broker; 0 for a delayed message, which has none yet.
    pub sequence: u64,
    /// The broker's address.
    pub broker: Arc<str>,
    /// Of a delayed message: by what its delay server knows it.
    pub delay: Option<Delayed>,
}

/// A message that was not sent, as far as is known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("message for {}: {cause}{}", .message.subject(), if *.may_be_stored { "; it may have been stored nevertheless" } else { "" })]
pub struct SendError {
    /// The message.
    pub message: Box<Message>,
    /// Why.
    pub cause: SendCause,
    /// Whether a broker may have it: sending it again may make it twice.
    pub may_be_stored: bool,
}

impl SendError {
    pub(crate) fn unsent(message: Message, cause: SendCause) -> Self {
        Self {
            message: Box::new(message),
            cause,
            may_be_stored: false,
        }
    }
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendCause {
    /// Its subject breaks a rule.
    #[error(transparent)]
    Subject(NameError),
    /// Its attributes break a rule.
    #[error(transparent)]
    Attributes(MessageError),
    /// Its body is longer than the broker takes.
    #[error(
        "the body has {bytes} bytes, and {broker} takes at most {max}; send less, or raise the broker's limit"
    )]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The broker's limit.
        max: u32,
        /// The broker's address.
        broker: Arc<str>,
    },
    /// The queue had no room.
    #[error("the producer's queue had no room within {waited:?}; send slower, or make it larger")]
    QueueFull {
        /// How long it was waited for.
        waited: Duration,
    },
    /// A broker refused it for good.
    #[error("{broker} refused it ({code}): {text}")]
    Refused {
        /// The broker's address.
        broker: Arc<str>,
        /// Why.
        code: Code,
        /// Why, for a person.
        text: String,
    },
    /// No broker took it in time.
    #[error("no broker took it within {limit:?}; last: {last}")]
    TimedOut {
        /// The delivery timeout.
        limit: Duration,
        /// Why the last try failed.
        last: String,
    },
    /// It was not known in time which broker takes it.
    #[error("no meta server told within {limit:?} which broker takes it; last: {reason}")]
    NoRoute {
        /// The delivery timeout.
        limit: Duration,
        /// What is known of the reason.
        reason: String,
    },
    /// A meta server refuses for good to tell which broker takes it.
    #[error("the meta server {meta} refused to tell which broker takes it ({code}): {text}")]
    RouteRefused {
        /// The meta server's address.
        meta: Arc<str>,
        /// Why.
        code: Code,
        /// Why, for a person.
        text: Arc<str>,
    },
    /// It is to be delivered later, and none of the brokers that the client was given is a delay server.
    #[error(
        "it has a due time, and none of the brokers given takes delayed messages; add the address of a delay server with broker(..), or let meta servers name them with meta(..)"
    )]
    NoDelayServer,
    /// A message before it in the order was given up, and nobody knows what became of those sent after it.
    #[error(
        "a message before it was given up without knowing what became of it; the order after it is not known"
    )]
    OrderUnknown,
    /// The producer or its client is closed, or was before the message was sent.
    #[error("the producer or its client is closed")]
    Closed,
}

/// Tells what becomes of a message. Dropping it changes nothing for the message.
#[derive(Debug)]
#[must_use = "a message whose Sent is dropped is sent, but nobody learns whether that worked"]
pub struct Sent {
    report: oneshot::Receiver<Result<Report, SendError>>,
}

impl Sent {
    pub(crate) fn new(report: oneshot::Receiver<Result<Report, SendError>>) -> Self {
        Self { report }
    }
}

impl Future for Sent {
    type Output = Result<Report, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.report).poll(context)) {
            Ok(outcome) => outcome,
            // Only a runtime that shuts down drops a message without an answer, and the message with it.
            Err(_) => Err(SendError {
                message: Box::new(Message::new("", "")),
                cause: SendCause::Closed,
                may_be_stored: true,
            }),
        })
    }
}

/// How many messages a closed producer could not send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error(
    "{messages} messages were not sent before the producer closed, {may_be_stored} of which may have been stored"
)]
pub struct Unsent {
    /// All.
    pub messages: usize,
    /// Those of which a broker may have got.
    pub may_be_stored: usize,
}
