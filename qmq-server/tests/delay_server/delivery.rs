//! Messages come to the brokers of their subject, at their time.

use std::collections::BTreeMap;

use qmq_message::Attributes;
use qmq_store::Message;
use qmq_wire::{Delivered, Durability};

use super::test_broker::TestBroker;
use super::test_delay::{DelayHome, ids, later, now_ms, schedule};
use super::wire_client::{Batch, flow, until};

const PLENTY: u64 = 1 << 40;

fn body(one: &Delivered) -> String {
    String::from_utf8(one.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_arrives_at_its_time_and_never_early() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let there = broker.peer().await;
    let mut sub = there
        .subscribe(&flow("order", "g", "c"), 1_000, PLENTY)
        .await;
    let start = now_ms();
    let dues: Vec<u64> = (0..40).map(|n| start + (n * 37) % 1_500).collect();
    let each = dues.iter().zip(0..);
    let messages = each.map(|(due, n): (&u64, u32)| later("order", &n.to_string(), *due));
    ids(&peer, messages).await;
    let mut seen = BTreeMap::new();
    while seen.len() < dues.len() {
        let one = sub.one().await;
        let (n, now) = (body(&one).parse::<usize>().unwrap(), now_ms());
        assert!(now >= dues[n], "{n} is {} ms early", dues[n] - now);
        assert_eq!(seen.insert(n, now), None, "{n} came twice");
        let attributes = Attributes::decode(&one.attributes).unwrap();
        assert_eq!(
            attributes.property("qmq.delay.due"),
            Some(&*dues[n].to_string())
        );
        assert_eq!(attributes.due_time_ms(), None);
    }
    sub.none_within(100).await;
    until("the record", || delay.pending() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_arrives_as_it_was_sent() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let due = now_ms() + 50;
    let message = Message::new("order", "body")
        .with_id("4711")
        .tag("paid")
        .tag("eu")
        .property("trace", "00-x")
        .with_create_time_ms(5)
        .with_order_key("key");
    let peer = delay.peer().await;
    let batch = Batch::of([message.clone().with_due_time_ms(due)]);
    let batch = batch.durability(Durability::Synced);
    assert_eq!(schedule(&peer, &batch).await.refused, []);
    let there = broker.peer().await;
    let mut sub = there.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    let one = sub.one().await;
    let attributes = Attributes::decode(&one.attributes).unwrap();
    let came = attributes.to_message("order", one.body.clone());
    assert_eq!(came, message.property("qmq.delay.due", due.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_of_many_subjects_at_one_time_all_arrive_once() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let due = now_ms() + 300;
    for _ in 0..10 {
        let all = (0..1_000).map(|n| later(&format!("s{}", n % 50), "x", due));
        ids(&peer, all).await;
    }
    until("the last record", || delay.pending() == 0).await;
    for n in 0..50 {
        let stats = broker.store().subject_stats(&format!("s{n}")).unwrap();
        assert_eq!(stats.next_sequence, 200, "s{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_a_group_reaches_that_group_alone() {
    // QMQ's E13: a delayed retry goes to the subject, and so to every group of it.
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let (peer, there) = (delay.peer().await, broker.peer().await);
    let mut mine = there
        .subscribe(&flow("order", "mine", "c"), 10, PLENTY)
        .await;
    let mut other = there
        .subscribe(&flow("order", "other", "c"), 10, PLENTY)
        .await;
    let retry = qmq_message::retry_subject("order", "mine");
    ids(&peer, [later(&retry, "again", now_ms() + 50)]).await;
    until("the record", || delay.pending() == 0).await;
    let first = there
        .subscribe(&flow(&retry, "mine", "c"), 10, PLENTY)
        .await
        .one()
        .await;
    assert_eq!(body(&first), "again");
    mine.none_within(50).await;
    other.none_within(50).await;
}
