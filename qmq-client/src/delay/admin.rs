//! What can be asked of the delay servers of a group.

use std::sync::Arc;

use qmq_wire::{
    ControlRequest, ControlResponse, DeadLetter, DelayOutcome, DelayRequest, DelayResponse,
    DelayedMessage,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::{AdminError, ask, misfit};
use crate::client::Shared;
use crate::connection::Broker;

/// Asks the delay server of one group. Every request finds the group's master, waits for the connection and then for the answer, no longer than the
/// request timeout in all.
#[derive(Clone, Debug)]
pub struct DelayAdmin {
    shared: Arc<Shared>,
    /// Of the group, or an address.
    name: Arc<str>,
}

/// Some of the messages that wait, in the order of their due times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DelayPage {
    /// The messages.
    pub messages: Vec<DelayedMessage>,
    /// What to ask for the next page with; empty: this is the last.
    pub next: Vec<u8>,
}

/// Messages that brokers refused for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetters {
    /// Some of them, by number.
    pub letters: Vec<DeadLetter>,
    /// How many there are in all.
    pub total: u64,
    /// How many were forgotten because there were too many.
    pub forgotten: u64,
}

impl DelayAdmin {
    pub(crate) fn new(shared: Arc<Shared>, name: &str) -> Self {
        Self {
            shared,
            name: name.into(),
        }
    }

    /// Lets a message not be delivered.
    ///
    /// # Errors
    /// [`AdminError`], as with all.
    pub async fn cancel(&self, id: [u8; 16]) -> Result<DelayOutcome, AdminError> {
        self.change(DelayRequest::Cancel { id }).await
    }

    /// Lets a message be delivered at another time, in ms since 1970 UTC.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn reschedule(&self, id: [u8; 16], due_ms: u64) -> Result<DelayOutcome, AdminError> {
        self.change(DelayRequest::Reschedule { id, due_ms }).await
    }

    /// How a message is; `None`: there is no such message.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn get(&self, id: [u8; 16]) -> Result<Option<DelayedMessage>, AdminError> {
        match self.ask(DelayRequest::Get { id }).await? {
            DelayResponse::Message(message) => Ok(message),
            _ => Err(misfit()),
        }
    }

    /// Up to `max` messages that wait: those of `subject` (empty: of all), due at `from_ms` (ms since 1970 UTC) or later, behind the page that
    /// ended with `after` (empty: from the beginning).
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn list(
        &self,
        subject: &str,
        from_ms: u64,
        after: &[u8],
        max: u32,
    ) -> Result<DelayPage, AdminError> {
        let request = DelayRequest::List {
            subject: subject.to_owned(),
            from_ms,
            after: after.to_vec(),
            max,
        };
        match self.ask(request).await? {
            DelayResponse::Page { messages, next } => Ok(DelayPage { messages, next }),
            _ => Err(misfit()),
        }
    }

    /// Up to `max` dead letters, behind that number; 0: from the beginning.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn dead_letters(&self, after: u64, max: u32) -> Result<DeadLetters, AdminError> {
        match self.ask(DelayRequest::DeadLetters { after, max }).await? {
            DelayResponse::DeadLetters {
                letters,
                total,
                forgotten,
            } => Ok(DeadLetters {
                letters,
                total,
                forgotten,
            }),
            _ => Err(misfit()),
        }
    }

    /// Gives dead letters to their brokers again; no numbers: all. Answers how many.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn retry_dead_letters(&self, numbers: &[u64]) -> Result<u64, AdminError> {
        let numbers = numbers.to_vec();
        self.count(DelayRequest::RetryDeadLetters { numbers }).await
    }

    /// Forgets dead letters; no numbers: all. Answers how many.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn drop_dead_letters(&self, numbers: &[u64]) -> Result<u64, AdminError> {
        let numbers = numbers.to_vec();
        self.count(DelayRequest::DropDeadLetters { numbers }).await
    }

    async fn change(&self, request: DelayRequest) -> Result<DelayOutcome, AdminError> {
        match self.ask(request).await? {
            DelayResponse::Changed(outcome) => Ok(outcome),
            _ => Err(misfit()),
        }
    }

    async fn count(&self, request: DelayRequest) -> Result<u64, AdminError> {
        match self.ask(request).await? {
            DelayResponse::Done(count) => Ok(count),
            _ => Err(misfit()),
        }
    }

    async fn ask(&self, request: DelayRequest) -> Result<DelayResponse, AdminError> {
        let limit = self.shared.config.request_timeout;
        let exchange = async {
            let broker = self.broker().await?;
            let link = broker.link(true).await?;
            let request = ControlRequest::Delay(request);
            ask(&link, broker.address(), &request, &self.shared.config).await
        };
        let answer = timeout(limit, exchange).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(AdminError::TimedOut {
                broker: self.name.to_string(),
                limit,
            })
        });
        match answer? {
            ControlResponse::Delay(response) => Ok(response),
            _ => Err(misfit()),
        }
    }

    /// The master of the group.
    async fn broker(&self) -> Result<Arc<Broker>, AdminError> {
        let pool = &self.shared.pool;
        let Some(routes) = &self.shared.routes else {
            return self.fixed().await;
        };
        if let Some(group) = routes.delay_group(&self.name) {
            return Ok(pool.get(&group.name, &group.master));
        }
        if self.name.contains(':') {
            return Ok(pool.get("", &self.name));
        }
        let (address, link) = routes.link().await?;
        let request = ControlRequest::FindGroup {
            name: self.name.to_string(),
        };
        match ask(&link, &address, &request, &self.shared.config).await? {
            ControlResponse::Group(Some(group)) => Ok(pool.get(&group.name, &group.master)),
            ControlResponse::Group(None) => Err(self.unknown(&format!(
                "the meta server {address} has no such group; see `qmq tools ListBrokerGroups`"
            ))),
            _ => Err(misfit()),
        }
    }

    /// That of the brokers that the application named which has this address, or says that it is of this group.
    async fn fixed(&self) -> Result<Arc<Broker>, AdminError> {
        let brokers = self.shared.pool.fixed();
        if let Some(broker) = brokers.iter().find(|known| **known.address() == *self.name) {
            return Ok(Arc::clone(broker));
        }
        let mut waits = JoinSet::new();
        for broker in brokers {
            let broker = Arc::clone(broker);
            waits.spawn(async move { broker.link(true).await.map(|_| broker) });
        }
        while let Some(waited) = waits.join_next().await {
            if let Ok(Ok(broker)) = waited
                && *broker.group() == *self.name
            {
                return Ok(broker);
            }
        }
        Err(self.unknown("none of the brokers given has that address or is of that group"))
    }

    fn unknown(&self, reason: &str) -> AdminError {
        AdminError::NoGroup {
            name: self.name.to_string(),
            reason: reason.to_owned(),
        }
    }
}
