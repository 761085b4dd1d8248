use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use qmq_client::{
    AdminError, Attributes, DelayOutcome, Delayed, HandlerError, Message, Pem, SendCause, Start,
    Subscription,
};
use qmq_wire::{Code, DelayRequest, Purpose};

use crate::fake::{FakeBroker, Reaction, within};
use crate::fake_meta::{FakeMeta, broker_of, group, route};

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

fn due(body: &str, in_ms: i64) -> Message {
    let at = now_ms().saturating_add_signed(in_ms);
    Message::new("a", body.to_owned()).with_due_time_ms(at)
}

async fn cluster() -> (FakeMeta, FakeBroker, FakeBroker) {
    let (meta, broker, delay) = (
        FakeMeta::start().await,
        broker_of("g1"),
        FakeBroker::start_delay("d1"),
    );
    for purpose in [Purpose::Produce, Purpose::Consume] {
        meta.tell("a", purpose, route(1, [group("g1", &broker)]));
    }
    for subject in ["a", "%RETRY%a%g"] {
        meta.tell(subject, Purpose::Delay, route(1, [group("d1", &delay)]));
    }
    (meta, broker, delay)
}

#[tokio::test]
async fn a_message_with_a_due_time_goes_to_a_delay_server_by_itself() {
    let (meta, broker, delay) = cluster().await;
    let client = meta.client([&broker, &delay]).await;
    let producer = client.producer().build().unwrap();
    let now = within("now", producer.send(Message::new("a", "now")))
        .await
        .unwrap();
    assert_eq!((&*now.broker, now.delay), (&*broker.address, None));
    let later = within("later", producer.send(due("later", 3_600_000)))
        .await
        .unwrap();
    let known = later.delay.unwrap();
    assert_eq!((&*known.group, known.id), ("d1", 0_u128.to_be_bytes()));
    // However soon it is due.
    let soon = within("soon", producer.send(due("soon", 400)))
        .await
        .unwrap();
    assert!(soon.delay.is_some());
    // What is due already goes to a broker, which takes no due times.
    let past = within("past", producer.send(due("past", -1)))
        .await
        .unwrap();
    assert_eq!((&*past.broker, past.delay), (&*broker.address, None));
    assert_eq!(broker.state().taken, ["now", "past"]);
    assert_eq!(delay.state().taken, ["later", "soon"]);
}

#[tokio::test]
async fn a_lost_answer_of_a_delay_server_is_asked_again_with_the_same_numbers() {
    let (meta, broker, delay) = cluster().await;
    let client = meta.client([&broker, &delay]).await;
    let producer = client.producer().build().unwrap();
    within("before", producer.send(due("before", 60_000)))
        .await
        .unwrap();
    delay.state().script.push_back(Reaction::LoseAnswer);
    let report = within("the report", producer.send(due("x", 60_000)))
        .await
        .unwrap();
    assert_eq!(report.delay.unwrap().id, 1_u128.to_be_bytes());
    let state = delay.state();
    assert_eq!(state.asked[1], state.asked[2]);
    assert_eq!(state.taken.len(), 2, "taken once");
}

#[tokio::test]
async fn of_the_brokers_given_the_delay_servers_take_what_is_delayed() {
    let (broker, delay) = (FakeBroker::start(), FakeBroker::start_delay("d1"));
    let pem = format!("{}{}", broker.certificate, delay.certificate);
    let client = broker
        .builder()
        .broker(&delay.address)
        .authorities(Pem::Text(pem.into_bytes()))
        .build()
        .unwrap();
    let producer = client.producer().build().unwrap();
    let mut sent = Vec::new();
    for n in 0..20 {
        let message = if n % 2 == 0 {
            due("d", 60_000)
        } else {
            Message::new("a", "m")
        };
        sent.push(producer.queue(message).await.unwrap());
    }
    for sent in sent {
        within("a report", sent).await.unwrap();
    }
    assert_eq!(
        (broker.state().taken.len(), delay.state().taken.len()),
        (10, 10)
    );
}

#[tokio::test]
async fn without_a_delay_server_a_delayed_message_fails_with_what_to_do() {
    let broker = FakeBroker::start();
    let producer = broker.client().await.producer().build().unwrap();
    let failed = within("the end", producer.send(due("x", 60_000)))
        .await
        .unwrap_err();
    assert_eq!(failed.cause, SendCause::NoDelayServer);
    assert!(failed.to_string().contains("broker(..)"), "{failed}");
    assert!(broker.state().asked.is_empty());
}

#[tokio::test]
async fn what_waits_can_be_looked_at_and_changed() {
    let (meta, broker, delay) = cluster().await;
    let client = meta.client([&broker, &delay]).await;
    let producer = client.producer().build().unwrap();
    let report = within("the report", producer.send(due("x", 60_000)))
        .await
        .unwrap();
    let known = report.delay.unwrap();
    let again: Delayed = known.to_string().parse().unwrap();
    assert_eq!(again, known);
    let admin = client.delay(&known.group);
    assert_eq!(admin.cancel(known.id).await, Ok(DelayOutcome::Done));
    assert_eq!(admin.reschedule(known.id, 7).await, Ok(DelayOutcome::Fired));
    assert_eq!(admin.get(known.id).await, Ok(None));
    assert_eq!(admin.list("a", 1, &[2], 3).await.unwrap().next, [7]);
    assert_eq!(admin.dead_letters(0, 10).await.unwrap().total, 3);
    assert_eq!(admin.retry_dead_letters(&[1]).await, Ok(2));
    assert_eq!(admin.drop_dead_letters(&[]).await, Ok(2));
    let asked = delay.state().delay_requests.clone();
    assert_eq!(asked[0], DelayRequest::Cancel { id: known.id });
    assert_eq!(asked.len(), 7);
    // A client that has sent nothing there asks the meta server, or goes by the address.
    let other = meta.client([&broker, &delay]).await;
    let unknown = other.delay("d1").get(known.id).await;
    assert!(
        matches!(unknown, Err(AdminError::NoGroup { .. })),
        "{unknown:?}"
    );
    meta.state()
        .groups
        .insert("d1".to_owned(), delay.address.clone());
    assert_eq!(other.delay("d1").get(known.id).await, Ok(None));
    assert_eq!(other.delay(&delay.address).get(known.id).await, Ok(None));
}

/// QMQ sends a message that a group wants later to its real subject, and every group of it gets the message again.
#[tokio::test]
async fn e13_a_long_nack_reaches_no_group_but_its_own() {
    let (meta, broker, delay) = cluster().await;
    let client = meta.client([&broker, &delay]).await;
    let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    broker.publish(["x"]);
    let received = within("the message", consumer.next()).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let before = now_ms();
    within("put off", received.nack(Some(hour))).await.unwrap();
    {
        let state = delay.state();
        assert_eq!(state.asked.len(), 1);
        assert_eq!(state.asked[0].subjects, ["%RETRY%a%g"]);
        assert_eq!(state.asked[0].bodies, ["x"]);
        let attributes = Attributes::decode(&state.asked[0].attributes[0]).unwrap();
        let due = attributes.due_time_ms().unwrap();
        assert!((before + 3_600_000..=now_ms() + 3_600_000).contains(&due));
        assert_eq!(attributes.property("qmq_times"), Some("2"));
    }
    let state = broker.state();
    assert_eq!(state.acked, [0]);
    assert!(state.nacked.is_empty());
}

#[tokio::test]
async fn a_long_nack_is_acknowledged_only_when_the_delay_server_has_the_message() {
    let (meta, broker, delay) = cluster().await;
    let client = meta.client([&broker, &delay]).await;
    let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    broker.publish(["0", "1"]);
    let hour = Some(Duration::from_secs(3_600));
    delay.state().script.push_back(Reaction::Silence);
    let first = within("the first", consumer.next()).await.unwrap();
    let nack = tokio::spawn(first.nack(hour));
    delay.until("asked", |state| state.asked.len() == 1).await;
    assert!(broker.state().acked.is_empty());
    within("put off", nack).await.unwrap().unwrap();
    assert_eq!(broker.state().acked, [0]);
    // It refuses: the broker keeps it for as long as it does.
    delay.state().always = Some(Reaction::Refuse(Code::DueTooFar));
    let second = within("the second", consumer.next()).await.unwrap();
    within("nacked", second.nack(hour)).await.unwrap();
    assert_eq!(broker.state().nacked, [(1, Some(60_000))]);
    assert_eq!(broker.state().acked, [0]);
}

#[tokio::test]
async fn a_listener_puts_off_as_well_and_short_delays_stay_with_the_broker() {
    let (meta, broker, delay) = cluster().await;
    let client = meta.client([&broker, &delay]).await;
    let consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    let listening = consumer.listen(|message| async move {
        let delay = match message.body().as_ref() {
            b"long" => Duration::from_secs(3_600),
            _ => Duration::from_secs(7),
        };
        Err(HandlerError::retry_after(delay, "later"))
    });
    broker.publish(["long", "short"]);
    broker
        .until("both", |state| state.acked.len() + state.nacked.len() == 2)
        .await;
    listening.close().await.unwrap();
    assert_eq!(broker.state().acked, [0]);
    assert_eq!(broker.state().nacked, [(1, Some(7_000))]);
    assert_eq!(delay.state().taken, ["long"]);
}

#[tokio::test]
async fn what_was_put_off_comes_back_to_the_subscription_with_its_attempts() {
    let (meta, broker, delay) = cluster().await;
    let sent_again = Message::new("a", "")
        .property("qmq_times", "4")
        .with_id("m-1");
    let mut attributes = Vec::new();
    Attributes::encode(&sent_again, &mut attributes).unwrap();
    broker.state().retries = Some(Bytes::from(attributes));
    broker.publish(["x"]);
    let client = meta.client([&broker, &delay]).await;
    let subscription = Subscription::new("a", "g").start(Start::Latest);
    let mut consumer = client.subscribe(subscription).unwrap();
    let received = within("the message", consumer.next()).await.unwrap();
    assert_eq!((received.subject(), received.attempt()), ("a", 3));
    assert_eq!(received.attributes().id(), Some("m-1"));
    within("put off", received.nack(Some(Duration::from_secs(3_600))))
        .await
        .unwrap();
    let asked = delay.state().asked[0].clone();
    assert_eq!(
        asked.subjects,
        ["%RETRY%a%g"],
        "never that of the retry subject"
    );
    let attributes = Attributes::decode(&asked.attributes[0]).unwrap();
    assert_eq!(attributes.property("qmq_times"), Some("5"));
    let state = broker.state();
    let retries = state
        .subscribes
        .iter()
        .find(|s| s.flow.subject == "%RETRY%a%g");
    assert_eq!(retries.unwrap().flow.start, Start::Earliest);
}

/// What a message has in its third attempt, the last of three that the broker grants.
fn third_of_three(meta: &FakeMeta, broker: &FakeBroker) {
    let sent_again = Message::new("a", "")
        .property("qmq_times", "3")
        .with_id("m-1");
    let mut attributes = Vec::new();
    Attributes::encode(&sent_again, &mut attributes).unwrap();
    let mut state = broker.state();
    state.retries = Some(Bytes::from(attributes));
    state.hello.limits.attempts_max = 3;
    meta.tell(
        "%DEAD_RETRY%a%g",
        Purpose::Produce,
        route(1, [group("g1", broker)]),
    );
}

#[tokio::test]
async fn what_is_always_put_off_ends_as_a_dead_letter() {
    let (meta, broker, delay) = cluster().await;
    third_of_three(&meta, &broker);
    broker.publish(["x", "y"]);
    let client = meta.client([&broker, &delay]).await;
    let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    for nack in [Some(Duration::from_secs(3_600)), None] {
        let received = within("the message", consumer.next()).await.unwrap();
        assert_eq!(received.attempt(), 2);
        within("buried", received.nack(nack)).await.unwrap();
    }
    let state = broker.state();
    assert_eq!(
        state.asked.iter().map(|a| &a.subjects).collect::<Vec<_>>(),
        [&["%DEAD_RETRY%a%g"], &["%DEAD_RETRY%a%g"]]
    );
    assert_eq!(state.taken, ["x", "y"]);
    let attributes = Attributes::decode(&state.asked[0].attributes[0]).unwrap();
    assert_eq!(attributes.id(), Some("m-1"));
    assert_eq!(attributes.property("qmq_times"), Some("3"));
    assert_eq!(state.acked, [0, 1]);
    assert!(state.nacked.is_empty());
    assert!(delay.state().asked.is_empty());
}

#[tokio::test]
async fn a_message_whose_burial_is_refused_stays_with_its_broker() {
    let (meta, broker, delay) = cluster().await;
    third_of_three(&meta, &broker);
    broker.state().always = Some(Reaction::Refuse(Code::Denied));
    broker.publish(["x"]);
    let client = meta.client([&broker, &delay]).await;
    let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    let received = within("the message", consumer.next()).await.unwrap();
    within("nacked", received.nack(None)).await.unwrap();
    let state = broker.state();
    assert_eq!(state.nacked, [(0, Some(60_000))]);
    assert!(state.acked.is_empty());
}

#[tokio::test]
async fn before_its_last_attempt_a_message_is_put_off_and_without_a_limit_always() {
    for limit in [4, 0] {
        let (meta, broker, delay) = cluster().await;
        third_of_three(&meta, &broker);
        broker.state().hello.limits.attempts_max = limit;
        broker.publish(["x"]);
        let client = meta.client([&broker, &delay]).await;
        let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
        let received = within("the message", consumer.next()).await.unwrap();
        within("put off", received.nack(Some(Duration::from_secs(3_600))))
            .await
            .unwrap();
        assert_eq!(delay.state().asked[0].subjects, ["%RETRY%a%g"], "{limit}");
        assert!(broker.state().asked.is_empty(), "{limit}");
        assert_eq!(broker.state().acked, [0]);
    }
}
