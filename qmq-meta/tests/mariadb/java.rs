//! Beside a Java metaserver.

use std::time::Duration;

use qmq_meta::{
    Database, DatabaseError, GroupKind, GroupState, MigrateOptions, OfflineRow, ReadonlyRow,
    migrate,
};

use crate::database::{master, seen};
use crate::mariadb_server::Server;

#[tokio::test]
async fn a_database_that_a_java_metaserver_filled_is_read_and_written() {
    let scratch = Server::shared().database().await;
    scratch
        .run(include_str!("../data/java_metaserver.sql"))
        .await;
    let meta = scratch.meta();
    // Our tables first: the running meta has no right to make them.
    match meta.verify().await {
        Err(DatabaseError::Schema { reason, command }) => {
            assert!(reason.contains("table qmqx_clock"), "{reason}");
            assert!(!reason.contains("of QMQ"), "{reason}");
            assert!(command.starts_with("qmq meta migrate --url "), "{command}");
            assert!(!command.contains("--with-qmq-tables"), "{command}");
        }
        other => panic!("{other:?}"),
    }
    let report = migrate(&scratch.admin(), MigrateOptions::default())
        .await
        .unwrap();
    assert_eq!(
        report.created,
        [
            "qmqx_broker",
            "qmqx_clock",
            "qmqx_group",
            "qmqx_readonly",
            "qmqx_schema"
        ]
    );
    meta.verify().await.unwrap();

    let all = meta.read().await.unwrap();
    let brokers: Vec<String> = all
        .brokers
        .iter()
        .map(|b| {
            let role = b.role.name();
            format!(
                "{} {role} {} {} {} {:?}",
                b.group, b.hostname, b.ip, b.serve_port, b.sync_port
            )
        })
        .collect();
    assert_eq!(
        brokers,
        [
            "qmq_group01 MASTER qmq-server01 172.168.2.27 20881 Some(20882)",
            "qmq_group01 SLAVE qmq-server02 172.168.2.28 20881 Some(20882)",
            "qmq_group02 SLAVE qmq-server01 172.168.2.27 20891 Some(20892)",
            "qmq_group02 MASTER qmq-server02 172.168.2.28 20891 Some(20892)",
            "qmq_delayserver_group01 DELAY_MASTER qmq-server01 172.168.2.27 20801 Some(20802)",
            "qmq_delayserver_group01 DELAY_SLAVE qmq-server02 172.168.2.28 20801 Some(20802)",
        ]
    );
    let first = &all.groups[0];
    assert_eq!(
        (first.master.as_str(), first.state),
        ("172.168.2.27:20881", GroupState::ReadWrite)
    );
    assert_eq!(
        (first.epoch, first.last_seen_ms, &first.ext),
        (0, None, &None)
    );
    // 2021-11-17 20:01:02 in Shanghai.
    assert_eq!(first.updated_ms, 1_637_150_462_000);
    assert_eq!(all.groups[1].state, GroupState::None);
    assert_eq!(all.groups[2].kind, GroupKind::Delay);
    assert_eq!(all.subjects[1].tag, "trade");
    assert_eq!(all.routes[1].groups, ["qmq_group02", "qmq_group01"]);
    assert_eq!(all.routes[1].version, 1);
    assert_eq!(
        all.readonly,
        [ReadonlyRow {
            subject: "*".into(),
            group: "qmq_group02".into()
        }]
    );
    // State 0 is a consumer that is on.
    let off = OfflineRow {
        client: "qmq-server02@@4711".into(),
        subject: "your.subject".into(),
        group: "group-1".into(),
    };
    assert_eq!(all.offline, std::slice::from_ref(&off));
    let consumers = meta.consumers("your.subject").await.unwrap();
    let clients: Vec<&str> = consumers.iter().map(|row| row.client.as_str()).collect();
    assert_eq!(clients, ["qmq-server01@@4712", "qmq-server02@@4711"]);
    assert_eq!(
        meta.data_sources("default").await.unwrap()[0].user,
        "orders"
    );

    // Groups that only the Java metaserver hears of are its own to judge.
    assert!(meta.sweep(0).await.unwrap().is_empty());
    assert!(meta.sweep(0).await.unwrap().is_empty());
    seen(&meta, &master("qmq_group02", "172.168.2.28:20891"))
        .await
        .unwrap();
    assert!(
        meta.change_route("order.changed", &["qmq_group01".into()], 1)
            .await
            .unwrap()
    );
    assert_eq!(meta.switch_on(&off).await.unwrap(), 1);
    let on = OfflineRow {
        client: "qmq-server01@@4712".into(),
        ..off
    };
    meta.switch_off(&on).await.unwrap();
    let now = meta.read().await.unwrap();
    assert_eq!(now.groups[1].state, GroupState::ReadWrite);
    assert_eq!(now.offline, [on]);
    // What has not changed keeps its time.
    assert_eq!(now.groups[0].updated_ms, first.updated_ms);
    assert!(now.groups[1].updated_ms > 1_700_000_000_000);
}

#[tokio::test]
async fn a_group_that_a_java_metaserver_calls_back_is_not_swept_again() {
    let scratch = Server::shared().database().await;
    scratch.migrate().await;
    let meta = scratch.meta();
    seen(&meta, &master("g1", "a:1")).await.unwrap();
    let sweep_for = async |times: u32| {
        let mut swept = Vec::new();
        for _ in 0..times {
            swept.extend(meta.sweep(200).await.unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        swept
    };
    assert_eq!(sweep_for(100).await, ["g1"]);
    // The broker has gone over to the Java metaserver, which hears of it and writes no last seen.
    scratch
        .run("UPDATE broker_group SET broker_state = 1 WHERE group_name = 'g1'")
        .await;
    assert!(sweep_for(60).await.is_empty());
    assert_eq!(
        meta.read().await.unwrap().groups[0].state,
        GroupState::ReadWrite
    );
}
