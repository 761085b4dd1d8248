//! Groups: who lives, who is master, and the clock by which that is judged.

use std::sync::Arc;

use qmq_meta::{BrokerRole, DatabaseError, GroupKind, GroupState, Liveness, ReadonlyRow};

use super::{Db, broker, master, names, seen};

pub(crate) async fn a_heartbeat_makes_and_changes_the_group(db: Db) {
    let at = seen(&*db, &master("g1", "10.0.0.1:20881")).await.unwrap();
    let all = db.read().await.unwrap();
    let group = &all.groups[0];
    assert_eq!(group.name, "g1");
    assert_eq!(group.kind, GroupKind::Normal);
    assert_eq!(group.master, "10.0.0.1:20881");
    assert_eq!(group.state, GroupState::ReadWrite);
    assert_eq!(group.last_seen_ms, Some(at));
    assert_eq!((group.epoch, group.retiring), (0, false));
    assert!(all.at >= at);
    let long = format!("[2001:db8:1111:2222:3333:4444:5555:6666]:{}", 20881);
    let moved = Liveness {
        state: GroupState::Read,
        ..master("g1", &long)
    };
    seen(&*db, &moved).await.unwrap();
    let delay = Liveness {
        role: BrokerRole::DelayMaster,
        ..master("d1", "10.0.0.2:20801")
    };
    seen(&*db, &delay).await.unwrap();
    let groups = db.read().await.unwrap().groups;
    assert_eq!(groups[0].master, long);
    assert_eq!(groups[0].state, GroupState::Read);
    assert_eq!(groups[1].kind, GroupKind::Delay);
    // Back to one that QMQ's column holds: the long one must not stay before it.
    seen(&*db, &master("g1", "10.0.0.1:20881")).await.unwrap();
    assert_eq!(db.read().await.unwrap().groups[0].master, "10.0.0.1:20881");
}

pub(crate) async fn a_slave_changes_no_group(db: Db) {
    let slave = Liveness {
        role: BrokerRole::Slave,
        ..master("g1", "10.0.0.2:20881")
    };
    seen(&*db, &slave).await.unwrap();
    assert!(db.read().await.unwrap().groups.is_empty());
}

pub(crate) async fn a_stale_epoch_is_refused(db: Db) {
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    assert_eq!(db.grant_epoch("g1", 0, "b:2").await.unwrap(), 1);
    assert_eq!(db.grant_epoch("g1", 1, "c:3").await.unwrap(), 2);
    let before = db.read().await.unwrap().groups;
    assert_eq!((before[0].epoch, before[0].master.as_str()), (2, "c:3"));
    for epoch in [0, 1] {
        let stale = Liveness {
            epoch,
            ..master("g1", "old:1")
        };
        let refused = seen(&*db, &stale).await;
        assert!(
            matches!(refused, Err(DatabaseError::Changed { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(db.read().await.unwrap().groups, before);
    let current = Liveness {
        epoch: 2,
        ..master("g1", "c:33")
    };
    seen(&*db, &current).await.unwrap();
    assert_eq!(db.read().await.unwrap().groups[0].master, "c:33");
}

pub(crate) async fn of_heartbeats_at_once_each_has_its_own_outcome(db: Db) {
    for n in 0..30 {
        let group = format!("g{n}");
        let entry = broker(&group, BrokerRole::Master, &group, "10.0.0.1", 1);
        db.add_broker(&entry).await.unwrap();
    }
    db.seen(&master("g0", "a:1")).await.unwrap();
    assert_eq!(db.grant_epoch("g0", 0, "b:2").await.unwrap(), 1);
    for round in ["first", "second"] {
        let beats: Vec<_> = (0..30)
            .map(|n| {
                let db = Arc::clone(&db);
                tokio::spawn(async move { db.seen(&master(&format!("g{n}"), "a:1")).await })
            })
            .collect();
        for (n, beat) in beats.into_iter().enumerate() {
            let outcome = beat.await.unwrap();
            match n {
                0 => assert!(
                    matches!(outcome, Err(DatabaseError::Changed { .. })),
                    "{round}: {outcome:?}"
                ),
                _ => assert!(outcome.is_ok(), "{round}: {n}: {outcome:?}"),
            }
        }
        let groups = db.read().await.unwrap().groups;
        assert_eq!(groups.len(), 30, "{round}");
        let old = groups.iter().find(|group| group.name == "g0").unwrap();
        assert_eq!((old.epoch, old.master.as_str()), (1, "b:2"), "{round}");
        assert!(groups.iter().all(|group| group.last_seen_ms.is_some()));
    }
}

pub(crate) async fn of_racing_masters_exactly_one_gets_the_epoch(db: Db) {
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    for known in 0..5 {
        let mut racing = tokio::task::JoinSet::new();
        for racer in 0..6 {
            let db = db.clone();
            racing.spawn(async move {
                let address = format!("racer-{racer}:1");
                (db.grant_epoch("g1", known, &address).await, address)
            });
        }
        let mut winners = Vec::new();
        for (granted, address) in racing.join_all().await {
            match granted {
                Ok(epoch) => {
                    assert_eq!(epoch, known + 1);
                    winners.push(address);
                }
                Err(DatabaseError::Changed { .. }) => (),
                Err(other) => panic!("{other:?}"),
            }
        }
        let group = db.read().await.unwrap().groups.remove(0);
        assert_eq!((winners, group.epoch), (vec![group.master], known + 1));
    }
    let unknown = db.grant_epoch("nobody", 0, "a:1").await;
    assert!(
        matches!(unknown, Err(DatabaseError::Changed { .. })),
        "{unknown:?}"
    );
}

pub(crate) async fn an_epoch_outlives_its_group(db: Db) {
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    db.grant_epoch("g1", 0, "b:2").await.unwrap();
    db.remove_group("g1").await.unwrap();
    let returned = seen(&*db, &master("g1", "a:1")).await;
    assert!(
        matches!(returned, Err(DatabaseError::Changed { .. })),
        "{returned:?}"
    );
}

pub(crate) async fn silent_groups_are_swept_after_the_grace(db: Db) {
    const SILENT: u64 = 1200;
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    seen(&*db, &master("g2", "b:1")).await.unwrap();
    let first = db.read().await.unwrap().at;
    // Nobody swept before: all get another time, and then only those that are silent go.
    let mut gone = Vec::new();
    let mut swept_at = 0;
    for _ in 0..400 {
        seen(&*db, &master("g2", "b:1")).await.unwrap();
        gone = db.sweep(SILENT).await.unwrap();
        if !gone.is_empty() {
            swept_at = db.read().await.unwrap().at;
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(gone, ["g1"]);
    assert!(swept_at - first >= SILENT, "after {} ms", swept_at - first);
    let groups = db.read().await.unwrap().groups;
    assert_eq!(groups[0].state, GroupState::None);
    assert_eq!(groups[1].state, GroupState::ReadWrite);
    assert!(groups[0].last_seen_ms.is_some());
    assert!(db.sweep(SILENT).await.unwrap().is_empty(), "once");
    // Heard again, it is back at once.
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    assert_eq!(
        db.read().await.unwrap().groups[0].state,
        GroupState::ReadWrite
    );
    // All meta servers were away longer than groups may be silent: the first sweep takes nobody.
    tokio::time::sleep(std::time::Duration::from_millis(SILENT + 200)).await;
    assert!(db.sweep(SILENT).await.unwrap().is_empty());
    assert_eq!(
        db.read().await.unwrap().groups[0].state,
        GroupState::ReadWrite
    );
}

pub(crate) async fn a_group_that_our_meta_never_heard_of_is_not_swept(db: Db) {
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    db.remove_group("g1").await.unwrap();
    // What stays of the group must not count as heard of.
    for _ in 0..20 {
        assert!(db.sweep(100).await.unwrap().is_empty());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

pub(crate) async fn the_clock_never_falls(db: Db) {
    let mut racing = tokio::task::JoinSet::new();
    for racer in 0..4 {
        let db = db.clone();
        racing.spawn(async move {
            let mut last = 0;
            for _ in 0..25 {
                let now = if racer % 2 == 0 {
                    db.read().await.unwrap().at
                } else {
                    seen(&*db, &master(&format!("g{racer}"), "a:1"))
                        .await
                        .unwrap()
                };
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        });
    }
    racing.join_all().await;
}

pub(crate) async fn groups_retire_and_are_tagged(db: Db) {
    assert!(!db.set_retiring("g1", true).await.unwrap());
    assert!(
        !db.set_group_tag("g1", GroupKind::Delay, "fast")
            .await
            .unwrap()
    );
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    assert!(db.set_retiring("g1", true).await.unwrap());
    assert!(
        db.set_group_tag("g1", GroupKind::Delay, "fast")
            .await
            .unwrap()
    );
    assert!(
        db.set_group_tag("g1", GroupKind::Delay, "fast")
            .await
            .unwrap(),
        "as it is"
    );
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    let group = db.read().await.unwrap().groups.remove(0);
    assert_eq!(
        (group.kind, group.tag.as_str(), group.retiring),
        (GroupKind::Delay, "fast", true)
    );
    assert!(db.set_retiring("g1", false).await.unwrap());
    assert!(!db.read().await.unwrap().groups[0].retiring);
}

pub(crate) async fn a_group_goes_only_when_no_route_names_it(db: Db) {
    seen(&*db, &master("g1", "a:1")).await.unwrap();
    seen(&*db, &master("g10", "b:1")).await.unwrap();
    db.add_broker(&broker("g1", BrokerRole::Slave, "h2", "fe80::1", 1))
        .await
        .unwrap();
    let setting = ReadonlyRow {
        subject: "*".into(),
        group: "g1".into(),
    };
    db.add_readonly(&setting).await.unwrap();
    db.add_route("s", &names(&["g10", "g1"])).await.unwrap();
    match db.remove_group("g1").await {
        Err(DatabaseError::Refused { reason, .. }) => assert!(reason.contains("\"s\""), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(db.read().await.unwrap().brokers.len(), 3);
    db.change_route("s", &names(&["g10"]), 0).await.unwrap();
    db.remove_group("g1").await.unwrap();
    let all = db.read().await.unwrap();
    assert_eq!(all.groups.len(), 1);
    assert_eq!(all.brokers.len(), 1, "that of g10");
    assert!(all.readonly.is_empty());
    let again = db.remove_group("g1").await;
    assert!(
        matches!(again, Err(DatabaseError::Changed { .. })),
        "{again:?}"
    );
}

pub(crate) async fn a_heartbeat_of_nobody_changes_nothing(db: Db) {
    let changed = |outcome: Result<u64, DatabaseError>| {
        assert!(
            matches!(outcome, Err(DatabaseError::Changed { .. })),
            "{outcome:?}"
        );
    };
    changed(db.seen(&master("g1", "a:1")).await);
    let slave = broker("g1", BrokerRole::Slave, "h1", "10.0.0.1", 1);
    db.add_broker(&slave).await.unwrap();
    changed(db.seen(&master("g1", "a:1")).await);
    assert!(db.read().await.unwrap().groups.is_empty());
    // The second kind of table: an address that QMQ's cannot hold.
    let six = broker("g1", BrokerRole::Master, "h2", "fe80::1", 1);
    db.add_broker(&six).await.unwrap();
    db.seen(&master("g1", "a:1")).await.unwrap();
    db.remove_group("g1").await.unwrap();
    changed(db.seen(&master("g1", "a:1")).await);
    assert!(db.read().await.unwrap().groups.is_empty());
}

pub(crate) async fn only_an_operator_brings_a_removed_group_back(db: Db) {
    let entry = broker("g1", BrokerRole::Master, "h1", "10.0.0.1", 1);
    db.enter_broker(&entry).await.unwrap();
    db.seen(&master("g1", "a:1")).await.unwrap();
    for removed in 0..2 {
        db.remove_group("g1").await.unwrap();
        match db.enter_broker(&entry).await {
            Err(error @ DatabaseError::Decommissioned { .. }) => {
                let text = error.to_string();
                assert!(text.contains("\"g1\" was decommissioned"), "{text}");
                assert!(text.contains("\nqmq tools AddBroker "), "{text}");
            }
            other => panic!("{removed}: {other:?}"),
        }
        assert!(db.read().await.unwrap().brokers.is_empty());
        db.add_broker(&entry).await.unwrap();
        db.seen(&master("g1", "a:1")).await.unwrap();
        assert!(!db.read().await.unwrap().groups[0].retiring);
    }
    let slave = |port| broker("g1", BrokerRole::Slave, "h2", "10.0.0.2", port);
    db.enter_broker(&slave(1)).await.unwrap();
    // One that is there and retires: what an operator enters does not end that.
    db.set_retiring("g1", true).await.unwrap();
    let refused = db.enter_broker(&slave(3)).await;
    assert!(
        matches!(refused, Err(DatabaseError::Decommissioned { .. })),
        "{refused:?}"
    );
    db.add_broker(&slave(3)).await.unwrap();
    assert!(db.read().await.unwrap().groups[0].retiring);
}
