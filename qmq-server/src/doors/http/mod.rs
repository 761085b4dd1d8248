//! The door for people and monitoring: health and metrics over HTTP.
//!
//! | path | what it answers |
//! |---|---|
//! | `/health` | 200 and `ok`, or 503 and why not; more with `?verbose`, or as JSON with `Accept: application/json` |
//! | `/metrics` | [metrics](crate::metrics) |
//!
//! A connection carries one request, and has a time in which to be done: so nobody can keep one for long, and there are only so many.

pub(crate) mod delay_server;
mod health;
mod listen;
pub mod meta;
pub(crate) mod meta_server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::task::AbortHandle;

use crate::metrics::{CONTENT_TYPE, Scrapes, Sources};

/// The open door; dropping it closes it.
#[derive(Debug)]
pub struct HttpDoor {
    address: SocketAddr,
    serving: AbortHandle,
}

#[derive(Clone)]
struct Shared {
    sources: Arc<Sources>,
    scrapes: Scrapes,
}

impl HttpDoor {
    /// Opens it, in the runtime that this is called in.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn open(listen: SocketAddr, sources: Sources) -> io::Result<Self> {
        let shared = Shared {
            scrapes: Scrapes::new(sources.clone()),
            sources: Arc::new(sources),
        };
        let app = Router::new()
            .route("/health", get(health::health))
            .route("/metrics", get(metrics))
            .fallback(unknown)
            .method_not_allowed_fallback(not_allowed)
            .with_state(shared);
        Self::serve(listen, app).await
    }

    /// Opens a door with other pages, with the same limits of connections.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn serve(listen: SocketAddr, pages: Router) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(listen::serve(listener, pages));
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

async fn metrics(State(shared): State<Shared>) -> Response {
    match shared.scrapes.text().await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "no metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

async fn unknown(uri: Uri) -> (StatusCode, String) {
    let path: String = uri.path().chars().take(200).collect();
    let text = format!("nothing at {path}; there are /health and /metrics\n");
    (StatusCode::NOT_FOUND, text)
}

async fn not_allowed() -> (StatusCode, &'static str) {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        "only GET and HEAD are answered here\n",
    )
}
