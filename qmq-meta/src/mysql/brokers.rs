//! Brokers: QMQ's table for those that it can hold, ours for the rest.

use std::net::Ipv4Addr;

use sqlx::MySqlConnection;

use super::clock::tick;
use crate::columns;
use crate::fault::{Fault, exists};
use crate::model::{Broker, BrokerRole};
use crate::rows::{broker_of, broker_words, decommissioned, may_be_several, port_number};

/// A broker's row and the table that it is in.
struct Placed {
    ours: bool,
    id: u64,
    broker: Broker,
}

impl Placed {
    /// Host names do not differ by case, and QMQ's table takes them so.
    fn is_at(&self, broker: &Broker) -> bool {
        self.broker.hostname.eq_ignore_ascii_case(&broker.hostname)
            && self.broker.serve_port == broker.serve_port
    }
}

async fn placed(connection: &mut MySqlConnection) -> Result<Vec<Placed>, Fault> {
    let qmq: Vec<(u64, String, String, u32, i32, i32, i32)> = sqlx::query_as(
        "SELECT id, group_name, hostname, ip, role, serve_port, sync_port FROM broker ORDER BY id",
    )
    .fetch_all(&mut *connection)
    .await?;
    let ours: Vec<(u64, String, String, String, i32, i32, i32)> = sqlx::query_as(
        "SELECT id, group_name, hostname, address, role, serve_port, sync_port FROM qmqx_broker ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    let qmq = qmq
        .into_iter()
        .filter_map(|(id, group, hostname, ip, role, serve, sync)| {
            let ip = Ipv4Addr::from_bits(ip).to_string();
            let broker = broker_of(group, hostname, ip, role, serve, sync)?;
            Some(Placed {
                ours: false,
                id,
                broker,
            })
        });
    let ours = ours
        .into_iter()
        .filter_map(|(id, group, hostname, ip, role, serve, sync)| {
            let broker = broker_of(group, hostname, ip, role, serve, sync)?;
            Some(Placed {
                ours: true,
                id,
                broker,
            })
        });
    Ok(qmq.chain(ours).collect())
}

pub(super) async fn all(connection: &mut MySqlConnection) -> Result<Vec<Broker>, Fault> {
    let mut all = Vec::new();
    for row in placed(connection).await? {
        all.push(row.broker);
    }
    Ok(all)
}

async fn insert(connection: &mut MySqlConnection, broker: &Broker) -> Result<(), Fault> {
    let mut qmq_has_one = false;
    for row in placed(connection).await? {
        let same_role = row.broker.group == broker.group && row.broker.role == broker.role;
        if row.is_at(broker) || (same_role && !may_be_several(broker.role)) {
            return Err(exists(broker_words(&row.broker)));
        }
        qmq_has_one |= same_role && !row.ours;
    }
    let inserted = match columns::qmq_address(broker) {
        Some(ip) if !qmq_has_one => {
            sqlx::query(
                "INSERT INTO broker (group_name, hostname, ip, role, serve_port, sync_port, create_time) VALUES (?, ?, ?, ?, ?, ?, NOW())",
            )
            .bind(&broker.group)
            .bind(&broker.hostname)
            .bind(ip.to_bits())
            .bind(broker.role as i32)
            .bind(i32::from(broker.serve_port))
            .bind(port_number(broker.sync_port))
            .execute(connection)
            .await
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
            .await
        }
    };
    match inserted.map_err(Fault::from) {
        Ok(_) => Ok(()),
        Err(fault) if fault.is_duplicate() => Err(exists(broker_words(broker))),
        Err(fault) => Err(fault),
    }
}

pub(super) async fn add(connection: &mut MySqlConnection, broker: &Broker) -> Result<(), Fault> {
    tick(connection).await?;
    insert(connection, broker).await?;
    // A group that is there and retires goes on retiring.
    sqlx::query(
        "UPDATE qmqx_group SET retiring = 0 WHERE group_name = ?
         AND NOT EXISTS (SELECT 1 FROM broker_group g WHERE g.group_name = ?)",
    )
    .bind(&broker.group)
    .bind(&broker.group)
    .execute(connection)
    .await?;
    Ok(())
}

/// As [`add`], by the broker itself.
pub(super) async fn enter(connection: &mut MySqlConnection, broker: &Broker) -> Result<(), Fault> {
    tick(connection).await?;
    let closed: Option<i64> =
        sqlx::query_scalar("SELECT retiring <> 0 FROM qmqx_group WHERE group_name = ?")
            .bind(&broker.group)
            .fetch_optional(&mut *connection)
            .await?;
    if closed.is_some_and(|closed| closed != 0) {
        return Err(decommissioned(broker).into());
    }
    insert(connection, broker).await
}

/// Whether a broker is entered in the group with the role.
pub(super) async fn is_entered(
    connection: &mut MySqlConnection,
    group: &str,
    role: BrokerRole,
) -> Result<bool, Fault> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT group_name FROM broker WHERE group_name = ? AND role = ?
         UNION ALL SELECT group_name FROM qmqx_broker WHERE group_name = ? AND role = ?",
    )
    .bind(group)
    .bind(role as i32)
    .bind(group)
    .bind(role as i32)
    .fetch_all(connection)
    .await?;
    Ok(names.iter().any(|name| name == group))
}

pub(super) async fn replace(
    connection: &mut MySqlConnection,
    broker: &Broker,
) -> Result<Option<Broker>, Fault> {
    tick(connection).await?;
    // The same machine first: one of several slaves is then changed in its place. Else QMQ's row, which its tools mean.
    let old = placed(connection)
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
        .execute(&mut *connection)
        .await?;
    insert(connection, broker).await?;
    Ok(Some(old.broker))
}
