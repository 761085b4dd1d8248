//! Several meta servers on one database.

use std::sync::Arc;
use std::time::Duration;

use qmq_meta::{Database, DatabaseError, MySql};

use crate::database::{master, seen};
use crate::mariadb_server::Server;

#[tokio::test]
async fn a_clock_set_back_neither_falls_nor_stands_still() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    let meta = scratch.meta();
    let other = scratch.meta();
    let now = meta.read().await.unwrap().at;
    let hour = 3_600_000;
    scratch
        .run("UPDATE qmqx_clock SET stamp = stamp + 3600000, raw = raw + 3600000")
        .await;
    let ahead = seen(&meta, &master("g1", "a:1")).await.unwrap();
    assert!(ahead >= now + hour, "{ahead} after {now}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let later = other.read().await.unwrap().at;
    assert!(later >= ahead + 40, "{later} after {ahead}");
    // The dead are still found.
    let mut gone = Vec::new();
    for _ in 0..400 {
        gone = other.sweep(300).await.unwrap();
        if !gone.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(gone, ["g1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_meta_servers_exactly_one_grants_the_epoch() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    let metas: Vec<Arc<MySql>> = (0..4).map(|_| Arc::new(scratch.meta())).collect();
    seen(&*metas[0], &master("g1", "a:1")).await.unwrap();
    for known in 0..5 {
        let mut racing = tokio::task::JoinSet::new();
        for (number, meta) in metas.iter().cloned().enumerate() {
            racing
                .spawn(async move { meta.grant_epoch("g1", known, &format!("h{number}:1")).await });
        }
        let won = racing
            .join_all()
            .await
            .into_iter()
            .filter(|granted| match granted {
                Ok(epoch) => *epoch == known + 1,
                Err(DatabaseError::Changed { .. }) => false,
                Err(other) => panic!("{other:?}"),
            });
        assert_eq!(won.count(), 1);
    }
}

#[tokio::test]
async fn two_meta_servers_sweep_a_group_once() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    let (one, other) = (scratch.meta(), scratch.meta());
    // One heard of it, the other finds that it is silent: QMQ's defect F1 is that only the first could know.
    seen(&one, &master("g1", "a:1")).await.unwrap();
    let mut swept = Vec::new();
    for _ in 0..200 {
        let (first, second) = tokio::join!(one.sweep(400), other.sweep(400));
        swept.extend(first.unwrap());
        swept.extend(second.unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(swept, ["g1"]);
}
