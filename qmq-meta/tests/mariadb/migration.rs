//! Tables that are missing, and how they are made.

use qmq_meta::{Database, DatabaseError, MigrateOptions, migrate, migration_sql};

use crate::database::{master, seen};
use crate::mariadb_server::Server;

#[tokio::test]
async fn missing_tables_of_qmq_are_told_with_the_command() {
    let scratch = Server::shared().database().await;
    let meta = scratch.meta();
    match meta.verify().await {
        Err(error @ DatabaseError::Schema { .. }) => {
            let text = error.to_string();
            let place = scratch.url().to_string().replace("jdbc:mysql://", "");
            assert!(
                text.contains("table broker_group") && text.contains("init.sql"),
                "{text}"
            );
            let command = format!(
                "qmq meta migrate --url 'mysql://ADMIN:PASSWORD@{place}' --with-qmq-tables"
            );
            assert!(text.ends_with(&command), "{text}");
        }
        other => panic!("{other:?}"),
    }
    // Also from a call that runs into it.
    let read = meta.read().await;
    assert!(
        matches!(read, Err(DatabaseError::Schema { .. })),
        "{read:?}"
    );
    scratch.migrate().await;
    meta.verify().await.unwrap();
    scratch
        .run("ALTER TABLE broker_group DROP COLUMN tag")
        .await;
    match meta.verify().await {
        Err(DatabaseError::Schema { reason, .. }) => {
            assert!(reason.contains("column broker_group.tag"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_migration_may_be_run_again_and_by_hand() {
    let scratch = Server::shared().database().await;
    scratch.run(&migration_sql(true)).await;
    let meta = scratch.meta();
    meta.verify().await.unwrap();
    meta.add_subject("kept", "").await.unwrap();
    let at = seen(&meta, &master("g1", "a:1")).await.unwrap();
    for with_qmq_tables in [true, false] {
        let report = migrate(&scratch.admin(), MigrateOptions { with_qmq_tables })
            .await
            .unwrap();
        assert!(report.created.is_empty(), "{report:?}");
    }
    scratch.run(&migration_sql(false)).await;
    let all = meta.read().await.unwrap();
    assert_eq!(all.subjects[0].name, "kept");
    assert!(all.at >= at, "the clock is not set anew");
    assert!(!migration_sql(false).contains("subject_info"));
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    scratch
        .run("INSERT INTO qmqx_schema (version) VALUES (2)")
        .await;
    for refused in [
        scratch.meta().verify().await.map(|()| String::new()),
        migrate(&scratch.admin(), MigrateOptions::default())
            .await
            .map(|report| format!("{report:?}")),
    ] {
        match refused {
            Err(DatabaseError::Setting(why)) => assert!(why.contains("version 2"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_seeds_grants_do_not_make_tables() {
    let scratch = Server::shared().database().await;
    let options = scratch.options();
    let place = scratch.url().to_string().replace("jdbc:mysql://", "");
    let password = options.password.replace('@', "%40");
    let url = format!("mysql://{}:{password}@{place}", options.user);
    let refused = migrate(
        &url.parse().unwrap(),
        MigrateOptions {
            with_qmq_tables: true,
        },
    )
    .await;
    assert!(
        matches!(refused, Err(DatabaseError::Refused { .. })),
        "{refused:?}"
    );
}
