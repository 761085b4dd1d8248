//! What a database must do. Each kind of database says it in its own SQL.

use async_trait::async_trait;

use crate::error::DatabaseError;
use crate::model::{
    Broker, BrokerGroup, BrokerRole, ClientRow, DataSource, GroupKind, GroupState, OfflineRow,
    ReadonlyRow, Subject, SubjectRoute,
};

/// A time of the database's clock, in ms since 1970 UTC, that never falls: not between meta servers, and not when that clock is set back.
pub type Now = u64;

/// All that routes are made of, read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Everything {
    /// When.
    pub at: Now,
    /// Subjects.
    pub subjects: Vec<Subject>,
    /// Their routes.
    pub routes: Vec<SubjectRoute>,
    /// Broker groups.
    pub groups: Vec<BrokerGroup>,
    /// Brokers.
    pub brokers: Vec<Broker>,
    /// Read-only settings.
    pub readonly: Vec<ReadonlyRow>,
    /// Consumers that are switched off.
    pub offline: Vec<OfflineRow>,
}

/// What a master says of itself and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Its group.
    pub group: String,
    /// Its role; only masters change a group.
    pub role: BrokerRole,
    /// Where clients reach it: `host:port`, up to 255 characters. What does not fit QMQ's column lies in our table.
    pub address: String,
    /// The state that it asks for.
    pub state: GroupState,
    /// Its epoch; 0: it knows none. One below the group's is refused as [`DatabaseError::Changed`], 0 too once an epoch was granted.
    pub epoch: u64,
}

/// The tables of a cluster. Every method may be called at any time by several meta servers on one database; what must hold together is one
/// transaction. Values too long for a column are [`DatabaseError::TooLong`] before anything is written. No method takes longer than its timeout.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// In one word for logs: `sqlite` or `mysql`.
    fn kind(&self) -> &'static str;

    /// Whether all tables are as they should be, and which variant QMQ's have. Changes nothing.
    async fn verify(&self) -> Result<(), DatabaseError>;

    /// Reads everything, in one snapshot.
    async fn read(&self) -> Result<Everything, DatabaseError>;

    /// A heartbeat or registration of a master: last seen becomes now, the state and address what it says (by the database's clock, and only if the
    /// epoch is not below the group's); the group is made if it is not there. [`DatabaseError::Changed`], and nothing done, if no broker is entered in
    /// that group with that role.
    async fn seen(&self, liveness: &Liveness) -> Result<Now, DatabaseError>;

    /// Makes groups whose masters one of our meta servers has heard of, and none for `silent_ms`, NRW. Whoever sweeps first after a time in which
    /// nobody swept for `silent_ms / 2` gives every group another `silent_ms`. Names of those that changed.
    async fn sweep(&self, silent_ms: u64) -> Result<Vec<String>, DatabaseError>;

    /// Raises the epoch of a group from `known` to `known + 1`, in one step that only one of several callers does, and gives the group that master.
    /// [`DatabaseError::Changed`] if it is not `known`.
    async fn grant_epoch(
        &self,
        group: &str,
        known: u64,
        master: &str,
    ) -> Result<u64, DatabaseError>;

    /// Adds a broker. [`DatabaseError::Exists`] if its (host name, port), or its role in the group, is taken. Further slaves than one, and addresses
    /// that QMQ's columns cannot hold, go into our table. A group that was removed is open again to brokers that enter themselves.
    async fn add_broker(&self, broker: &Broker) -> Result<(), DatabaseError>;

    /// As [`Self::add_broker`], for a broker that enters itself: [`DatabaseError::Decommissioned`] if its group was
    /// removed, or retires.
    async fn enter_broker(&self, broker: &Broker) -> Result<(), DatabaseError>;

    /// Puts a broker in the place of the one with the same group and role, which is returned; `None` (and nothing done): there is none.
    async fn replace_broker(&self, broker: &Broker) -> Result<Option<Broker>, DatabaseError>;

    /// Adds a subject if it is not there. Whether it was added.
    async fn add_subject(&self, name: &str, tag: &str) -> Result<bool, DatabaseError>;

    /// Adds a route if the subject has none. Whether it was added.
    async fn add_route(&self, subject: &str, groups: &[String]) -> Result<bool, DatabaseError>;

    /// Gives a subject other groups, if its route still has this version. Whether it had.
    async fn change_route(
        &self,
        subject: &str,
        groups: &[String],
        version: i32,
    ) -> Result<bool, DatabaseError>;

    /// Adds a read-only setting; nothing happens if it is there.
    async fn add_readonly(&self, row: &ReadonlyRow) -> Result<(), DatabaseError>;

    /// Removes a read-only setting. Whether it was there.
    async fn remove_readonly(&self, row: &ReadonlyRow) -> Result<bool, DatabaseError>;

    /// Switches a consumer off; nothing happens if it is.
    async fn switch_off(&self, row: &OfflineRow) -> Result<(), DatabaseError>;

    /// Switches a consumer on; client `*`: all of the subject and group. How many rows went.
    async fn switch_on(&self, row: &OfflineRow) -> Result<u64, DatabaseError>;

    /// Remembers clients; those that are known are left as they are.
    async fn add_clients(&self, rows: &[ClientRow]) -> Result<(), DatabaseError>;

    /// The clients of a subject that consume, by group and client; 10,000 at most.
    async fn consumers(&self, subject: &str) -> Result<Vec<ClientRow>, DatabaseError>;

    /// Marks a group as retiring, or not any more. Whether the group is there.
    async fn set_retiring(&self, group: &str, retiring: bool) -> Result<bool, DatabaseError>;

    /// Deletes a group with its brokers, and remembers that it was. [`DatabaseError::Refused`] while a route names it.
    async fn remove_group(&self, group: &str) -> Result<(), DatabaseError>;

    /// Sets kind and tag of a group that is there. Whether it is.
    async fn set_group_tag(
        &self,
        group: &str,
        kind: GroupKind,
        tag: &str,
    ) -> Result<bool, DatabaseError>;

    /// Adds or changes a database of messages to be sent.
    async fn add_data_source(&self, source: &DataSource) -> Result<(), DatabaseError>;

    /// Those of a room; empty: all.
    async fn data_sources(&self, room: &str) -> Result<Vec<DataSource>, DatabaseError>;

    /// Lets go of its connections.
    async fn close(&self);
}
