//! Brokers and delay servers: what they are, and that they live.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use qmq_meta::{
    Broker, BrokerRole, Database as _, GroupKind, GroupState, Meta, MetaError, Presence,
};

/// The brokers of the operators' document.
fn seeds() -> [Broker; 4] {
    [
        broker(
            "qmq_group01",
            BrokerRole::Master,
            "qmq-server01",
            "172.168.2.27",
            20881,
        ),
        broker(
            "qmq_group01",
            BrokerRole::Slave,
            "qmq-server02",
            "172.168.2.28",
            20881,
        ),
        broker(
            "qmq_group02",
            BrokerRole::Slave,
            "qmq-server01",
            "172.168.2.27",
            20891,
        ),
        broker(
            "qmq_group02",
            BrokerRole::Master,
            "qmq-server02",
            "172.168.2.28",
            20891,
        ),
    ]
}

async fn entered(brokers: &[Broker]) -> Meta {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    for broker in brokers {
        meta.add_broker(broker).await.unwrap();
    }
    meta
}

async fn refused(meta: &Meta, broker: &Broker, words: &[&str]) {
    let error = meta.add_broker(broker).await.unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

async fn unknown(meta: &Meta, hostname: &str, port: u16, words: &[&str]) {
    match meta.acquire(hostname, port, None).await {
        Err(MetaError::UnknownNode { text }) => {
            for word in words {
                assert!(text.contains(word), "{word:?} is not in {text:?}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_operators_four_brokers_learn_what_they_are() {
    let meta = entered(&seeds()).await;
    let all = meta.brokers(None);
    assert_eq!(all.len(), 4);
    assert_eq!(meta.brokers(Some("qmq_group02")).len(), 2);
    let slave = meta.acquire("qmq-server01", 20891, None).await.unwrap();
    assert_eq!(slave.broker, seeds()[2]);
    assert_eq!(slave.copies.as_deref(), Some("172.168.2.28:20892"));
    let master = meta.acquire("qmq-server01", 20881, None).await.unwrap();
    assert_eq!(
        (master.broker, master.copies, master.differs),
        (seeds()[0].clone(), None, None)
    );
    assert_eq!(meta.slave_of("qmq_group01"), Some(seeds()[1].clone()));
}

#[tokio::test]
async fn a_broker_that_nobody_entered_is_told_the_line_to_type() {
    let meta = entered(&[]).await;
    let line = "\nqmq tools AddBroker --metaserver=META --token=TOKEN --brokerGroup=GROUP --role=0 --hostname=qmq-server01 --ip=IP --servePort=20881 --syncPort=SYNC_PORT";
    unknown(&meta, "qmq-server01", 20881, &[line]).await;
    let error = meta.acquire("a;rm -rf /", 20881, None).await.unwrap_err();
    assert!(
        !error.to_string().contains("qmq tools"),
        "no line to type with that: {error}"
    );
}

#[tokio::test]
async fn each_mistake_of_the_operators_document_is_named() {
    let meta = entered(&seeds()[2..]).await;
    unknown(
        &meta,
        "qmq-server01",
        20881,
        &[
            "qmq-server01 is entered with port 20891",
            "--hostname=qmq-server01 --ip=172.168.2.27 --servePort=20881",
        ],
    )
    .await;
    unknown(
        &meta,
        "QMQ-Server01",
        20891,
        &["upper and lower case", "set qmq.host=qmq-server01"],
    )
    .await;
    unknown(
        &meta,
        "qmq-server01.example.org",
        20891,
        &[
            "their domain",
            "qmq tools ReplaceBroker",
            "--brokerGroup=qmq_group02 --role=1 --hostname=qmq-server01.example.org",
        ],
    )
    .await;
    unknown(
        &meta,
        "172.168.2.27",
        20891,
        &["under the host name qmq-server01"],
    )
    .await;
    unknown(
        &meta,
        "vm-7",
        20891,
        &["with port 20891 are entered: qmq-server02, qmq-server01"],
    )
    .await;
    let twin = broker(
        "g9",
        BrokerRole::Master,
        "other-name",
        "172.168.2.28",
        20891,
    );
    refused(
        &meta,
        &twin,
        &["172.168.2.28:20891", "host name qmq-server02", "other-name"],
    )
    .await;
    let claimed = meta
        .acquire("other-name", 20891, Some(&twin))
        .await
        .unwrap_err();
    assert!(
        claimed.to_string().contains("set qmq.host=qmq-server02"),
        "{claimed}"
    );
    let delay = broker(
        "qmq_group02",
        BrokerRole::DelayMaster,
        "d1",
        "172.168.2.29",
        20801,
    );
    refused(
        &meta,
        &delay,
        &["\"qmq_group02\"", "delay", "different names"],
    )
    .await;
    let local = broker("g8", BrokerRole::Master, "h8", "127.0.0.1", 20881);
    refused(
        &meta,
        &local,
        &["127.0.0.1", "only its own machine", "--ip=IP"],
    )
    .await;
}

#[tokio::test]
async fn one_machine_clusters_may_use_its_own_address() {
    let local = broker("g", BrokerRole::Master, "h", "127.0.0.1", 20881);
    let meta = entered(std::slice::from_ref(&local)).await;
    assert_eq!(meta.acquire("h", 20881, None).await.unwrap().differs, None);
    meta.add_broker(&broker("g2", BrokerRole::Master, "far", "10.0.0.1", 20881))
        .await
        .unwrap();
    let warned = meta
        .acquire("h", 20881, None)
        .await
        .unwrap()
        .differs
        .unwrap();
    assert!(warned.contains("qmq tools ReplaceBroker"), "{warned}");
}

#[tokio::test]
async fn every_rule_of_add_broker_is_kept() {
    let meta = entered(&seeds()).await;
    let good = broker("g3", BrokerRole::Master, "h3", "10.0.0.3", 20881);
    let but = |change: &dyn Fn(&mut Broker)| {
        let mut broker = good.clone();
        change(&mut broker);
        broker
    };
    refused(&meta, &but(&|b| b.group.clear()), &["brokerGroup is empty"]).await;
    refused(
        &meta,
        &but(&|b| b.group = "a b".into()),
        &["brokerGroup \"a b\""],
    )
    .await;
    refused(
        &meta,
        &but(&|b| b.role = BrokerRole::Standby),
        &["STANDBY", "DELAY_MASTER"],
    )
    .await;
    refused(
        &meta,
        &but(&|b| b.hostname.clear()),
        &["host name is empty"],
    )
    .await;
    refused(&meta, &but(&|b| b.ip.clear()), &["ip is empty"]).await;
    refused(&meta, &but(&|b| b.ip = "0.0.0.0".into()), &["0.0.0.0"]).await;
    refused(&meta, &but(&|b| b.serve_port = 0), &["servePort"]).await;
    refused(&meta, &but(&|b| b.sync_port = None), &["syncPort"]).await;
    refused(
        &meta,
        &but(&|b| b.sync_port = Some(20881)),
        &["both 20881", "differ"],
    )
    .await;
    refused(
        &meta,
        &but(&|b| b.hostname = "qmq-server01".into()),
        &["qmq-server01:20881 is entered already"],
    )
    .await;
    refused(
        &meta,
        &but(&|b| b.group = "qmq_group01".into()),
        &[
            "has a MASTER already, qmq-server01:20881",
            "--role=1",
            "ReplaceBroker",
        ],
    )
    .await;
    let third = broker("qmq_group01", BrokerRole::Slave, "h4", "10.0.0.4", 20881);
    meta.add_broker(&third).await.unwrap();
    let mut backup = broker("qmq_group01", BrokerRole::Backup, "h5", "10.0.0.5", 20881);
    backup.sync_port = None;
    meta.add_broker(&backup).await.unwrap();
    let backup = meta.acquire("h5", 20881, None).await.unwrap();
    assert_eq!(backup.copies.as_deref(), Some("10.0.0.4:20882"));
    let mut moved = seeds()[0].clone();
    moved.hostname = "new-name".into();
    assert_eq!(meta.replace_broker(&moved).await.unwrap(), seeds()[0]);
    assert!(meta.acquire("new-name", 20881, None).await.is_ok());
    let error = meta.replace_broker(&good).await.unwrap_err().to_string();
    assert!(
        error.contains("no MASTER to be replaced") && error.contains("qmq tools AddBroker"),
        "{error}"
    );
}

#[tokio::test]
async fn a_slave_without_a_master_is_told_which_one_lacks() {
    let meta = entered(&seeds()[1..2]).await;
    unknown(
        &meta,
        "qmq-server02",
        20881,
        &["has no MASTER", "--brokerGroup=qmq_group01 --role=0"],
    )
    .await;
}

#[tokio::test]
async fn f7_a_node_enters_itself_and_the_table_wins_where_it_says_otherwise() {
    let meta = entered(&[]).await;
    let long = format!("{}.example.org", "n".repeat(60));
    let claim = broker("g1", BrokerRole::Master, &long, "2001:db8::7", 20881);
    let acquired = meta.acquire(&long, 20881, Some(&claim)).await.unwrap();
    assert_eq!((&acquired.broker, acquired.differs), (&claim, None));
    let slave = broker("g1", BrokerRole::Slave, "s1", "2001:db8::8", 20881);
    let acquired = meta.acquire("s1", 20881, Some(&slave)).await.unwrap();
    assert_eq!(acquired.copies.as_deref(), Some("[2001:db8::7]:20882"));
    let mut other = slave.clone();
    other.group = "g2".into();
    other.role = BrokerRole::Master;
    other.ip = "2001:db8::9".into();
    let acquired = meta.acquire("s1", 20881, Some(&other)).await.unwrap();
    assert_eq!(acquired.broker, slave);
    let differs = acquired.differs.unwrap();
    for word in [
        "g2: g1 counts",
        "MASTER: SLAVE counts",
        "2001:db8::9: 2001:db8::8 counts",
    ] {
        assert!(differs.contains(word), "{word:?} is not in {differs:?}");
    }
    let thief = broker("g1", BrokerRole::Master, "thief", "2001:db8::a", 20881);
    let error = meta
        .acquire("thief", 20881, Some(&thief))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("has a MASTER already"),
        "{error}"
    );
    assert!(meta.acquire("somebody", 20881, Some(&thief)).await.is_err());
    assert!(present(&meta, Presence::Online, &claim).await);
    assert_eq!(meta.groups()[0].master, "2001:db8::7:20881");
}

#[tokio::test]
async fn only_a_node_that_is_entered_in_that_role_is_heard() {
    let meta = entered(&seeds()).await;
    let [master, slave, ..] = seeds();
    let stranger = broker(
        "qmq_group01",
        BrokerRole::Master,
        "stranger",
        "10.9.9.9",
        20881,
    );
    let said = liveness(&stranger);
    let heard = meta
        .present(Presence::Online, "stranger", 20881, &said)
        .await;
    assert!(
        matches!(heard, Err(MetaError::UnknownNode { .. })),
        "{heard:?}"
    );
    let heard = meta
        .present(Presence::Online, &slave.hostname, 20881, &liveness(&master))
        .await;
    match heard {
        Err(MetaError::WrongRole { text }) => {
            assert!(
                text.contains("is entered as SLAVE") && text.contains("ReplaceBroker"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(meta.groups().is_empty(), "nobody became anything by that");
    assert!(present(&meta, Presence::Online, &slave).await);
    assert!(meta.groups().is_empty(), "a slave makes no group");
    assert!(present(&meta, Presence::Online, &master).await);
    assert_eq!(meta.groups()[0].state, GroupState::ReadWrite);
    assert_eq!(meta.groups()[0].kind, GroupKind::Normal);
    let nodes = meta.status().nodes;
    assert_eq!(nodes.len(), 2, "the slave too: {nodes:?}");
    assert!(present(&meta, Presence::Offline, &master).await);
    assert_eq!(meta.groups()[0].state, GroupState::None);
}

#[tokio::test]
async fn a_master_of_an_older_epoch_is_fenced() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), options("m")).await.unwrap();
    masters(&meta, 1).await;
    assert_eq!(
        meta.grant_epoch("g0", 0, "10.0.0.9:20881").await.unwrap(),
        1
    );
    let again = meta.grant_epoch("g0", 0, "10.0.0.8:20881").await;
    assert!(
        matches!(again, Err(MetaError::Fenced { known: 1, .. })),
        "{again:?}"
    );
    match meta.acquire("host0", 20881, None).await {
        Err(MetaError::WrongRole { text }) => {
            let words = "has another master since epoch 1: 10.0.0.9:20881";
            assert!(text.contains(words), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let old = meta
        .present(Presence::Heartbeat, "host0", 20881, &liveness(&master(0)))
        .await;
    assert!(
        matches!(old, Err(MetaError::Fenced { known: 1, .. })),
        "{old:?}"
    );
    database.set_away(true);
    until("away", || meta.status().stale).await;
    let old = meta
        .present(Presence::Heartbeat, "host0", 20881, &liveness(&master(0)))
        .await;
    assert!(old.is_err(), "nor while the database is away");
    assert_eq!(meta.groups()[0].master, "10.0.0.9:20881");
}

#[tokio::test]
async fn f1_a_broker_that_goes_to_another_meta_is_not_marked_away() {
    let database = Memory::new();
    let first = Meta::start(database.clone(), options("first"))
        .await
        .unwrap();
    let second = Meta::start(database.clone(), options("second"))
        .await
        .unwrap();
    first.add_broker(&master(0)).await.unwrap();
    present(&first, Presence::Online, &master(0)).await;
    for _ in 0..12 {
        database.pass(10_000);
        present(&second, Presence::Heartbeat, &master(0)).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        for meta in [&first, &second] {
            assert_eq!(
                meta.groups()[0].state,
                GroupState::ReadWrite,
                "two minutes after it left the first"
            );
        }
    }
}

#[tokio::test]
async fn f1_a_broker_that_died_while_its_meta_restarted_is_marked_away_by_any() {
    let database = Memory::new();
    let first = Meta::start(database.clone(), options("first"))
        .await
        .unwrap();
    first.add_broker(&master(0)).await.unwrap();
    present(&first, Presence::Online, &master(0)).await;
    drop(first);
    let second = Meta::start(database.clone(), options("second"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    for _ in 0..3 {
        database.pass(11_000);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    until("away", || {
        database.pass(1_000);
        second.groups()[0].state == GroupState::None
    })
    .await;
}

#[tokio::test]
async fn while_the_database_is_away_masters_come_and_go_in_memory_and_are_told_later() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), options("m")).await.unwrap();
    masters(&meta, 2).await;
    producer(&meta, "s").await;
    present(&meta, Presence::Offline, &master(1)).await;
    database.set_away(true);
    until("away", || meta.status().stale).await;
    let mut changes = meta.changes();
    changes.mark_unchanged();
    assert!(
        !present(&meta, Presence::Online, &master(1)).await,
        "not stored"
    );
    assert!(changes.has_changed().unwrap());
    assert_eq!(names(&producer(&meta, "s").await), ["g0", "g1"]);
    let refused = meta.acquire("nobody", 1, None).await;
    assert!(
        matches!(refused, Err(MetaError::Unavailable { .. })),
        "{refused:?}"
    );
    database.pass(3_600_000);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(names(&producer(&meta, "s").await), ["g0", "g1"]);
    database.set_away(false);
    until("up", || !meta.status().stale).await;
    assert_eq!(
        names(&producer(&meta, "s").await),
        ["g0", "g1"],
        "an hour of silence, and yet no one is marked at once"
    );
    let groups = database.read().await.unwrap().groups;
    assert!(
        groups
            .iter()
            .all(|group| group.state == GroupState::ReadWrite),
        "the database was told"
    );
}

#[tokio::test]
async fn f10_known_nodes_learn_what_they_are_while_the_database_is_away() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), options("m")).await.unwrap();
    masters(&meta, 1).await;
    database.set_away(true);
    until("away", || meta.status().stale).await;
    let acquired = meta.acquire("host0", 20881, None).await.unwrap();
    assert_eq!(acquired.broker, master(0));
}

#[tokio::test]
async fn short_times_of_silence_are_swept_too() {
    let database = Memory::new();
    let mut options = options("m");
    options.refresh = Duration::from_secs(3600);
    options.heartbeat_timeout_ms.store(400, Ordering::Relaxed);
    let meta = Meta::start(database.clone(), options).await.unwrap();
    masters(&meta, 1).await;
    until("away", || {
        database.pass(4);
        meta.groups()[0].state == GroupState::None
    })
    .await;
}

#[tokio::test]
async fn a_dropped_group_does_not_come_back_by_itself() {
    let database = Memory::new();
    let operators = Meta::start(database.clone(), still("operators"))
        .await
        .unwrap();
    masters(&operators, 2).await;
    let late = Meta::start(database.clone(), still("late")).await.unwrap();
    database.set_retiring("g0", true).await.unwrap();
    operators.drop_group("g0").await.unwrap();
    assert_eq!(late.brokers(Some("g0")).len(), 1, "it has not looked since");
    let heard = late
        .present(Presence::Heartbeat, "host0", 20881, &liveness(&master(0)))
        .await;
    assert!(
        matches!(heard, Err(MetaError::UnknownNode { .. })),
        "{heard:?}"
    );
    for meta in [&operators, &late] {
        let claimed = meta.acquire("host0", 20881, Some(&master(0))).await;
        let error = claimed.unwrap_err().to_string();
        assert!(error.contains("was decommissioned"), "{error}");
        assert_eq!(meta.groups().len(), 1);
    }
    start(&operators, &master(0)).await;
    assert_eq!(operators.groups().len(), 2);
}

#[tokio::test]
async fn the_granted_master_and_the_one_that_an_operator_puts_in_its_place_learn_the_epoch() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 1).await;
    let own = format!("{}:20881", master(0).ip);
    meta.grant_epoch("g0", 0, &own).await.unwrap();
    assert_eq!(meta.acquire("host0", 20881, None).await.unwrap().epoch, 1);
    let other = broker("g0", BrokerRole::Master, "other", "10.0.0.99", 20881);
    meta.replace_broker(&other).await.unwrap();
    assert_eq!(meta.acquire("other", 20881, None).await.unwrap().epoch, 2);
    assert_eq!(meta.groups()[0].master, "10.0.0.99:20881");
}

#[tokio::test]
async fn a_node_that_another_meta_has_just_entered_is_not_called_unknown() {
    let database = Memory::new();
    let operators = Meta::start(database.clone(), still("operators"))
        .await
        .unwrap();
    let late = Meta::start(database.clone(), still("late")).await.unwrap();
    let stranger = late.acquire("stranger", 1, None).await;
    assert!(
        matches!(stranger, Err(MetaError::UnknownNode { .. })),
        "{stranger:?}"
    );
    operators.add_broker(&master(0)).await.unwrap();
    late.acquire("host0", 20881, None).await.unwrap();
}
