//! Clients: which are switched off, which have been there; and databases of messages to be sent.

use sqlx::SqlitePool;

use super::clock::tick;
use crate::fault::Fault;
use crate::model::{ClientKind, ClientRow, DataSource, OfflineRow};
use crate::rows::{client_kind_of, signed};

pub(super) async fn switch_off(pool: &SqlitePool, row: &OfflineRow) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO client_offline_state (client_id, subject_info, consumer_group, state) VALUES (?, ?, ?, 1)
         ON CONFLICT (client_id, subject_info, consumer_group) DO UPDATE SET state = 1",
    )
    .bind(&row.client)
    .bind(&row.subject)
    .bind(&row.group)
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn switch_on(pool: &SqlitePool, row: &OfflineRow) -> Result<u64, Fault> {
    let gone = sqlx::query(
        "DELETE FROM client_offline_state WHERE subject_info = ?1 AND consumer_group = ?2 AND (client_id = ?3 OR ?3 = '*')",
    )
    .bind(&row.subject)
    .bind(&row.group)
    .bind(&row.client)
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}

pub(super) async fn add(pool: &SqlitePool, rows: &[ClientRow]) -> Result<(), Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    for row in rows {
        sqlx::query(
            "INSERT OR IGNORE INTO client_meta_info (subject_info, client_type, consumer_group, client_id, app_code, room, create_time, update_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
        )
        .bind(&row.subject)
        .bind(row.kind as i32)
        .bind(&row.group)
        .bind(&row.client)
        .bind(&row.application)
        .bind(&row.room)
        .bind(signed(now))
        .execute(&mut *change)
        .await?;
    }
    change.commit().await?;
    Ok(())
}

pub(super) async fn consumers(pool: &SqlitePool, subject: &str) -> Result<Vec<ClientRow>, Fault> {
    let rows: Vec<(i32, String, String, String, String)> = sqlx::query_as(
        "SELECT client_type, consumer_group, client_id, app_code, room FROM client_meta_info WHERE subject_info = ? AND client_type IN (?, ?)
         ORDER BY consumer_group, client_id LIMIT 10000",
    )
    .bind(subject)
    .bind(ClientKind::Consumer as i32)
    .bind(ClientKind::Other as i32)
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(kind, group, client, application, room)| ClientRow {
            subject: subject.to_owned(),
            kind: client_kind_of(kind),
            group,
            client,
            application,
            room,
        })
        .collect())
}

pub(super) async fn add_data_source(pool: &SqlitePool, source: &DataSource) -> Result<(), Fault> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    let now = tick(&mut change).await?;
    sqlx::query(
        "INSERT INTO datasource_config (url, user_name, password, room, create_time, update_time) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT (url) DO UPDATE SET user_name = excluded.user_name, password = excluded.password, room = excluded.room,
         update_time = excluded.update_time",
    )
    .bind(&source.url)
    .bind(&source.user)
    .bind(&source.password)
    .bind(&source.room)
    .bind(signed(now))
    .execute(&mut *change)
    .await?;
    change.commit().await?;
    Ok(())
}

pub(super) async fn data_sources(pool: &SqlitePool, room: &str) -> Result<Vec<DataSource>, Fault> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT url, user_name, password, room FROM datasource_config WHERE ?1 = '' OR room = ?1 ORDER BY id",
    )
    .bind(room)
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(url, user, password, room)| DataSource {
            url,
            user,
            password,
            room,
        })
        .collect())
}
