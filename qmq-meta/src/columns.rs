//! What QMQ's columns hold: most characters of each, as in its `init.sql`. SQLite has the same limits, so that rows can be moved.

use std::net::Ipv4Addr;

use crate::database::Liveness;
use crate::error::DatabaseError;
use crate::model::{Broker, ClientRow, DataSource, OfflineRow, ReadonlyRow};

/// Characters of a value that an error shows.
const SHOWN: usize = 40;

/// A column of text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    table: &'static str,
    column: &'static str,
    limit: usize,
    secret: bool,
}

const fn column(table: &'static str, column: &'static str, limit: usize) -> Column {
    Column {
        table,
        column,
        limit,
        secret: false,
    }
}

pub(crate) const GROUP: Column = column("broker_group", "group_name", 30);
pub(crate) const GROUP_TAG: Column = column("broker_group", "tag", 30);
/// Longer addresses than QMQ's 25 lie in our table.
pub(crate) const MASTER: Column = column("qmqx_group", "master_address", 255);
pub(crate) const SUBJECT: Column = column("subject_info", "name", 100);
pub(crate) const SUBJECT_TAG: Column = column("subject_info", "tag", 30);
pub(crate) const ROUTE_SUBJECT: Column = column("subject_route", "subject_info", 100);
const ROUTE_GROUPS: Column = column("subject_route", "broker_group_json", 300);
const BROKER_GROUP: Column = column("broker", "group_name", 30);
const BROKER_HOST: Column = column("qmqx_broker", "hostname", 255);
const BROKER_ADDRESS: Column = column("qmqx_broker", "address", 255);
const READONLY_SUBJECT: Column = column("readonly_broker_group_setting", "subject", 100);
/// Longer names than QMQ's 20 lie in our table.
const READONLY_GROUP: Column = column("qmqx_readonly", "broker_group", 30);
const OFFLINE_CLIENT: Column = column("client_offline_state", "client_id", 100);
const OFFLINE_SUBJECT: Column = column("client_offline_state", "subject_info", 100);
const OFFLINE_GROUP: Column = column("client_offline_state", "consumer_group", 100);
const CLIENT_SUBJECT: Column = column("client_meta_info", "subject_info", 100);
const CLIENT_GROUP: Column = column("client_meta_info", "consumer_group", 100);
const CLIENT_ID: Column = column("client_meta_info", "client_id", 100);
const CLIENT_APPLICATION: Column = column("client_meta_info", "app_code", 100);
const CLIENT_ROOM: Column = column("client_meta_info", "room", 20);
const SOURCE_URL: Column = column("datasource_config", "url", 128);
const SOURCE_USER: Column = column("datasource_config", "user_name", 100);
const SOURCE_PASSWORD: Column = Column {
    secret: true,
    ..column("datasource_config", "password", 100)
};
const SOURCE_ROOM: Column = column("datasource_config", "room", 20);

/// Characters of QMQ's `broker_group.master_address`.
const QMQ_MASTER: usize = 25;
/// Characters of QMQ's `broker.hostname`.
const QMQ_HOST: usize = 50;
/// Characters of QMQ's `readonly_broker_group_setting.broker_group`.
const QMQ_READONLY: usize = 20;

impl Column {
    /// Whether the value fits.
    pub(crate) fn fits(self, value: &str) -> Result<(), DatabaseError> {
        let len = value.chars().count();
        if len <= self.limit {
            return Ok(());
        }
        let value = if self.secret {
            "(hidden)".to_owned()
        } else {
            value.chars().take(SHOWN).collect()
        };
        Err(DatabaseError::TooLong {
            table: self.table,
            column: self.column,
            limit: self.limit,
            len,
            value,
        })
    }
}

/// What a master says.
pub(crate) fn liveness(liveness: &Liveness) -> Result<(), DatabaseError> {
    GROUP.fits(&liveness.group)?;
    MASTER.fits(&liveness.address)
}

/// A broker, wherever it goes.
pub(crate) fn broker(broker: &Broker) -> Result<(), DatabaseError> {
    BROKER_GROUP.fits(&broker.group)?;
    BROKER_HOST.fits(&broker.hostname)?;
    BROKER_ADDRESS.fits(&broker.ip)
}

/// Groups as QMQ writes them into a route: a JSON list of names.
pub(crate) fn route(subject: &str, groups: &[String]) -> Result<String, DatabaseError> {
    ROUTE_SUBJECT.fits(subject)?;
    let json = serde_json::Value::from(groups).to_string();
    ROUTE_GROUPS.fits(&json)?;
    Ok(json)
}

/// A read-only setting.
pub(crate) fn readonly(row: &ReadonlyRow) -> Result<(), DatabaseError> {
    READONLY_SUBJECT.fits(&row.subject)?;
    READONLY_GROUP.fits(&row.group)
}

/// A consumer that is switched.
pub(crate) fn offline(row: &OfflineRow) -> Result<(), DatabaseError> {
    OFFLINE_CLIENT.fits(&row.client)?;
    OFFLINE_SUBJECT.fits(&row.subject)?;
    OFFLINE_GROUP.fits(&row.group)
}

/// A client.
pub(crate) fn client(row: &ClientRow) -> Result<(), DatabaseError> {
    CLIENT_SUBJECT.fits(&row.subject)?;
    CLIENT_GROUP.fits(&row.group)?;
    CLIENT_ID.fits(&row.client)?;
    CLIENT_APPLICATION.fits(&row.application)?;
    CLIENT_ROOM.fits(&row.room)
}

/// A database of messages to be sent.
pub(crate) fn data_source(source: &DataSource) -> Result<(), DatabaseError> {
    SOURCE_URL.fits(&source.url)?;
    SOURCE_USER.fits(&source.user)?;
    SOURCE_PASSWORD.fits(&source.password)?;
    SOURCE_ROOM.fits(&source.room)
}

/// An address as it goes into QMQ's column and into ours: QMQ's is empty if it cannot hold it, ours if QMQ's holds it.
pub(crate) fn master(address: &str) -> (&str, &str) {
    if address.chars().count() <= QMQ_MASTER {
        (address, "")
    } else {
        ("", address)
    }
}

/// The address of a broker for QMQ's column, if QMQ's table can hold this broker.
pub(crate) fn qmq_address(broker: &Broker) -> Option<Ipv4Addr> {
    if broker.hostname.chars().count() > QMQ_HOST {
        return None;
    }
    broker.ip.parse().ok()
}

/// Whether QMQ's table can hold this setting.
pub(crate) fn qmq_readonly(row: &ReadonlyRow) -> bool {
    row.group.chars().count() <= QMQ_READONLY
}
