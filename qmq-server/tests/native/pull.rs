//! Messages out, asked for one time after the other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use qmq_wire::{Ack, Code, Delivered, Durability, Flow, Nack, Renew};

use super::test_broker::TestBroker;
use super::wire_client::{Answer, Stream, flow, pull, pull_sequences, ranges, sequences, sleep_ms};

fn ack(number: u32, incarnation: u32, flow: &Flow, messages: &[Delivered]) -> Ack {
    Ack {
        flow: Some(flow.clone()),
        number,
        durability: Durability::Default,
        incarnation,
        ranges: ranges(messages),
    }
}

async fn settle(stream: &mut Stream, incarnation: u32, flow: &Flow, messages: &[Delivered]) {
    let ack = ack(77, incarnation, flow, messages);
    stream.send(|out| ack.encode(out)).await;
    let acked = stream.acked().await;
    assert_eq!((acked.number, acked.settled), (77, messages.len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_brings_what_is_there_and_acks_nacks_and_renewals_go_the_same_way() {
    let broker = TestBroker::start(&[("consumer.ack.timeout.ms", "500")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 5, 1).await;
    let flow = flow("order", "g", "c");
    let mut stream = peer.stream().await;
    stream.pull(1, 3, 1_000, &flow).await;
    let first = stream.pulled().await;
    assert_eq!(
        (first.number, sequences(&first.messages)),
        (Some(1), vec![0, 1, 2])
    );
    stream.pull(2, 100, 1_000, &flow).await;
    let second = stream.pulled().await;
    assert_eq!(
        (second.number, sequences(&second.messages)),
        (Some(2), vec![3, 4])
    );
    settle(&mut stream, first.incarnation, &flow, &first.messages).await;
    let nack = Nack {
        flow: Some(flow.clone()),
        number: 3,
        durability: Durability::Default,
        incarnation: first.incarnation,
        delay_ms: Some(0),
        unseen: false,
        ranges: ranges(&second.messages[..1]),
    };
    stream.send(|out| nack.encode(out)).await;
    assert_eq!(stream.acked().await.settled, 1);
    stream.pull(4, 100, 1_000, &flow).await;
    let again = stream.pulled().await.messages;
    assert_eq!((again[0].sequence, again[0].attempt), (3, 1));
    // Renewed, it stays; the other does not.
    for _ in 0..8 {
        let renew = Renew {
            flow: Some(flow.clone()),
            incarnation: first.incarnation,
            ranges: ranges(&again),
        };
        stream.send(|out| renew.encode(out)).await;
        sleep_ms(100).await;
    }
    stream.pull(5, 100, 0, &flow).await;
    let late = stream.pulled().await.messages;
    assert_eq!(sequences(&late), [4]);
    settle(
        &mut stream,
        first.incarnation,
        &flow,
        &[again, late].concat(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_waits_for_the_first_message_and_is_answered_without_any_when_the_wait_is_over() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let flow = flow("order", "g", "c");
    let mut stream = peer.stream().await;
    let began = Instant::now();
    stream.pull(1, 10, 300, &flow).await;
    assert_eq!(stream.pulled().await.messages, []);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(295), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    stream.pull(2, 10, 0, &flow).await;
    assert_eq!(stream.pulled().await.messages, []);
    stream.pull(3, 10, 10_000, &flow).await;
    sleep_ms(50).await;
    let began = Instant::now();
    peer.publish("order", 1, 1).await;
    let answer = stream.pulled().await;
    assert_eq!(
        (answer.number, sequences(&answer.messages)),
        (Some(3), vec![0])
    );
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_of_a_pull_ends_whoever_of_its_group_stands_before_it() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut streams = Vec::new();
    for (consumer, wait_ms) in [("first", 500), ("second", 300), ("patient", 60_000)] {
        let mut stream = peer.stream().await;
        stream
            .pull(1, 10, wait_ms, &flow("order", "g", consumer))
            .await;
        sleep_ms(30).await;
        streams.push(stream);
    }
    let began = Instant::now();
    for stream in streams[..2].iter_mut().rev() {
        assert_eq!(stream.pulled().await.messages, []);
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    peer.publish("order", 1, 1).await;
    assert_eq!(streams[2].pulled().await.messages.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_that_wait_are_answered_in_turn_and_one_too_many_is_refused() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let flow = flow("order", "g", "c");
    let mut stream = peer.stream().await;
    for number in 0..70 {
        stream.pull(number, 1, 5_000, &flow).await;
    }
    let mut refused = BTreeSet::new();
    while refused.len() < 6 {
        let refusal = stream.refused().await;
        assert_eq!(refusal.code, Code::Busy);
        refused.insert(refusal.number);
    }
    assert_eq!(refused, (64..70).collect());
    peer.publish("order", 64, 1).await;
    for number in 0..64 {
        let answer = stream.pulled().await;
        assert_eq!(answer.number, Some(number));
        assert_eq!(sequences(&answer.messages), [u64::from(number)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_of_large_messages_are_all_answered() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    for _ in 0..3 {
        peer.publish("order", 10, 900_000).await;
    }
    let flow = flow("order", "g", "c");
    let mut stream = peer.stream().await;
    for number in 0..30 {
        stream.pull(number, 1, 10_000, &flow).await;
    }
    for number in 0..30_u32 {
        let answer = stream.pulled().await;
        assert_eq!(answer.number, Some(number));
        assert_eq!(sequences(&answer.messages), [u64::from(number)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_is_answered_although_its_stream_was_finished_behind_it() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let flow = flow("order", "g", "c");
    let mut stream = peer.stream().await;
    stream.pull(1, 10, 5_000, &flow).await;
    stream.finish();
    sleep_ms(50).await;
    peer.publish("order", 1, 1).await;
    assert_eq!(sequences(&stream.pulled().await.messages), [0]);
    assert_eq!(stream.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_cannot_be_served_is_refused() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 1, 1).await;
    let mut stream = peer.stream().await;
    stream.pull(1, 10, 0, &flow("order", "g", "c")).await;
    assert_eq!(stream.pulled().await.messages.len(), 1);
    let mut other = flow("order", "g", "other");
    other.filter = qmq_message::TagFilter::Any(vec!["a".to_owned()]);
    stream.pull(2, 10, 5_000, &other).await;
    let refusal = stream.refused().await;
    assert_eq!((refusal.number, refusal.code), (2, Code::FilterMismatch));
    // It can be asked again, and is told again.
    stream.pull(3, 10, 5_000, &other).await;
    assert_eq!(stream.refused().await.number, 3);
    stream.pull(4, 10, 0, &flow("..", "g", "c")).await;
    let refusal = stream.refused().await;
    assert_eq!((refusal.number, refusal.code), (4, Code::BadMessage));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_stream_pulled_another_may_acknowledge() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 4, 1).await;
    let flow = flow("order", "g", "c");
    let (mut pulls, mut acks) = (peer.stream().await, peer.stream().await);
    pulls.pull(1, 2, 0, &flow).await;
    let first = pulls.pulled().await;
    // A pull that waits is not disturbed by an ack elsewhere.
    settle(&mut acks, first.incarnation, &flow, &first.messages).await;
    pulls.pull(2, 2, 5_000, &flow).await;
    let second = pulls.pulled().await;
    assert_eq!(sequences(&second.messages), [2, 3]);
    settle(&mut acks, first.incarnation, &flow, &second.messages).await;
    pulls.pull(3, 2, 5_000, &flow).await;
    sleep_ms(50).await;
    let none = ack(9, first.incarnation, &flow, &second.messages);
    acks.send(|out| none.encode(out)).await;
    assert_eq!(acks.acked().await.already, 2);
    peer.publish("order", 1, 1).await;
    assert_eq!(sequences(&pulls.pulled().await.messages), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_pulls_takes_over_and_every_pull_has_an_answer() {
    let broker = TestBroker::start(&[]).await;
    let (a, b) = (broker.peer().await, broker.peer().await);
    a.publish("order", 2, 1).await;
    let first = flow("order", "g", "c");
    let second = Flow {
        session: 2,
        ..first.clone()
    };
    let (mut of_a, mut of_b) = (a.stream().await, b.stream().await);
    of_a.pull(1, 1, 0, &first).await;
    let held = of_a.pulled().await;
    of_a.pull(2, 1, 0, &first).await;
    let more = of_a.pulled().await;
    of_a.pull(3, 1, 10_000, &first).await;
    sleep_ms(50).await;
    of_b.pull(1, 10, 1_000, &second).await;
    let taken = of_b.pulled().await;
    assert_eq!(sequences(&taken.messages), [0, 1]);
    // The pull that waits is told, and so is an ack.
    let refusal = of_a.refused().await;
    assert_eq!((refusal.number, refusal.code), (3, Code::Fenced));
    let late = ack(4, held.incarnation, &first, &more.messages);
    of_a.send(|out| late.encode(out)).await;
    let refusal = of_a.refused().await;
    assert_eq!((refusal.number, refusal.code), (4, Code::Fenced));
    // Who pulls again takes over in its turn.
    of_a.pull(5, 10, 1_000, &first).await;
    let again = of_a.pulled().await;
    assert_eq!(again.number, Some(5));
    assert_eq!(sequences(&again.messages), [0, 1]);
    settle(&mut of_a, held.incarnation, &first, &again.messages).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sessions_in_one_stream_are_two_sessions() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 1, 1).await;
    let first = flow("order", "g", "c");
    let second = Flow {
        session: 2,
        ..first.clone()
    };
    let mut stream = peer.stream().await;
    stream.pull(1, 10, 0, &first).await;
    let held = stream.pulled().await;
    stream.pull(2, 10, 1_000, &second).await;
    assert_eq!(
        stream.pulled().await.messages[0].attempt,
        1,
        "it has taken over"
    );
    let late = ack(3, held.incarnation, &first, &held.messages);
    stream.send(|out| late.encode(out)).await;
    assert_eq!(stream.refused().await.code, Code::Fenced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_of_a_stream_that_is_gone_get_no_messages() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "200")]).await;
    let (peer, other) = (broker.peer().await, broker.peer().await);
    let mut stream = peer.stream().await;
    for number in 0..10 {
        stream
            .pull(number, 1, 30_000, &flow("order", "g", "gone"))
            .await;
    }
    sleep_ms(50).await;
    peer.close();
    sleep_ms(50).await;
    other.publish("order", 10, 1).await;
    let mut stream = other.stream().await;
    stream
        .pull(0, 100, 1_000, &flow("order", "g", "here"))
        .await;
    let all = stream.pulled().await.messages;
    assert_eq!(all.len(), 10);
    assert!(
        all.iter().all(|one| one.attempt == 0),
        "none of them was lost on the way"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_comes_back_resumes() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "5000")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 2, 1).await;
    let flow = flow("order", "g", "c");
    let mut stream = peer.stream().await;
    stream.pull(1, 10, 0, &flow).await;
    let held = stream.pulled().await;
    peer.close();
    let peer = broker.peer().await;
    let mut stream = peer.stream().await;
    stream.pull(1, 10, 1_000, &flow).await;
    let again = stream.pulled().await;
    assert_eq!(
        pull_sequences(&again.messages),
        pull_sequences(&held.messages)
    );
    settle(&mut stream, again.incarnation, &flow, &again.messages).await;
}

/// The lost wake-up of a pull that finds nothing while a message is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_message_that_races_an_empty_pull_wakes_it() {
    let broker = TestBroker::start(&[]).await;
    let (peer, producer) = (broker.peer().await, broker.peer().await);
    let flow = flow("order", "g", "c");
    let mut pulls = peer.stream().await;
    let mut publishes = producer.stream().await;
    let mut slowest = Duration::ZERO;
    for round in 0..2_000_u32 {
        let request = pull(round, 1, 30_000, &flow);
        let message = super::wire_client::Batch::bodies("order", ["x"]).number(round);
        let began = Instant::now();
        let publish = async {
            // The two meet at another moment each time.
            for _ in 0..round % 16 {
                tokio::task::yield_now().await;
            }
            publishes.send(|out| message.encode(out)).await;
            publishes.produced().await
        };
        let ask = async {
            pulls.send(|out| request.encode(out)).await;
            pulls.pulled().await
        };
        let (produced, pulled) = tokio::join!(publish, ask);
        assert_eq!(produced.refused, []);
        let sequence = u64::from(round);
        assert_eq!(sequences(&pulled.messages), [sequence]);
        slowest = slowest.max(began.elapsed());
        let done = ack(1, pulled.incarnation, &flow, &pulled.messages);
        pulls.send(|out| done.encode(out)).await;
        let Answer::Acked(_) = pulls.answer().await else {
            panic!("no ack");
        };
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}
