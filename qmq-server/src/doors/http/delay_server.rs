//! The HTTP door of a delay server.
//!
//! | path | what it answers |
//! |---|---|
//! | `/health` | 200 and `ok`, or 503 and why not; also who cannot be reached for deliveries, which changes no status; more with `?verbose` |
//! | `/metrics` | [metrics](crate::metrics) |

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::HttpDoor;
use crate::metrics::{CONTENT_TYPE, DelaySources, Scrapes};

/// What the door tells.
#[derive(Clone)]
pub(crate) struct DelayDoor {
    /// What is looked at.
    pub(crate) sources: DelaySources,
}

#[derive(Clone)]
struct Shared {
    door: DelayDoor,
    scrapes: Scrapes,
}

impl DelayDoor {
    /// Opens it.
    pub(crate) async fn open(self, listen: SocketAddr) -> io::Result<HttpDoor> {
        let shared = Shared {
            scrapes: Scrapes::of(Box::new(self.sources.clone())),
            door: self,
        };
        let app = Router::new()
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .fallback(super::unknown)
            .method_not_allowed_fallback(super::not_allowed)
            .with_state(shared);
        HttpDoor::serve(listen, app).await
    }

    fn health(&self, verbose: bool) -> (StatusCode, String) {
        let room = &self.sources.room;
        let status = room.status();
        let mut reasons = Vec::new();
        if status.draining {
            reasons.push("draining: it is shutting down".to_owned());
        }
        if let Some(why) = room.scheduling().gate().held() {
            reasons.push(format!("cluster: {why}"));
        }
        if !status.trouble.is_empty() {
            reasons.push(format!("store: {}", status.trouble));
        }
        if room.is_disk_full() {
            reasons.push(format!(
                "disk full: {} bytes are free; make room, or lower messagelog.retention.hours",
                status.free_bytes
            ));
        }
        let get = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        let dispatched = room.dispatched();
        if let Some(why) = dispatched.recording.get() {
            reasons.push(format!(
                "{} messages that have gone are not recorded: {why}; they are not sent again while this process runs, but after a restart they are: make room first, or do away with the cause",
                get(&dispatched.unrecorded)
            ));
        }
        if let Some(why) = dispatched.burying.get() {
            reasons.push(format!(
                "messages that brokers refuse for good cannot be kept as dead letters, and are tried again: {why}"
            ));
        }
        let mut text = match reasons.is_empty() {
            true => "ok\n".to_owned(),
            false => reasons.join("\n") + "\n",
        };
        if let Some(why) = dispatched.delivering.get() {
            text += &format!(
                "delivery: not reached: {why}; messages for there wait, and are tried again\n"
            );
        }
        if verbose {
            let (pending, letters) = room.pending();
            text += &format!(
                "node: {}\ngroup: {}\nversion: {}\nuptime_seconds: {}\nconnections: {}\npending: {pending}\nin_flight: {}\nwaiting_for_another_try: {}\nsubjects_without_brokers: {}\nunrecorded: {}\ndead_letters: {letters}\nlog_bytes: {}\nfree_bytes: {}\nunsynced_bytes: {}\n",
                status.node,
                status.group,
                status.version,
                status.uptime_ms / 1000,
                status.connections,
                get(&dispatched.in_flight),
                get(&dispatched.waiting),
                get(&dispatched.stuck),
                get(&dispatched.unrecorded),
                status.log_bytes,
                status.free_bytes,
                status.unsynced_bytes,
            );
        }
        match reasons.is_empty() {
            true => (StatusCode::OK, text),
            false => (StatusCode::SERVICE_UNAVAILABLE, text),
        }
    }
}

async fn health(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let verbose = query.is_some_and(|query| query.split('&').any(|one| one == "verbose"));
    // It asks the disk how much room there is.
    let looked = tokio::task::spawn_blocking(move || shared.door.health(verbose)).await;
    looked.map_or_else(
        |_| StatusCode::SERVICE_UNAVAILABLE.into_response(),
        IntoResponse::into_response,
    )
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
