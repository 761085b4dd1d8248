//! Clients: which are switched off, which have been there; and databases of messages to be sent.

use sqlx::{MySqlConnection, QueryBuilder};

use super::exact::found_as;
use crate::fault::Fault;
use crate::model::{ClientKind, ClientRow, DataSource, OfflineRow};
use crate::rows::client_kind_of;

/// Clients in one statement.
const CLIENTS_AT_ONCE: usize = 500;

pub(super) async fn switch_off(
    connection: &mut MySqlConnection,
    row: &OfflineRow,
) -> Result<(), Fault> {
    let found: Option<(String, String, String)> = sqlx::query_as(
        "SELECT client_id, subject_info, consumer_group FROM client_offline_state
         WHERE client_id = ? AND subject_info = ? AND consumer_group = ? FOR UPDATE",
    )
    .bind(&row.client)
    .bind(&row.subject)
    .bind(&row.group)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some((client, subject, group)) = found {
        found_as(
            "a consumer switched off, client",
            Some(&client),
            &row.client,
        )?;
        found_as(
            "a consumer switched off, subject",
            Some(&subject),
            &row.subject,
        )?;
        found_as("a consumer switched off, group", Some(&group), &row.group)?;
    }
    sqlx::query(
        "INSERT INTO client_offline_state (client_id, subject_info, consumer_group, state) VALUES (?, ?, ?, 1) ON DUPLICATE KEY UPDATE state = 1",
    )
    .bind(&row.client)
    .bind(&row.subject)
    .bind(&row.group)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn switch_on(
    connection: &mut MySqlConnection,
    row: &OfflineRow,
) -> Result<u64, Fault> {
    let gone = sqlx::query(
        "DELETE FROM client_offline_state WHERE CAST(subject_info AS BINARY) = CAST(? AS BINARY) AND CAST(consumer_group AS BINARY) = CAST(? AS BINARY)
         AND (? = '*' OR CAST(client_id AS BINARY) = CAST(? AS BINARY))",
    )
    .bind(&row.subject)
    .bind(&row.group)
    .bind(&row.client)
    .bind(&row.client)
    .execute(connection)
    .await?;
    Ok(gone.rows_affected())
}

pub(super) async fn add(connection: &mut MySqlConnection, rows: &[ClientRow]) -> Result<(), Fault> {
    for some in rows.chunks(CLIENTS_AT_ONCE) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO client_meta_info (subject_info, client_type, consumer_group, client_id, app_code, room, create_time) ",
        );
        insert.push_values(some, |mut values, row| {
            values
                .push_bind(&row.subject)
                .push_bind(row.kind as i32)
                .push_bind(&row.group)
                .push_bind(&row.client)
                .push_bind(&row.application)
                .push_bind(&row.room)
                .push("NOW()");
        });
        // Not IGNORE, which would also ignore what is wrong.
        insert.push(" ON DUPLICATE KEY UPDATE client_id = client_meta_info.client_id");
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn consumers(
    connection: &mut MySqlConnection,
    subject: &str,
) -> Result<Vec<ClientRow>, Fault> {
    let rows: Vec<(i32, String, String, String, String)> = sqlx::query_as(
        "SELECT client_type, consumer_group, client_id, app_code, room FROM client_meta_info
         WHERE subject_info = ? AND CAST(subject_info AS BINARY) = CAST(? AS BINARY) AND client_type IN (?, ?)
         ORDER BY consumer_group, client_id LIMIT 10000",
    )
    .bind(subject)
    .bind(subject)
    .bind(ClientKind::Consumer as i32)
    .bind(ClientKind::Other as i32)
    .fetch_all(connection)
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

pub(super) async fn add_data_source(
    connection: &mut MySqlConnection,
    source: &DataSource,
) -> Result<(), Fault> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT url FROM datasource_config WHERE url = ? FOR UPDATE")
            .bind(&source.url)
            .fetch_optional(&mut *connection)
            .await?;
    found_as("the database", found.as_deref(), &source.url)?;
    sqlx::query(
        "INSERT INTO datasource_config (url, user_name, password, status, room, create_time) VALUES (?, ?, ?, 0, ?, NOW())
         ON DUPLICATE KEY UPDATE user_name = VALUES(user_name), password = VALUES(password), room = VALUES(room)",
    )
    .bind(&source.url)
    .bind(&source.user)
    .bind(&source.password)
    .bind(&source.room)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn data_sources(
    connection: &mut MySqlConnection,
    room: &str,
) -> Result<Vec<DataSource>, Fault> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT url, user_name, password, room FROM datasource_config WHERE ? = '' OR room = ? ORDER BY id",
    )
    .bind(room)
    .bind(room)
    .fetch_all(connection)
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
