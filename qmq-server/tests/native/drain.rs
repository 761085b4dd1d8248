//! A broker that ends in order: what it refuses, and what it still owes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use qmq_store::SystemClock;
use qmq_wire::{CloseCode, Code, Durability};

use super::gate::Gate;
use super::test_broker::{Home, TestBroker};
use super::wire_client::{Batch, Stream, close_code, flow, outcomes, sequences, sleep_ms, until};

/// Until messages are refused.
async fn drains(stream: &mut Stream) {
    loop {
        stream
            .send(|out| Batch::bodies("other", ["x"]).encode(out))
            .await;
        let produced = stream.produced().await;
        if !produced.refused.is_empty() {
            return assert_eq!(outcomes(&produced), [Err(Code::Draining)]);
        }
        sleep_ms(1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_ends_takes_no_more_and_says_so() {
    let broker = TestBroker::start(&[("drain.ack.ms", "10000")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 2, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 1, 1 << 20).await;
    let held = sub.take(1).await;
    let mut stream = peer.stream().await;
    stream
        .send(|out| Batch::bodies("order", ["x"]).encode(out))
        .await;
    assert_eq!(stream.produced().await.refused, []);
    let draining = tokio::spawn(broker.drain());
    let refused = loop {
        stream
            .send(|out| Batch::bodies("order", ["x"]).encode(out))
            .await;
        let produced = stream.produced().await;
        if !produced.refused.is_empty() {
            break produced;
        }
        sleep_ms(1).await;
    };
    assert_eq!(outcomes(&refused), [Err(Code::Draining)]);
    let refusal = peer
        .try_subscribe(&flow("order", "other", "c"), 1, 1)
        .await
        .err();
    assert_eq!(refusal.map(|refusal| refusal.code), Some(Code::Draining));
    // Nothing new is handed out, acks are taken, and then it ends.
    sub.credit(10, 1 << 20).await;
    sub.none_within(50).await;
    sub.ack(&held).await;
    assert_eq!(sub.end().await.code, Some(Code::Draining));
    assert_eq!(peer.close_code().await, Some(CloseCode::ShuttingDown));
    let broker = draining.await.unwrap().start().await;
    let mut sub = broker
        .peer()
        .await
        .subscribe(&flow("order", "g", "c"), 10, 1 << 20)
        .await;
    assert_eq!(sequences(&sub.take(2).await)[0], 1, "the ack has counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_before_the_end_is_answered() {
    let gate = Arc::new(Gate::new(SystemClock));
    let home = Home::new(&[("drain.ack.ms", "0"), ("flush.mode", "sync")]);
    let mut options = home.options();
    options.store.clock = Arc::clone(&gate) as _;
    let broker = home.start_with(options).await;
    let peer = broker.peer().await;
    peer.publish("order", 1, 1).await;
    let mut stream = peer.stream().await;
    gate.close();
    let waits = Batch::bodies("order", ["x"]).durability(Durability::Synced);
    stream.send(|out| waits.encode(out)).await;
    gate.somebody_waits().await;
    let administering = Arc::clone(broker.broker.administering());
    let draining = tokio::spawn(broker.drain());
    until("a drain", || administering.draining.load(Ordering::Acquire)).await;
    // Time for a broker that does not wait to be gone.
    sleep_ms(300).await;
    gate.open();
    assert_eq!(outcomes(&stream.produced().await), [Ok(1)]);
    draining.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_that_wait_for_a_broker_that_ends_are_answered_and_others_refused() {
    let broker = TestBroker::start(&[("drain.ack.ms", "10000")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 1, 1).await;
    let mut sub = peer
        .subscribe(&flow("order", "held", "c"), 1, 1 << 20)
        .await;
    let held = sub.take(1).await;
    let (mut pulls, mut other) = (peer.stream().await, peer.stream().await);
    let parked = flow("empty", "g", "c");
    pulls.pull(1, 10, 30_000, &parked).await;
    // Requests of a stream are looked at one after the other: behind this answer the pull waits.
    pulls
        .send(|out| Batch::bodies("other", ["x"]).encode(out))
        .await;
    assert_eq!(pulls.produced().await.refused, []);
    let draining = tokio::spawn(broker.drain());
    drains(&mut other).await;
    let empty = pulls.pulled().await;
    assert_eq!((empty.number, empty.messages.len()), (Some(1), 0));
    for (number, puller) in [(2, parked), (3, flow("order", "new", "c"))] {
        pulls.pull(number, 10, 30_000, &puller).await;
        let refusal = pulls.refused().await;
        assert_eq!((refusal.number, refusal.code), (number, Code::Draining));
    }
    sub.ack(&held).await;
    draining.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_to_a_broker_that_ends_is_told_so() {
    let broker = TestBroker::start(&[("drain.ack.ms", "10000")]).await;
    let dial = broker.dial();
    let peer = broker.peer().await;
    peer.publish("order", 1, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 1, 1 << 20).await;
    let held = sub.take(1).await;
    let mut other = peer.stream().await;
    let draining = tokio::spawn(broker.drain());
    drains(&mut other).await;
    let (_endpoint, connection) = dial.bare().await.unwrap();
    assert_eq!(close_code(&connection).await, Some(CloseCode::ShuttingDown));
    sub.ack(&held).await;
    draining.await.unwrap();
}
