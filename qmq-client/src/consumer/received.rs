//! A message as the application gets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use qmq_message::{Attributes, Message};
use tokio::sync::{mpsc, oneshot};

use super::error::SettleError;
use super::flow::FlowCommand;
use super::held::How;
use super::put_off::{PutOff, TIMES};

/// What a message is.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) subject: Arc<str>,
    pub(crate) broker: Arc<str>,
    /// Set when its broker is not to be consumed from any more.
    pub(crate) withdrawn: Arc<AtomicBool>,
    /// It came by way of the group's retry subject.
    pub(crate) came_back: bool,
    pub(crate) delivered: qmq_wire::Delivered,
}

impl Parts {
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        // The broker checked them before it took the message.
        Attributes::decode(&self.delivered.attributes).unwrap_or_default()
    }

    pub(crate) fn attempt(&self) -> u32 {
        let attributes = self.attributes();
        let times = attributes.property(TIMES).filter(|_| self.came_back);
        let times: u32 = times.and_then(|times| times.parse().ok()).unwrap_or(1);
        self.delivered
            .attempt
            .saturating_add(times.saturating_sub(1))
    }
}

/// What becomes of a message that was nacked.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Its broker hands it out again.
    ComesAgain,
    /// A delay server has it meanwhile.
    PutOff(Duration),
    /// That was its last attempt.
    DeadLetter,
}

/// Tells the broker what became of a message; dropped without, it lets the message come again.
#[derive(Debug)]
pub(crate) struct Settler {
    /// Pull sequence and sequence.
    pub(crate) place: (u64, u64),
    pub(crate) commands: mpsc::UnboundedSender<FlowCommand>,
    pub(crate) limit: Duration,
    /// For how long the broker keeps a message back at most, in ms; 0: it does not say.
    pub(crate) longest_ms: u32,
    /// How often a group gets a message before it is a dead letter; 0: the broker does not say.
    pub(crate) attempts_max: u32,
    pub(crate) put_off: Arc<PutOff>,
    pub(crate) open: bool,
}

impl Settler {
    /// Settles without waiting for the broker.
    pub(crate) fn settle(mut self, how: How) {
        self.tell(how, None);
    }

    /// Lets a message come again, without waiting for anybody.
    pub(crate) fn nack(self, parts: &Arc<Parts>, delay: Option<Duration>) {
        match self.fate(parts, delay) {
            Fate::ComesAgain => self.settle(How::Nack(delay.map(in_ms))),
            fate => drop(tokio::spawn(self.sent_on(Arc::clone(parts), fate))),
        }
    }

    async fn nacked(self, parts: Arc<Parts>, delay: Option<Duration>) -> Result<(), SettleError> {
        match self.fate(&parts, delay) {
            Fate::ComesAgain => self.settled(How::Nack(delay.map(in_ms))).await,
            // A caller who does not wait any more changes nothing.
            fate => tokio::spawn(self.sent_on(parts, fate))
                .await
                .unwrap_or(Err(SettleError::Closed)),
        }
    }

    fn fate(&self, parts: &Parts, delay: Option<Duration>) -> Fate {
        if parts.delivered.damaged {
            return Fate::ComesAgain;
        }
        let long = delay.filter(|delay| self.is_long(*delay));
        // Of others the broker itself sees that it was the last attempt.
        let is_counted_here = long.is_some() || parts.came_back;
        let next_attempt = parts.attempt().saturating_add(1);
        let was_last = self.attempts_max > 0 && next_attempt >= self.attempts_max;
        match long {
            _ if is_counted_here && was_last && self.put_off.can_bury() => Fate::DeadLetter,
            Some(delay) => Fate::PutOff(delay),
            None => Fate::ComesAgain,
        }
    }

    /// Whether the broker does not keep a message back for so long, and a delay server may.
    fn is_long(&self, delay: Duration) -> bool {
        let longest = Duration::from_millis(u64::from(self.longest_ms));
        !longest.is_zero() && delay > longest && self.put_off.is_possible()
    }

    /// Another server gets the message, and only when it has it is it done here.
    async fn sent_on(self, parts: Arc<Parts>, fate: Fate) -> Result<(), SettleError> {
        let sent = match fate {
            Fate::DeadLetter => self.put_off.bury(&parts).await,
            Fate::PutOff(delay) => self.put_off.put_off(&parts, delay).await,
            Fate::ComesAgain => Err("it stays with its broker".to_owned()),
        };
        let subject = &parts.subject;
        let how = match sent {
            Ok(()) => {
                if matches!(fate, Fate::DeadLetter) {
                    tracing::info!(%subject, sequence = parts.delivered.sequence, "a message failed too often and is a dead letter");
                }
                How::Ack
            }
            Err(error) => {
                let longest = self.longest_ms;
                tracing::warn!(%subject, ?fate, %error, "nobody took a message that was sent on; it comes again after {longest} ms");
                How::Nack(Some(longest))
            }
        };
        self.settled(how).await
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
        self.parts.attributes()
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

    /// How often it was handed out before and came back, from its broker or from a delay server.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts.attempt()
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

    /// The message shall come again, after `delay`; `None`: when the broker thinks fit. Waits as [`Received::ack`].
    ///
    /// What is longer than the broker keeps a message back is done by a delay server, if there is one: it gets a copy, addressed to the group's
    /// retry subject, and only when it has it the message is acknowledged here. If none takes it within 10 s, the message comes again after the
    /// broker's longest delay. If it was the last attempt that the broker grants a message, counting those before it was put off, the copy goes to the
    /// group's dead letters instead.
    ///
    /// # Errors
    /// [`SettleError`].
    pub async fn nack(mut self, delay: Option<Duration>) -> Result<(), SettleError> {
        match self.settler.take() {
            Some(settler) => settler.nacked(Arc::clone(&self.parts), delay).await,
            None => Ok(()),
        }
    }

    /// Its broker is not to be consumed from any more.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.parts.withdrawn.load(Ordering::Acquire)
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
