//! What is read anew while a broker runs: certificates and tokens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;

use crate::access::Access;
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

pub(super) fn start(tls: Arc<ReloadingServer>, access: Arc<Access>) -> Watch {
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (tls, access) = (Arc::clone(&tls), Arc::clone(&access));
            let looked = tokio::task::spawn_blocking(move || look(&tls, &access));
            if looked.await.is_err() {
                return;
            }
        }
    });
    Watch(task.abort_handle())
}

fn look(tls: &ReloadingServer, access: &Access) {
    match tls.poll(SystemTime::now()) {
        Ok(true) => tracing::info!("new certificates are served"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(%error, "the new certificates are no good; the old ones are served")
        }
    }
    match access.poll() {
        Ok(true) => tracing::info!("the tokens were read anew"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "the new tokens are no good; the old ones count"),
    }
}
