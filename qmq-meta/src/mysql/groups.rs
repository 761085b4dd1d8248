//! Broker groups: who lives, who is master, who retires.

use sqlx::MySqlConnection;

use super::brokers::is_entered;
use super::clock::tick;
use super::exact::{found_as, same};
use crate::columns;
use crate::database::{Liveness, Now};
use crate::fault::{Fault, changed};
use crate::model::{GroupKind, GroupState};
use crate::rows::{groups_of, not_entered, signed, still_routed};

fn words(group: &str) -> String {
    format!("broker group {group:?}")
}

/// The name under which this database finds the group.
async fn found(connection: &mut MySqlConnection, group: &str) -> Result<Option<String>, Fault> {
    Ok(
        sqlx::query_scalar("SELECT group_name FROM broker_group WHERE group_name = ? FOR UPDATE")
            .bind(group)
            .fetch_optional(connection)
            .await?,
    )
}

pub(super) async fn seen(
    connection: &mut MySqlConnection,
    liveness: &Liveness,
) -> Result<Now, Fault> {
    let now = tick(connection).await?;
    if !liveness.role.is_master() {
        return Ok(now);
    }
    let epoch: Option<i64> =
        sqlx::query_scalar("SELECT epoch FROM qmqx_group WHERE group_name = ?")
            .bind(&liveness.group)
            .fetch_optional(&mut *connection)
            .await?;
    if signed(liveness.epoch) < epoch.unwrap_or(0) {
        return Err(changed(format!("the master of {}", words(&liveness.group))));
    }
    let there = found(connection, &liveness.group).await?;
    found_as("broker group", there.as_deref(), &liveness.group)?;
    if !is_entered(connection, &liveness.group, liveness.role).await? {
        return Err(changed(not_entered(liveness)));
    }
    let (short, long) = columns::master(&liveness.address);
    sqlx::query(
        "INSERT INTO broker_group (group_name, kind, master_address, broker_state, create_time) VALUES (?, ?, ?, ?, NOW())
         ON DUPLICATE KEY UPDATE master_address = VALUES(master_address), broker_state = VALUES(broker_state)",
    )
    .bind(&liveness.group)
    .bind(liveness.role.kind() as i32)
    .bind(short)
    .bind(liveness.state as i32)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO qmqx_group (group_name, last_seen, master_address) VALUES (?, ?, ?)
         ON DUPLICATE KEY UPDATE last_seen = VALUES(last_seen), swept = 0, master_address = VALUES(master_address)",
    )
    .bind(&liveness.group)
    .bind(signed(now))
    .bind(long)
    .execute(connection)
    .await?;
    Ok(now)
}

pub(super) async fn sweep(
    connection: &mut MySqlConnection,
    silent_ms: u64,
) -> Result<Vec<String>, Fault> {
    let now = signed(tick(connection).await?);
    let silent = signed(silent_ms);
    let (swept, grace_until): (i64, i64) =
        sqlx::query_as("SELECT swept, grace_until FROM qmqx_clock WHERE id = 1")
            .fetch_one(&mut *connection)
            .await?;
    let unwatched = now.saturating_sub(swept) > silent / 2;
    let grace_until = if unwatched {
        now.saturating_add(silent)
    } else {
        grace_until
    };
    sqlx::query("UPDATE qmqx_clock SET swept = ?, grace_until = ? WHERE id = 1")
        .bind(now)
        .bind(grace_until)
        .execute(&mut *connection)
        .await?;
    if now < grace_until {
        return Ok(Vec::new());
    }
    let silent: Vec<String> = sqlx::query_scalar(
        "SELECT x.group_name FROM qmqx_group x JOIN broker_group g ON g.group_name = x.group_name
         WHERE x.swept = 0 AND x.last_seen > 0 AND x.last_seen < ? AND g.broker_state <> ?",
    )
    .bind(now.saturating_sub(silent))
    .bind(GroupState::None as i32)
    .fetch_all(&mut *connection)
    .await?;
    for name in &silent {
        sqlx::query("UPDATE broker_group SET broker_state = ? WHERE group_name = ?")
            .bind(GroupState::None as i32)
            .bind(name)
            .execute(&mut *connection)
            .await?;
        sqlx::query("UPDATE qmqx_group SET swept = 1 WHERE group_name = ?")
            .bind(name)
            .execute(&mut *connection)
            .await?;
    }
    Ok(silent)
}

pub(super) async fn grant_epoch(
    connection: &mut MySqlConnection,
    group: &str,
    known: u64,
    master: &str,
) -> Result<u64, Fault> {
    tick(connection).await?;
    if !same(found(connection, group).await?.as_deref(), group) {
        return Err(changed(words(group)));
    }
    let (short, long) = columns::master(master);
    sqlx::query(
        "INSERT INTO qmqx_group (group_name) VALUES (?) ON DUPLICATE KEY UPDATE epoch = epoch",
    )
    .bind(group)
    .execute(&mut *connection)
    .await?;
    let granted = sqlx::query(
        "UPDATE qmqx_group SET epoch = epoch + 1, master_address = ? WHERE group_name = ? AND epoch = ?",
    )
    .bind(long)
    .bind(group)
    .bind(signed(known))
    .execute(&mut *connection)
    .await?;
    if granted.rows_affected() != 1 {
        return Err(changed(format!("the epoch of {}", words(group))));
    }
    sqlx::query("UPDATE broker_group SET master_address = ? WHERE group_name = ?")
        .bind(short)
        .bind(group)
        .execute(connection)
        .await?;
    Ok(known + 1)
}

pub(super) async fn set_retiring(
    connection: &mut MySqlConnection,
    group: &str,
    retiring: bool,
) -> Result<bool, Fault> {
    tick(connection).await?;
    if !same(found(connection, group).await?.as_deref(), group) {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO qmqx_group (group_name, retiring) VALUES (?, ?) ON DUPLICATE KEY UPDATE retiring = VALUES(retiring)",
    )
    .bind(group)
    .bind(retiring)
    .execute(connection)
    .await?;
    Ok(true)
}

pub(super) async fn set_tag(
    connection: &mut MySqlConnection,
    group: &str,
    kind: GroupKind,
    tag: &str,
) -> Result<bool, Fault> {
    tick(connection).await?;
    if !same(found(connection, group).await?.as_deref(), group) {
        return Ok(false);
    }
    sqlx::query("UPDATE broker_group SET kind = ?, tag = ? WHERE group_name = ?")
        .bind(kind as i32)
        .bind(tag)
        .bind(group)
        .execute(connection)
        .await?;
    Ok(true)
}

pub(super) async fn remove(connection: &mut MySqlConnection, group: &str) -> Result<(), Fault> {
    tick(connection).await?;
    if !same(found(connection, group).await?.as_deref(), group) {
        return Err(changed(words(group)));
    }
    // All of them, and locked: how a name with quotes is written in JSON is up to who wrote it, and no Java metaserver may add it meanwhile.
    let routes: Vec<(String, String)> =
        sqlx::query_as("SELECT subject_info, broker_group_json FROM subject_route FOR UPDATE")
            .fetch_all(&mut *connection)
            .await?;
    let naming: Vec<String> = routes
        .into_iter()
        .filter(|(subject, json)| groups_of(subject, json).iter().any(|name| name == group))
        .map(|(subject, _)| subject)
        .collect();
    if !naming.is_empty() {
        return Err(still_routed(group, &naming).into());
    }
    // The row of the epoch stays: a group of the same name must not begin again below it, nor because one of its brokers was still running.
    for statement in [
        "DELETE FROM broker_group WHERE group_name = ?",
        "DELETE FROM broker WHERE group_name = ?",
        "DELETE FROM qmqx_broker WHERE group_name = ?",
        "DELETE FROM readonly_broker_group_setting WHERE broker_group = ?",
        "DELETE FROM qmqx_readonly WHERE broker_group = ?",
        "INSERT INTO qmqx_group (group_name, retiring) VALUES (?, 1)
         ON DUPLICATE KEY UPDATE last_seen = 0, swept = 0, master_address = '', retiring = 1",
    ] {
        sqlx::query(statement)
            .bind(group)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
