//! Broker groups: who lives, who is master, who retires.

use sqlx::{SqliteConnection, SqlitePool};

use super::brokers::is_entered;
use super::clock::tick;
use crate::columns;
use crate::database::{Liveness, Now};
use crate::fault::{Fault, changed};
use crate::model::{GroupKind, GroupState};
use crate::rows::{groups_of, not_entered, signed, still_routed};

fn words(group: &str) -> String {
    format!("broker group {group:?}")
}

async fn is_there(connection: &mut SqliteConnection, group: &str) -> Result<bool, Fault> {
    let found: i64 =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM broker_group WHERE group_name = ?)")
            .bind(group)
            .fetch_one(connection)
            .await?;
    Ok(found != 0)
}

/// Writes several heartbeats; each has an outcome of its own.
pub(super) async fn seen(
    pool: &SqlitePool,
    beats: &[&Liveness],
) -> Result<Vec<Result<Now, Fault>>, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    let mut outcomes = Vec::with_capacity(beats.len());
    for liveness in beats {
        outcomes.push(match note(&mut change, liveness, now).await {
            Ok(()) => Ok(now),
            Err(rule @ Fault::Rule(_)) => Err(rule),
            Err(fault) => return Err(fault),
        });
    }
    change.commit().await?;
    Ok(outcomes)
}

/// Notes only when it was if the master says what it said before: of most heartbeats that is all.
async fn is_known(
    connection: &mut SqliteConnection,
    liveness: &Liveness,
    now: Now,
) -> Result<bool, Fault> {
    let (short, long) = columns::master(&liveness.address);
    let noted = sqlx::query(
        "UPDATE qmqx_group SET last_seen = ?1, swept = 0 WHERE group_name = ?2 AND epoch <= ?3 AND master_address = ?4
         AND EXISTS (SELECT 1 FROM broker_group WHERE group_name = ?2 AND master_address = ?5 AND broker_state = ?6)",
    )
    .bind(signed(now))
    .bind(&liveness.group)
    .bind(signed(liveness.epoch))
    .bind(long)
    .bind(short)
    .bind(liveness.state as i32)
    .execute(connection)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Refuses before it writes.
async fn note(
    connection: &mut SqliteConnection,
    liveness: &Liveness,
    now: Now,
) -> Result<(), Fault> {
    if !liveness.role.is_master() || is_known(connection, liveness, now).await? {
        return Ok(());
    }
    let epoch: Option<i64> =
        sqlx::query_scalar("SELECT epoch FROM qmqx_group WHERE group_name = ?")
            .bind(&liveness.group)
            .fetch_optional(&mut *connection)
            .await?;
    if signed(liveness.epoch) < epoch.unwrap_or(0) {
        return Err(changed(format!("the master of {}", words(&liveness.group))));
    }
    if !is_entered(connection, &liveness.group, liveness.role).await? {
        return Err(changed(not_entered(liveness)));
    }
    let (short, long) = columns::master(&liveness.address);
    sqlx::query(
        "INSERT INTO broker_group (group_name, kind, master_address, broker_state, create_time, update_time) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT (group_name) DO UPDATE SET master_address = excluded.master_address, broker_state = excluded.broker_state,
         update_time = excluded.update_time WHERE master_address <> excluded.master_address OR broker_state <> excluded.broker_state",
    )
    .bind(&liveness.group)
    .bind(liveness.role.kind() as i32)
    .bind(short)
    .bind(liveness.state as i32)
    .bind(signed(now))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO qmqx_group (group_name, last_seen, master_address) VALUES (?, ?, ?)
         ON CONFLICT (group_name) DO UPDATE SET last_seen = excluded.last_seen, swept = 0, master_address = excluded.master_address",
    )
    .bind(&liveness.group)
    .bind(signed(now))
    .bind(long)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn sweep(pool: &SqlitePool, silent_ms: u64) -> Result<Vec<String>, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = signed(tick(&mut change).await?);
    let silent = signed(silent_ms);
    let (swept, grace_until): (i64, i64) =
        sqlx::query_as("SELECT swept, grace_until FROM qmqx_clock WHERE id = 1")
            .fetch_one(&mut *change)
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
        .execute(&mut *change)
        .await?;
    let mut names = Vec::new();
    if now >= grace_until {
        names = sqlx::query_scalar(
            "UPDATE broker_group SET broker_state = ?1, update_time = ?2 WHERE broker_state <> ?1 AND group_name IN
             (SELECT group_name FROM qmqx_group WHERE swept = 0 AND last_seen > 0 AND last_seen < ?3) RETURNING group_name",
        )
        .bind(GroupState::None as i32)
        .bind(now)
        .bind(now.saturating_sub(silent))
        .fetch_all(&mut *change)
        .await?;
        for name in &names {
            sqlx::query("UPDATE qmqx_group SET swept = 1 WHERE group_name = ?")
                .bind(name)
                .execute(&mut *change)
                .await?;
        }
    }
    change.commit().await?;
    Ok(names)
}

pub(super) async fn grant_epoch(
    pool: &SqlitePool,
    group: &str,
    known: u64,
    master: &str,
) -> Result<u64, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    if !is_there(&mut change, group).await? {
        return Err(changed(words(group)));
    }
    let (short, long) = columns::master(master);
    sqlx::query("INSERT OR IGNORE INTO qmqx_group (group_name) VALUES (?)")
        .bind(group)
        .execute(&mut *change)
        .await?;
    let granted = sqlx::query(
        "UPDATE qmqx_group SET epoch = epoch + 1, master_address = ? WHERE group_name = ? AND epoch = ?",
    )
    .bind(long)
    .bind(group)
    .bind(signed(known))
    .execute(&mut *change)
    .await?;
    if granted.rows_affected() != 1 {
        return Err(changed(format!("the epoch of {}", words(group))));
    }
    sqlx::query("UPDATE broker_group SET master_address = ?, update_time = ? WHERE group_name = ?")
        .bind(short)
        .bind(signed(now))
        .bind(group)
        .execute(&mut *change)
        .await?;
    change.commit().await?;
    Ok(known + 1)
}

pub(super) async fn set_retiring(
    pool: &SqlitePool,
    group: &str,
    retiring: bool,
) -> Result<bool, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    if !is_there(&mut change, group).await? {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO qmqx_group (group_name, retiring) VALUES (?, ?) ON CONFLICT (group_name) DO UPDATE SET retiring = excluded.retiring",
    )
    .bind(group)
    .bind(retiring)
    .execute(&mut *change)
    .await?;
    change.commit().await?;
    Ok(true)
}

pub(super) async fn set_tag(
    pool: &SqlitePool,
    group: &str,
    kind: GroupKind,
    tag: &str,
) -> Result<bool, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    let set = sqlx::query(
        "UPDATE broker_group SET kind = ?, tag = ?, update_time = ? WHERE group_name = ?",
    )
    .bind(kind as i32)
    .bind(tag)
    .bind(signed(now))
    .bind(group)
    .execute(&mut *change)
    .await?;
    change.commit().await?;
    Ok(set.rows_affected() == 1)
}

pub(super) async fn remove(pool: &SqlitePool, group: &str) -> Result<(), Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    // All of them: how a name with quotes is written in JSON is up to who wrote it.
    let routes: Vec<(String, String)> =
        sqlx::query_as("SELECT subject_info, broker_group_json FROM subject_route")
            .fetch_all(&mut *change)
            .await?;
    let naming: Vec<String> = routes
        .into_iter()
        .filter(|(subject, json)| groups_of(subject, json).iter().any(|name| name == group))
        .map(|(subject, _)| subject)
        .collect();
    if !naming.is_empty() {
        return Err(still_routed(group, &naming).into());
    }
    let gone = sqlx::query("DELETE FROM broker_group WHERE group_name = ?")
        .bind(group)
        .execute(&mut *change)
        .await?;
    if gone.rows_affected() == 0 {
        return Err(changed(words(group)));
    }
    // The row of the epoch stays: a group of the same name must not begin again below it, nor because one of its brokers was still running.
    for statement in [
        "DELETE FROM broker WHERE group_name = ?",
        "DELETE FROM qmqx_broker WHERE group_name = ?",
        "DELETE FROM readonly_broker_group_setting WHERE broker_group = ?",
        "DELETE FROM qmqx_readonly WHERE broker_group = ?",
        "INSERT INTO qmqx_group (group_name, retiring) VALUES (?, 1)
         ON CONFLICT (group_name) DO UPDATE SET last_seen = 0, swept = 0, master_address = '', retiring = 1",
    ] {
        sqlx::query(statement)
            .bind(group)
            .execute(&mut *change)
            .await?;
    }
    change.commit().await?;
    Ok(())
}
