//! `ClusterStatus`: the cluster at one glance, for `qmq status`. QMQ has no such action.

use std::collections::{BTreeMap, HashMap};
use std::time::UNIX_EPOCH;

use axum::response::Response;
use qmq_meta::DatabaseStatus;
use serde::{Deserialize, Serialize};

use super::MetaHttp;
use super::shapes::{kind, ok};

/// The cluster as one meta server sees it. Times are ms since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Its version.
    pub version: String,
    /// The database.
    pub database: DatabaseView,
    /// Whether answers come from what was known last.
    pub stale: bool,
    /// Whether what is known came from the snapshot file.
    pub from_snapshot: bool,
    /// Of when it is, by the database's clock; 0: never read.
    pub at: u64,
    /// How many subjects there are.
    pub subjects: usize,
    /// How many have a route.
    pub routes: usize,
    /// Routes that the database does not have yet.
    pub routes_to_store: usize,
    /// Broker groups, by name.
    pub groups: Vec<GroupView>,
    /// Brokers and delay servers.
    pub nodes: Vec<NodeView>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseView {
    /// Whether it answers.
    pub up: bool,
    /// Since when it does not, by the meta server's clock.
    pub since: Option<u64>,
    /// Why it does not.
    pub reason: Option<String>,
}

/// A broker group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    /// Its name.
    pub group: String,
    /// `NORMAL` or `DELAY`.
    pub kind: String,
    /// `RW`, `R`, `W` or `NRW`.
    pub state: String,
    /// Where its master is.
    pub master: String,
    /// Subjects of this tag use it.
    pub tag: String,
    /// Grows with each change of master.
    pub epoch: u64,
    /// When its master was heard of last.
    pub last_seen: Option<u64>,
    /// Whether it is being decommissioned.
    pub retiring: bool,
    /// How many routes name it.
    pub subjects: usize,
}

/// A broker or delay server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its group.
    pub group: String,
    /// Its role.
    pub role: String,
    /// Its host name.
    pub hostname: String,
    /// Where others reach it.
    pub ip: String,
    /// Its port for clients.
    pub serve_port: u16,
    /// How many ms ago it spoke last to this meta server; `None`: not since that one started.
    pub silent_ms: Option<u64>,
}

/// The whole of it.
pub(super) fn cluster(door: &MetaHttp) -> Response {
    ok(Overview::of(&door.meta))
}

impl Overview {
    fn of(meta: &qmq_meta::Meta) -> Self {
        let status = meta.status();
        let mut subjects: HashMap<String, usize> = HashMap::new();
        for group in meta.routes().into_iter().flat_map(|route| route.groups) {
            *subjects.entry(group).or_default() += 1;
        }
        let heard: BTreeMap<(&str, u16), u64> = status
            .nodes
            .iter()
            .map(|node| ((node.hostname.as_str(), node.port), node.silent_ms))
            .collect();
        let groups = meta.groups().into_iter().map(|group| GroupView {
            kind: kind(group.kind).to_owned(),
            state: group.state.name().to_owned(),
            master: group.master,
            tag: group.tag,
            epoch: group.epoch,
            last_seen: group.last_seen_ms,
            retiring: group.retiring,
            subjects: subjects.get(&group.name).copied().unwrap_or_default(),
            group: group.name,
        });
        let nodes = meta.brokers(None).into_iter().map(|broker| NodeView {
            silent_ms: heard
                .get(&(broker.hostname.as_str(), broker.serve_port))
                .copied(),
            group: broker.group,
            role: broker.role.name().to_owned(),
            hostname: broker.hostname,
            ip: broker.ip,
            serve_port: broker.serve_port,
        });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            groups: groups.collect(),
            nodes: nodes.collect(),
            database: DatabaseView::of(&status.database),
            stale: status.stale,
            from_snapshot: status.from_snapshot,
            at: status.at,
            subjects: status.subjects,
            routes: status.routes,
            routes_to_store: status.routes_to_store,
        }
    }
}

impl DatabaseView {
    fn of(database: &DatabaseStatus) -> Self {
        match database {
            DatabaseStatus::Up => Self {
                up: true,
                since: None,
                reason: None,
            },
            DatabaseStatus::Away { since, reason } => {
                let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
                Self {
                    up: false,
                    since: u64::try_from(since.as_millis()).ok(),
                    reason: Some(reason.clone()),
                }
            }
        }
    }
}
