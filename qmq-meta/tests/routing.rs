//! Which groups serve a subject.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use qmq_meta::{
    BrokerRole, ClientKind, GroupKind, GroupState, Meta, MetaError, Presence, Standing,
};

#[tokio::test]
async fn a_new_subject_gets_two_different_groups_and_keeps_them() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 5).await;
    let first = producer(&meta, "order.changed").await;
    assert_eq!(first.groups.len(), 2);
    assert_ne!(names(&first)[0], names(&first)[1]);
    assert!(
        first
            .groups
            .iter()
            .all(|group| group.writable && group.readable)
    );
    for _ in 0..20 {
        assert_eq!(producer(&meta, "order.changed").await.groups, first.groups);
    }
    let mut stored = database.route("order.changed").unwrap().groups;
    stored.sort();
    assert_eq!(stored, names(&first));
    let retry = consumer(&meta, "%RETRY%order.changed%ticket").await;
    let dead = consumer(&meta, "%DEAD_RETRY%order.changed%ticket").await;
    assert_eq!(
        (names(&retry), names(&dead)),
        (names(&first), names(&first))
    );
    assert_eq!(
        meta.routes().len(),
        1,
        "retry and dead-letter subjects have none of their own"
    );
}

#[tokio::test]
async fn a_name_that_breaks_a_rule_is_refused_with_the_rule() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 1).await;
    let error = meta
        .route(&ask("../../etc/passwd", ClientKind::Producer))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("has '/' at byte 2"), "{error}");
    for name in ["", "a b", "*", &"x".repeat(300)] {
        assert!(
            meta.route(&ask(name, ClientKind::Producer)).await.is_err(),
            "{name:?}"
        );
    }
    assert!(meta.routes().is_empty());
}

#[tokio::test]
async fn f2_one_group_clusters_read_no_database_for_each_request() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 1).await;
    assert_eq!(names(&producer(&meta, "s").await), ["g0"]);
    database.calls();
    for _ in 0..100 {
        assert_eq!(names(&producer(&meta, "s").await), ["g0"]);
        assert_eq!(names(&consumer(&meta, "s").await), ["g0"]);
    }
    assert_eq!(database.calls(), 0);
}

#[tokio::test]
async fn f2_a_route_that_could_have_more_groups_waits_for_the_database_to_be_back() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 2).await;
    meta.add_subject_group("g0", "s").await.unwrap();
    database.set_away(true);
    assert!(meta.mark_readonly("*", "g0").await.is_err());
    assert!(meta.status().stale);
    database.calls();
    for _ in 0..10 {
        assert_eq!(names(&producer(&meta, "s").await), ["g0"]);
    }
    assert_eq!(database.calls(), 0);
}

#[tokio::test]
async fn f2_a_database_that_is_away_takes_no_route_from_anybody() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), options("m")).await.unwrap();
    masters(&meta, 1).await;
    let before = consumer(&meta, "s").await;
    database.set_away(true);
    until("away", || meta.status().stale).await;
    let answer = consumer(&meta, "s").await;
    assert_eq!(answer.groups, before.groups);
    assert_eq!(answer.standing, Standing::Online);
    assert!(answer.stale && answer.stamp >= before.stamp);
    let given = producer(&meta, "new.one").await;
    assert_eq!(names(&given), ["g0"]);
    assert_eq!(meta.status().routes_to_store, 1);
    assert_eq!(database.route("new.one"), None);
    database.set_away(false);
    until("stored", || database.route("new.one").is_some()).await;
    until("up", || {
        !meta.status().stale && meta.status().routes_to_store == 0
    })
    .await;
    assert_eq!(producer(&meta, "new.one").await.groups, given.groups);
}

#[tokio::test]
async fn a_database_that_fails_in_the_middle_of_a_new_subject_takes_no_route_from_it() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 3).await;
    database.fail_once();
    let given = producer(&meta, "s").await;
    assert_eq!(given.groups.len(), 2);
    assert!(given.stale);
}

#[tokio::test]
async fn two_metas_that_gave_other_routes_meanwhile_keep_the_groups_of_both() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), options("m")).await.unwrap();
    masters(&meta, 4).await;
    database.set_away(true);
    until("away", || meta.status().stale).await;
    let given = producer(&meta, "s").await;
    let other = (0..4)
        .map(|n| format!("g{n}"))
        .find(|name| !names(&given).contains(&name.as_str()));
    let other = other.unwrap();
    database.meddle(|tables| {
        tables.routes.push(qmq_meta::SubjectRoute {
            subject: "s".to_owned(),
            groups: vec![other.clone()],
            version: 3,
            updated_ms: 0,
        });
    });
    database.set_away(false);
    until("settled", || meta.status().routes_to_store == 0).await;
    let groups = database.route("s").unwrap().groups;
    assert!(
        names(&given)
            .iter()
            .all(|name| groups.contains(&(*name).to_owned())),
        "{groups:?}"
    );
    assert!(groups.contains(&other));
}

#[tokio::test]
async fn with_no_group_known_and_the_database_away_the_answer_is_an_error() {
    let database = Memory::new();
    database.set_away(true);
    let meta = Meta::start(database.clone(), options("m")).await.unwrap();
    for kind in [
        ClientKind::Producer,
        ClientKind::Consumer,
        ClientKind::DelayProducer,
    ] {
        let error = meta.route(&ask("s", kind)).await.unwrap_err();
        assert!(matches!(error, MetaError::Unavailable { .. }), "{error}");
    }
    database.set_away(false);
    until("up", || !meta.status().stale).await;
    assert!(producer(&meta, "s").await.groups.is_empty());
}

#[tokio::test]
async fn a_route_with_too_few_groups_gets_more_when_there_are() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 1).await;
    assert_eq!(names(&producer(&meta, "s").await), ["g0"]);
    start(&meta, &master(1)).await;
    database.meddle(|tables| tables.routes[0].version = 9);
    assert_eq!(
        names(&producer(&meta, "s").await),
        ["g0", "g1"],
        "though another changed it meanwhile"
    );
    assert_eq!(database.route("s").unwrap().version, 10);
    present(&meta, Presence::Offline, &master(0)).await;
    start(&meta, &master(2)).await;
    assert_eq!(
        names(&producer(&meta, "s").await),
        ["g1"],
        "one that is away is not replaced"
    );
}

#[tokio::test]
async fn a_new_group_takes_its_share_of_new_subjects() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 2).await;
    for number in 0..500 {
        producer(&meta, &format!("old.{number}")).await;
    }
    start(&meta, &master(2)).await;
    let mut shares: HashMap<String, u32> = HashMap::new();
    for number in 0..1000 {
        let answer = producer(&meta, &format!("new.{number}")).await;
        let names = names(&answer);
        assert_eq!(names.len(), 2);
        assert_ne!(names[0], names[1]);
        for name in names {
            *shares.entry(name.to_owned()).or_default() += 1;
        }
    }
    let total = |name: &str| 500 * u32::from(name != "g2") + shares[name];
    assert!(shares["g2"] >= 667, "at least a third of 2,000: {shares:?}");
    assert!(total("g2").abs_diff(total("g0")) < 100, "{shares:?}");
}

#[tokio::test]
async fn subjects_go_to_groups_of_their_tag() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 4).await;
    meta.set_group_tag("g2", GroupKind::Normal, "fast")
        .await
        .unwrap();
    meta.set_group_tag("g3", GroupKind::Normal, "fast")
        .await
        .unwrap();
    meta.add_subject("quick", "fast").await.unwrap();
    meta.add_subject("odd", "unheard").await.unwrap();
    assert_eq!(names(&producer(&meta, "quick").await), ["g2", "g3"]);
    for subject in ["plain", "odd"] {
        assert_eq!(names(&producer(&meta, subject).await), ["g0", "g1"]);
    }
    assert!(matches!(
        meta.add_subject("quick", "slow").await,
        Err(MetaError::SubjectExists { subject }) if subject.tag == "fast"
    ));
}

#[tokio::test]
async fn producers_leave_read_only_groups_and_consumers_stay() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 2).await;
    producer(&meta, "a").await;
    producer(&meta, "b").await;
    meta.mark_readonly("a", "g0").await.unwrap();
    assert_eq!(names(&producer(&meta, "a").await), ["g1"]);
    assert_eq!(names(&producer(&meta, "b").await), ["g0", "g1"]);
    let answer = consumer(&meta, "a").await;
    assert_eq!(names(&answer), ["g0", "g1"]);
    assert!(answer.groups[0].readable && !answer.groups[0].writable);
    meta.mark_readonly("*", "g1").await.unwrap();
    assert_eq!(names(&producer(&meta, "b").await), ["g0"]);
    assert!(producer(&meta, "a").await.groups.is_empty());
    assert!(meta.unmark_readonly("*", "g1").await.unwrap());
    assert!(!meta.unmark_readonly("*", "g1").await.unwrap());
    assert_eq!(names(&producer(&meta, "a").await), ["g1"]);
    assert!(meta.mark_readonly("*", "none").await.is_err());
}

#[tokio::test]
async fn delayed_messages_of_a_subject_stay_with_two_delay_groups() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    let servers: Vec<_> = (0..6)
        .map(|n| {
            broker(
                &format!("d{n}"),
                BrokerRole::DelayMaster,
                &format!("delay{n}"),
                &format!("10.1.0.{n}"),
                20801,
            )
        })
        .collect();
    for server in &servers {
        start(&meta, server).await;
    }
    let delay = ask("s", ClientKind::DelayProducer);
    let first = meta.route(&delay).await.unwrap();
    assert_eq!(first.groups.len(), 2);
    for _ in 0..50 {
        assert_eq!(meta.route(&delay).await.unwrap().groups, first.groups);
    }
    let mut used = std::collections::BTreeSet::new();
    for n in 0..100 {
        let answer = meta
            .route(&ask(&format!("s{n}"), ClientKind::DelayProducer))
            .await
            .unwrap();
        used.extend(names(&answer).into_iter().map(ToOwned::to_owned));
    }
    assert_eq!(used.len(), 6, "all of them serve somebody");
    let gone = servers
        .iter()
        .find(|server| server.group == names(&first)[0])
        .unwrap();
    present(&meta, Presence::Offline, gone).await;
    let after = meta.route(&delay).await.unwrap();
    assert_eq!(after.groups.len(), 2);
    assert!(
        names(&after).contains(&names(&first)[1]),
        "the other one stays"
    );
    assert!(
        producer(&meta, "s").await.groups.is_empty(),
        "they serve delayed messages only"
    );
}

#[tokio::test]
async fn f6_a_state_reaches_routes_within_a_refresh_and_is_announced() {
    let database = Memory::new();
    let ours = Meta::start(database.clone(), options("ours"))
        .await
        .unwrap();
    let other = Meta::start(database.clone(), still("other")).await.unwrap();
    masters(&other, 2).await;
    until("seen", || ours.groups().len() == 2).await;
    producer(&ours, "s").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut changes = ours.changes();
    changes.mark_unchanged();
    present(&other, Presence::Heartbeat, &master(0)).await;
    let quiet = tokio::time::timeout(Duration::from_millis(300), changes.changed()).await;
    assert!(quiet.is_err(), "a heartbeat alone is no news");
    present(&other, Presence::Offline, &master(0)).await;
    tokio::time::timeout(Duration::from_secs(10), changes.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(names(&producer(&ours, "s").await), ["g1"]);
}

#[tokio::test]
async fn consumers_are_switched_off_one_by_one_by_group_and_wholly() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 1).await;
    let standing = async |subject: &str| consumer(&meta, subject).await.standing;
    meta.switch("client-1", "s", "ticket", Standing::Offline)
        .await
        .unwrap();
    assert_eq!(standing("s").await, Standing::Offline);
    assert_eq!(standing("%RETRY%s%ticket").await, Standing::Offline);
    assert_eq!(standing("t").await, Standing::Online);
    assert_eq!(producer(&meta, "s").await.standing, Standing::Online);
    meta.switch("client-1", "s", "ticket", Standing::Online)
        .await
        .unwrap();
    assert_eq!(standing("s").await, Standing::Online);
    meta.switch("*", "s", "ticket", Standing::Offline)
        .await
        .unwrap();
    assert_eq!(standing("s").await, Standing::Offline);
    meta.switch("*", "s", "ticket", Standing::Online)
        .await
        .unwrap();
    meta.switch("client-1", "*", "*", Standing::Offline)
        .await
        .unwrap();
    assert_eq!(standing("t").await, Standing::Offline);
    assert_eq!(meta.standing("client-2", "t", "ticket"), Standing::Online);
    assert!(meta.switch("*", "*", "*", Standing::Offline).await.is_err());
    assert!(
        meta.switch("client-1", "s", "*", Standing::Offline)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn clients_are_remembered_once_and_long_names_take_nobody_along() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), options("m")).await.unwrap();
    masters(&meta, 1).await;
    let mut long = ask("s", ClientKind::Consumer);
    long.client = "c".repeat(101);
    meta.route(&long).await.unwrap();
    for _ in 0..10 {
        consumer(&meta, "s").await;
        producer(&meta, "s").await;
    }
    until("written", || database.clients().len() == 2).await;
    meta.close().await;
    assert_eq!(database.clients().len(), 2);
    assert_eq!(meta.status().clients_dropped, 1);
    assert_eq!(meta.consumers("s").await.unwrap().len(), 1);
}

#[tokio::test]
async fn more_clients_than_the_queue_holds_are_dropped_and_counted() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 1).await;
    database.set_away(true);
    for number in 0..20_000 {
        let mut request = ask("s", ClientKind::Consumer);
        request.client = format!("c{number}");
        meta.route(&request).await.unwrap();
    }
    let dropped = meta.status().clients_dropped;
    assert!((1..=10_000).contains(&dropped), "{dropped}");
}

#[tokio::test]
async fn a_group_that_only_reads_is_given_to_nobody_as_writable() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 2).await;
    producer(&meta, "s").await;
    let mut said = liveness(&master(0));
    said.state = GroupState::Read;
    meta.present(Presence::Heartbeat, "host0", 20881, &said)
        .await
        .unwrap();
    let answer = producer(&meta, "s").await;
    assert_eq!(names(&answer), ["g0", "g1"]);
    assert!(!answer.groups[0].writable && answer.groups[0].readable);
}

#[tokio::test]
async fn min_group_num_is_read_at_each_request() {
    let options = still("m");
    let wanted = options.min_group_num.clone();
    let meta = Meta::start(Memory::new(), options).await.unwrap();
    masters(&meta, 4).await;
    assert_eq!(producer(&meta, "s").await.groups.len(), 2);
    wanted.store(3, Ordering::Relaxed);
    assert_eq!(producer(&meta, "s").await.groups.len(), 3);
    wanted.store(1, Ordering::Relaxed);
    assert_eq!(
        producer(&meta, "s").await.groups.len(),
        3,
        "a route never shrinks by itself"
    );
    assert_eq!(producer(&meta, "t").await.groups.len(), 1);
}
