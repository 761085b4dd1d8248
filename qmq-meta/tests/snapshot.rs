//! The snapshot file.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::path::Path;

use common::*;
use qmq_meta::{DatabaseStatus, Meta, MetaError, MetaOptions, Presence};

fn with(path: &Path) -> MetaOptions {
    let mut options = options("m");
    options.snapshot = Some(path.to_owned());
    options
}

#[tokio::test]
async fn an_empty_database_in_the_place_of_one_with_routes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let meta = Meta::start(Memory::new(), with(&path)).await.unwrap();
    masters(&meta, 2).await;
    producer(&meta, "s").await;
    meta.close().await;
    drop(meta);
    let Err(error) = Meta::start(Memory::new(), with(&path)).await else {
        panic!("it starts without the routes that were");
    };
    let error = error.to_string();
    assert!(
        error.contains("restore it") && error.contains("move the snapshot away"),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    Meta::start(Memory::new(), with(&path)).await.unwrap();
}

#[tokio::test]
async fn a_restart_while_the_database_is_away_answers_what_was_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let database = Memory::new();
    let meta = Meta::start(database.clone(), with(&path)).await.unwrap();
    masters(&meta, 3).await;
    producer(&meta, "s").await;
    database.pass(60_000);
    let at = meta.status().at;
    until("read again", || meta.status().at > at).await;
    let before = consumer(&meta, "s").await;
    meta.close().await;
    drop(meta);
    database.set_away(true);
    let meta = Meta::start(database.clone(), with(&path)).await.unwrap();
    let status = meta.status();
    assert!(status.stale && status.from_snapshot);
    assert!(matches!(status.database, DatabaseStatus::Away { .. }));
    let after = consumer(&meta, "s").await;
    assert_eq!(after.groups, before.groups);
    assert!(
        after.stale && after.stamp >= before.stamp,
        "{} < {}",
        after.stamp,
        before.stamp
    );
    assert_eq!(
        meta.acquire("host0", 20881, None).await.unwrap().broker,
        master(0)
    );
    let given = producer(&meta, "new").await;
    meta.close().await;
    drop(meta);
    let meta = Meta::start(database.clone(), with(&path)).await.unwrap();
    assert_eq!(
        producer(&meta, "new").await.groups,
        given.groups,
        "given routes outlive a restart too"
    );
    database.set_away(false);
    until("up", || !meta.status().stale).await;
    assert!(!meta.status().from_snapshot);
    let mut groups = database.route("new").unwrap().groups;
    groups.sort();
    assert_eq!(groups, names(&given));
}

#[tokio::test]
async fn stamps_never_fall_though_nothing_but_time_changed_before_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let database = Memory::new();
    let meta = Meta::start(database.clone(), with(&path)).await.unwrap();
    masters(&meta, 1).await;
    producer(&meta, "s").await;
    let written = || std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\"s\""));
    until("written", written).await;
    let at = meta.status().at;
    database.pass(1_000_000);
    until("read again", || meta.status().at > at + 1_000_000).await;
    let before = producer(&meta, "s").await.stamp;
    meta.close().await;
    drop(meta);
    database.set_away(true);
    let meta = Meta::start(database.clone(), with(&path)).await.unwrap();
    assert!(producer(&meta, "s").await.stamp >= before);
}

#[tokio::test]
async fn a_damaged_snapshot_is_not_used_and_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let database = Memory::new();
    let meta = Meta::start(database.clone(), with(&path)).await.unwrap();
    masters(&meta, 1).await;
    meta.close().await;
    drop(meta);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    database.set_away(true);
    let meta = Meta::start(database.clone(), with(&path)).await.unwrap();
    assert_eq!(meta.status().groups, 0, "not even in part");
    let asked = meta.route(&ask("s", qmq_meta::ClientKind::Producer)).await;
    assert!(matches!(asked, Err(MetaError::Unavailable { .. })));
    database.set_away(false);
    until("up", || !meta.status().stale).await;
    until("written", || std::fs::read(&path).unwrap() != bytes).await;
    drop(meta);
    database.set_away(true);
    let meta = Meta::start(database.clone(), with(&path)).await.unwrap();
    assert_eq!(meta.status().groups, 1);
    assert!(!present(&meta, Presence::Heartbeat, &master(0)).await);
}
