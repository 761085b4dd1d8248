//! Frames no longer than the other end takes.

use qmq_wire::{Code, ControlRequest, LEAST_FRAME_BYTES_MAX};

use super::test_broker::TestBroker;
use super::wire_client::{Answer, Batch, Peer, flow, outcomes, sequences};

const PLENTY: u64 = 1 << 40;

/// Its streams fail when a frame comes that is longer than it has said.
async fn peer_of_short_frames(broker: &TestBroker) -> Peer {
    let mut dial = broker.dial();
    dial.hello.limits.frame_bytes_max = LEAST_FRAME_BYTES_MAX;
    dial.peer().await.unwrap()
}

/// Small and larger ones, more than a frame in all; how many.
async fn publish(broker: &TestBroker) -> usize {
    let peer = broker.peer().await;
    peer.publish("order", 4_000, 5).await;
    peer.publish("order", 300, 3_000).await;
    4_300
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_comes_in_frames_that_the_client_takes() {
    let broker = TestBroker::start(&[]).await;
    let count = publish(&broker).await;
    let peer = peer_of_short_frames(&broker).await;
    let mut sub = peer
        .subscribe(&flow("order", "g", "c"), 10_000, PLENTY)
        .await;
    let all: Vec<u64> = (0..count as u64).collect();
    assert_eq!(sequences(&sub.take(count).await), all);
    assert!(sub.frames > 10, "{} frames", sub.frames);
    let puller = flow("order", "pulls", "c");
    let mut stream = peer.stream().await;
    let mut pulled = Vec::new();
    for number in 1.. {
        stream.pull(number, 10_000, 1_000, &puller).await;
        pulled.extend(sequences(&stream.pulled().await.messages));
        if pulled.len() >= count {
            break;
        }
    }
    assert_eq!(pulled, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_no_frame_of_a_consumer_holds_ends_its_subscription_and_goes_to_another() {
    let broker = TestBroker::start(&[]).await;
    let large = broker.peer().await.publish("order", 1, 100_000).await;
    let group = flow("order", "g", "small");
    let peer = peer_of_short_frames(&broker).await;
    let mut sub = peer.subscribe(&group, 100, PLENTY).await;
    let Answer::End(end) = sub.stream.answer().await else {
        panic!("no END");
    };
    assert_eq!(end.code, Some(Code::TooLarge));
    assert!(end.text.contains("65536"), "{}", end.text);
    assert!(end.text.contains("frame_bytes_max"), "{}", end.text);
    let able = broker.peer().await;
    let mut other = able
        .subscribe(&flow("order", "g", "large"), 100, PLENTY)
        .await;
    let message = other.one().await;
    assert_eq!((message.sequence, message.attempt), (large, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_is_refused_for_a_message_that_no_frame_holds_and_the_next_goes_on_behind_it() {
    let broker = TestBroker::start(&[]).await;
    broker.peer().await.publish("order", 1, 100_000).await;
    let small = broker.peer().await.publish("order", 1, 10).await;
    let group = flow("order", "g", "c");
    let peer = peer_of_short_frames(&broker).await;
    let mut stream = peer.stream().await;
    stream.pull(1, 1, 1_000, &group).await;
    let refused = stream.refused().await;
    assert_eq!((refused.number, refused.code), (1, Code::TooLarge));
    stream.pull(2, 1, 1_000, &group).await;
    assert_eq!(sequences(&stream.pulled().await.messages), [small]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_asks_is_refused_if_its_answer_is_longer_than_a_frame() {
    let broker = TestBroker::start(&[]).await;
    let able = broker.peer().await;
    let mut batch = Batch::default();
    for n in 0..2_000 {
        let subject = format!("a.subject.with.a.long.name.{n:0>40}");
        batch.push(subject.as_bytes(), &[], b"1");
    }
    let produced = able.produce(&batch).await;
    assert_eq!(outcomes(&produced).len(), 2_000);
    let request = ControlRequest::Subjects {
        pattern: "*".to_owned(),
        after: String::new(),
        max: 2_000,
    };
    let peer = peer_of_short_frames(&broker).await;
    let mut stream = peer.stream().await;
    stream.send(|out| request.encode(7, out).unwrap()).await;
    let refused = stream.refused().await;
    assert_eq!((refused.number, refused.code), (7, Code::TooLarge));
    let mut stream = able.stream().await;
    stream.send(|out| request.encode(7, out).unwrap()).await;
    let Answer::Controlled(_) = stream.answer().await else {
        panic!("no answer");
    };
}
