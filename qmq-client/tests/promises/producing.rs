use std::time::{Duration, Instant};

use bytes::Bytes;
use qmq_client::{Durability, Message, SendCause};
use qmq_wire::Code;

use crate::fake::{FakeBroker, Reaction, within};

fn message(body: &str) -> Message {
    Message::new("order.changed", body.to_owned())
}

#[tokio::test]
async fn a_message_is_answered_with_its_place() {
    let broker = FakeBroker::start();
    let producer = broker.client().await.producer().build().unwrap();
    for sequence in 0..3 {
        let report = producer.send(message("x")).await.unwrap();
        assert_eq!(report.sequence, sequence);
        assert_eq!(*report.broker, *broker.address);
    }
}

#[tokio::test]
async fn a_lone_message_goes_out_at_once_and_a_crowd_in_batches() {
    let broker = FakeBroker::start();
    let producer = broker
        .client()
        .await
        .producer()
        .in_flight(1)
        .build()
        .unwrap();
    producer.send(message("alone")).await.unwrap();
    let mut sent = Vec::new();
    for n in 0..500 {
        sent.push(producer.queue(message(&n.to_string())).await.unwrap());
    }
    for sent in sent {
        within("a report", sent).await.unwrap();
    }
    let asked = broker.state().asked.clone();
    assert!(asked.len() < 100, "{} requests", asked.len());
    // In the order in which they were queued, with numbers that count up.
    let bodies: Vec<Bytes> = asked
        .iter()
        .flat_map(|asked| asked.bodies.clone())
        .collect();
    assert_eq!(
        bodies[1..].iter().map(|b| b.len()).sum::<usize>(),
        10 + 180 + 1_200
    );
    let mut next = 0;
    for asked in asked {
        assert_eq!(asked.first, next);
        next += asked.bodies.len() as u64;
    }
}

#[tokio::test]
async fn large_and_small_bodies_arrive_as_they_were() {
    let broker = FakeBroker::start();
    let producer = broker.client().await.producer().build().unwrap();
    let bodies: Vec<String> = [0, 1, 2_048, 2_049, 300_000, 5]
        .iter()
        .map(|len| "x".repeat(*len))
        .collect();
    let mut sent = Vec::new();
    for body in &bodies {
        sent.push(producer.queue(message(body)).await.unwrap());
    }
    for sent in sent {
        sent.await.unwrap();
    }
    let mut taken = broker.state().taken.clone();
    let mut expected: Vec<Bytes> = bodies.into_iter().map(Bytes::from).collect();
    taken.sort();
    expected.sort();
    assert!(taken == expected);
}

#[tokio::test]
async fn a_lost_answer_is_asked_again_with_the_same_numbers() {
    let broker = FakeBroker::start();
    let producer = broker.client().await.producer().build().unwrap();
    producer.send(message("before")).await.unwrap();
    broker.state().script.push_back(Reaction::LoseAnswer);
    let report = within("the report", producer.send(message("once")))
        .await
        .unwrap();
    assert_eq!(report.sequence, 1);
    let state = broker.state();
    assert_eq!(state.asked.len(), 3);
    assert_eq!(state.asked[1], state.asked[2]);
    assert_eq!(state.taken.len(), 2, "taken once");
}

#[tokio::test]
async fn a_request_without_an_answer_is_asked_again() {
    let broker = FakeBroker::start();
    let client = broker
        .builder()
        .request_timeout(Duration::from_millis(100))
        .connect()
        .await
        .unwrap();
    let producer = client.producer().build().unwrap();
    broker.state().script.push_back(Reaction::Silence);
    within("the report", producer.send(message("x")))
        .await
        .unwrap();
    let state = broker.state();
    assert_eq!(state.asked[0], state.asked[1]);
}

#[tokio::test]
async fn one_refused_message_fails_alone() {
    let broker = FakeBroker::start();
    let producer = broker
        .client()
        .await
        .producer()
        .linger(Duration::from_millis(50))
        .build()
        .unwrap();
    broker
        .state()
        .script
        .push_back(Reaction::RefuseOne(1, Code::BadMessage));
    let mut sent = Vec::new();
    for body in ["a", "b", "c"] {
        sent.push(producer.queue(message(body)).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for sent in sent {
        outcomes.push(within("a report", sent).await);
    }
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let failed = outcomes.remove(1).unwrap_err();
    assert_eq!(failed.message.body().as_ref(), b"b");
    assert!(!failed.may_be_stored);
    assert!(
        matches!(
            failed.cause,
            SendCause::Refused {
                code: Code::BadMessage,
                ..
            }
        ),
        "{failed}"
    );
}

#[tokio::test]
async fn one_message_refused_for_a_while_is_asked_again_with_its_own_number() {
    let broker = FakeBroker::start();
    let producer = broker
        .client()
        .await
        .producer()
        .linger(Duration::from_millis(50))
        .build()
        .unwrap();
    broker
        .state()
        .script
        .push_back(Reaction::RefuseOne(1, Code::Busy));
    let mut sent = Vec::new();
    for body in ["a", "b", "c"] {
        sent.push(producer.queue(message(body)).await.unwrap());
    }
    for sent in sent {
        within("a report", sent).await.unwrap();
    }
    let state = broker.state();
    assert_eq!(state.asked[1].first, 1);
    assert_eq!(state.asked[1].bodies, ["b"]);
    assert_eq!(state.taken, ["a", "c", "b"]);
}

/// QMQ's clients never send to a broker again that was read-only once.
#[tokio::test]
async fn f3_a_broker_that_was_read_only_is_used_again() {
    let (first, second) = (FakeBroker::start(), FakeBroker::start());
    let pem = format!("{}{}", first.certificate, second.certificate);
    let client = first
        .builder()
        .broker(&second.address)
        .authorities(qmq_client::Pem::Text(pem.into_bytes()))
        .build()
        .unwrap();
    let producer = client.producer().build().unwrap();
    first.state().always = Some(Reaction::Refuse(Code::ReadOnly));
    for _ in 0..20 {
        within("elsewhere", producer.send(message("x")))
            .await
            .unwrap();
    }
    assert!(first.state().taken.is_empty());
    assert_eq!(second.state().taken.len(), 20);
    assert!(
        first.state().asked.len() < 10,
        "it is left alone in between"
    );
    first.state().always = None;
    within("used again", async {
        while first.state().taken.len() < 5 {
            producer.send(message("y")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lone_broker_that_was_read_only_is_used_again() {
    let broker = FakeBroker::start();
    let producer = broker.client().await.producer().build().unwrap();
    broker.state().script.extend([
        Reaction::Refuse(Code::ReadOnly),
        Reaction::Refuse(Code::Draining),
    ]);
    within("the report", producer.send(message("x")))
        .await
        .unwrap();
}

#[tokio::test]
async fn messages_go_elsewhere_while_a_broker_is_away() {
    let (first, second) = (FakeBroker::start(), FakeBroker::start());
    let pem = format!("{}{}", first.certificate, second.certificate);
    let client = first
        .builder()
        .broker(&second.address)
        .authorities(qmq_client::Pem::Text(pem.into_bytes()))
        .build()
        .unwrap();
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    within("one each", async {
        while first.state().taken.is_empty() || second.state().taken.is_empty() {
            producer.send(message("x")).await.unwrap();
        }
    })
    .await;
    first.go_away();
    for _ in 0..20 {
        within("elsewhere", producer.send(message("y")))
            .await
            .unwrap();
    }
}

/// At least once: the first broker has it too.
#[tokio::test]
async fn what_a_broker_may_have_goes_elsewhere_when_half_of_its_time_is_over() {
    let (first, second) = (FakeBroker::start(), FakeBroker::start());
    let pem = format!("{}{}", first.certificate, second.certificate);
    let client = first
        .builder()
        .broker(&second.address)
        .authorities(qmq_client::Pem::Text(pem.into_bytes()))
        .build()
        .unwrap();
    let limit = Duration::from_millis(600);
    let producer = client.producer().delivery_timeout(limit).build().unwrap();
    within("both are up", async {
        while first.state().taken.is_empty() || second.state().taken.is_empty() {
            producer.send(message("x")).await.unwrap();
        }
    })
    .await;
    for broker in [&first, &second] {
        broker.state().script.push_back(Reaction::LoseAnswer);
    }
    let started = Instant::now();
    let sent = producer.queue(message("y")).await.unwrap();
    let took = |broker: &FakeBroker| broker.state().taken.contains(&Bytes::from("y"));
    within("one has it", async {
        while !took(&first) && !took(&second) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let (holder, other) = if took(&first) {
        (&first, &second)
    } else {
        (&second, &first)
    };
    holder.go_away();
    other.state().script.clear();
    let report = within("the report", sent).await.unwrap();
    assert_eq!(*report.broker, *other.address);
    assert!(started.elapsed() >= limit / 2);
}

#[tokio::test]
async fn a_full_queue_makes_senders_wait() {
    let broker = FakeBroker::start();
    broker.go_away();
    let client = broker.builder().build().unwrap();
    let producer = client
        .producer()
        .queue(2, 1 << 20, Duration::from_millis(50))
        .build()
        .unwrap();
    let _kept = [
        producer.queue(message("a")).await.unwrap(),
        producer.queue_now(message("b")).unwrap(),
    ];
    let started = Instant::now();
    let full = producer.queue(message("c")).await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert!(matches!(full.cause, SendCause::QueueFull { .. }));
    assert_eq!(full.message.body().as_ref(), b"c");
    assert!(producer.queue_now(message("d")).is_err());
    // Whoever waits long enough gets in.
    let patient = client
        .producer()
        .queue(1, 1 << 20, Duration::from_secs(5))
        .build()
        .unwrap();
    let first = patient.queue(message("e")).await.unwrap();
    let waiting = tokio::spawn(async move { patient.send(message("f")).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    broker.come_back();
    within("the first", first).await.unwrap();
    within("the second", waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_queue_is_full_by_bytes_too() {
    let broker = FakeBroker::start();
    broker.go_away();
    let client = broker.builder().build().unwrap();
    let producer = client
        .producer()
        .queue(100, 1_000, Duration::ZERO)
        .build()
        .unwrap();
    // Larger than the queue: it goes when it is alone.
    let large = producer.queue_now(message(&"x".repeat(5_000))).unwrap();
    assert!(producer.queue_now(message("y")).is_err());
    broker.come_back();
    within("the large one", large).await.unwrap();
    assert!(producer.queue_now(message("y")).is_ok());
}

#[tokio::test]
async fn close_loses_nothing() {
    let broker = FakeBroker::start();
    let producer = broker.client().await.producer().build().unwrap();
    broker.state().script.push_back(Reaction::LoseRequest);
    let mut sent = Vec::new();
    for n in 0..300 {
        sent.push(producer.queue(message(&n.to_string())).await.unwrap());
    }
    within("close", producer.close()).await.unwrap();
    assert_eq!(broker.state().taken.len(), 300);
    for sent in sent {
        sent.await.unwrap();
    }
    let closed = producer.send(message("late")).await.unwrap_err();
    assert_eq!(closed.cause, SendCause::Closed);
}

#[tokio::test]
async fn what_a_closed_producer_could_not_send_comes_back() {
    let broker = FakeBroker::start();
    let producer = broker
        .client()
        .await
        .producer()
        .close_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    broker.state().always = Some(Reaction::Silence);
    let sent = producer.queue(message("x")).await.unwrap();
    broker.until("asked", |state| !state.asked.is_empty()).await;
    let unsent = producer.close().await.unwrap_err();
    assert_eq!((unsent.messages, unsent.may_be_stored), (1, 1));
    let failed = sent.await.unwrap_err();
    assert_eq!(failed.message.body().as_ref(), b"x");
    assert!(failed.may_be_stored);
}

#[tokio::test]
async fn an_outcome_that_is_not_known_in_time_says_so() {
    let broker = FakeBroker::start();
    let producer = broker
        .client()
        .await
        .producer()
        .delivery_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    broker.state().always = Some(Reaction::Silence);
    let failed = within("the report", producer.send(message("x")))
        .await
        .unwrap_err();
    assert!(failed.may_be_stored);
    broker.state().always = Some(Reaction::Refuse(Code::Busy));
    let failed = within("the report", producer.send(message("y")))
        .await
        .unwrap_err();
    assert!(!failed.may_be_stored, "Busy says that nothing was done");
    assert!(failed.to_string().contains("(busy)"), "{failed}");
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_before_it_travels() {
    let broker = FakeBroker::start();
    let producer = broker.client().await.producer().build().unwrap();
    let name = producer.send(Message::new("../x", "")).await.unwrap_err();
    assert!(matches!(name.cause, SendCause::Subject(_)));
    let tag = producer.send(message("").tag("")).await.unwrap_err();
    assert!(matches!(tag.cause, SendCause::Attributes(_)));
    let large = "x".repeat((1 << 20) + 1);
    let large = producer.send(message(&large)).await.unwrap_err();
    assert!(
        matches!(large.cause, SendCause::TooLarge { max: 1_048_576, .. }),
        "{large}"
    );
    assert!(broker.state().asked.is_empty());
}

#[tokio::test]
async fn messages_of_different_durability_do_not_share_a_request() {
    let broker = FakeBroker::start();
    let producer = broker
        .client()
        .await
        .producer()
        .linger(Duration::from_millis(30))
        .build()
        .unwrap();
    let synced = producer.with_durability(Durability::Synced);
    let a = producer.queue(message("a")).await.unwrap();
    let b = synced.queue(message("b")).await.unwrap();
    a.await.unwrap();
    b.await.unwrap();
    assert_eq!(broker.state().asked.len(), 2);
}

#[tokio::test]
async fn unanswered_numbers_stay_within_what_the_broker_remembers() {
    let broker = FakeBroker::start();
    broker.state().hello.limits.dedup_window = 4;
    let producer = broker.client().await.producer().build().unwrap();
    broker.state().always = Some(Reaction::Silence);
    let mut kept = Vec::new();
    for _ in 0..20 {
        kept.push(producer.queue(message("x")).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = broker.state().asked.clone();
    let last = asked.iter().map(|a| a.first + a.bodies.len() as u64).max();
    assert_eq!(last, Some(4));
}

#[tokio::test]
async fn messages_that_are_too_large_together_go_one_by_one() {
    let broker = FakeBroker::start();
    let producer = broker
        .client()
        .await
        .producer()
        .linger(Duration::from_millis(30))
        .build()
        .unwrap();
    broker.state().always = Some(Reaction::RefuseMany(Code::TooLarge));
    let a = producer.queue(message("a")).await.unwrap();
    let b = producer.queue(message("b")).await.unwrap();
    within("a report", a).await.unwrap();
    within("a report", b).await.unwrap();
    let numbers: Vec<u64> = broker
        .state()
        .asked
        .iter()
        .map(|asked| asked.first)
        .collect();
    assert_eq!(numbers, [0, 0, 1]);
}

/// QMQ tries again at once, for as long as it fails.
#[tokio::test]
async fn c9_a_broker_that_cannot_take_a_message_is_not_asked_in_a_loop() {
    const PAUSE_MIN: Duration = Duration::from_millis(5);
    let limit = Duration::from_secs(1);
    for code in [Code::DiskFull, Code::Busy] {
        let broker = FakeBroker::start();
        let producer = broker
            .client()
            .await
            .producer()
            .delivery_timeout(limit)
            .build()
            .unwrap();
        broker.state().always = Some(Reaction::Refuse(code));
        let sent = producer.send(message("x"));
        within("a report", sent).await.unwrap_err();
        let asked = broker.state().asked.len() as u32;
        assert!(asked >= 2, "{code}: it is tried again");
        let most = limit.div_duration_f64(PAUSE_MIN) as u32;
        assert!(asked < most, "{code}: {asked}");
    }
}
