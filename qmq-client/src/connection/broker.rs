//! A broker as the client sees it: connected, or being connected to again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::backoff::Backoff;
use super::breaker::{BreakerOptions, CircuitBreaker};
use super::link::{Dialer, Link, Peer, why};
use crate::config::ClientConfig;
use crate::error::ConnectError;
use crate::random;

/// A connection that lasted so long was a good one: the next try comes soon.
const GOOD: Duration = Duration::from_secs(5);

/// How a broker is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// A connection is being made.
    Connecting,
    /// The broker has said HELLO.
    Connected {
        /// Its name.
        node: String,
        /// Its broker group.
        group: String,
    },
    /// The last connection failed or was lost, and another will be made.
    Waiting {
        /// Why.
        cause: ConnectError,
        /// The pause before the next try.
        pause: Duration,
    },
    /// The client is closed.
    Closed,
}

#[derive(Clone, Debug)]
enum Standing {
    /// And why the last try failed.
    Connecting(Option<ConnectError>),
    Connected(Arc<Link>),
    Waiting(ConnectError, Duration),
    Closed,
}

/// Keeps one connection to a broker.
#[derive(Debug)]
pub(crate) struct Broker {
    address: Arc<str>,
    /// Its group as a meta server named it; empty if the application named the broker.
    group: Arc<str>,
    standing: Arc<watch::Sender<Standing>>,
    breaker: Mutex<CircuitBreaker>,
    keeper: AbortHandle,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.close();
    }
}

impl Broker {
    /// Begins to connect.
    pub(crate) fn start(
        group: &str,
        address: &str,
        config: &ClientConfig,
        dialer: Arc<Dialer>,
    ) -> Self {
        let address: Arc<str> = address.into();
        let group: Arc<str> = group.into();
        let standing = Arc::new(watch::Sender::new(Standing::Connecting(None)));
        let (least, most) = config.reconnect_pause;
        let backoff = Backoff::new(least, most.max(least));
        let keeper = tokio::spawn(keep(
            Arc::clone(&address),
            Arc::clone(&group),
            dialer,
            backoff,
            Arc::clone(&standing),
        ));
        Self {
            address,
            group,
            standing,
            breaker: Mutex::new(CircuitBreaker::new(BreakerOptions {
                failures: config.breaker_failures,
                open_for: config.breaker_open,
                probe_limit: config.request_timeout * 2,
            })),
            keeper: keeper.abort_handle(),
        }
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Its group: as a meta server named it, or as the broker says.
    pub(crate) fn group(&self) -> Arc<str> {
        match &*self.standing.borrow() {
            Standing::Connected(link) if self.group.is_empty() => {
                link.hello().group.as_str().into()
            }
            _ => Arc::clone(&self.group),
        }
    }

    pub(crate) fn state(&self) -> ConnectionState {
        match &*self.standing.borrow() {
            Standing::Connecting(_) => ConnectionState::Connecting,
            Standing::Connected(link) => ConnectionState::Connected {
                node: link.hello().node.clone(),
                group: link.hello().group.clone(),
            },
            Standing::Waiting(cause, pause) => ConnectionState::Waiting {
                cause: cause.clone(),
                pause: *pause,
            },
            Standing::Closed => ConnectionState::Closed,
        }
    }

    /// Waits until the broker is connected, however long it takes.
    ///
    /// # Errors
    /// [`ConnectError`] if the client was closed; with `lasting`, also a reason that will not go away by itself.
    pub(crate) async fn link(&self, lasting: bool) -> Result<Arc<Link>, ConnectError> {
        let mut standing = self.standing.subscribe();
        let seen = standing
            .wait_for(|standing| match standing {
                Standing::Connected(_) | Standing::Closed => true,
                Standing::Waiting(cause, _) => lasting && cause.is_lasting(),
                Standing::Connecting(_) => false,
            })
            .await
            .map_err(|_| ConnectError::ClientClosed)?;
        match &*seen {
            Standing::Connected(link) => Ok(Arc::clone(link)),
            Standing::Waiting(cause, _) => Err(cause.clone()),
            Standing::Connecting(_) | Standing::Closed => Err(ConnectError::ClientClosed),
        }
    }

    /// The connection, if there is one.
    pub(crate) fn connected(&self) -> Option<Arc<Link>> {
        match &*self.standing.borrow() {
            Standing::Connected(link) => Some(Arc::clone(link)),
            _ => None,
        }
    }

    /// Why there is no connection, as far as is known.
    pub(crate) fn trouble(&self) -> Option<ConnectError> {
        match &*self.standing.borrow() {
            Standing::Waiting(cause, _) => Some(cause.clone()),
            Standing::Closed => Some(ConnectError::ClientClosed),
            Standing::Connecting(cause) => cause.clone(),
            Standing::Connected(_) => None,
        }
    }

    /// Makes no more connections, and lets go of the present one.
    pub(crate) fn close(&self) {
        self.keeper.abort();
        self.standing.send_replace(Standing::Closed);
    }

    /// Whether a request may go; see [`CircuitBreaker::admit`].
    pub(crate) fn admit(&self, now: Instant) -> bool {
        self.breaker.lock().admit(now)
    }

    pub(crate) fn abandoned(&self, now: Instant) {
        self.breaker.lock().abandoned(now);
    }

    pub(crate) fn succeeded(&self) {
        self.breaker.lock().succeeded();
    }

    pub(crate) fn failed(&self, now: Instant) {
        self.breaker.lock().failed(now);
    }

    pub(crate) fn trip(&self, now: Instant) {
        self.breaker.lock().trip(now);
    }
}

async fn keep(
    address: Arc<str>,
    group: Arc<str>,
    dialer: Arc<Dialer>,
    mut backoff: Backoff,
    standing: Arc<watch::Sender<Standing>>,
) {
    let mut last = None;
    loop {
        standing.send_replace(Standing::Connecting(last.take()));
        let cause = match dialer.dial(&address, Peer::Broker { group: &group }).await {
            Ok(link) => {
                let since = Instant::now();
                let connection = link.connection().clone();
                tracing::info!(broker = %address, node = %link.hello().node, "connected");
                standing.send_replace(Standing::Connected(Arc::new(link)));
                let cause = why(&address, &connection.closed().await);
                if since.elapsed() >= GOOD {
                    backoff.reset();
                }
                cause
            }
            Err(cause) => cause,
        };
        let pause = backoff.next(random::u64());
        tracing::warn!(broker = %address, %cause, ?pause, "not connected");
        last = Some(cause.clone());
        standing.send_replace(Standing::Waiting(cause, pause));
        tokio::time::sleep(pause).await;
    }
}
