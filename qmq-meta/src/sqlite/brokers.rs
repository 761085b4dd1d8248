//! Brokers: QMQ's table for those that it can hold, ours for the rest.

use std::net::Ipv4Addr;

use sqlx::{SqliteConnection, SqlitePool};

use super::clock::tick;
use crate::columns;
use crate::database::Now;
use crate::fault::{Fault, exists};
use crate::model::{Broker, BrokerRole};
use crate::rows::{broker_of, broker_words, decommissioned, may_be_several, port_number, signed};

/// A broker's row and the table that it is in.
struct Placed {
    ours: bool,
    id: i64,
    broker: Broker,
}

impl Placed {
    fn is_at(&self, broker: &Broker) -> bool {
        self.broker.hostname == broker.hostname && self.broker.serve_port == broker.serve_port
    }
}

const ALL: &str = "SELECT 0, id, group_name, hostname, ip, '', role, serve_port, sync_port FROM broker
     UNION ALL SELECT 1, id, group_name, hostname, 0, address, role, serve_port, sync_port FROM qmqx_broker ORDER BY 1, 2";

type Columns = (i64, i64, String, String, i64, String, i32, i32, i32);

async fn placed(connection: &mut SqliteConnection) -> Result<Vec<Placed>, Fault> {
    let rows: Vec<Columns> = sqlx::query_as(ALL).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .filter_map(
            |(ours, id, group, hostname, ip, address, role, serve, sync)| {
                let ours = ours != 0;
                let ip = if ours {
                    address
                } else {
                    Ipv4Addr::from_bits(u32::try_from(ip).unwrap_or(0)).to_string()
                };
                let broker = broker_of(group, hostname, ip, role, serve, sync)?;
                Some(Placed { ours, id, broker })
            },
        )
        .collect())
}

pub(super) async fn all(connection: &mut SqliteConnection) -> Result<Vec<Broker>, Fault> {
    Ok(placed(connection)
        .await?
        .into_iter()
        .map(|row| row.broker)
        .collect())
}

async fn insert(connection: &mut SqliteConnection, now: Now, broker: &Broker) -> Result<(), Fault> {
    let there = placed(connection).await?;
    let mut qmq_has_one = false;
    for row in &there {
        let same_role = row.broker.group == broker.group && row.broker.role == broker.role;
        if row.is_at(broker) || (same_role && !may_be_several(broker.role)) {
            return Err(exists(broker_words(&row.broker)));
        }
        qmq_has_one |= same_role && !row.ours;
    }
    match columns::qmq_address(broker) {
        Some(ip) if !qmq_has_one => {
            sqlx::query(
                "INSERT INTO broker (group_name, hostname, ip, role, serve_port, sync_port, create_time, update_time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
            )
            .bind(&broker.group)
            .bind(&broker.hostname)
            .bind(i64::from(ip.to_bits()))
            .bind(broker.role as i32)
            .bind(i32::from(broker.serve_port))
            .bind(port_number(broker.sync_port))
            .bind(signed(now))
            .execute(connection)
            .await?;
        }
        _ => {
            sqlx::query(
                "INSERT INTO qmqx_broker (group_name, hostname, address, role, serve_port, sync_port) VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(&broker.group)
            .bind(&broker.hostname)
            .bind(&broker.ip)
            .bind(broker.role as i32)
            .bind(i32::from(broker.serve_port))
            .bind(port_number(broker.sync_port))
            .execute(connection)
            .await?;
        }
    }
    Ok(())
}

pub(super) async fn add(pool: &SqlitePool, broker: &Broker) -> Result<(), Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    insert(&mut change, now, broker).await?;
    // A group that is there and retires goes on retiring.
    sqlx::query(
        "UPDATE qmqx_group SET retiring = 0 WHERE group_name = ?1
         AND NOT EXISTS (SELECT 1 FROM broker_group g WHERE g.group_name = ?1)",
    )
    .bind(&broker.group)
    .execute(&mut *change)
    .await?;
    change.commit().await?;
    Ok(())
}

/// As [`add`], by the broker itself.
pub(super) async fn enter(pool: &SqlitePool, broker: &Broker) -> Result<(), Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    let closed: Option<bool> =
        sqlx::query_scalar("SELECT retiring <> 0 FROM qmqx_group WHERE group_name = ?")
            .bind(&broker.group)
            .fetch_optional(&mut *change)
            .await?;
    if closed == Some(true) {
        return Err(decommissioned(broker).into());
    }
    insert(&mut change, now, broker).await?;
    change.commit().await?;
    Ok(())
}

/// Whether a broker is entered in the group with the role.
pub(super) async fn is_entered(
    connection: &mut SqliteConnection,
    group: &str,
    role: BrokerRole,
) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM broker WHERE group_name = ?1 AND role = ?2)
         OR EXISTS (SELECT 1 FROM qmqx_broker WHERE group_name = ?1 AND role = ?2)",
    )
    .bind(group)
    .bind(role as i32)
    .fetch_one(connection)
    .await?)
}

pub(super) async fn replace(pool: &SqlitePool, broker: &Broker) -> Result<Option<Broker>, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    // The same machine first: one of several slaves is then changed in its place. Else QMQ's row, which its tools mean.
    let old = placed(&mut change)
        .await?
        .into_iter()
        .filter(|row| row.broker.group == broker.group && row.broker.role == broker.role)
        .min_by_key(|row| (!row.is_at(broker), row.ours, row.id));
    let Some(old) = old else {
        return Ok(None);
    };
    let delete = if old.ours {
        "DELETE FROM qmqx_broker WHERE id = ?"
    } else {
        "DELETE FROM broker WHERE id = ?"
    };
    sqlx::query(delete)
        .bind(old.id)
        .execute(&mut *change)
        .await?;
    insert(&mut change, now, broker).await?;
    change.commit().await?;
    Ok(Some(old.broker))
}
