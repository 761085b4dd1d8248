//! Whether the node takes messages, and why not.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use qmq_wire::NodeStatus;
use serde::Serialize;

use super::Shared;
use crate::metrics::Sources;

/// 200 and `ok`, or 503 and why not.
pub(super) async fn health(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get(header::ACCEPT).map(|accept| accept.as_bytes());
    let json = accept.is_some_and(|accept| {
        let accept = String::from_utf8_lossy(accept);
        accept
            .split(',')
            .any(|one| one.split(';').next().map(str::trim) == Some("application/json"))
    });
    let verbose = query.is_some_and(|query| query.split('&').any(|one| one == "verbose"));
    // It asks the disk how much room there is.
    let looked = tokio::task::spawn_blocking(move || Health::of(&shared.sources));
    let Ok(health) = looked.await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let status = match health.reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    if json {
        let text = serde_json::to_string(&health).unwrap_or_default() + "\n";
        return (status, [(header::CONTENT_TYPE, "application/json")], text).into_response();
    }
    (status, health.text(verbose)).into_response()
}

/// What is said.
#[derive(Debug, Serialize)]
struct Health {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// Why it is not available.
    reasons: Vec<String>,
    node: String,
    group: String,
    version: &'static str,
    uptime_seconds: u64,
    connections: u64,
    subscriptions: u64,
    log_bytes: u64,
    free_bytes: u64,
    unsynced_bytes: u64,
    certificate_days_left: i64,
}

impl Health {
    fn of(sources: &Sources) -> Self {
        let room = &sources.administering;
        let status = room.status();
        let was_full = room.producing.counters().disk_full.load(Ordering::Relaxed);
        let mut reasons = reasons(&status, was_full, room.bytes_needed());
        reasons.extend(room.producing.gate().held());
        Self {
            status: if reasons.is_empty() {
                "ok"
            } else {
                "unavailable"
            },
            reasons,
            node: status.node,
            group: status.group,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: status.uptime_ms / 1000,
            connections: status.connections,
            subscriptions: status.subscriptions,
            log_bytes: status.log_bytes,
            free_bytes: status.free_bytes,
            unsynced_bytes: status.unsynced_bytes,
            certificate_days_left: sources.tls.days_left(SystemTime::now()),
        }
    }

    fn text(&self, verbose: bool) -> String {
        let mut text = match self.reasons.is_empty() {
            true => "ok\n".to_owned(),
            false => self.reasons.join("\n") + "\n",
        };
        if verbose {
            text += &format!(
                "node: {}\ngroup: {}\nversion: {}\nuptime_seconds: {}\nconnections: {}\nsubscriptions: {}\nlog_bytes: {}\nfree_bytes: {}\nunsynced_bytes: {}\ncertificate_days_left: {}\n",
                self.node,
                self.group,
                self.version,
                self.uptime_seconds,
                self.connections,
                self.subscriptions,
                self.log_bytes,
                self.free_bytes,
                self.unsynced_bytes,
                self.certificate_days_left
            );
        }
        text
    }
}

/// Why it takes no messages.
fn reasons(status: &NodeStatus, was_full: bool, needed_bytes: u64) -> Vec<String> {
    let mut reasons = Vec::new();
    if status.draining {
        reasons.push("draining: it is shutting down".to_owned());
    }
    if !status.trouble.is_empty() {
        reasons.push(format!("store: {}", status.trouble));
    }
    if was_full && status.free_bytes < needed_bytes {
        reasons.push(format!(
            "disk full: {} bytes are free, and {needed_bytes} are needed for messages; make room, or lower messagelog.retention.hours",
            status.free_bytes
        ));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_from_the_first_refusal_until_there_is_room() {
        let with_free = |free_bytes| NodeStatus {
            free_bytes,
            ..NodeStatus::default()
        };
        let is_full =
            |free_bytes, was_full| !reasons(&with_free(free_bytes), was_full, 300).is_empty();
        assert!(!is_full(10, false));
        assert!(is_full(10, true));
        assert!(is_full(299, true));
        assert!(!is_full(300, true));
    }
}
