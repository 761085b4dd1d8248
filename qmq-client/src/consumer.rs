//! Consumers: messages in, and what the application says of each.

mod credit;
mod error;
mod flow;
mod flows;
mod held;
mod idempotence;
mod inbound;
mod listener;
mod outbound;
mod puller;
mod put_off;
mod received;
mod subscription;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use error::{ConsumeError, SettleError, Unsettled};
#[cfg(feature = "idempotence-sql")]
pub use idempotence::sql::{SqlIdempotence, SqlIdempotenceError};
pub use idempotence::{Idempotence, Known, Recent, Standing};
pub use listener::{HandlerError, Listening, Outcome};
pub use puller::{PullError, Puller};
pub use received::Received;
pub use subscription::Subscription;

use crate::client::Shared;
use crate::error::ConfigError;
use flows::Flows;
use listener::Around;

/// What flows tell the consumer.
pub(crate) type Incoming = Result<Received, ConsumeError>;

/// Receives the messages of a subscription, from all brokers. When it is dropped, it closes in the background.
#[derive(Debug)]
pub struct Consumer {
    incoming: mpsc::UnboundedReceiver<Incoming>,
    flows: Flows,
    subscription: Arc<Subscription>,
    stopped: Option<ConsumeError>,
    around: Around,
}

impl Consumer {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        subscription: Subscription,
    ) -> Result<Self, ConfigError> {
        let subscription = Arc::new(subscription.checked()?);
        let (sender, incoming) = mpsc::unbounded_channel();
        Ok(Self {
            flows: Flows::start(shared, &subscription, Some(&sender))?,
            incoming,
            subscription,
            stopped: None,
            around: Around::default(),
        })
    }

    /// The next message, whenever it comes. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ConsumeError`]: a broker ended the subscription for a reason that will not go away, now and with every later call.
    pub async fn next(&mut self) -> Result<Received, ConsumeError> {
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        loop {
            match self.incoming.recv().await {
                // Its broker is not to be consumed from any more.
                Some(Ok(received)) if received.is_withdrawn() => received.give_back(),
                Some(Ok(received)) => return Ok(received),
                Some(Err(error)) => {
                    self.stopped = Some(error.clone());
                    return Err(error);
                }
                None => return Err(ConsumeError::Closed),
            }
        }
    }

    /// Takes no more messages, waits until those in hand are settled and the brokers know, up to the close timeout, and gives the rest back: it is
    /// the other consumers' at once.
    ///
    /// # Errors
    /// [`Unsettled`]: how many messages the application still had in hand, which somebody will get again.
    pub async fn close(mut self) -> Result<(), Unsettled> {
        self.give_back();
        match self.flows.close().await {
            0 => Ok(()),
            messages => Err(Unsettled { messages }),
        }
    }

    /// Takes no more messages, and lets go of those that nobody has looked at.
    fn give_back(&mut self) {
        self.incoming.close();
        while let Ok(unseen) = self.incoming.try_recv() {
            if let Ok(received) = unseen {
                received.give_back();
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.give_back();
    }
}
