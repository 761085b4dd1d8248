//! What is read anew while a meta server runs: certificates, tokens, the dynamic keys of its configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;

use crate::access::Access;
use crate::config::{Lines, MetaConfig, Watched, WatchedLines};
use crate::tls::ReloadingServer;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Something that looks at a file of its own.
pub(crate) type Look = Box<dyn FnMut() + Send>;

/// Looks until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn start(
    tls: Arc<ReloadingServer>,
    access: Arc<Access>,
    mut further: Vec<Look>,
) -> Watch {
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (tls, access) = (Arc::clone(&tls), Arc::clone(&access));
            let looked = tokio::task::spawn_blocking(move || {
                look(&tls, &access);
                for look in &mut further {
                    look();
                }
                further
            });
            match looked.await {
                Ok(again) => further = again,
                Err(_) => return,
            }
        }
    });
    Watch(task.abort_handle())
}

/// Follows `heartbeat.timeout.ms` and `min.group.num`.
pub(super) fn following(
    watched: Arc<Watched<MetaConfig>>,
    heartbeat_timeout_ms: &Arc<AtomicU64>,
    min_group_num: &Arc<AtomicU64>,
) -> Look {
    let (timeout, least) = (Arc::clone(heartbeat_timeout_ms), Arc::clone(min_group_num));
    Box::new(move || match watched.poll() {
        Ok(None) => {}
        Ok(Some(reload)) => {
            let current = watched.current();
            let ms = u64::try_from(current.heartbeat_timeout.as_millis()).unwrap_or(u64::MAX);
            timeout.store(ms, Ordering::Relaxed);
            least.store(current.min_group_num.into(), Ordering::Relaxed);
            reload.log();
        }
        Err(error) => {
            tracing::error!(%error, "the changed configuration is no good; the old one counts");
        }
    })
}

/// Follows a file of lines.
pub(super) fn following_lines<T: Lines + 'static>(lines: Arc<WatchedLines<T>>) -> Look {
    Box::new(move || match lines.poll() {
        Ok(None) => {}
        Ok(Some(reload)) => reload.log(lines.path()),
        Err(error) => {
            tracing::error!(%error, "the changed file is no good; the old one counts");
        }
    })
}

fn look(tls: &ReloadingServer, access: &Access) {
    match tls.poll(SystemTime::now()) {
        Ok(true) => tracing::info!("new certificates are served"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(%error, "the new certificates are no good; the old ones are served");
        }
    }
    match access.poll() {
        Ok(true) => tracing::info!("the tokens were read anew"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "the new tokens are no good; the old ones count"),
    }
}
