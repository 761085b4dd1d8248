//! The embedded database.

#![allow(clippy::unwrap_used, reason = "tests")]

#[macro_use]
mod database;

use std::sync::Arc;

use database::{Db, master, seen};
use qmq_meta::{Database, DatabaseError, GroupState, Sqlite};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

async fn empty(_: &str) -> (Db, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let database = Sqlite::open(folder.path().join("meta.db")).await.unwrap();
    (Arc::new(database), folder)
}

promises!(empty);

async fn raw(path: &std::path::Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    let first = Sqlite::open(&path).await.unwrap();
    first.add_subject("s", "t").await.unwrap();
    seen(&first, &master("g1", "a:1")).await.unwrap();
    let before = first.read().await.unwrap();
    first.close().await;
    drop(first);
    let second = Sqlite::open(&path).await.unwrap();
    let after = second.read().await.unwrap();
    assert_eq!(
        (before.subjects, before.groups),
        (after.subjects, after.groups)
    );
}

#[tokio::test]
async fn a_second_opener_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    let first = Sqlite::open(&path).await.unwrap();
    match Sqlite::open(&path).await {
        Err(error @ DatabaseError::InUse { .. }) => {
            assert!(error.to_string().contains("meta.db"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    first.add_subject("still", "works").await.unwrap();
    drop(first);
    Sqlite::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_file_of_another_program_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not a database".repeat(100)).unwrap();
    let other = folder.path().join("other.db");
    let mut connection = raw(&other).await;
    sqlx::raw_sql("CREATE TABLE t (a)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    for path in [text, other] {
        let before = std::fs::read(&path).unwrap();
        match Sqlite::open(&path).await {
            Err(DatabaseError::Setting(why)) => {
                assert!(why.contains("name another file"), "{why}");
                assert!(why.contains(path.to_str().unwrap()), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    Sqlite::open(&path).await.unwrap().close().await;
    let mut connection = raw(&path).await;
    sqlx::raw_sql("PRAGMA user_version = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    match Sqlite::open(&path).await {
        Err(DatabaseError::Setting(why)) => assert!(why.contains("version 2"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_said() {
    match Sqlite::open("/nowhere/at/all/meta.db").await {
        Err(DatabaseError::Setting(why)) => assert!(why.contains("/nowhere/at/all"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn changes_are_on_the_disk_when_they_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    let database = Sqlite::open(&path).await.unwrap();
    assert!(
        path.with_file_name("meta.db-wal").exists(),
        "a log ahead of the file"
    );
    drop(database);
    let mut connection = raw(&path).await;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_clock_set_back_neither_falls_nor_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    let database = Sqlite::open(&path).await.unwrap();
    let now = database.read().await.unwrap().at;
    let hour = 3_600_000;
    let mut connection = raw(&path).await;
    sqlx::raw_sql("UPDATE qmqx_clock SET stamp = stamp + 3600000, raw = raw + 3600000")
        .execute(&mut connection)
        .await
        .unwrap();
    let ahead = seen(&database, &master("g1", "a:1")).await.unwrap();
    assert!(ahead >= now + hour, "{ahead} after {now}");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let later = database.read().await.unwrap().at;
    assert!(later >= ahead + 40, "{later} after {ahead}");
    // The dead are still found.
    let mut gone = Vec::new();
    for _ in 0..400 {
        gone = database.sweep(300).await.unwrap();
        if !gone.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(gone, ["g1"]);
    assert_eq!(
        database.read().await.unwrap().groups[0].state,
        GroupState::None
    );
}

#[tokio::test]
async fn only_the_owner_reads_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let database = Sqlite::open(folder.path().join("meta.db")).await.unwrap();
    database.add_subject("s", "t").await.unwrap();
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        let found = std::fs::metadata(folder.path().join(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{name}");
    }
}
