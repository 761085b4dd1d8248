//! What operators do to subjects, routes and groups.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use async_trait::async_trait;
use common::*;
use proptest::prelude::*;
use qmq_meta::{BrokerRole, Database as _, Emptiness, Meta, MetaError, Presence, Standing};

async fn cluster(count: u16) -> Meta {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, count).await;
    meta
}

fn groups(meta: &Meta, subject: &str) -> Vec<String> {
    let route = meta
        .routes()
        .into_iter()
        .find(|route| route.subject == subject);
    route.map(|route| route.groups).unwrap_or_default()
}

#[tokio::test]
async fn groups_are_added_to_a_route_and_taken_from_it_but_the_last() {
    let meta = cluster(2).await;
    let route = meta.add_subject_group("g0", "s").await.unwrap();
    assert_eq!(
        (route.subject.as_str(), route.groups),
        ("s", vec!["g0".to_owned()])
    );
    let route = meta.add_subject_group("g1", "s").await.unwrap();
    assert_eq!(route.groups, ["g0", "g1"]);
    match meta.add_subject_group("g1", "s").await {
        Err(MetaError::AlreadyRouted { route: same, .. }) => assert_eq!(*same, route),
        other => panic!("{other:?}"),
    }
    assert!(
        meta.add_subject_group("g9", "s")
            .await
            .unwrap_err()
            .to_string()
            .contains("\"g9\"")
    );
    meta.add_subject_group("g0", "t").await.unwrap();
    let errors = meta.remove_subject_group("g0", "*").await.unwrap();
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["t"], "{errors:?}");
    assert!(
        errors["t"].contains("is the last of subject \"t\"")
            && errors["t"].contains("AddSubjectBrokerGroup")
    );
    assert_eq!(
        (groups(&meta, "s"), groups(&meta, "t")),
        (vec!["g1".to_owned()], vec!["g0".to_owned()])
    );
    let error = meta
        .remove_subject_group("g0", "s")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not served by broker group \"g0\" but by g1"),
        "{error}"
    );
    assert!(meta.remove_subject_group("g0", "unheard").await.is_err());
}

#[tokio::test]
async fn routes_of_one_group_are_extended_by_another() {
    let meta = cluster(3).await;
    for n in 0..5 {
        meta.add_subject_group("g0", &format!("s{n}"))
            .await
            .unwrap();
    }
    meta.add_subject_group("g1", "other").await.unwrap();
    assert_eq!(meta.extend_route("s1", "g0", "g2").await.unwrap(), 1);
    assert_eq!(meta.extend_route("*", "g0", "g2").await.unwrap(), 4);
    assert_eq!(meta.extend_route("*", "g0", "g2").await.unwrap(), 0);
    assert_eq!(groups(&meta, "s4"), ["g0", "g2"]);
    assert_eq!(groups(&meta, "other"), ["g1"]);
    assert!(meta.extend_route("*", "g0", "g9").await.is_err());
    assert!(meta.extend_route("other", "g0", "g2").await.is_err());
}

#[tokio::test]
async fn subjects_are_not_routed_to_delay_groups_nor_by_their_retry_names() {
    let meta = cluster(1).await;
    let delay = broker("d0", BrokerRole::DelayMaster, "delay", "10.1.0.1", 20801);
    start(&meta, &delay).await;
    let error = meta
        .add_subject_group("d0", "s")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("delay servers"), "{error}");
    let error = meta
        .add_subject_group("g0", "%RETRY%s%g")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("goes wherever subject \"s\" goes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_reset_reaches_every_group_that_may_have_messages() {
    let meta = cluster(2).await;
    producer(&meta, "s").await;
    meta.mark_readonly("*", "g0").await.unwrap();
    present(&meta, Presence::Offline, &master(1)).await;
    let masters: Vec<String> = meta
        .masters_of("s")
        .into_iter()
        .map(|group| group.master)
        .collect();
    let mut masters = masters;
    masters.sort();
    assert_eq!(masters, ["10.0.0.1:20881", "10.0.0.2:20881"]);
    assert!(meta.masters_of("unheard").is_empty());
}

#[tokio::test]
async fn an_operator_is_told_when_the_database_is_away_and_when_it_is_back_again_it_works() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), options("m")).await.unwrap();
    masters(&meta, 1).await;
    database.set_away(true);
    let error = meta.mark_readonly("*", "g0").await.unwrap_err();
    assert!(
        error.to_string().contains("the database is away"),
        "{error}"
    );
    assert!(meta.status().stale);
    database.set_away(false);
    until("up", || !meta.status().stale).await;
    meta.mark_readonly("*", "g0").await.unwrap();
}

#[tokio::test]
async fn changes_are_seen_at_once_where_they_are_made_and_grow_the_number() {
    let meta = cluster(2).await;
    producer(&meta, "s").await;
    let mut changes = meta.changes();
    changes.mark_unchanged();
    let mut seen = || {
        let has = changes.has_changed().unwrap();
        changes.mark_unchanged();
        has
    };
    meta.add_subject("only.a.name", "").await.unwrap();
    assert!(!seen(), "no route is otherwise");
    meta.mark_readonly("s", "g0").await.unwrap();
    assert!(seen());
    meta.switch("c", "s", "g", Standing::Offline).await.unwrap();
    assert!(seen());
    meta.remove_subject_group("g0", "s").await.unwrap();
    assert!(seen());
}

#[derive(Clone, Debug)]
enum Deed {
    Ask(u8),
    Add(u8, u8),
    Remove(u8, u8),
    RemoveAll(u8),
    Extend(u8, u8),
    Mark(u8, u8),
    Unmark(u8, u8),
    Come(u8),
    Go(u8),
    Rebalance,
    Decommission(u8),
    Recommission(u8),
    Drop(u8),
    Away(bool),
    Restart,
    Pass(u16),
}

fn deed() -> impl Strategy<Value = Deed> {
    let s = 0..6_u8;
    let g = 0..4_u8;
    prop_oneof![
        4 => s.clone().prop_map(Deed::Ask),
        2 => (s.clone(), g.clone()).prop_map(|(s, g)| Deed::Add(s, g)),
        2 => (s.clone(), g.clone()).prop_map(|(s, g)| Deed::Remove(s, g)),
        1 => g.clone().prop_map(Deed::RemoveAll),
        1 => (g.clone(), g.clone()).prop_map(|(a, b)| Deed::Extend(a, b)),
        1 => (s.clone(), g.clone()).prop_map(|(s, g)| Deed::Mark(s, g)),
        2 => (s, g.clone()).prop_map(|(s, g)| Deed::Unmark(s, g)),
        3 => g.clone().prop_map(Deed::Come),
        1 => g.clone().prop_map(Deed::Go),
        2 => Just(Deed::Rebalance),
        2 => g.clone().prop_map(Deed::Decommission),
        1 => g.clone().prop_map(Deed::Recommission),
        2 => g.prop_map(Deed::Drop),
        1 => any::<bool>().prop_map(Deed::Away),
        1 => Just(Deed::Restart),
        1 => any::<u16>().prop_map(Deed::Pass),
    ]
}

/// Empty every other time.
#[derive(Default)]
struct Fickle(std::sync::atomic::AtomicBool);

#[async_trait]
impl Emptiness for Fickle {
    async fn is_empty(&self, _: &str, _: &str, _: &str) -> Result<bool, String> {
        Ok(self.0.fetch_xor(true, std::sync::atomic::Ordering::Relaxed))
    }
}

async fn live(deeds: &[Deed]) {
    let folder = tempfile::tempdir().unwrap();
    let options = || {
        let mut options = still("m");
        options.snapshot = Some(folder.path().join("snapshot"));
        options
    };
    let database = Memory::new();
    let mut meta = Meta::start(database.clone(), options()).await.unwrap();
    masters(&meta, 2).await;
    let emptiness = Fickle::default();
    let group = |g: &u8| format!("g{g}");
    let subject = |s: &u8| format!("s{s}");
    let mut stamp = 0;
    let mut routed = std::collections::BTreeSet::new();
    let mut is_away = false;
    for deed in deeds {
        match deed {
            Deed::Ask(s) => {
                if !producer(&meta, &subject(s)).await.groups.is_empty() {
                    routed.insert(subject(s));
                }
            }
            Deed::Add(s, g) => drop(meta.add_subject_group(&group(g), &subject(s)).await),
            Deed::Remove(s, g) => drop(meta.remove_subject_group(&group(g), &subject(s)).await),
            Deed::RemoveAll(g) => drop(meta.remove_subject_group(&group(g), "*").await),
            Deed::Extend(a, b) => drop(meta.extend_route("*", &group(a), &group(b)).await),
            Deed::Mark(s, g) => drop(meta.mark_readonly(&subject(s), &group(g)).await),
            Deed::Unmark(s, g) => drop(meta.unmark_readonly(&subject(s), &group(g)).await),
            Deed::Come(g) => {
                let master = master(u16::from(*g));
                drop(meta.add_broker(&master).await);
                let said = liveness(&master);
                drop(
                    meta.present(Presence::Online, &master.hostname, 20881, &said)
                        .await,
                );
            }
            Deed::Go(g) => {
                let master = master(u16::from(*g));
                let said = liveness(&master);
                drop(
                    meta.present(Presence::Offline, &master.hostname, 20881, &said)
                        .await,
                );
            }
            Deed::Rebalance => drop(meta.rebalance(2, &emptiness).await),
            Deed::Decommission(g) => drop(meta.decommission(&group(g), 2, &emptiness).await),
            Deed::Recommission(g) => drop(meta.recommission(&group(g)).await),
            Deed::Drop(g) => drop(meta.drop_group(&group(g)).await),
            Deed::Away(away) => {
                is_away = *away;
                database.set_away(is_away);
            }
            Deed::Restart => {
                meta.close().await;
                meta = Meta::start(database.clone(), options()).await.unwrap();
            }
            Deed::Pass(ms) => database.pass(u64::from(*ms)),
        }
        if let Ok(answer) = meta.route(&ask("s0", qmq_meta::ClientKind::Consumer)).await {
            assert!(
                answer.stamp >= stamp,
                "{deed:?}: {} after {stamp}",
                answer.stamp
            );
            stamp = answer.stamp;
        }
        let known: Vec<String> = meta.groups().into_iter().map(|group| group.name).collect();
        for route in meta.routes() {
            assert!(
                !route.groups.is_empty(),
                "{deed:?} left {} without a group",
                route.subject
            );
            let is_known = |name: &String| known.contains(name);
            assert!(
                route.groups.iter().any(is_known),
                "{deed:?}: groups of {route:?} are gone"
            );
        }
    }
    if is_away {
        return;
    }
    let _ = meta.mark_readonly("*", "nobody").await;
    meta.close().await;
    let stored = database.read().await.unwrap().routes;
    for subject in routed {
        let is_stored = stored.iter().any(|route| route.subject == subject);
        assert!(is_stored, "{subject} was routed and is not stored");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_deed_leaves_a_route_without_a_group_and_stamps_never_fall(
        deeds in proptest::collection::vec(deed(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(live(&deeds));
    }
}
