//! The client: connections that its producers and consumers share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::admin::Admin;
use crate::config::{ClientBuilder, ClientConfig};
use crate::connection::meta::Routes;
use crate::connection::{ConnectionState, Dialer, Pool, Route};
use crate::consumer::{Consumer, Puller, Subscription};
use crate::delay::DelayAdmin;
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
    pub(crate) pool: Arc<Pool>,
    /// What meta servers tell; `None`: the application named the brokers.
    pub(crate) routes: Option<Routes>,
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
        let pool = Arc::new(Pool::new(Arc::clone(&config), Arc::clone(&dialer)));
        let routes = match &config.route {
            Route::Meta(places) => Some(Routes::start(places, &config, &dialer, &pool)),
            _ => None,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                pool,
                routes,
                dialer,
            }),
        })
    }

    /// Waits until one broker has answered, or one meta server if those are to say where brokers are.
    ///
    /// # Errors
    /// [`ConnectError`]: all said no for a lasting reason, or none answered within the connect timeout.
    pub async fn ready(&self) -> Result<(), ConnectError> {
        let limit = self.shared.config.connect_timeout;
        let fixed = self.shared.pool.fixed();
        let any = async {
            if let Some(routes) = &self.shared.routes {
                let alone =
                    matches!(&self.shared.config.route, Route::Meta(places) if places.len() == 1);
                return meta_ready(routes, alone).await;
            }
            let mut waits = tokio::task::JoinSet::new();
            for broker in fixed {
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
            let known = match &self.shared.routes {
                Some(routes) => routes.standing().borrow().trouble.clone(),
                None => fixed.iter().find_map(|broker| broker.trouble()),
            };
            Err(known.unwrap_or_else(|| ConnectError::TimedOut {
                address: self.shared.config.route.in_words(),
                limit,
            }))
        })
    }

    /// The brokers, by address, and how each is connected. Those of which a meta server told are there while something uses them.
    #[must_use]
    pub fn connections(&self) -> Vec<(String, ConnectionState)> {
        let brokers = self.shared.pool.all();
        brokers
            .iter()
            .map(|broker| (broker.address().to_string(), broker.state()))
            .collect()
    }

    /// The meta server, and how it is connected; `None` if the application named the brokers.
    #[must_use]
    pub fn meta(&self) -> Option<(String, ConnectionState)> {
        let standing = self.shared.routes.as_ref()?.standing();
        let standing = standing.borrow();
        Some((standing.address.to_string(), standing.state.clone()))
    }

    /// Who is not connected, and why, as far as is known: the meta server, and brokers. Empty: nothing is known to be wrong.
    #[must_use]
    pub fn troubles(&self) -> Vec<(String, ConnectError)> {
        let routes = self.shared.routes.as_ref();
        let meta = routes.and_then(|routes| {
            let standing = routes.standing();
            let standing = standing.borrow();
            Some((standing.address.to_string(), standing.trouble.clone()?))
        });
        let brokers = self.shared.pool.all().into_iter();
        let brokers =
            brokers.filter_map(|broker| Some((broker.address().to_string(), broker.trouble()?)));
        meta.into_iter().chain(brokers).collect()
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

    /// What operators ask of a broker, named by its address as in [`Client::connections`]; `None`: the client has no such broker.
    #[must_use]
    pub fn admin(&self, broker: &str) -> Option<Admin> {
        let mut known = self.shared.pool.all().into_iter();
        known
            .find(|known| &**known.address() == broker)
            .map(|broker| Admin::new(Arc::clone(&self.shared), broker))
    }

    /// What can be asked of the delay servers of a group, named as in [`Delayed::group`](crate::Delayed), or by the address of one.
    #[must_use]
    pub fn delay(&self, group: &str) -> DelayAdmin {
        DelayAdmin::new(Arc::clone(&self.shared), group)
    }

    /// Closes all connections, at once: close producers and consumers first, or what they have in hand fails. Waits up to `limit` until the brokers know.
    pub async fn close(self, limit: Duration) {
        if let Some(routes) = &self.shared.routes {
            routes.close();
        }
        self.shared.pool.close();
        self.shared.dialer.close(limit).await;
    }
}

/// Waits until a meta server has answered, or the only one says no for a lasting reason.
async fn meta_ready(routes: &Routes, alone: bool) -> Result<(), ConnectError> {
    let mut standing = routes.standing();
    let seen = standing
        .wait_for(|standing| match &standing.state {
            ConnectionState::Connected { .. } | ConnectionState::Closed => true,
            ConnectionState::Waiting { cause, .. } => alone && cause.is_lasting(),
            ConnectionState::Connecting => false,
        })
        .await
        .map_err(|_| ConnectError::ClientClosed)?;
    match &seen.state {
        ConnectionState::Connected { .. } => Ok(()),
        ConnectionState::Waiting { cause, .. } => Err(cause.clone()),
        ConnectionState::Connecting | ConnectionState::Closed => Err(ConnectError::ClientClosed),
    }
}
