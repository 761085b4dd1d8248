//! The broker ends, in order or not, and begins again on the same folder.

use std::collections::BTreeSet;

use qmq_store::Message;
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

/// Bodies a, b and c in two subjects.
fn abc() -> Batch {
    let mut batch = Batch::bodies("order", ["a"]);
    batch.push(b"other", &[], b"b");
    batch.push(b"order", &[], b"c");
    batch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_has_restarted_gives_the_first_answer_to_a_repeat() {
    for in_order in [true, false] {
        let mut broker = TestBroker::start(&[("producer.dedup.window", "10")]).await;
        let peer = broker.peer().await;
        peer.publish("order", 3, 10).await;
        let batch = abc().by(7, 100).durability(Durability::Synced);
        let mut with_refused = Batch::bodies("order", ["d"]);
        with_refused.push(b"..", &[], b"bad");
        with_refused.push(b"order", &[], b"e");
        let with_refused = with_refused.by(8, 0);
        let single = Batch::bodies("order", ["f"]).by(9, 5);
        let old = Batch::bodies("order", ["g"]).by(10, 0);
        let beyond = Batch::bodies("order", ["h"]).by(10, 50);
        let bad = Err(Code::BadMessage);
        let expected = [
            (&batch, vec![Ok(3), Ok(0), Ok(4)]),
            (&with_refused, vec![Ok(5), bad, Ok(6)]),
            (&single, vec![Ok(7)]),
            (&old, vec![Ok(8)]),
            (&beyond, vec![Ok(9)]),
        ];
        for (batch, expected) in &expected {
            assert_eq!(&outcomes(&peer.produce(batch).await), expected);
        }
        // The second restart has only the notes of the first life.
        for _ in 0..2 {
            broker = again(broker, in_order).await;
            let peer: Peer = broker.peer().await;
            for (batch, expected) in &expected[..3] {
                assert_eq!(&outcomes(&peer.produce(batch).await), expected);
            }
            let forgotten = [Err(Code::Forgotten)];
            assert_eq!(outcomes(&peer.produce(&old).await), forgotten);
            assert_eq!(outcomes(&peer.produce(&beyond).await), [Ok(9)]);
            let stats = broker.store().subject_stats("order").unwrap();
            assert_eq!(stats.next_sequence, 10);
        }
        // Cut elsewhere, and gone on with.
        let peer = broker.peer().await;
        let overlapping = Batch::bodies("order", ["c", "new"]).by(7, 102);
        assert_eq!(outcomes(&peer.produce(&overlapping).await), [Ok(4), Ok(10)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_producer_goes_on_after_a_restart_where_it_was() {
    for in_order in [true, false] {
        let broker = TestBroker::start(&[]).await;
        let ordered = |first, bodies: &[&'static str]| {
            Batch::bodies("order", bodies.iter().copied())
                .by(7, first)
                .ordered()
        };
        let peer = broker.peer().await;
        let produced = peer.produce(&ordered(100, &["a", "b"])).await;
        assert_eq!(outcomes(&produced), [Ok(0), Ok(1)]);
        let broker = again(broker, in_order).await;
        let peer = broker.peer().await;
        let gap = peer.produce(&ordered(103, &["d"])).await;
        assert_eq!(outcomes(&gap), [Err(Code::OutOfOrder)]);
        let produced = peer.produce(&ordered(101, &["b", "c", "d"])).await;
        assert_eq!(outcomes(&produced), [Ok(1), Ok(2), Ok(3)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_remembers_as_much_as_it_reads_of_the_log() {
    let mut broker = TestBroker::start(&[]).await;
    let batch = |producer| Batch::bodies("order", ["a"]).by(producer, 0);
    let peer = broker.peer().await;
    assert_eq!(outcomes(&peer.produce(&batch(7)).await), [Ok(0)]);
    peer.publish("filler", 10, 10_000).await;
    assert_eq!(outcomes(&peer.produce(&batch(8)).await), [Ok(1)]);
    for (bytes, far, near) in [("200K", Ok(0), Ok(1)), ("50K", Ok(2), Ok(1))] {
        let mut home = broker.drain().await;
        home.set("producer.dedup.log.bytes", bytes);
        broker = home.start().await;
        let peer = broker.peer().await;
        assert_eq!(outcomes(&peer.produce(&batch(8)).await), [near], "{bytes}");
        assert_eq!(outcomes(&peer.produce(&batch(7)).await), [far], "{bytes}");
    }
    let mut home = broker.drain().await;
    home.set("producer.dedup.log.bytes", "0");
    let peer = home.start().await;
    let peer = peer.peer().await;
    assert_eq!(outcomes(&peer.produce(&batch(8)).await), [Ok(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_consumes_is_told_nothing_of_producers() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let attributes = Message::new("order", "a").with_id("id").tag("paid");
    let mut encoded = Vec::new();
    qmq_store::message::Attributes::encode(&attributes, &mut encoded).unwrap();
    let mut batch = Batch::default().by(7, 100);
    batch.push(b"order", &encoded, b"a");
    peer.produce(&batch).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    let one = sub.one().await;
    assert_eq!(
        (&one.attributes[..], &one.body[..]),
        (&encoded[..], &b"a"[..])
    );
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
