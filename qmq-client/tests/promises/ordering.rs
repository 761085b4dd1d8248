use std::time::Duration;

use qmq_client::{Message, Producer, SendCause, SendError};
use qmq_wire::Code;

use crate::fake::{FakeBroker, Reaction, within};

async fn ordered(broker: &FakeBroker) -> Producer {
    let client = broker.client().await;
    client
        .producer()
        .ordered()
        .batch(1, 1 << 20)
        .build()
        .unwrap()
}

async fn send_all(producer: &Producer, bodies: &[&'static str]) -> Vec<Result<u64, SendError>> {
    let mut sent = Vec::new();
    for body in bodies {
        sent.push(producer.queue(Message::new("a", *body)).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for sent in sent {
        outcomes.push(within("a report", sent).await.map(|report| report.sequence));
    }
    outcomes
}

const BODIES: [&str; 6] = ["0", "1", "2", "3", "4", "5"];

#[tokio::test]
async fn an_ordered_producer_replays_from_the_first_unacknowledged() {
    let losses = [
        Reaction::LoseAnswer,
        Reaction::LoseRequest,
        Reaction::Refuse(Code::Busy),
        Reaction::RefuseOne(0, Code::Busy),
    ];
    for loss in losses {
        let broker = FakeBroker::start();
        let producer = ordered(&broker).await;
        producer.send(Message::new("a", "before")).await.unwrap();
        broker.state().script.push_back(loss.clone());
        let outcomes = send_all(&producer, &BODIES).await;
        let sequences: Vec<u64> = outcomes.into_iter().map(Result::unwrap).collect();
        assert_eq!(sequences, [1, 2, 3, 4, 5, 6], "{loss:?}");
        let state = broker.state();
        assert_eq!(state.taken[1..], BODIES, "{loss:?}");
        assert!(state.asked.iter().all(|asked| asked.ordered));
        for again in &state.asked {
            assert_eq!(again.producer, state.asked[0].producer);
            let first = state.asked.iter().find(|a| a.first == again.first);
            assert_eq!(first.unwrap().bodies, again.bodies, "{loss:?}");
        }
    }
}

#[tokio::test]
async fn what_follows_a_message_refused_for_good_keeps_its_order_under_a_new_name() {
    let broker = FakeBroker::start();
    let producer = ordered(&broker).await;
    producer.send(Message::new("a", "before")).await.unwrap();
    broker
        .state()
        .script
        .push_back(Reaction::RefuseOne(0, Code::BadMessage));
    let outcomes = send_all(&producer, &BODIES).await;
    assert!(outcomes[0].is_err());
    assert!(outcomes[1..].iter().all(Result::is_ok));
    let state = broker.state();
    assert_eq!(state.taken[1..], BODIES[1..]);
    let last = state.asked.last().unwrap();
    assert_ne!(last.producer, state.asked[0].producer);
}

#[tokio::test]
async fn a_broker_that_has_forgotten_an_ordered_producer_is_sent_to_under_a_new_name() {
    let broker = FakeBroker::start();
    let producer = ordered(&broker).await;
    producer.send(Message::new("a", "before")).await.unwrap();
    broker.state().forget_producers();
    let outcomes = send_all(&producer, &BODIES).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(broker.state().taken[1..], BODIES);
}

#[tokio::test]
async fn nothing_overtakes_a_message_whose_outcome_is_unknown() {
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let producer = client
        .producer()
        .ordered()
        .batch(1, 1 << 20)
        .delivery_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    broker.state().always = Some(Reaction::Silence);
    let outcomes = send_all(&producer, &BODIES).await;
    for outcome in outcomes {
        let failed = outcome.unwrap_err();
        assert!(failed.may_be_stored);
        assert!(matches!(
            failed.cause,
            SendCause::TimedOut { .. } | SendCause::OrderUnknown
        ));
    }
    broker.state().always = None;
    producer.send(Message::new("a", "after")).await.unwrap();
    assert_eq!(broker.state().taken, ["after"]);
}

#[tokio::test]
async fn an_ordered_producer_stays_with_one_broker_and_another_one_uses_both() {
    for ordered in [true, false] {
        let (first, second) = (FakeBroker::start(), FakeBroker::start());
        let pem = format!("{}{}", first.certificate, second.certificate);
        let client = first
            .builder()
            .broker(&second.address)
            .authorities(qmq_client::Pem::Text(pem.into_bytes()))
            .build()
            .unwrap();
        for address in [&first.address, &second.address] {
            let admin = client.admin(address).unwrap();
            within("both to be there", admin.status()).await.ok();
        }
        let producer = client.producer();
        let producer = if ordered {
            producer.ordered()
        } else {
            producer
        };
        let producer = producer.batch(1, 1 << 20).build().unwrap();
        for _ in 0..5 {
            for outcome in send_all(&producer, &BODIES).await {
                outcome.unwrap();
            }
        }
        let mut taken = [first.state().taken.len(), second.state().taken.len()];
        taken.sort_unstable();
        assert_eq!(taken[0] + taken[1], 30);
        assert_eq!(taken[0] == 0, ordered, "{taken:?}");
    }
}
