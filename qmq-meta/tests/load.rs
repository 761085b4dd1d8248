//! A large cluster in one process: `cargo test --release -p qmq-meta --test load -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

mod common;
#[allow(dead_code, reason = "each test uses its part")]
mod mariadb_server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use mariadb_server::Server;
use qmq_meta::{ClientKind, Database, Meta, MetaOptions, Presence, Sqlite};

const SUBJECTS: usize = 40_000;
const GROUPS: u16 = 100;
const CLIENTS: usize = 10_000;

fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kb: Option<u64> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kb.unwrap_or(0) / 1024
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what:44} n {:6}  p50 {:>10.1?}  p99 {:>10.1?}  max {:>10.1?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

async fn clients(meta: &Meta, what: &str, subject_of: fn(usize) -> String) {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let meta = meta.clone();
            let mut request = ask(
                &subject_of(number),
                [ClientKind::Consumer, ClientKind::Producer][number % 2],
            );
            request.client = format!("client-{number}");
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(10);
                for _ in 0..10 {
                    let begun = Instant::now();
                    assert!(!meta.route(&request).await.unwrap().groups.is_empty());
                    times.push(begun.elapsed());
                    tokio::task::yield_now().await;
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    println!(
        "{what}: {:.0} routes/s",
        times.len() as f64 / begun.elapsed().as_secs_f64()
    );
    tell(what, times);
}

async fn heartbeats(meta: &Meta, what: &str) {
    let tasks: Vec<_> = (0..GROUPS)
        .map(|number| {
            let meta = meta.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                // For longer than from one read of everything to the next.
                for _ in 0..60 {
                    let begun = Instant::now();
                    present(&meta, Presence::Heartbeat, &master(number)).await;
                    times.push(begun.elapsed());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    tell(what, times);
}

async fn measure(kind: &str, database: Arc<dyn Database>, subjects: usize) {
    println!(
        "== {kind}: {subjects} subjects, {GROUPS} groups, {CLIENTS} clients; {} MB before",
        rss_mb()
    );
    let folder = tempfile::tempdir().unwrap();
    let mut options = MetaOptions::new("load", random(1));
    options.snapshot = Some(folder.path().join("snapshot"));
    let meta = Meta::start(database, options).await.unwrap();
    masters(&meta, GROUPS).await;
    let beating = meta.clone();
    let beats = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            for number in 0..GROUPS {
                present(&beating, Presence::Heartbeat, &master(number)).await;
            }
        }
    });
    let mut times = Vec::new();
    for number in 0..subjects {
        let begun = Instant::now();
        producer(&meta, &format!("load.subject.{number}")).await;
        times.push(begun.elapsed());
    }
    tell("a new subject", times);
    clients(&meta, "routes of 10,000 clients at once", |number| {
        format!("load.subject.{}", number % 1000)
    })
    .await;
    heartbeats(&meta, "heartbeats of 100 masters each 100 ms").await;
    beats.abort();
    let before = meta.status().at;
    let begun = Instant::now();
    present(&meta, Presence::Offline, &master(0)).await;
    println!(
        "a state that changes, with the read it causes: {:.1?}",
        begun.elapsed()
    );
    assert!(meta.status().at > before);
    tokio::time::sleep(Duration::from_secs(6)).await;
    println!(
        "{} MB after; snapshot {} KB; {} clients dropped",
        rss_mb(),
        std::fs::metadata(folder.path().join("snapshot"))
            .unwrap()
            .len()
            / 1024,
        meta.status().clients_dropped
    );
    meta.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute: cargo test --release -p qmq-meta --test load -- --ignored --nocapture"]
async fn forty_thousand_subjects_a_hundred_groups_and_ten_thousand_clients() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(folder.path().join("meta.db")).await.unwrap();
    measure("sqlite", Arc::new(sqlite), SUBJECTS).await;
}

/// Of subjects fewer, since each is written alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for minutes, on a server that scripts/mariadb starts: cargo test --release -p qmq-meta --test load -- --ignored --nocapture"]
async fn ten_thousand_subjects_on_mariadb() {
    let server = Server::own();
    let scratch = server.own_database().await;
    scratch.migrate().await;
    measure("mariadb", Arc::new(scratch.meta()), SUBJECTS / 4).await;
}
