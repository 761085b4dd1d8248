//! Rebalance and decommission: nothing is lost by them, and they go on after a restart.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use common::*;
use parking_lot::Mutex;
use qmq_meta::{
    BrokerRole, ClientKind, Database as _, Emptiness, Meta, MetaError, Presence, ReadonlyRow,
};

/// Knows which subjects still have messages in which group.
#[derive(Default)]
struct Brokers {
    full: Mutex<BTreeSet<(String, String)>>,
    mute: Mutex<bool>,
}

impl Brokers {
    fn fill(&self, group: &str, subject: &str) {
        self.full
            .lock()
            .insert((group.to_owned(), subject.to_owned()));
    }

    fn consume(&self) {
        self.full.lock().clear();
    }
}

#[async_trait]
impl Emptiness for Brokers {
    async fn is_empty(&self, group: &str, master: &str, subject: &str) -> Result<bool, String> {
        assert!(
            master.ends_with(":20881") || master.ends_with(":20801"),
            "{master}"
        );
        if *self.mute.lock() {
            return Err(format!("{master} does not answer"));
        }
        Ok(!self
            .full
            .lock()
            .contains(&(group.to_owned(), subject.to_owned())))
    }
}

async fn loads(meta: &Meta) -> BTreeMap<String, u32> {
    let mut loads = BTreeMap::new();
    for route in meta.routes() {
        for group in route.groups {
            *loads.entry(group).or_default() += 1;
        }
    }
    loads
}

/// Every subject has a group that takes its messages, and consumers see all that may have some.
async fn nobody_lost(meta: &Meta, brokers: &Brokers, subjects: &[String]) {
    for subject in subjects {
        let produce = producer(meta, subject).await;
        assert!(
            produce.groups.iter().any(|group| group.writable),
            "{subject}: {produce:?}"
        );
        let consume = consumer(meta, subject).await;
        for (group, with) in brokers.full.lock().iter() {
            let seen = names(&consume).contains(&group.as_str());
            assert!(
                with != subject || seen,
                "messages of {subject} in {group} are lost"
            );
        }
    }
}

#[tokio::test]
async fn a_rebalance_gives_a_new_group_its_share_and_loses_nothing() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 2).await;
    let subjects: Vec<String> = (0..60).map(|n| format!("s{n}")).collect();
    let brokers = Brokers::default();
    for subject in &subjects {
        for name in names(&producer(&meta, subject).await) {
            brokers.fill(name, subject);
        }
    }
    start(&meta, &master(2)).await;
    let plan = meta.rebalance_plan();
    assert_eq!(
        plan.moves.len(),
        40,
        "each of three groups gets 40 of 120 places"
    );
    assert!(
        plan.moves
            .iter()
            .all(|step| step.to.as_deref() == Some("g2"))
    );
    assert_eq!(meta.rebalance_plan(), plan, "planning changes nothing");
    let mut progress = meta.rebalance(7, &brokers).await.unwrap();
    assert_eq!(
        (progress.begun, progress.ended, progress.to_begin),
        (7, 0, 33)
    );
    while progress.to_begin > 0 {
        nobody_lost(&meta, &brokers, &subjects).await;
        progress = meta.rebalance(7, &brokers).await.unwrap();
    }
    nobody_lost(&meta, &brokers, &subjects).await;
    let progress = meta.rebalance(100, &brokers).await.unwrap();
    assert_eq!(
        (progress.begun, progress.ended, progress.waiting),
        (0, 0, 40),
        "nothing is empty yet"
    );
    for step in meta.rebalance_plan().draining {
        let producers = producer(&meta, &step.subject).await;
        assert!(
            !names(&producers).contains(&step.from.unwrap().as_str()),
            "producers have left"
        );
        assert_eq!(producers.groups.len(), 2);
    }
    drop(meta);
    let meta = Meta::start(database.clone(), still("after a crash"))
        .await
        .unwrap();
    *brokers.mute.lock() = true;
    let progress = meta.rebalance(100, &brokers).await.unwrap();
    assert_eq!(progress.ended, 0, "what cannot be told is not empty");
    assert!(progress.problems[0].1.contains("does not answer"));
    *brokers.mute.lock() = false;
    brokers.consume();
    for _ in 0..20 {
        if meta.rebalance(7, &brokers).await.unwrap().is_done() {
            break;
        }
    }
    assert!(meta.rebalance(7, &brokers).await.unwrap().is_done());
    let loads = loads(&meta).await;
    assert_eq!(
        loads.values().copied().collect::<Vec<_>>(),
        [40, 40, 40],
        "{loads:?}"
    );
    assert!(
        database.read().await.unwrap().readonly.is_empty(),
        "its settings are gone with it"
    );
    assert!(meta.routes().iter().all(|route| route.groups.len() == 2));
}

#[tokio::test]
async fn a_group_that_an_operator_made_read_only_is_not_taken_for_a_move() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 2).await;
    producer(&meta, "s").await;
    meta.mark_readonly("s", "g0").await.unwrap();
    let progress = meta.rebalance(10, &Brokers::default()).await.unwrap();
    assert!(progress.is_done() && progress.ended == 0, "{progress:?}");
    assert_eq!(names(&consumer(&meta, "s").await), ["g0", "g1"]);
}

#[tokio::test]
async fn producers_have_time_to_leave_before_anybody_asks_whether_it_is_empty() {
    let mut options = still("m");
    options.settle = Duration::from_millis(300);
    let meta = Meta::start(Memory::new(), options).await.unwrap();
    masters(&meta, 1).await;
    for n in 0..4 {
        producer(&meta, &format!("s{n}")).await;
    }
    start(&meta, &master(1)).await;
    let brokers = Brokers::default();
    let begun = std::time::Instant::now();
    let mut progress = meta.decommission("g0", 10, &brokers).await.unwrap();
    while !progress.is_done() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
        progress = meta.decommission("g0", 10, &brokers).await.unwrap();
        assert!(progress.ended == 0 || begun.elapsed() >= Duration::from_millis(300));
    }
}

#[tokio::test]
async fn a_decommission_drains_a_group_and_then_it_can_be_dropped() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 3).await;
    let subjects: Vec<String> = (0..30).map(|n| format!("s{n}")).collect();
    let brokers = Brokers::default();
    for subject in &subjects {
        for name in names(&producer(&meta, subject).await) {
            brokers.fill(name, subject);
        }
    }
    let refused = meta.drop_group("g0").await.unwrap_err().to_string();
    assert!(refused.contains("qmq meta decommission g0"), "{refused}");
    let mut progress = meta.decommission("g0", 4, &brokers).await.unwrap();
    assert_eq!(progress.begun, 4);
    assert!(
        !meta.groups()[0].retiring,
        "not before all of its subjects have others"
    );
    while progress.to_begin > 0 {
        nobody_lost(&meta, &brokers, &subjects).await;
        progress = meta.decommission("g0", 4, &brokers).await.unwrap();
    }
    assert!(meta.groups()[0].retiring);
    nobody_lost(&meta, &brokers, &subjects).await;
    for subject in &subjects {
        let answer = producer(&meta, subject).await;
        assert_eq!(
            names(&answer),
            ["g1", "g2"],
            "each keeps min.group.num others"
        );
    }
    assert_eq!(names(&producer(&meta, "new").await), ["g1", "g2"]);
    assert!(meta.add_subject_group("g0", "new").await.is_err());
    assert!(meta.drop_group("g0").await.is_err(), "it is not empty");
    drop(meta);
    let meta = Meta::start(database.clone(), still("after a crash"))
        .await
        .unwrap();
    brokers.consume();
    for _ in 0..20 {
        if meta
            .decommission("g0", 4, &brokers)
            .await
            .unwrap()
            .is_done()
        {
            break;
        }
    }
    assert!(loads(&meta).await.keys().all(|group| group != "g0"));
    meta.drop_group("g0").await.unwrap();
    assert_eq!(meta.groups().len(), 2);
    assert!(meta.brokers(Some("g0")).is_empty());
}

#[tokio::test]
async fn the_last_group_is_not_decommissioned_and_an_ended_one_comes_back() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    masters(&meta, 2).await;
    producer(&meta, "s").await;
    let brokers = Brokers::default();
    brokers.fill("g0", "s");
    meta.decommission("g0", 10, &brokers).await.unwrap();
    for _ in 0..3 {
        let refused = meta.decommission("g1", 10, &brokers).await;
        assert!(
            matches!(refused, Err(MetaError::Refused { .. })),
            "{refused:?}"
        );
    }
    assert!(!meta.groups()[1].retiring);
    assert_eq!(names(&producer(&meta, "s").await), ["g1"]);
    meta.recommission("g0").await.unwrap();
    assert_eq!(names(&producer(&meta, "s").await), ["g0", "g1"]);
    let unheard = meta.decommission("g7", 10, &brokers).await.unwrap_err();
    assert!(unheard.to_string().contains("\"g7\""), "{unheard}");
}

#[tokio::test]
async fn a_group_stays_in_a_route_whose_others_are_away() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 3).await;
    producer(&meta, "s").await;
    let brokers = Brokers::default();
    let first = meta.routes()[0].groups[0].clone();
    while meta.decommission(&first, 10, &Full).await.unwrap().to_begin > 0 {}
    for number in 0..3 {
        if format!("g{number}") != first {
            present(&meta, Presence::Offline, &master(number)).await;
        }
    }
    let step = meta.decommission(&first, 10, &brokers).await;
    assert!(matches!(step, Err(MetaError::Refused { .. })), "{step:?}");
    assert!(meta.routes()[0].groups.contains(&first));
}

/// Never empty.
struct Full;

#[async_trait]
impl Emptiness for Full {
    async fn is_empty(&self, _: &str, _: &str, _: &str) -> Result<bool, String> {
        Ok(false)
    }
}

#[tokio::test]
async fn a_delay_group_retires_when_another_takes_over_and_it_is_empty() {
    let meta = Meta::start(Memory::new(), still("m")).await.unwrap();
    let server = |n: u8| {
        broker(
            &format!("d{n}"),
            BrokerRole::DelayMaster,
            &format!("h{n}"),
            &format!("10.1.0.{n}"),
            20801,
        )
    };
    start(&meta, &server(0)).await;
    let brokers = Brokers::default();
    brokers.fill("d0", "*");
    let last = meta.decommission("d0", 10, &brokers).await.unwrap_err();
    assert!(last.to_string().contains("add another first"), "{last}");
    start(&meta, &server(1)).await;
    let progress = meta.decommission("d0", 10, &brokers).await.unwrap();
    assert_eq!(progress.waiting, 1);
    let delay = meta
        .route(&ask("s", ClientKind::DelayProducer))
        .await
        .unwrap();
    assert_eq!(names(&delay), ["d1"]);
    brokers.consume();
    assert!(
        meta.decommission("d0", 10, &brokers)
            .await
            .unwrap()
            .is_done()
    );
    meta.drop_group("d0").await.unwrap();
}

#[tokio::test]
async fn a_stale_setting_of_a_subject_keeps_a_group_from_being_given_to_it() {
    let database = Memory::new();
    let meta = Meta::start(database.clone(), still("m")).await.unwrap();
    masters(&meta, 3).await;
    let row = ReadonlyRow {
        subject: "s".to_owned(),
        group: "g1".to_owned(),
    };
    database.add_readonly(&row).await.unwrap();
    start(&meta, &master(3)).await;
    for _ in 0..20 {
        assert!(!names(&producer(&meta, "s").await).contains(&"g1"));
    }
}
