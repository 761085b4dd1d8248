//! Whether the tables are as they should be.

use std::collections::HashSet;

use sqlx::MySqlConnection;

use super::said::migrate_command;
use crate::error::DatabaseError;
use crate::fault::Fault;
use crate::jdbc::JdbcUrl;
use crate::migrate::VERSION;

/// Columns of QMQ's tables that are in every variant and that this program uses.
const QMQ: [(&str, &[&str]); 8] = [
    (
        "broker_group",
        &[
            "group_name",
            "kind",
            "master_address",
            "broker_state",
            "tag",
            "create_time",
            "update_time",
        ],
    ),
    (
        "subject_info",
        &["name", "tag", "create_time", "update_time"],
    ),
    (
        "subject_route",
        &[
            "subject_info",
            "broker_group_json",
            "version",
            "update_time",
        ],
    ),
    (
        "client_offline_state",
        &["client_id", "subject_info", "consumer_group", "state"],
    ),
    (
        "broker",
        &[
            "group_name",
            "hostname",
            "ip",
            "role",
            "serve_port",
            "sync_port",
        ],
    ),
    (
        "datasource_config",
        &["url", "user_name", "password", "status", "room"],
    ),
    (
        "readonly_broker_group_setting",
        &["subject", "broker_group"],
    ),
    (
        "client_meta_info",
        &[
            "subject_info",
            "client_type",
            "consumer_group",
            "client_id",
            "app_code",
            "room",
        ],
    ),
];

const OURS: [(&str, &[&str]); 5] = [
    ("qmqx_schema", &["version"]),
    ("qmqx_clock", &["stamp", "raw", "swept", "grace_until"]),
    (
        "qmqx_group",
        &["epoch", "last_seen", "swept", "master_address", "retiring"],
    ),
    ("qmqx_broker", &["hostname", "address", "role"]),
    ("qmqx_readonly", &["subject", "broker_group"]),
];

type There = HashSet<(String, String)>;

/// Tables and columns that this user sees, in small letters.
pub(crate) async fn columns(connection: &mut MySqlConnection) -> Result<There, Fault> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT LOWER(CAST(table_name AS CHAR)), LOWER(CAST(column_name AS CHAR)) FROM information_schema.columns WHERE table_schema = DATABASE()",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Whether `broker_group` has the column of QMQ's script 001.
pub(super) async fn has_ext(connection: &mut MySqlConnection) -> Result<bool, Fault> {
    let there: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'broker_group' AND column_name = 'ext'",
    )
    .fetch_one(connection)
    .await?;
    Ok(there > 0)
}

fn missing(there: &There, wanted: &[(&str, &[&str])]) -> Vec<String> {
    let has = |table: &str, column: &str| there.contains(&(table.to_owned(), column.to_owned()));
    let mut missing = Vec::new();
    for (table, columns) in wanted {
        if there.iter().all(|(name, _)| name != table) {
            missing.push(format!("table {table}"));
        } else {
            for column in columns.iter().filter(|column| !has(table, column)) {
                missing.push(format!("column {table}.{column}"));
            }
        }
    }
    missing
}

pub(super) async fn verify(connection: &mut MySqlConnection, url: &JdbcUrl) -> Result<(), Fault> {
    let there = columns(connection).await?;
    let qmq = missing(&there, &QMQ);
    if !qmq.is_empty() {
        return Err(DatabaseError::Schema {
            reason: format!(
                "{url} lacks {} of QMQ; run QMQ's init.sql there, or let qmq make them",
                qmq.join(", ")
            ),
            command: migrate_command(url, true),
        }
        .into());
    }
    let ours = missing(&there, &OURS);
    let version: Option<i32> = if ours.is_empty() {
        sqlx::query_scalar("SELECT MAX(version) FROM qmqx_schema")
            .fetch_one(&mut *connection)
            .await?
    } else {
        None
    };
    match version {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(DatabaseError::Setting(format!(
            "{url} has tables of version {newer} and this qmq knows version {VERSION}: start the newer qmq"
        ))
        .into()),
        other => {
            let reason = if ours.is_empty() {
                format!("{url} has tables of version {}", other.unwrap_or(0))
            } else {
                format!("{url} lacks {} of qmq", ours.join(", "))
            };
            let command = migrate_command(url, false);
            Err(DatabaseError::Schema { reason, command }.into())
        }
    }
}
