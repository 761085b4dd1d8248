//! Subjects, their routes, and read-only settings.

use sqlx::SqlitePool;

use super::clock::tick;
use crate::columns;
use crate::fault::Fault;
use crate::model::ReadonlyRow;
use crate::rows::signed;

pub(super) async fn add(pool: &SqlitePool, name: &str, tag: &str) -> Result<bool, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    let added = sqlx::query(
        "INSERT OR IGNORE INTO subject_info (name, tag, create_time, update_time) VALUES (?1, ?2, ?3, ?3)",
    )
    .bind(name)
    .bind(tag)
    .bind(signed(now))
    .execute(&mut *change)
    .await?;
    change.commit().await?;
    Ok(added.rows_affected() == 1)
}

pub(super) async fn add_route(pool: &SqlitePool, subject: &str, json: &str) -> Result<bool, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    let added = sqlx::query(
        "INSERT OR IGNORE INTO subject_route (subject_info, broker_group_json, version, create_time, update_time) VALUES (?1, ?2, 0, ?3, ?3)",
    )
    .bind(subject)
    .bind(json)
    .bind(signed(now))
    .execute(&mut *change)
    .await?;
    change.commit().await?;
    Ok(added.rows_affected() == 1)
}

pub(super) async fn change_route(
    pool: &SqlitePool,
    subject: &str,
    json: &str,
    version: i32,
) -> Result<bool, Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    let changed = sqlx::query(
        "UPDATE subject_route SET broker_group_json = ?, version = version + 1, update_time = ? WHERE subject_info = ? AND version = ?",
    )
    .bind(json)
    .bind(signed(now))
    .bind(subject)
    .bind(version)
    .execute(&mut *change)
    .await?;
    change.commit().await?;
    Ok(changed.rows_affected() == 1)
}

pub(super) async fn add_readonly(pool: &SqlitePool, row: &ReadonlyRow) -> Result<(), Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    let statement = if columns::qmq_readonly(row) {
        "INSERT OR IGNORE INTO readonly_broker_group_setting (subject, broker_group, create_time) VALUES (?1, ?2, ?3)"
    } else {
        "INSERT OR IGNORE INTO qmqx_readonly (subject, broker_group) SELECT ?1, ?2 WHERE ?3 > 0"
    };
    sqlx::query(statement)
        .bind(&row.subject)
        .bind(&row.group)
        .bind(signed(now))
        .execute(&mut *change)
        .await?;
    change.commit().await?;
    Ok(())
}

pub(super) async fn remove_readonly(pool: &SqlitePool, row: &ReadonlyRow) -> Result<bool, Fault> {
    let statement = if columns::qmq_readonly(row) {
        "DELETE FROM readonly_broker_group_setting WHERE subject = ? AND broker_group = ?"
    } else {
        "DELETE FROM qmqx_readonly WHERE subject = ? AND broker_group = ?"
    };
    let removed = sqlx::query(statement)
        .bind(&row.subject)
        .bind(&row.group)
        .execute(pool)
        .await?;
    Ok(removed.rows_affected() == 1)
}
