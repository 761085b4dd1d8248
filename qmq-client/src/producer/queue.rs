//! Room for messages that have been taken and not answered: so many, and so many bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_message::Message;
use qmq_wire::{Durability, Limits, Purpose};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use super::options::Options;
use super::outcome::{Report, SendCause, SendError};

/// A message in the producer's hands.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) message: Message,
    /// Whether it goes to a broker or to a delay server.
    pub(crate) purpose: Purpose,
    /// Its attributes, encoded.
    pub(crate) attributes: Vec<u8>,
    pub(crate) durability: Durability,
    /// When it is given up.
    pub(crate) deadline: Instant,
    /// Whether an earlier try has an unknown outcome.
    pub(crate) maybe_stored: bool,
    /// Why the last try did not succeed.
    pub(crate) last: Option<String>,
    pub(crate) report: oneshot::Sender<Result<Report, SendError>>,
    pub(crate) _room: Room,
}

impl Pending {
    pub(crate) fn succeed(self, report: Report) {
        // Nobody needs to wait for it.
        let _ = self.report.send(Ok(report));
    }

    pub(crate) fn fail(self, cause: SendCause) {
        let error = SendError {
            message: Box::new(self.message),
            cause,
            may_be_stored: self.maybe_stored,
        };
        let _ = self.report.send(Err(error));
    }

    /// The broker says before that it would refuse it.
    pub(crate) fn fail_too_large(self, limits: &Limits, broker: &Arc<str>) {
        let cause = SendCause::TooLarge {
            bytes: self.message.body().len(),
            max: match limits.body_bytes_max {
                0 => limits.frame_bytes_max,
                max => max,
            },
            broker: Arc::clone(broker),
        };
        self.fail(cause);
    }

    pub(crate) fn body_len(&self) -> u32 {
        u32::try_from(self.message.body().len()).unwrap_or(u32::MAX)
    }

    /// Bytes of it in a frame, at most.
    pub(crate) fn frame_len(&self) -> usize {
        let subject = self.message.subject();
        qmq_wire::message_len(subject, &self.attributes, self.body_len())
    }
}

/// Room that a message has; dropped when it is answered.
#[derive(Debug)]
pub(crate) struct Room {
    _messages: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// Why there is no room.
#[derive(Debug)]
pub(crate) enum Full {
    /// It was waited for so long.
    Waited(Duration),
    /// The producer is closed.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Queue {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            messages: Arc::new(Semaphore::new(options.queue_messages as usize)),
            bytes: Arc::new(Semaphore::new(options.queue_bytes as usize)),
            bytes_max: options.queue_bytes,
        }
    }

    #[cfg(test)]
    pub(crate) fn unbounded() -> Self {
        Self {
            messages: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            bytes: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            bytes_max: u32::MAX,
        }
    }

    /// Bytes that a message takes.
    pub(crate) fn cost(message: &Message, attributes: &[u8]) -> usize {
        message.subject().len() + attributes.len() + message.body().len()
    }

    /// Waits for room, in the order of the calls.
    pub(crate) async fn room(&self, bytes: usize, limit: Duration) -> Result<Room, Full> {
        // The usual case takes no timer.
        match self.room_now(bytes) {
            Err(Full::Waited(_)) => {}
            done => return done,
        }
        let both = async {
            let messages = Arc::clone(&self.messages).acquire_owned().await;
            let bytes = Arc::clone(&self.bytes)
                .acquire_many_owned(self.within(bytes))
                .await;
            match (messages, bytes) {
                (Ok(messages), Ok(bytes)) => Ok(Room {
                    _messages: messages,
                    _bytes: bytes,
                }),
                _ => Err(Full::Closed),
            }
        };
        tokio::time::timeout(limit, both)
            .await
            .unwrap_or(Err(Full::Waited(limit)))
    }

    pub(crate) fn room_now(&self, bytes: usize) -> Result<Room, Full> {
        let why = |error| match error {
            TryAcquireError::Closed => Full::Closed,
            TryAcquireError::NoPermits => Full::Waited(Duration::ZERO),
        };
        Ok(Room {
            _messages: Arc::clone(&self.messages)
                .try_acquire_owned()
                .map_err(why)?,
            _bytes: Arc::clone(&self.bytes)
                .try_acquire_many_owned(self.within(bytes))
                .map_err(why)?,
        })
    }

    /// A message larger than the queue goes when it has the queue to itself.
    fn within(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max)
    }

    /// Those who wait are told that the producer is closed.
    pub(crate) fn close(&self) {
        self.messages.close();
        self.bytes.close();
    }
}
