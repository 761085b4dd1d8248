//! What is asked of a meta server and what it answers.

use crate::model::{Broker, BrokerGroup, ClientKind, Standing};

/// A client that asks who serves a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteRequest {
    /// The subject; of a retry or dead-letter subject, its own name.
    pub subject: String,
    /// What for.
    pub kind: ClientKind,
    /// Consumer group; empty for producers.
    pub group: String,
    /// Name of the client.
    pub client: String,
    /// What the application is called.
    pub application: String,
    /// Its room, or empty.
    pub room: String,
}

/// A group of an answer, as far as this client may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedGroup {
    /// The group.
    pub group: BrokerGroup,
    /// Whether producers use it: its state says so, and it is neither read-only nor retiring.
    pub writable: bool,
    /// Whether consumers use it: its state says so.
    pub readable: bool,
}

/// Who serves a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAnswer {
    /// Of when it is, by the database's clock in ms; never falls.
    pub stamp: u64,
    /// Whether operators let this consumer consume; producers are always online.
    pub standing: Standing,
    /// Whether the database is away, so that this is what was known last.
    pub stale: bool,
    /// The groups, by name; those that are away (NRW) are left out.
    pub groups: Vec<RoutedGroup>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// As it is entered.
    pub broker: Broker,
    /// `ip:sync_port` of what it copies: of a slave the master, of a backup the slave.
    pub copies: Option<String>,
    /// The group's epoch; 0: never granted.
    pub epoch: u64,
    /// In what the table differs from the claim.
    pub differs: Option<String>,
}

/// What a node says when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// It lives.
    Heartbeat,
    /// It has started.
    Online,
    /// It ends.
    Offline,
}

/// That a node has been heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Whether the database has it; always so for slaves and backups, whose presence is kept in memory only.
    pub stored: bool,
}
