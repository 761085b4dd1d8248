//! Connections, and their limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at a time; more wait until one is done.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// A request must have come by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection must be done by then: the request has come, and the answer gone.
const TIMEOUT: Duration = Duration::from_secs(30);
/// After a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, app: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection is not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let app = app.clone();
        connections.spawn(async move {
            // Whatever goes wrong is the client's affair, who sees it.
            let _ = tokio::time::timeout(TIMEOUT, one_request(stream, app)).await;
            drop(slot);
        });
    }
}

/// Where a request arrived: an address of this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived(pub(super) IpAddr);

async fn one_request(stream: TcpStream, app: Router) -> hyper::Result<()> {
    let app = match stream.local_addr() {
        Ok(local) => app.layer(Extension(Arrived(local.ip().to_canonical()))),
        Err(_) => app,
    };
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await
}
