//! A database that is away, or does not let us in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_meta::{Database, DatabaseError, MySql, MySqlOptions};

use crate::database::{master, seen};
use crate::mariadb_server::Server;

#[tokio::test]
async fn a_wrong_password_is_a_setting_and_is_not_shown() {
    let scratch = Server::shared().database().await;
    let options = MySqlOptions {
        password: "hushhush".into(),
        ..scratch.options()
    };
    assert!(!format!("{options:?}").contains("hushhush"));
    let refused = MySql::connect(&options).unwrap().read().await.unwrap_err();
    let text = format!("{refused} {refused:?}");
    assert!(matches!(refused, DatabaseError::Setting(_)), "{text}");
    assert!(
        text.contains("jdbc.password") && !text.contains("hushhush"),
        "{text}"
    );
}

#[tokio::test]
async fn settings_that_can_never_work_are_refused_and_a_database_that_is_away_is_not() {
    let url: qmq_meta::JdbcUrl = "jdbc:mysql://127.0.0.1:1/qmq".parse().unwrap();
    let options = MySqlOptions {
        user: "qmq".into(),
        ..MySqlOptions::new(url.clone())
    };
    for broken in [
        MySqlOptions {
            connections_max: 0,
            ..options.clone()
        },
        MySqlOptions {
            user: String::new(),
            ..options.clone()
        },
    ] {
        let refused = MySql::connect(&broken);
        assert!(
            matches!(refused, Err(DatabaseError::Setting(_))),
            "{refused:?}"
        );
    }
    let away = MySql::connect(&options).unwrap();
    let begun = Instant::now();
    let read = away.read().await;
    assert!(matches!(read, Err(DatabaseError::Away { .. })), "{read:?}");
    assert!(begun.elapsed() < options.timeout, "told at once");
}

#[tokio::test]
async fn a_call_on_a_server_that_is_silent_ends_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("jdbc:mysql://127.0.0.1:{port}/qmq?useSSL=false&socketTimeout=300");
    let options = MySqlOptions {
        user: "qmq".into(),
        ..MySqlOptions::new(url.parse().unwrap())
    };
    let begun = Instant::now();
    let read = MySql::connect(&options).unwrap().read().await;
    assert!(matches!(read, Err(DatabaseError::Away { .. })), "{read:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_locked_row_makes_a_call_fail_in_time_and_the_next_works() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    let options = MySqlOptions {
        timeout: Duration::from_millis(1500),
        ..scratch.options()
    };
    let meta = MySql::connect(&options).unwrap();
    seen(&meta, &master("g1", "a:1")).await.unwrap();
    let holding = tokio::spawn({
        let admin = scratch.admin();
        async move {
            // Holds the clock's row for a while, as a meta server would that hangs in the middle of a change.
            let url = format!(
                "mysql://{}:{}@{}:{}/{}",
                admin.user().unwrap(),
                admin.password().unwrap(),
                admin.host(),
                admin.port(),
                admin.database()
            );
            use sqlx::Connection;
            let mut held = sqlx::MySqlConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(
                "START TRANSACTION; UPDATE qmqx_clock SET swept = swept; DO SLEEP(4); ROLLBACK",
            )
            .execute(&mut held)
            .await
            .unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    let refused = seen(&meta, &master("g1", "a:1")).await;
    assert!(
        matches!(refused, Err(DatabaseError::Away { .. })),
        "{refused:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    holding.await.unwrap();
    seen(&meta, &master("g1", "a:1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_is_away_and_then_works_without_help() {
    let server = tokio::task::spawn_blocking(Server::own).await.unwrap();
    let server = Arc::new(server);
    let scratch = server.own_database().await;
    scratch.migrate().await;
    let meta = Arc::new(scratch.meta());
    let mut load = tokio::task::JoinSet::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for caller in 0..8 {
        let (meta, stop) = (meta.clone(), stop.clone());
        load.spawn(async move {
            let (mut done, mut away, mut last) = (Vec::new(), 0_u32, 0);
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let name = format!("s-{caller}-{number}");
                match meta.add_subject(&name, "").await {
                    Ok(_) => {
                        done.push(name);
                        number += 1;
                    }
                    Err(DatabaseError::Away { .. }) => away += 1,
                    Err(other) => panic!("{other:?}"),
                }
                match seen(&*meta, &master(&format!("g{caller}"), "a:1")).await {
                    Ok(now) => {
                        assert!(now >= last, "the clock fell");
                        last = now;
                    }
                    // It could not be entered just before.
                    Err(DatabaseError::Away { .. } | DatabaseError::Changed { .. }) => away += 1,
                    Err(other) => panic!("{other:?}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (done, away, last)
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stopping = server.clone();
    tokio::task::spawn_blocking(move || stopping.down())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let read = meta.read().await;
    assert!(matches!(read, Err(DatabaseError::Away { .. })), "{read:?}");
    let starting = server.clone();
    tokio::task::spawn_blocking(move || starting.up())
        .await
        .unwrap();
    let mut read = meta.read().await;
    for _ in 0..100 {
        if read.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        read = meta.read().await;
    }
    let back = read.unwrap().at;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let all = load.join_all().await;
    let there: std::collections::HashSet<String> = meta
        .read()
        .await
        .unwrap()
        .subjects
        .into_iter()
        .map(|subject| subject.name)
        .collect();
    for (done, away, last) in all {
        assert!(away > 0, "no call was away");
        assert!(last > back, "no heartbeat after the restart");
        assert!(
            done.iter().all(|name| there.contains(name)),
            "what was told is there"
        );
    }
    meta.close().await;
    drop(scratch);
    tokio::task::spawn_blocking(move || drop(server))
        .await
        .unwrap();
}
