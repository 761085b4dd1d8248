//! Putting messages off for longer than their broker keeps one back: a delay server has them meanwhile, and they come back to their group alone.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qmq_message::Message;
use qmq_wire::features;

use super::received::Parts;
use super::subscription::Subscription;
use crate::client::Shared;
use crate::error::ConfigError;
use crate::producer::{Producer, ProducerBuilder};

/// The property that counts deliveries of a message that was sent again: absent is the first, as with QMQ's own clients.
pub(crate) const TIMES: &str = "qmq_times";
/// How long a delay server has to take a message, at most.
const LIMIT: Duration = Duration::from_secs(10);

/// See the module. One for each consumer.
#[derive(Debug)]
pub(crate) struct PutOff {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    /// Made when it is first needed.
    producer: OnceLock<Producer>,
}

impl PutOff {
    pub(crate) fn new(shared: &Arc<Shared>, subscription: &Arc<Subscription>) -> Self {
        Self {
            shared: Arc::clone(shared),
            subscription: Arc::clone(subscription),
            producer: OnceLock::new(),
        }
    }

    /// Whether a delay server may be there.
    pub(crate) fn is_possible(&self) -> bool {
        let schedules = || {
            let links = self.shared.pool.fixed().iter();
            let mut links = links.filter_map(|broker| broker.connected());
            links.any(|link| link.hello().features & features::SCHEDULE != 0)
        };
        self.subscription.put_off_to().is_some() && (self.shared.routes.is_some() || schedules())
    }

    /// Gives a message to a delay server: addressed to the group's retry subject, so that no other group gets it again.
    pub(crate) async fn put_off(&self, parts: &Parts, delay: Duration) -> Result<(), String> {
        let subject = self.subscription.put_off_to();
        let subject = subject.ok_or("the group has no retry subject")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let due = now.unwrap_or_default().saturating_add(delay).as_millis();
        let attributes = parts.attributes();
        let message = attributes
            .to_message(subject, parts.delivered.body.clone())
            .property(TIMES, parts.attempt().saturating_add(2).to_string())
            .with_due_time_ms(u64::try_from(due).unwrap_or(u64::MAX));
        self.send(message).await
    }

    /// Whether what fails too often is this client's business at all.
    pub(crate) fn can_bury(&self) -> bool {
        self.subscription.dead_letters().is_some()
    }

    /// Gives a message to the group's dead letters. A broker counts only how often it handed a message out itself, and does this for those.
    pub(crate) async fn bury(&self, parts: &Parts) -> Result<(), String> {
        let subject = self.subscription.dead_letters();
        let subject = subject.ok_or("the group has no dead letters")?;
        let times = parts.attempt().saturating_add(1).to_string();
        let attributes = parts.attributes();
        let message = attributes
            .to_message(subject, parts.delivered.body.clone())
            .property(TIMES, times);
        self.send(message).await
    }

    async fn send(&self, message: Message) -> Result<(), String> {
        let producer = self.producer().map_err(|error| error.to_string())?;
        let sent = producer.send(message).await;
        sent.map(drop).map_err(|error| error.to_string())
    }

    fn producer(&self) -> Result<&Producer, ConfigError> {
        if let Some(producer) = self.producer.get() {
            return Ok(producer);
        }
        let made = ProducerBuilder::new(Arc::clone(&self.shared))
            .delivery_timeout(LIMIT.min(self.subscription.settle_timeout))
            .durability(self.subscription.durability)
            .build()?;
        Ok(self.producer.get_or_init(|| made))
    }
}
