//! A message as the application gets it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qmq_message::{Attributes, Message};
use tokio::sync::{mpsc, oneshot};

use super::error::SettleError;
use super::flow::FlowCommand;
use super::held::How;

/// What a message is.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) subject: Arc<str>,
    pub(crate) broker: Arc<str>,
    pub(crate) delivered: qmq_wire::Delivered,
}

/// Tells the broker what became of a message; dropped without, it lets the message come again.
#[derive(Debug)]
pub(crate) struct Settler {
    /// Pull sequence and sequence.
    pub(crate) place: (u64, u64),
    pub(crate) commands: mpsc::UnboundedSender<FlowCommand>,
    pub(crate) limit: Duration,
    pub(crate) open: bool,
}

impl Settler {
    /// Settles without waiting for the broker.
    pub(crate) fn settle(mut self, how: How) {
        self.tell(how, None);
    }

    async fn settled(mut self, how: How) -> Result<(), SettleError> {
        let (answer, answered) = oneshot::channel();
        self.tell(how, Some(answer));
        let limit = self.limit;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(SettleError::Closed),
            Err(_) => Err(SettleError::TimedOut { limit }),
        }
    }

    fn tell(&mut self, how: How, answer: Option<oneshot::Sender<Result<(), SettleError>>>) {
        if std::mem::take(&mut self.open) {
            let place = self.place;
            // A flow that has ended drops the answer, which tells the caller.
            let _ = self
                .commands
                .send(FlowCommand::Settle { place, how, answer });
        }
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.tell(How::Nack(None), None);
    }
}

/// A message, in the application's hands until it is settled. Dropping it lets it come again, as [`Received::nack`] without a delay of its own.
#[derive(Debug)]
pub struct Received {
    pub(crate) parts: Arc<Parts>,
    pub(crate) settler: Option<Settler>,
}

impl Received {
    /// Its subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.parts.subject
    }

    /// The address of the broker that it came from.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.parts.broker
    }

    /// Its body, shared with the frame in which it came. Empty if it is damaged.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.parts.delivered.body
    }

    /// Its id, tags, properties and times.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'_> {
        // The broker checked them before it took the message.
        Attributes::decode(&self.parts.delivered.attributes).unwrap_or_default()
    }

    /// Its place in its subject on its broker.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.parts.delivered.sequence
    }

    /// When the broker took it, in ms since 1970 UTC.
    #[must_use]
    pub fn record_time_ms(&self) -> u64 {
        self.parts.delivered.record_time_ms
    }

    /// How often it was handed out before and came back.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts.delivered.attempt
    }

    /// Whether the broker could not read it: nothing but its place is known.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.parts.delivered.damaged
    }

    /// A copy of the message, to be sent elsewhere; it shares the body.
    #[must_use]
    pub fn to_message(&self) -> Message {
        self.attributes()
            .to_message(self.subject(), self.body().clone())
    }

    /// The message is done. In a listener this does nothing: there the handler's result counts. Waits until the broker knows, up to the subscription's settle timeout. Acks that are waited for at a time travel together.
    ///
    /// # Errors
    /// [`SettleError`]; with [`SettleError::NotHeld`] somebody else handles the message too.
    pub async fn ack(mut self) -> Result<(), SettleError> {
        match self.settler.take() {
            Some(settler) => settler.settled(How::Ack).await,
            None => Ok(()),
        }
    }

    /// The message is done, and nobody waits to hear that the broker knows. If the broker does not learn it, the message comes again.
    pub fn ack_soon(mut self) {
        if let Some(settler) = self.settler.take() {
            settler.settle(How::Ack);
        }
    }

    /// The message shall come again, after `delay`, at most the broker's longest; `None`: when the broker thinks fit. Waits as [`Received::ack`].
    ///
    /// # Errors
    /// [`SettleError`].
    pub async fn nack(mut self, delay: Option<Duration>) -> Result<(), SettleError> {
        match self.settler.take() {
            Some(settler) => settler.settled(How::Nack(delay.map(in_ms))).await,
            None => Ok(()),
        }
    }

    /// The message was not looked at: it comes again at once, and no attempt is counted.
    pub(crate) fn give_back(mut self) {
        if let Some(settler) = self.settler.take() {
            settler.settle(How::Unseen(Some(0)));
        }
    }
}

/// All ones mean something else.
pub(crate) fn in_ms(delay: Duration) -> u32 {
    u32::try_from(delay.as_millis())
        .unwrap_or(u32::MAX)
        .min(u32::MAX - 1)
}
