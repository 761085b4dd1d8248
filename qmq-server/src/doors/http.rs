//! The door for people and monitoring: health and metrics over HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::task::AbortHandle;

use crate::rooms::administer::Administering;
use crate::tls::ReloadingServer;

/// The open door; dropping it closes it.
#[derive(Debug)]
pub struct HttpDoor {
    address: SocketAddr,
    serving: AbortHandle,
}

#[derive(Clone)]
struct Shared {
    administering: Arc<Administering>,
}

impl HttpDoor {
    /// Opens it, in the runtime that this is called in.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn open(
        listen: SocketAddr,
        administering: Arc<Administering>,
        _tls: Arc<ReloadingServer>,
        _subjects_max: usize,
    ) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Shared { administering };
        let app = Router::new()
            .route("/health", get(health))
            .with_state(shared);
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "HTTP ended");
            }
        });
        Ok(Self {
            address,
            serving: serving.abort_handle(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpDoor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// 200 and `ok`, or 503 and why not.
async fn health(State(shared): State<Shared>) -> (StatusCode, String) {
    let draining = shared
        .administering
        .draining
        .load(std::sync::atomic::Ordering::Relaxed);
    if draining {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    match shared.administering.store.health() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}
