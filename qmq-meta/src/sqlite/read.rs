//! Everything, in one snapshot.

use std::collections::HashMap;

use sqlx::{SqliteConnection, SqlitePool};

use super::brokers;
use super::clock::tick;
use crate::database::Everything;
use crate::fault::Fault;
use crate::model::{BrokerGroup, GroupState, OfflineRow, ReadonlyRow, Subject, SubjectRoute};
use crate::rows::{groups_of, kind_of, time_of};

pub(super) async fn everything(
    writer: &SqlitePool,
    readers: &SqlitePool,
) -> Result<Everything, Fault> {
    // The clock first: what is read is then no older than the time that it bears.
    let at = tick(&mut *writer.acquire().await?).await?;
    let mut snapshot = readers.begin().await?;
    let everything = Everything {
        at,
        subjects: subjects(&mut snapshot).await?,
        routes: routes(&mut snapshot).await?,
        groups: groups(&mut snapshot).await?,
        brokers: brokers::all(&mut snapshot).await?,
        readonly: readonly(&mut snapshot).await?,
        offline: offline(&mut snapshot).await?,
    };
    snapshot.commit().await?;
    Ok(everything)
}

async fn subjects(connection: &mut SqliteConnection) -> Result<Vec<Subject>, Fault> {
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT name, tag, update_time FROM subject_info ORDER BY id")
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

async fn routes(connection: &mut SqliteConnection) -> Result<Vec<SubjectRoute>, Fault> {
    let rows: Vec<(String, String, i32, i64)> = sqlx::query_as(
        "SELECT subject_info, broker_group_json, version, update_time FROM subject_route ORDER BY id",
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

async fn groups(connection: &mut SqliteConnection) -> Result<Vec<BrokerGroup>, Fault> {
    let ours: Vec<OurColumns> = sqlx::query_as(
        "SELECT group_name, epoch, last_seen, master_address, retiring FROM qmqx_group",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut ours: HashMap<String, OurColumns> =
        ours.into_iter().map(|row| (row.0.clone(), row)).collect();
    let rows: Vec<GroupColumns> = sqlx::query_as(
        "SELECT group_name, kind, master_address, broker_state, tag, ext, update_time FROM broker_group ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
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

async fn readonly(connection: &mut SqliteConnection) -> Result<Vec<ReadonlyRow>, Fault> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT subject, broker_group FROM readonly_broker_group_setting UNION ALL SELECT subject, broker_group FROM qmqx_readonly ORDER BY 2, 1",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(subject, group)| ReadonlyRow { subject, group })
        .collect())
}

async fn offline(connection: &mut SqliteConnection) -> Result<Vec<OfflineRow>, Fault> {
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
