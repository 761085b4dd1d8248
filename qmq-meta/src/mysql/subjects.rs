//! Subjects, their routes, and read-only settings.

use sqlx::MySqlConnection;

use super::clock::tick;
use super::exact::found_as;
use crate::columns;
use crate::fault::Fault;
use crate::model::ReadonlyRow;

pub(super) async fn add(
    connection: &mut MySqlConnection,
    name: &str,
    tag: &str,
) -> Result<bool, Fault> {
    let added =
        sqlx::query("INSERT INTO subject_info (name, tag, create_time) VALUES (?, ?, NOW())")
            .bind(name)
            .bind(tag)
            .execute(&mut *connection)
            .await
            .map_err(Fault::from);
    match added {
        Ok(_) => Ok(true),
        Err(fault) if fault.is_duplicate() => {
            let found: Option<String> =
                sqlx::query_scalar("SELECT name FROM subject_info WHERE name = ?")
                    .bind(name)
                    .fetch_optional(connection)
                    .await?;
            found_as("subject", found.as_deref(), name)?;
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

pub(super) async fn add_route(
    connection: &mut MySqlConnection,
    subject: &str,
    json: &str,
) -> Result<bool, Fault> {
    tick(connection).await?;
    let added = sqlx::query(
        "INSERT INTO subject_route (subject_info, broker_group_json, version, create_time) VALUES (?, ?, 0, NOW())",
    )
    .bind(subject)
    .bind(json)
    .execute(&mut *connection)
    .await
    .map_err(Fault::from);
    match added {
        Ok(_) => Ok(true),
        Err(fault) if fault.is_duplicate() => {
            let found: Option<String> =
                sqlx::query_scalar("SELECT subject_info FROM subject_route WHERE subject_info = ?")
                    .bind(subject)
                    .fetch_optional(connection)
                    .await?;
            found_as("the route of subject", found.as_deref(), subject)?;
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

pub(super) async fn change_route(
    connection: &mut MySqlConnection,
    subject: &str,
    json: &str,
    version: i32,
) -> Result<bool, Fault> {
    tick(connection).await?;
    let changed = sqlx::query(
        "UPDATE subject_route SET broker_group_json = ?, version = version + 1
         WHERE subject_info = ? AND version = ? AND CAST(subject_info AS BINARY) = CAST(? AS BINARY)",
    )
    .bind(json)
    .bind(subject)
    .bind(version)
    .bind(subject)
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() == 1)
}

pub(super) async fn add_readonly(
    connection: &mut MySqlConnection,
    row: &ReadonlyRow,
) -> Result<(), Fault> {
    if !columns::qmq_readonly(row) {
        sqlx::query(
            "INSERT INTO qmqx_readonly (subject, broker_group) VALUES (?, ?) ON DUPLICATE KEY UPDATE subject = VALUES(subject)",
        )
        .bind(&row.subject)
        .bind(&row.group)
        .execute(connection)
        .await?;
        return Ok(());
    }
    let added = sqlx::query(
        "INSERT INTO readonly_broker_group_setting (subject, broker_group, create_time) VALUES (?, ?, NOW())",
    )
    .bind(&row.subject)
    .bind(&row.group)
    .execute(&mut *connection)
    .await
    .map_err(Fault::from);
    match added {
        Ok(_) => Ok(()),
        Err(fault) if fault.is_duplicate() => {
            let found: Option<(String, String)> = sqlx::query_as(
                "SELECT subject, broker_group FROM readonly_broker_group_setting WHERE subject = ? AND broker_group = ?",
            )
            .bind(&row.subject)
            .bind(&row.group)
            .fetch_optional(connection)
            .await?;
            if let Some((subject, group)) = found {
                found_as(
                    "a read-only setting of subject",
                    Some(&subject),
                    &row.subject,
                )?;
                found_as("a read-only setting of group", Some(&group), &row.group)?;
            }
            Ok(())
        }
        Err(fault) => Err(fault),
    }
}

pub(super) async fn remove_readonly(
    connection: &mut MySqlConnection,
    row: &ReadonlyRow,
) -> Result<bool, Fault> {
    let statement = if columns::qmq_readonly(row) {
        "DELETE FROM readonly_broker_group_setting WHERE subject = ? AND broker_group = ?
         AND CAST(subject AS BINARY) = CAST(? AS BINARY) AND CAST(broker_group AS BINARY) = CAST(? AS BINARY)"
    } else {
        "DELETE FROM qmqx_readonly WHERE subject = ? AND broker_group = ?
         AND CAST(subject AS BINARY) = CAST(? AS BINARY) AND CAST(broker_group AS BINARY) = CAST(? AS BINARY)"
    };
    let removed = sqlx::query(statement)
        .bind(&row.subject)
        .bind(&row.group)
        .bind(&row.subject)
        .bind(&row.group)
        .execute(connection)
        .await?;
    Ok(removed.rows_affected() == 1)
}
