//! The client: connections that its producers and consumers share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::admin::Admin;
use crate::config::{ClientBuilder, ClientConfig};
use crate::connection::{Broker, ConnectionState, Dialer};
use crate::consumer::{Consumer, Puller, Subscription};
use crate::error::{ConfigError, ConnectError};
use crate::producer::ProducerBuilder;

/// Connections to brokers. A clone shares them. They end when the last clone, producer and consumer is gone, or with [`Client::close`].
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) brokers: Vec<Arc<Broker>>,
    dialer: Arc<Dialer>,
}

impl Client {
    /// Begins to configure a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn start(config: ClientConfig) -> Result<Self, ConfigError> {
        tokio::runtime::Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
        let config = Arc::new(config);
        let dialer = Arc::new(Dialer::new(Arc::clone(&config))?);
        let brokers = config
            .route
            .addresses()
            .iter()
            .map(|address| Arc::new(Broker::start(address, &config, Arc::clone(&dialer))))
            .collect();
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                brokers,
                dialer,
            }),
        })
    }

    /// Waits until one broker has answered.
    ///
    /// # Errors
    /// [`ConnectError`]: all said no for a lasting reason, or none answered within the connect timeout.
    pub async fn ready(&self) -> Result<(), ConnectError> {
        let limit = self.shared.config.connect_timeout;
        let any = async {
            let mut waits = tokio::task::JoinSet::new();
            for broker in &self.shared.brokers {
                let broker = Arc::clone(broker);
                waits.spawn(async move { broker.link(true).await.map(drop) });
            }
            let mut last = ConnectError::ClientClosed;
            while let Some(waited) = waits.join_next().await {
                match waited {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => last = error,
                    Err(_) => {}
                }
            }
            Err(last)
        };
        timeout(limit, any).await.unwrap_or_else(|_| {
            let known = self.shared.brokers.iter().find_map(|b| b.trouble());
            Err(known.unwrap_or_else(|| ConnectError::TimedOut {
                address: self.shared.config.route.addresses().join(", "),
                limit,
            }))
        })
    }

    /// The brokers, by address, and how each is connected.
    #[must_use]
    pub fn connections(&self) -> Vec<(String, ConnectionState)> {
        self.shared
            .brokers
            .iter()
            .map(|broker| (broker.address().to_string(), broker.state()))
            .collect()
    }

    /// Begins to configure a producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.shared))
    }

    /// Subscribes: brokers deliver messages as they come.
    ///
    /// # Errors
    /// [`ConfigError`], which names what is wrong with the subscription.
    pub fn subscribe(&self, subscription: Subscription) -> Result<Consumer, ConfigError> {
        Consumer::start(&self.shared, subscription)
    }

    /// Consumes by asking: brokers deliver messages when [`Puller::pull`] asks for some.
    ///
    /// # Errors
    /// [`ConfigError`], which names what is wrong with the subscription.
    pub fn puller(&self, subscription: Subscription) -> Result<Puller, ConfigError> {
        Puller::start(&self.shared, subscription)
    }

    /// What operators ask of a broker, named by its address as it was given to [`ClientBuilder::broker`]; `None`: the client has no such broker.
    #[must_use]
    pub fn admin(&self, broker: &str) -> Option<Admin> {
        let found = self.shared.brokers.iter();
        found
            .clone()
            .find(|known| &**known.address() == broker)
            .map(|broker| Admin::new(Arc::clone(&self.shared), Arc::clone(broker)))
    }

    /// Closes all connections, at once: close producers and consumers first, or what they have in hand fails. Waits up to `limit` until the brokers know.
    pub async fn close(self, limit: Duration) {
        for broker in &self.shared.brokers {
            broker.close();
        }
        self.shared.dialer.close(limit).await;
    }
}
