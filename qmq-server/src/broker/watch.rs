//! What is read anew while a broker runs: certificates, tokens, the dynamic keys of its configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;

use crate::access::Access;
use crate::config::WatchedConfig;
use crate::rooms::consumers::Consumers;
use crate::tls::ReloadingServer;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until it is dropped.
#[derive(Debug)]
pub(super) struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A configuration, and the values in the rooms that follow it.
pub(super) struct Followed {
    pub(super) config: Arc<WatchedConfig>,
    pub(super) auto_create: Arc<AtomicBool>,
    pub(super) retry_delay_seconds: Arc<AtomicU32>,
    pub(super) attempts_max: Arc<AtomicU32>,
}

pub(super) fn start(
    tls: Arc<ReloadingServer>,
    access: Arc<Access>,
    consumers: Consumers,
    followed: Option<Followed>,
) -> Watch {
    let followed = followed.map(Arc::new);
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (tls, access) = (Arc::clone(&tls), Arc::clone(&access));
            let consumers = consumers.clone();
            let followed = followed.clone();
            let looked = tokio::task::spawn_blocking(move || {
                look(&tls, &access, &consumers);
                if let Some(followed) = followed {
                    followed.look();
                }
            });
            if looked.await.is_err() {
                return;
            }
        }
    });
    Watch(task.abort_handle())
}

fn look(tls: &ReloadingServer, access: &Access, consumers: &Consumers) {
    match tls.poll(SystemTime::now()) {
        Ok(true) => tracing::info!("new certificates are served"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(%error, "the new certificates are no good; the old ones are served");
        }
    }
    match access.poll() {
        Ok(true) => {
            tracing::info!("the tokens were read anew");
            consumers.recheck();
        }
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "the new tokens are no good; the old ones count"),
    }
}

impl Followed {
    fn look(&self) {
        match self.config.poll() {
            Ok(None) => {}
            Ok(Some(reload)) => {
                let current = self.config.current();
                let seconds = u32::try_from(current.retry_delay.as_secs()).unwrap_or(u32::MAX);
                self.retry_delay_seconds.store(seconds, Ordering::Relaxed);
                self.attempts_max
                    .store(current.attempts_max, Ordering::Relaxed);
                self.auto_create
                    .store(current.subject_auto_create, Ordering::Relaxed);
                reload.log();
            }
            Err(error) => {
                tracing::error!(%error, "the changed configuration is no good; the old one counts");
            }
        }
    }
}
