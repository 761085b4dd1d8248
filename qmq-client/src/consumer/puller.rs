//! Consuming by asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qmq_wire::Code;
use tokio::sync::{mpsc, oneshot};

use super::flow::FlowCommand;
use super::{Flows, Received, Subscription, Unsettled};
use crate::client::Shared;
use crate::error::ConfigError;

/// Why a pull has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The broker refused.
    #[error("{broker} refused the pull ({code}): {text}")]
    Refused {
        /// The broker's address.
        broker: Arc<str>,
        /// Why.
        code: Code,
        /// Why, for a person.
        text: String,
    },
    /// The broker is away, or did not answer.
    #[error("{broker} did not answer the pull in time; is it connected?")]
    TimedOut {
        /// The broker's address.
        broker: Arc<str>,
    },
    /// The puller is closed.
    #[error("the puller is closed")]
    Closed,
}

/// A pull that has been asked for.
#[derive(Debug)]
pub(crate) struct PullRequest {
    pub(crate) messages: u32,
    pub(crate) bytes: u32,
    /// Until when the broker waits for a first message.
    pub(crate) wait_until: Instant,
    /// Until when the caller waits.
    pub(crate) until: Instant,
    pub(crate) answer: oneshot::Sender<Result<Vec<Received>, PullError>>,
}

/// Receives messages when it asks for some. What is in hand is renewed, and settled as with a [`Consumer`](crate::Consumer).
#[derive(Debug)]
pub struct Puller {
    flows: Flows,
    turn: AtomicUsize,
    bytes: u32,
    patience: Duration,
}

impl Puller {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        subscription: Subscription,
    ) -> Result<Self, ConfigError> {
        let subscription = Arc::new(subscription.checked()?);
        Ok(Self {
            flows: Flows::start(shared, &subscription, None),
            turn: AtomicUsize::new(0),
            bytes: u32::try_from(subscription.window_bytes).unwrap_or(u32::MAX),
            patience: shared.config.request_timeout,
        })
    }

    /// Up to `messages` messages (1 to 10,000), of one broker; each call asks the next one. Waits up to `wait` for the first. No messages are no
    /// error.
    ///
    /// # Errors
    /// [`PullError`], after `wait` and the request timeout at the latest.
    pub async fn pull(&self, messages: u32, wait: Duration) -> Result<Vec<Received>, PullError> {
        let all = &self.flows.commands;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let flow: Option<&mpsc::UnboundedSender<FlowCommand>> = all.get(turn % all.len().max(1));
        let (answer, answered) = oneshot::channel();
        let wait_until = Instant::now() + wait;
        let request = PullRequest {
            messages: messages.clamp(1, qmq_wire::BATCH_MESSAGES_MAX),
            bytes: self.bytes,
            wait_until,
            until: wait_until + self.patience,
            answer,
        };
        flow.and_then(|flow| flow.send(FlowCommand::Pull(request)).ok())
            .ok_or(PullError::Closed)?;
        answered.await.unwrap_or(Err(PullError::Closed))
    }

    /// Waits until what is in hand is settled and the brokers know, up to the close timeout.
    ///
    /// # Errors
    /// [`Unsettled`]: how many messages the application still had in hand.
    pub async fn close(self) -> Result<(), Unsettled> {
        match self.flows.close().await {
            0 => Ok(()),
            messages => Err(Unsettled { messages }),
        }
    }
}
