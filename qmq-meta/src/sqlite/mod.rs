//! The embedded database: one file, one meta server.

mod beats;
mod brokers;
mod clients;
mod clock;
mod file;
mod groups;
mod read;
mod subjects;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqlitePool;

use self::beats::Beats;
use crate::columns;
use crate::database::{Database, Everything, Liveness, Now};
use crate::error::DatabaseError;
use crate::fault::{Fault, bounded};
use crate::model::{Broker, ClientRow, DataSource, GroupKind, OfflineRow, ReadonlyRow};

/// A call that took longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long one connection waits for another; less than [`TIMEOUT`], so that the reason is told.
const BUSY: Duration = Duration::from_secs(4);

/// QMQ's tables and ours in a SQLite file. The file is this process's alone as long as this lives: a second opener, be it in this process, is
/// refused as [`DatabaseError::InUse`]. Names are compared byte by byte. A change is on the disk when its call returns.
#[derive(Debug)]
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    beats: Beats,
    _lock: File,
}

impl Sqlite {
    /// Opens the file, and makes it with its tables if it is not there; its folder must be. `FILE.lock` beside it holds the lock.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::InUse`] if another has it; [`DatabaseError::Setting`] for a path that cannot be opened, a file of another program, or
    /// one of a newer qmq. None of these changes the file.
    pub async fn open(path: impl AsRef<Path> + Send) -> Result<Self, DatabaseError> {
        let path = path.as_ref();
        let lock = file::lock(path)?;
        let file::Pools { writer, readers } = file::open(path, BUSY).await?;
        Ok(Self {
            writer,
            readers,
            beats: Beats::default(),
            _lock: lock,
        })
    }

    async fn bounded<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, DatabaseError> {
        bounded(TIMEOUT, doing, said, work).await
    }
}

/// The driver's error for those who call. Result codes 5 and 6 (busy, locked) pass by themselves.
fn said(doing: &'static str, error: &sqlx::Error) -> DatabaseError {
    let passes = match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(told) => told
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 5 | 6)),
        _ => false,
    };
    let reason = error.to_string();
    if passes {
        DatabaseError::Away { reason }
    } else {
        DatabaseError::Refused { doing, reason }
    }
}

#[async_trait]
impl Database for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn verify(&self) -> Result<(), DatabaseError> {
        // The tables were made or looked at when the file was opened, and nobody else can have changed them.
        self.bounded("read", async {
            sqlx::query("SELECT stamp FROM qmqx_clock WHERE id = 1")
                .fetch_one(&self.readers)
                .await?;
            Ok(())
        })
        .await
    }

    async fn read(&self) -> Result<Everything, DatabaseError> {
        self.bounded("read", read::everything(&self.writer, &self.readers))
            .await
    }

    async fn seen(&self, liveness: &Liveness) -> Result<Now, DatabaseError> {
        columns::liveness(liveness)?;
        self.bounded("note a heartbeat", self.beats.seen(&self.writer, liveness))
            .await
    }

    async fn sweep(&self, silent_ms: u64) -> Result<Vec<String>, DatabaseError> {
        self.bounded(
            "look for silent groups",
            groups::sweep(&self.writer, silent_ms),
        )
        .await
    }

    async fn grant_epoch(
        &self,
        group: &str,
        known: u64,
        master: &str,
    ) -> Result<u64, DatabaseError> {
        columns::GROUP.fits(group)?;
        columns::MASTER.fits(master)?;
        let granting = groups::grant_epoch(&self.writer, group, known, master);
        self.bounded("grant an epoch", granting).await
    }

    async fn add_broker(&self, broker: &Broker) -> Result<(), DatabaseError> {
        columns::broker(broker)?;
        self.bounded("add a broker", brokers::add(&self.writer, broker))
            .await
    }

    async fn enter_broker(&self, broker: &Broker) -> Result<(), DatabaseError> {
        columns::broker(broker)?;
        self.bounded("enter a broker", brokers::enter(&self.writer, broker))
            .await
    }

    async fn replace_broker(&self, broker: &Broker) -> Result<Option<Broker>, DatabaseError> {
        columns::broker(broker)?;
        self.bounded("replace a broker", brokers::replace(&self.writer, broker))
            .await
    }

    async fn add_subject(&self, name: &str, tag: &str) -> Result<bool, DatabaseError> {
        columns::SUBJECT.fits(name)?;
        columns::SUBJECT_TAG.fits(tag)?;
        self.bounded("add a subject", subjects::add(&self.writer, name, tag))
            .await
    }

    async fn add_route(&self, subject: &str, groups: &[String]) -> Result<bool, DatabaseError> {
        let json = columns::route(subject, groups)?;
        self.bounded(
            "add a route",
            subjects::add_route(&self.writer, subject, &json),
        )
        .await
    }

    async fn change_route(
        &self,
        subject: &str,
        groups: &[String],
        version: i32,
    ) -> Result<bool, DatabaseError> {
        let json = columns::route(subject, groups)?;
        let changing = subjects::change_route(&self.writer, subject, &json, version);
        self.bounded("change a route", changing).await
    }

    async fn add_readonly(&self, row: &ReadonlyRow) -> Result<(), DatabaseError> {
        columns::readonly(row)?;
        self.bounded(
            "mark a group read-only",
            subjects::add_readonly(&self.writer, row),
        )
        .await
    }

    async fn remove_readonly(&self, row: &ReadonlyRow) -> Result<bool, DatabaseError> {
        let removing = subjects::remove_readonly(&self.writer, row);
        self.bounded("unmark a read-only group", removing).await
    }

    async fn switch_off(&self, row: &OfflineRow) -> Result<(), DatabaseError> {
        columns::offline(row)?;
        self.bounded(
            "switch a consumer off",
            clients::switch_off(&self.writer, row),
        )
        .await
    }

    async fn switch_on(&self, row: &OfflineRow) -> Result<u64, DatabaseError> {
        self.bounded(
            "switch a consumer on",
            clients::switch_on(&self.writer, row),
        )
        .await
    }

    async fn add_clients(&self, rows: &[ClientRow]) -> Result<(), DatabaseError> {
        rows.iter().try_for_each(columns::client)?;
        self.bounded("remember clients", clients::add(&self.writer, rows))
            .await
    }

    async fn consumers(&self, subject: &str) -> Result<Vec<ClientRow>, DatabaseError> {
        self.bounded("list consumers", clients::consumers(&self.readers, subject))
            .await
    }

    async fn set_retiring(&self, group: &str, retiring: bool) -> Result<bool, DatabaseError> {
        let setting = groups::set_retiring(&self.writer, group, retiring);
        self.bounded("retire a broker group", setting).await
    }

    async fn remove_group(&self, group: &str) -> Result<(), DatabaseError> {
        self.bounded("remove a broker group", groups::remove(&self.writer, group))
            .await
    }

    async fn set_group_tag(
        &self,
        group: &str,
        kind: GroupKind,
        tag: &str,
    ) -> Result<bool, DatabaseError> {
        columns::GROUP_TAG.fits(tag)?;
        let setting = groups::set_tag(&self.writer, group, kind, tag);
        self.bounded("tag a broker group", setting).await
    }

    async fn add_data_source(&self, source: &DataSource) -> Result<(), DatabaseError> {
        columns::data_source(source)?;
        let adding = clients::add_data_source(&self.writer, source);
        self.bounded("add a database of messages", adding).await
    }

    async fn data_sources(&self, room: &str) -> Result<Vec<DataSource>, DatabaseError> {
        let listing = clients::data_sources(&self.readers, room);
        self.bounded("list databases of messages", listing).await
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn when_a_full_disk_has_room_again_changes_are_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let database = Sqlite::open(folder.path().join("meta.db")).await.unwrap();
        // No page more than there are: what a full disk says.
        let limit = |pages: u32| {
            let statement = format!("PRAGMA max_page_count = {pages}");
            let writer = database.writer.clone();
            async move {
                let limit = sqlx::raw_sql(sqlx::AssertSqlSafe(statement));
                limit.execute(&writer).await.unwrap();
            }
        };
        limit(1).await;
        let mut refused = None;
        for number in 0..10_000 {
            let name = format!("subject-{number}");
            if let Err(error) = database.add_subject(&name, "").await {
                refused = Some(error.to_string());
                break;
            }
        }
        let refused = refused.expect("the database is full");
        assert!(refused.contains("full"), "{refused}");
        limit(1 << 30).await;
        assert!(database.add_subject("another", "").await.unwrap());
        assert_eq!(database.sweep(1_000).await.unwrap(), [""; 0]);
    }
}
