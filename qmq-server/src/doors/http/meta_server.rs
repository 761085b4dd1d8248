//! The HTTP door of a meta server: where its native door is, whether it is well.
//!
//! | path | what it answers |
//! |---|---|
//! | `/meta/address` | `host:port` of the native door, as QMQ's nodes and clients ask |
//! | `/health` | 200 and `ok`, or 503 and why not; more with `?verbose` |
//! | `/metrics` | [metrics](crate::metrics) |
//!
//! Management is beside it, in a router of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use qmq_meta::DatabaseStatus;

use super::HttpDoor;
use super::listen::Arrived;
use crate::membership::host_and_port;
use crate::metrics::{CONTENT_TYPE, MetaSources, Scrapes};

/// What the door tells.
#[derive(Clone)]
pub(crate) struct MetaDoor {
    /// What is looked at.
    pub(crate) sources: MetaSources,
    /// Port of the native door.
    pub(crate) port: u16,
    /// `qmq.host`: what is told instead of the address at which it is asked.
    pub(crate) host: Option<String>,
}

#[derive(Clone)]
struct Shared {
    door: MetaDoor,
    scrapes: Scrapes,
}

impl MetaDoor {
    /// Opens it, with `further` paths beside its own.
    pub(crate) async fn open(self, listen: SocketAddr, further: Router) -> io::Result<HttpDoor> {
        let shared = Shared {
            scrapes: Scrapes::of(Box::new(self.sources.clone())),
            door: self,
        };
        let own = Router::new()
            .route("/meta/address", get(address))
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .with_state(shared);
        let app = own
            .merge(further)
            .fallback(unknown)
            .method_not_allowed_fallback(super::not_allowed);
        HttpDoor::serve(listen, app).await
    }

    /// `host:port` for one who asked at this address. QMQ answers without a line end.
    fn address(&self, asked_at: IpAddr) -> String {
        match &self.host {
            Some(host) => host_and_port(host, self.port),
            None => host_and_port(&asked_at.to_string(), self.port),
        }
    }

    fn health(&self, verbose: bool) -> (StatusCode, String) {
        let room = &self.sources.room;
        let status = room.meta.status();
        let mut reasons = Vec::new();
        if room.draining.load(Ordering::Relaxed) {
            reasons.push("draining: it is shutting down".to_owned());
        }
        let away = match &status.database {
            DatabaseStatus::Up => None,
            DatabaseStatus::Away { reason, since } => Some((reason, since)),
        };
        if let (Some((reason, _)), 0) = (away, status.at) {
            reasons.push(format!(
                "the database is away, and there is no snapshot: {reason}"
            ));
        }
        let mut text = match reasons.is_empty() {
            true => fine(away.map(|(_, since)| since.elapsed().unwrap_or_default())),
            false => reasons.join("\n") + "\n",
        };
        if verbose {
            let database = away.map_or("up".to_owned(), |(reason, _)| format!("away: {reason}"));
            text += &format!(
                "node: {}\nversion: {}\nuptime_seconds: {}\nconnections: {}\ndatabase: {database}\nstale: {}\nsubjects: {}\ngroups: {}\nbrokers: {}\n",
                room.node,
                env!("CARGO_PKG_VERSION"),
                room.since.elapsed().as_secs(),
                room.connections.load(Ordering::Relaxed),
                status.stale,
                status.subjects,
                status.groups,
                status.brokers,
            );
        }
        match reasons.is_empty() {
            true => (StatusCode::OK, text),
            false => (StatusCode::SERVICE_UNAVAILABLE, text),
        }
    }
}

async fn address(
    State(shared): State<Shared>,
    arrived: Option<Extension<Arrived>>,
) -> Result<String, StatusCode> {
    let Some(Extension(Arrived(asked_at))) = arrived else {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    };
    Ok(shared.door.address(asked_at))
}

async fn health(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let verbose = query.is_some_and(|query| query.split('&').any(|one| one == "verbose"));
    shared.door.health(verbose).into_response()
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
    let text = format!("nothing at {path}; there are /meta/address, /health and /metrics\n");
    (StatusCode::NOT_FOUND, text)
}

/// What a meta server says that answers; with for how long its database has been away.
fn fine(away: Option<Duration>) -> String {
    match away {
        None => "ok\n".to_owned(),
        Some(away) => format!(
            "ok, but the database is away since {} s ago: answering from what was known last (memory or snapshot)\n",
            away.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_away_is_not_just_ok() {
        assert_eq!(fine(None), "ok\n");
        let away = fine(Some(Duration::from_secs(75)));
        assert!(away.starts_with("ok, but the database is away since 75 s ago: "));
    }
}
