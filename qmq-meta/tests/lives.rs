//! The main things that happen to a cluster, on both databases.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;
#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "mariadb_server/mod.rs"]
mod mariadb_server;

use std::sync::Arc;

use async_trait::async_trait;
use common::*;
use mariadb_server::Server;
use qmq_meta::{BrokerRole, Database, Emptiness, GroupState, Meta, Presence, Sqlite, Standing};

struct Empty;

#[async_trait]
impl Emptiness for Empty {
    async fn is_empty(&self, _: &str, _: &str, _: &str) -> Result<bool, String> {
        Ok(true)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_lives_grows_shrinks_and_restarts_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    lives(async || Sqlite::open(&path).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_lives_grows_shrinks_and_restarts_on_mariadb() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    lives(async || scratch.meta()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_lives_grows_shrinks_and_restarts_on_mariadb_with_qmqs_tables_of_2018() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    scratch.older().await;
    lives(async || scratch.meta()).await;
}

/// Each `open` opens the same database.
async fn lives<D: Database + 'static>(open: impl AsyncFn() -> D) {
    let meta = Meta::start(Arc::new(open().await), options("m"))
        .await
        .unwrap();
    masters(&meta, 2).await;
    for n in 0..20 {
        assert_eq!(producer(&meta, &format!("s{n}")).await.groups.len(), 2);
    }
    let long = broker(
        "a_group_whose_name_is_27_ch",
        BrokerRole::Master,
        &"h".repeat(200),
        "2001:db8::1",
        20881,
    );
    let mut said = liveness(&long);
    said.address = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:20881".to_owned();
    meta.acquire(&long.hostname, 20881, Some(&long))
        .await
        .unwrap();
    meta.present(Presence::Online, &long.hostname, 20881, &said)
        .await
        .unwrap();
    for _ in 0..30 {
        if meta.rebalance(50, &Empty).await.unwrap().is_done() {
            break;
        }
    }
    let loads: Vec<usize> = (meta.groups().iter())
        .map(|group| {
            meta.routes()
                .iter()
                .filter(|route| route.groups.contains(&group.name))
                .count()
        })
        .collect();
    assert!(
        loads.iter().all(|load| (13..=14).contains(load)),
        "{loads:?}"
    );
    meta.switch("*", "s1", "ticket", Standing::Offline)
        .await
        .unwrap();
    while !meta.decommission("g0", 50, &Empty).await.unwrap().is_done() {}
    meta.drop_group("g0").await.unwrap();
    let before = (meta.routes(), meta.groups(), meta.brokers(None));
    let asked = consumer(&meta, "s1").await;
    assert_eq!(asked.standing, Standing::Offline);
    meta.close().await;
    drop(meta);
    let meta = Meta::start(Arc::new(open().await), options("m"))
        .await
        .unwrap();
    assert_eq!((meta.routes(), meta.groups(), meta.brokers(None)), before);
    let again = consumer(&meta, "s1").await;
    assert_eq!(
        (&again.groups, again.standing),
        (&asked.groups, asked.standing)
    );
    assert!(again.stamp >= asked.stamp);
    assert!(
        again
            .groups
            .iter()
            .any(|routed| routed.group.master == said.address)
    );
    assert_eq!(meta.consumers("s1").await.unwrap().len(), 1);
    present(&meta, Presence::Offline, &master(1)).await;
    let state = meta
        .groups()
        .into_iter()
        .find(|group| group.name == "g1")
        .unwrap()
        .state;
    assert_eq!(state, GroupState::None);
    meta.close().await;
}
