//! Subjects, routes, data sources, names.

use qmq_meta::{DataSource, DatabaseError, OfflineRow};

use super::{Db, master, names, seen};

pub(crate) async fn a_database_begins_empty(db: Db) {
    db.verify().await.unwrap();
    let all = db.read().await.unwrap();
    assert!(all.at > 1_700_000_000_000, "ms since 1970: {}", all.at);
    assert!(all.subjects.is_empty() && all.routes.is_empty() && all.groups.is_empty());
    assert!(all.brokers.is_empty() && all.readonly.is_empty() && all.offline.is_empty());
}

pub(crate) async fn subjects_and_routes_are_kept(db: Db) {
    let before = db.read().await.unwrap().at;
    assert!(db.add_subject("order.paid", "fast").await.unwrap());
    assert!(!db.add_subject("order.paid", "slow").await.unwrap());
    assert!(
        db.add_route("order.paid", &names(&["g1", "g2"]))
            .await
            .unwrap()
    );
    assert!(!db.add_route("order.paid", &names(&["g3"])).await.unwrap());
    let all = db.read().await.unwrap();
    assert_eq!(all.subjects.len(), 1);
    assert_eq!(all.subjects[0].name, "order.paid");
    assert_eq!(all.subjects[0].tag, "fast");
    assert_eq!(all.routes.len(), 1);
    assert_eq!(all.routes[0].subject, "order.paid");
    assert_eq!(all.routes[0].groups, names(&["g1", "g2"]));
    assert_eq!(all.routes[0].version, 0);
    // QMQ's TIMESTAMP columns are in seconds.
    for updated in [all.subjects[0].updated_ms, all.routes[0].updated_ms] {
        assert!(
            (before - 1000..=all.at + 1000).contains(&updated),
            "{updated}"
        );
    }
}

pub(crate) async fn a_route_changes_only_from_the_version_that_was_seen(db: Db) {
    db.add_route("s", &names(&["g1"])).await.unwrap();
    assert!(
        db.change_route("s", &names(&["g1", "g2"]), 0)
            .await
            .unwrap()
    );
    assert!(!db.change_route("s", &names(&["g3"]), 0).await.unwrap());
    assert!(!db.change_route("other", &names(&["g3"]), 0).await.unwrap());
    // Same groups again: still a change of the version.
    assert!(
        db.change_route("s", &names(&["g1", "g2"]), 1)
            .await
            .unwrap()
    );
    let route = db.read().await.unwrap().routes.remove(0);
    assert_eq!((route.groups, route.version), (names(&["g1", "g2"]), 2));
}

pub(crate) async fn of_racing_changes_of_a_route_one_wins(db: Db) {
    db.add_route("s", &[]).await.unwrap();
    let mut racing = tokio::task::JoinSet::new();
    for racer in 0..8 {
        let db = db.clone();
        racing.spawn(async move {
            db.change_route("s", &[format!("g{racer}")], 0)
                .await
                .unwrap()
        });
    }
    let won = racing
        .join_all()
        .await
        .into_iter()
        .filter(|won| *won)
        .count();
    assert_eq!(won, 1);
}

pub(crate) async fn data_sources_are_listed_by_room(db: Db) {
    let source = |url: &str, password: &str, room: &str| DataSource {
        url: url.into(),
        user: "u".into(),
        password: password.into(),
        room: room.into(),
    };
    db.add_data_source(&source("jdbc:mysql://a/b", "old", "r1"))
        .await
        .unwrap();
    db.add_data_source(&source("jdbc:mysql://c/d", "p", "r2"))
        .await
        .unwrap();
    db.add_data_source(&source("jdbc:mysql://a/b", "new", "r1"))
        .await
        .unwrap();
    assert_eq!(
        db.data_sources("r1").await.unwrap(),
        [source("jdbc:mysql://a/b", "new", "r1")]
    );
    assert_eq!(db.data_sources("").await.unwrap().len(), 2);
}

pub(crate) async fn names_with_quotes_are_names(db: Db) {
    for name in [
        "'; DROP TABLE broker_group; --",
        "a\"b\\c`d",
        "%_*?",
        "nul\u{1}",
        "🦀 crab",
    ] {
        assert!(db.add_subject(name, name).await.unwrap());
        assert!(db.add_route(name, &[name.to_owned()]).await.unwrap());
        assert!(db.change_route(name, &[name.to_owned()], 0).await.unwrap());
        seen(&*db, &master(name, name)).await.unwrap();
        let row = OfflineRow {
            client: name.into(),
            subject: name.into(),
            group: name.into(),
        };
        db.switch_off(&row).await.unwrap();
        match db.remove_group(name).await {
            Err(DatabaseError::Refused { reason, .. }) => {
                assert!(reason.starts_with("1 routes"), "{reason}");
            }
            other => panic!("{name:?}: {other:?}"),
        }
        let all = db.read().await.unwrap();
        assert!(all.subjects.iter().any(|subject| subject.name == name));
        assert!(
            all.groups
                .iter()
                .any(|group| group.name == name && group.master == name)
        );
        assert!(all.routes.iter().any(|route| route.groups == [name]));
        assert_eq!(db.switch_on(&row).await.unwrap(), 1);
    }
    assert_eq!(db.read().await.unwrap().groups.len(), 5);
}
