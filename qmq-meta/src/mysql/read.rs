//! Everything, in one snapshot.

use std::collections::HashMap;

use sqlx::MySqlConnection;

use super::brokers;
use super::clock::tick;
use super::connections::Connections;
use super::schema::has_ext;
use crate::database::{Everything, Now};
use crate::fault::Fault;
use crate::model::{BrokerGroup, GroupState, OfflineRow, ReadonlyRow, Subject, SubjectRoute};
use crate::rows::{groups_of, kind_of, time_of};

pub(super) async fn everything(connections: &Connections) -> Result<Everything, Fault> {
    // The clock first: what is read is then no older than the time that it bears.
    let mut lease = connections.begin().await?;
    let ticked = tick(lease.get()).await;
    let at = lease.end(ticked).await?;
    let mut lease = connections.snapshot().await?;
    let read = snapshot(lease.get(), at).await;
    lease.end(read).await
}

async fn snapshot(connection: &mut MySqlConnection, at: Now) -> Result<Everything, Fault> {
    Ok(Everything {
        at,
        subjects: subjects(connection).await?,
        routes: routes(connection).await?,
        groups: groups(connection).await?,
        brokers: brokers::all(connection).await?,
        readonly: readonly(connection).await?,
        offline: offline(connection).await?,
    })
}

async fn subjects(connection: &mut MySqlConnection) -> Result<Vec<Subject>, Fault> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT name, tag, CAST(UNIX_TIMESTAMP(update_time) * 1000 AS SIGNED) FROM subject_info ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(name, tag, updated)| Subject {
            name,
            tag,
            updated_ms: time_of(updated),
        })
        .collect())
}

async fn routes(connection: &mut MySqlConnection) -> Result<Vec<SubjectRoute>, Fault> {
    let rows: Vec<(String, String, i32, i64)> = sqlx::query_as(
        "SELECT subject_info, broker_group_json, version, CAST(UNIX_TIMESTAMP(update_time) * 1000 AS SIGNED) FROM subject_route ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(subject, json, version, updated)| SubjectRoute {
            groups: groups_of(&subject, &json),
            subject,
            version,
            updated_ms: time_of(updated),
        })
        .collect())
}

type GroupColumns = (String, i32, String, i32, String, Option<String>, i64);
type OurColumns = (String, i64, i64, String, bool);

async fn groups(connection: &mut MySqlConnection) -> Result<Vec<BrokerGroup>, Fault> {
    let ours: Vec<OurColumns> = sqlx::query_as(
        "SELECT group_name, epoch, last_seen, master_address, retiring FROM qmqx_group",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut ours: HashMap<String, OurColumns> =
        ours.into_iter().map(|row| (row.0.clone(), row)).collect();
    let statement = if has_ext(connection).await? {
        "SELECT group_name, kind, master_address, broker_state, tag, ext, CAST(UNIX_TIMESTAMP(update_time) * 1000 AS SIGNED) FROM broker_group ORDER BY id"
    } else {
        "SELECT group_name, kind, master_address, broker_state, tag, CAST(NULL AS CHAR), CAST(UNIX_TIMESTAMP(update_time) * 1000 AS SIGNED) FROM broker_group ORDER BY id"
    };
    let rows: Vec<GroupColumns> = sqlx::query_as(statement).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|(name, kind, master, state, tag, ext, updated)| {
            let (_, epoch, last_seen, long, retiring) = ours.remove(&name).unwrap_or_default();
            BrokerGroup {
                name,
                kind: kind_of(kind),
                master: if master.is_empty() { long } else { master },
                state: GroupState::of_number(state),
                tag,
                ext,
                updated_ms: time_of(updated),
                epoch: time_of(epoch),
                last_seen_ms: (last_seen > 0).then(|| time_of(last_seen)),
                retiring,
            }
        })
        .collect())
}

async fn readonly(connection: &mut MySqlConnection) -> Result<Vec<ReadonlyRow>, Fault> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for statement in [
        "SELECT subject, broker_group FROM readonly_broker_group_setting ORDER BY id",
        "SELECT subject, broker_group FROM qmqx_readonly ORDER BY subject, broker_group",
    ] {
        let some: Vec<(String, String)> = sqlx::query_as(statement)
            .fetch_all(&mut *connection)
            .await?;
        rows.extend(some);
    }
    Ok(rows
        .into_iter()
        .map(|(subject, group)| ReadonlyRow { subject, group })
        .collect())
}

async fn offline(connection: &mut MySqlConnection) -> Result<Vec<OfflineRow>, Fault> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT client_id, subject_info, consumer_group FROM client_offline_state WHERE state = 1 ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(client, subject, group)| OfflineRow {
            client,
            subject,
            group,
        })
        .collect())
}
