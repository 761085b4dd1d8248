//! The brokers of a client: those that it was given, or those that routes have named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Broker, Dialer};
use crate::config::ClientConfig;

/// A broker of a route that nobody uses is left after so long.
const UNUSED: Duration = Duration::from_secs(60);

/// Brokers by group and address. Producers and consumers of one client share them.
#[derive(Debug)]
pub(crate) struct Pool {
    config: Arc<ClientConfig>,
    dialer: Arc<Dialer>,
    /// In the order in which the application gave them.
    fixed: Vec<Arc<Broker>>,
    routed: Mutex<Routed>,
}

#[derive(Debug, Default)]
struct Routed {
    /// By group and address.
    brokers: BTreeMap<(Arc<str>, Arc<str>), Pooled>,
    closed: bool,
}

#[derive(Debug)]
struct Pooled {
    broker: Arc<Broker>,
    used: Instant,
}

impl Pool {
    pub(crate) fn new(config: Arc<ClientConfig>, dialer: Arc<Dialer>) -> Self {
        let addresses = config.route.fixed().iter();
        let fixed = addresses
            .map(|address| Arc::new(Broker::start("", address, &config, Arc::clone(&dialer))))
            .collect();
        Self {
            config,
            dialer,
            fixed,
            routed: Mutex::default(),
        }
    }

    /// The brokers that the application named; none if meta servers name them.
    pub(crate) fn fixed(&self) -> &[Arc<Broker>] {
        &self.fixed
    }

    /// All that are connected to, or being connected to.
    pub(crate) fn all(&self) -> Vec<Arc<Broker>> {
        let routed = self.routed.lock();
        let routed = routed.brokers.values().map(|pooled| &pooled.broker);
        self.fixed.iter().chain(routed).cloned().collect()
    }

    /// The broker of a group at an address, which is connected to if it is not yet.
    pub(crate) fn get(&self, group: &str, address: &str) -> Arc<Broker> {
        let mut routed = self.routed.lock();
        let closed = routed.closed;
        let key = (Arc::from(group), Arc::from(address));
        let pooled = routed.brokers.entry(key).or_insert_with(|| {
            let dialer = Arc::clone(&self.dialer);
            let broker = Broker::start(group, address, &self.config, dialer);
            if closed {
                broker.close();
            }
            Pooled {
                broker: Arc::new(broker),
                used: Instant::now(),
            }
        });
        pooled.used = Instant::now();
        Arc::clone(&pooled.broker)
    }

    /// Lets go of brokers of routes that nobody has used for a while.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut routed = self.routed.lock();
        for pooled in routed.brokers.values_mut() {
            if Arc::strong_count(&pooled.broker) > 1 {
                pooled.used = now;
            }
        }
        routed
            .brokers
            .retain(|_, pooled| now < pooled.used + UNUSED);
    }

    /// Closes all, for good.
    pub(crate) fn close(&self) {
        self.routed.lock().closed = true;
        for broker in self.all() {
            broker.close();
        }
    }
}
