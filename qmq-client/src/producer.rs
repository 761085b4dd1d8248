//! Producers: messages out, and what became of each.

mod batch;
mod dispatch;
mod keeper;
mod lane;
mod lines;
mod options;
mod outcome;
mod patience;
mod queue;
mod requests;
mod routing;
mod seat;
mod settle;
mod topics;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use qmq_message::{Attributes, Message, check_subject};
use qmq_wire::{Durability, Purpose};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;

pub use options::ProducerBuilder;
pub use outcome::{Report, SendCause, SendError, Sent, Unsent};

use crate::client::Shared;
use crate::trace::TRACEPARENT;
use dispatch::{Command, Dispatcher};
use options::Options;
use queue::{Full, Pending, Queue};

/// Sends messages. A clone shares the queue and the order; when the last one is gone, what was taken is still sent, in the background.
#[derive(Clone, Debug)]
pub struct Producer {
    inner: Arc<Inner>,
    durability: Durability,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    options: Options,
    queue: Queue,
    commands: mpsc::UnboundedSender<Command>,
    closed: AtomicBool,
}

impl Producer {
    pub(crate) fn start(shared: Arc<Shared>, options: Options) -> Self {
        let (commands, taken) = mpsc::unbounded_channel();
        let dispatcher = Dispatcher::new(&shared, options.clone());
        tokio::spawn(dispatcher.run(taken));
        Self {
            durability: options.durability,
            inner: Arc::new(Inner {
                queue: Queue::new(&options),
                shared,
                options,
                commands,
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// The same producer, for messages that must survive something else before they are answered.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            durability,
        }
    }

    /// Sends a message and waits until a broker has it, at the durability that was asked for. Takes no longer than the delivery timeout.
    ///
    /// # Errors
    /// [`SendError`], with the message, and whether a broker may have it nevertheless.
    pub async fn send(&self, message: Message) -> Result<Report, SendError> {
        let span = tracing::info_span!("qmq.produce", subject = message.subject());
        async { self.queue(message).await?.await }
            .instrument(span)
            .await
    }

    /// Puts a message into the queue, and waits for room in it if there is none. What becomes of the message shows the [`Sent`], which need not be
    /// awaited.
    ///
    /// # Errors
    /// [`SendError`] if the message breaks a rule, or there was no room within the limit of the queue.
    pub async fn queue(&self, message: Message) -> Result<Sent, SendError> {
        let checked = self.check(message)?;
        let started = Instant::now();
        let cost = Queue::cost(&checked.message, &checked.attributes);
        match self
            .inner
            .queue
            .room(cost, self.inner.options.queue_wait)
            .await
        {
            Ok(room) => self.hand_over(checked, room, started),
            Err(full) => Err(refused_by_queue(checked.message, &full)),
        }
    }

    /// Puts a message into the queue if there is room now.
    ///
    /// # Errors
    /// [`SendError`] if the message breaks a rule, or there is no room.
    pub fn queue_now(&self, message: Message) -> Result<Sent, SendError> {
        let checked = self.check(message)?;
        let cost = Queue::cost(&checked.message, &checked.attributes);
        match self.inner.queue.room_now(cost) {
            Ok(room) => self.hand_over(checked, room, Instant::now()),
            Err(full) => Err(refused_by_queue(checked.message, &full)),
        }
    }

    /// Takes no more messages, sends all that are in hand, and tells what could not be sent within the close timeout. Each such message also comes
    /// back through its own [`Sent`].
    ///
    /// # Errors
    /// [`Unsent`]: how many.
    pub async fn close(&self) -> Result<(), Unsent> {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.queue.close();
        let (done, closed) = oneshot::channel();
        let until = Instant::now() + self.inner.options.close_timeout;
        let _ = self.inner.commands.send(Command::Close { until, done });
        match closed.await {
            Ok(Unsent { messages: 0, .. }) | Err(_) => Ok(()),
            Ok(unsent) => Err(unsent),
        }
    }

    fn check(&self, mut message: Message) -> Result<Checked, SendError> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(SendError::unsent(message, SendCause::Closed));
        }
        if let Err(error) = check_subject(message.subject()) {
            return Err(SendError::unsent(message, SendCause::Subject(error)));
        }
        if let Some(trace) = &self.inner.shared.config.trace
            && !message.properties().any(|(key, _)| key == TRACEPARENT)
            && let Some(context) = trace.inject()
        {
            message = message.property(TRACEPARENT, context);
        }
        let purpose = match message.due_time_ms() {
            Some(due) if due > now_ms() => Purpose::Delay,
            _ => Purpose::Produce,
        };
        let mut attributes = Vec::new();
        let encoded = match purpose {
            // A broker that delivers at once takes no due time, not even one that has passed.
            Purpose::Produce if message.due_time_ms().is_some() => {
                Attributes::encode(&message.clone().without_due_time(), &mut attributes)
            }
            _ => Attributes::encode(&message, &mut attributes),
        };
        match encoded {
            Ok(()) => Ok(Checked {
                message,
                purpose,
                attributes,
            }),
            Err(error) => Err(SendError::unsent(message, SendCause::Attributes(error))),
        }
    }

    fn hand_over(
        &self,
        checked: Checked,
        room: queue::Room,
        started: Instant,
    ) -> Result<Sent, SendError> {
        let (report, sent) = oneshot::channel();
        let pending = Pending {
            message: checked.message,
            purpose: checked.purpose,
            attributes: checked.attributes,
            durability: self.durability,
            deadline: started + self.inner.options.delivery_timeout,
            maybe_stored: false,
            last: None,
            report,
            _room: room,
        };
        match self.inner.commands.send(Command::Send(pending)) {
            Ok(()) => Ok(Sent::new(sent)),
            Err(mpsc::error::SendError(Command::Send(pending))) => {
                Err(SendError::unsent(pending.message, SendCause::Closed))
            }
            Err(_) => Ok(Sent::new(sent)),
        }
    }
}

/// A message that breaks no rule.
struct Checked {
    message: Message,
    purpose: Purpose,
    attributes: Vec<u8>,
}

/// Milliseconds since 1970 UTC.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn refused_by_queue(message: Message, full: &Full) -> SendError {
    let cause = match full {
        Full::Waited(waited) => SendCause::QueueFull { waited: *waited },
        Full::Closed => SendCause::Closed,
    };
    SendError::unsent(message, cause)
}
