//! How a meta server is.

use std::time::SystemTime;

use crate::model::BrokerRole;

/// Whether the database can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseStatus {
    /// It answers.
    Up,
    /// It does not.
    Away {
        /// Since when, by this machine's clock.
        since: SystemTime,
        /// What the driver said last.
        reason: String,
    },
}

/// A node that has spoken to this meta server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its host name.
    pub hostname: String,
    /// Its port for clients.
    pub port: u16,
    /// Its group.
    pub group: String,
    /// Its role.
    pub role: BrokerRole,
    /// How many ms ago it spoke last.
    pub silent_ms: u64,
}

/// How a meta server is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetaStatus {
    /// Whether the database can be reached.
    pub database: DatabaseStatus,
    /// Whether answers come from what was known last: the database is away.
    pub stale: bool,
    /// Whether what is known came from the snapshot file and the database has not been read since.
    pub from_snapshot: bool,
    /// Of when it is, by the database's clock in ms; 0: never read.
    pub at: u64,
    /// Subjects.
    pub subjects: usize,
    /// Routes.
    pub routes: usize,
    /// Broker groups.
    pub groups: usize,
    /// Brokers.
    pub brokers: usize,
    /// Routes given while the database was away that it does not have yet.
    pub routes_to_store: usize,
    /// Clients that were not remembered because too many came at once, or because a name was too long.
    pub clients_dropped: u64,
    /// Nodes that have spoken to this meta server since it started, slaves too; by host name and port.
    pub nodes: Vec<NodeStatus>,
}
