//! The broker ends, in order or not, and begins again on the same folder.

use std::collections::BTreeSet;

use qmq_wire::{Code, Durability};

use super::test_broker::{Home, TestBroker};
use super::wire_client::{Batch, Peer, flow, outcomes, pull_sequences, sequences};

const PLENTY: u64 = 1 << 40;

async fn again(broker: TestBroker, in_order: bool) -> TestBroker {
    let home: Home = match in_order {
        true => broker.drain().await,
        false => broker.crash(),
    };
    home.start_patiently().await
}

async fn a_restart_keeps_what_was_held(in_order: bool) {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "1500")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 20, 10).await;
    let mut sub = peer
        .subscribe(&flow("order", "g", "back"), 10, PLENTY)
        .await;
    let held = sub.take(10).await;
    let mut other = peer
        .subscribe(&flow("order", "g", "lost"), 10, PLENTY)
        .await;
    let lost = other.take(10).await;
    sub.ack(&held[..4]).await;
    let incarnation = sub.subscribed.incarnation;

    let broker = again(broker, in_order).await;
    let peer = broker.peer().await;
    assert_eq!(broker.group("order", "g").unwrap().cursor, 20);
    let mut sub = peer
        .subscribe(&flow("order", "g", "back"), 100, PLENTY)
        .await;
    assert!(
        !sub.subscribed.resumed,
        "the broker does not know the session any more"
    );
    assert_eq!(sub.subscribed.incarnation == incarnation, in_order);
    let came = sub.take(6).await;
    assert_eq!(pull_sequences(&came), pull_sequences(&held[4..]));
    assert!(came.iter().all(|one| one.attempt == 0));
    sub.ack(&came).await;
    // The other one does not come back, and is gone after its time.
    sub.none_within(500).await;
    let theirs = sub.take(10).await;
    let as_set = |all| sequences(all).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(as_set(&theirs), as_set(&lost));
    assert!(theirs.iter().all(|one| one.attempt == 1));
    sub.ack(&theirs).await;
    let group = broker.group("order", "g").unwrap();
    assert_eq!(
        (group.lag, group.unacked, group.waiting),
        (0, 0, 0),
        "{group:?}"
    );
    // What is published goes on behind what was there.
    assert_eq!(peer.publish("order", 1, 10).await, 20);
    assert_eq!(sub.one().await.sequence, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_survives_an_orderly_end() {
    a_restart_keeps_what_was_held(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_survives_a_broker_that_was_dropped() {
    a_restart_keeps_what_was_held(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_progress_survives_both_ways() {
    for in_order in [true, false] {
        let mut broker = TestBroker::start(&[]).await;
        for round in 0..3_u64 {
            let peer = broker.peer().await;
            assert_eq!(peer.publish("order", 10, 10).await, round * 10);
            let mut sub = peer.subscribe(&flow("order", "g", "c"), 100, PLENTY).await;
            let mine = sub.take(10).await;
            assert_eq!(
                sequences(&mine),
                (round * 10..round * 10 + 10).collect::<Vec<_>>()
            );
            sub.ack(&mine).await;
            broker = again(broker, in_order).await;
            assert_eq!(broker.group("order", "g").unwrap().unacked, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_has_restarted_knows_no_producer_and_takes_any_number() {
    let broker = TestBroker::start(&[]).await;
    let batch = Batch::bodies("order", ["a"])
        .by(7, 100)
        .durability(Durability::Synced);
    assert_eq!(
        outcomes(&broker.peer().await.produce(&batch).await),
        [Ok(0)]
    );
    let broker = again(broker, true).await;
    let peer: Peer = broker.peer().await;
    assert_eq!(
        outcomes(&peer.produce(&batch).await),
        [Ok(1)],
        "as it is documented"
    );
    let gap = Batch::bodies("order", ["a"]).by(7, 500).ordered();
    assert_eq!(outcomes(&peer.produce(&gap).await), [Err(Code::OutOfOrder)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_before_a_restart_and_is_never_taken_again_goes_to_another() {
    let broker = TestBroker::start(&[("consumer.ack.timeout.ms", "1000")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 5, 10).await;
    let mut sub = peer.subscribe(&flow("order", "g", "idle"), 5, PLENTY).await;
    let held = sub.take(5).await;
    let broker = again(broker, true).await;
    let peer = broker.peer().await;
    // It is back, and grants no credit: nothing can be handed to it.
    let _idle = peer.subscribe(&flow("order", "g", "idle"), 0, 0).await;
    let mut other = peer.subscribe(&flow("order", "g", "busy"), 5, PLENTY).await;
    let came = other.take(5).await;
    assert_eq!(sequences(&came), sequences(&held));
    assert!(came.iter().all(|one| one.attempt == 1));
}
