//! Consuming by asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qmq_wire::Code;
use tokio::sync::{mpsc, oneshot};

use super::flow::FlowCommand;
use super::flows::Flows;
use super::{Received, Subscription, Unsettled};
use crate::client::Shared;
use crate::error::ConfigError;

/// How often messages are looked for that were put off for longer than brokers keep them back.
const LOOK: Duration = Duration::from_secs(1);
/// How long the end of a flow takes to be known.
const ENDED_PAUSE: Duration = Duration::from_millis(20);

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
    /// It is not known which brokers have the subject.
    #[error("no meta server has told which brokers have the subject; last: {reason}")]
    NoRoute {
        /// What is known of the reason.
        reason: String,
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
    /// When messages that were put off are looked for next, and whose turn it is.
    next_look: Mutex<(Instant, usize)>,
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
            flows: Flows::start(shared, &subscription, None)?,
            turn: AtomicUsize::new(0),
            next_look: Mutex::new((Instant::now(), 0)),
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
        let wait_until = Instant::now() + wait;
        if let Some(messages) = self.put_off(messages).await {
            return Ok(messages);
        }
        loop {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let Some(flow) = self.flows.next(turn, wait_until).await? else {
                return Ok(Vec::new());
            };
            let until = wait_until + self.patience;
            match self.ask(&flow, messages, wait_until, until).await {
                Some(outcome) => return outcome,
                // That flow has ended with its route, and others go on.
                None if self.flows.are_routed() && Instant::now() < wait_until => {
                    tokio::time::sleep(ENDED_PAUSE).await;
                }
                None => return Err(PullError::Closed),
            }
        }
    }

    /// Messages that were put off and have come back, which are looked for now and then.
    async fn put_off(&self, messages: u32) -> Option<Vec<Received>> {
        let now = Instant::now();
        let turn = {
            let mut next = self.next_look.lock();
            if now < next.0 {
                return None;
            }
            *next = (now + LOOK, next.1.wrapping_add(1));
            next.1
        };
        let flow = self.flows.next_of_retries(turn)?;
        let until = now + self.patience.min(LOOK);
        let answer = self.ask(&flow, messages, now, until).await?;
        answer.ok().filter(|messages| !messages.is_empty())
    }

    /// `None`: the flow has ended.
    async fn ask(
        &self,
        flow: &mpsc::UnboundedSender<FlowCommand>,
        messages: u32,
        wait_until: Instant,
        until: Instant,
    ) -> Option<Result<Vec<Received>, PullError>> {
        let (answer, answered) = oneshot::channel();
        let request = PullRequest {
            messages: messages.clamp(1, qmq_wire::BATCH_MESSAGES_MAX),
            bytes: self.bytes,
            wait_until,
            until,
            answer,
        };
        flow.send(FlowCommand::Pull(request)).ok()?;
        answered.await.ok()
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
