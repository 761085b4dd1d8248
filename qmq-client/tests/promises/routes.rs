use std::time::{Duration, Instant};

use bytes::Bytes;
use qmq_client::{
    Client, ConnectionState, ConsumeError, Message, Producer, SendCause, Start, Subscription,
};
use qmq_wire::{Code, Purpose, RouteGroup};

use crate::fake::{FakeBroker, Reaction, within};
use crate::fake_meta::{FakeMeta, broker_of, group, route};

fn message(body: &str) -> Message {
    Message::new("a", body.to_owned())
}

fn read_only(name: &str, broker: &FakeBroker) -> RouteGroup {
    RouteGroup {
        writable: false,
        ..group(name, broker)
    }
}

async fn send(producer: &Producer, body: &str) -> String {
    let report = within("a report", producer.send(message(body))).await;
    report.unwrap().broker.to_string()
}

/// Until the client has heard all that was told before.
async fn heard(meta: &FakeMeta, client: &Client, broker: &FakeBroker) {
    let producer = client.producer().build().unwrap();
    let sent = producer
        .queue(Message::new("heard", "heard"))
        .await
        .unwrap();
    let name = broker.state().hello.group.clone();
    meta.until("followed", |state| {
        state.watched().iter().any(|i| i.subject == "heard")
    })
    .await;
    meta.tell("heard", Purpose::Produce, route(1, [group(&name, broker)]));
    within("heard", sent).await.unwrap();
}

/// Sends until a message goes there.
async fn send_until(producer: &Producer, broker: &FakeBroker) {
    within("the other broker", async {
        while send(producer, "x").await != broker.address {}
    })
    .await;
}

#[tokio::test]
async fn messages_go_to_the_brokers_that_meta_names_and_come_from_them() {
    let (meta, broker) = (FakeMeta::start().await, broker_of("g1"));
    for purpose in [Purpose::Produce, Purpose::Consume] {
        meta.tell("a", purpose, route(1, [group("g1", &broker)]));
    }
    let client = meta.client([&broker]).await;
    let producer = client.producer().build().unwrap();
    assert_eq!(send(&producer, "x").await, broker.address);
    broker.publish(["y"]);
    let subscription = Subscription::new("a", "g").start(Start::Earliest);
    let mut consumer = client.subscribe(subscription).unwrap();
    let received = within("the message", consumer.next()).await.unwrap();
    assert_eq!(
        (received.body().as_ref(), received.subject()),
        (&b"y"[..], "a")
    );
    received.ack().await.unwrap();
    consumer.close().await.unwrap();
    assert_eq!(broker.state().acked, [0]);
    assert_eq!(meta.state().http_requests, 1);
}

#[tokio::test]
async fn meta_is_told_who_consumes_and_when_nobody_does_any_more() {
    let meta = FakeMeta::start().await;
    let builder = meta.builder([]).application("billing").room("east");
    let client = builder.connect().await.unwrap();
    let subscription = Subscription::new("a", "g").consumer_id("host-1");
    let consumer = client.subscribe(subscription).unwrap();
    meta.until("told", |state| !state.interests.is_empty())
        .await;
    let interest = meta.state().interests[0].clone();
    assert_eq!(interest.purpose, Purpose::Consume);
    assert_eq!((&*interest.subject, &*interest.group), ("a", "g"));
    assert_eq!(
        (&*interest.client, &*interest.application),
        ("host-1", "billing")
    );
    assert_eq!(interest.room, "east");
    consumer.close().await.unwrap();
    meta.until("ended", |state| state.watched().is_empty())
        .await;
}

#[tokio::test]
async fn groups_come_and_go_under_load_and_nothing_is_lost() {
    let (meta, first, second) = (FakeMeta::start().await, broker_of("g1"), broker_of("g2"));
    meta.tell("a", Purpose::Produce, route(1, [group("g1", &first)]));
    let client = meta.client([&first, &second]).await;
    let producer = client.producer().batch(3, 1 << 20).build().unwrap();
    let load = {
        let producer = producer.clone();
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for n in 0..3_000_u32 {
                sent.push(producer.queue(message(&n.to_string())).await.unwrap());
                if n % 10 == 0 {
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
            }
            for sent in sent {
                within("a report", sent).await.unwrap();
            }
        })
    };
    for stamp in 2..40 {
        let groups: Vec<RouteGroup> = match stamp % 4 {
            0 => vec![group("g1", &first)],
            1 => vec![group("g1", &first), group("g2", &second)],
            2 => vec![group("g2", &second)],
            _ => vec![read_only("g1", &first), group("g2", &second)],
        };
        meta.tell("a", Purpose::Produce, route(stamp, groups));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    load.await.unwrap();
    let mut taken: Vec<Bytes> = first.state().taken.clone();
    assert!(!taken.is_empty() && !second.state().taken.is_empty());
    taken.extend(second.state().taken.clone());
    taken.sort();
    let mut expected: Vec<Bytes> = (0..3_000_u32).map(|n| n.to_string().into()).collect();
    expected.sort();
    assert!(taken == expected, "{} messages are stored", taken.len());
}

#[tokio::test]
async fn what_is_under_way_to_a_group_that_has_left_goes_through() {
    let (meta, first, second) = (FakeMeta::start().await, broker_of("g1"), broker_of("g2"));
    meta.tell("a", Purpose::Produce, route(1, [group("g1", &first)]));
    let client = meta.client([&first, &second]).await;
    let producer = client.producer().in_flight(1).build().unwrap();
    first.state().script.push_back(Reaction::Silence);
    let under_way = producer.queue(message("under way")).await.unwrap();
    first.until("asked", |state| !state.asked.is_empty()).await;
    let queued = producer.queue(message("queued")).await.unwrap();
    meta.tell("a", Purpose::Produce, route(2, [group("g2", &second)]));
    let queued = within("the queued one", queued).await.unwrap();
    assert_eq!(*queued.broker, *second.address);
    // It has no answer, and is asked again where it may be already.
    let under_way = within("the other", under_way).await.unwrap();
    assert_eq!(*under_way.broker, *first.address);
    assert_eq!(first.state().taken, ["under way"]);
}

/// QMQ's clients take a broker that was not available once for gone until they are restarted.
#[tokio::test]
async fn f3_availability_is_not_one_way() {
    let (meta, first, second) = (FakeMeta::start().await, broker_of("g1"), broker_of("g2"));
    let both = |stamp, first: RouteGroup| route(stamp, [first, group("g2", &second)]);
    meta.tell("a", Purpose::Produce, both(1, group("g1", &first)));
    let client = meta.client([&first, &second]).await;
    let producer = client.producer().build().unwrap();
    send_until(&producer, &first).await;
    meta.tell("a", Purpose::Produce, both(2, read_only("g1", &first)));
    // From when it is known on, nothing new goes there.
    send_until(&producer, &second).await;
    let mut before = first.state().taken.len();
    within("known", async {
        loop {
            for _ in 0..10 {
                send(&producer, "x").await;
            }
            let now = first.state().taken.len();
            if std::mem::replace(&mut before, now) == now {
                return;
            }
        }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(send(&producer, "x").await, second.address);
    }
    meta.tell("a", Purpose::Produce, both(3, group("g1", &first)));
    let started = Instant::now();
    send_until(&producer, &first).await;
    assert!(started.elapsed() < Duration::from_secs(2));
}

/// QMQ's delay server waits for a broker of a subject without a limit. The client's half of it: messages without a route.
#[tokio::test]
async fn c2_a_message_without_a_route_fails_in_time_and_says_why() {
    let meta = FakeMeta::start().await;
    let client = meta.client([]).await;
    let brief = Duration::from_millis(300);
    let producer = client.producer().delivery_timeout(brief).build().unwrap();
    let started = Instant::now();
    let expect = async |producer: &Producer, what: &str| {
        let failed = within("the end", producer.send(message("x")))
            .await
            .unwrap_err();
        assert!(!failed.may_be_stored);
        assert!(
            matches!(failed.cause, SendCause::NoRoute { .. }),
            "{failed}"
        );
        assert!(failed.to_string().contains(what), "{failed}");
    };
    // It says nothing, then no, then that there is none, then it is gone.
    expect(&producer, "has not answered yet").await;
    meta.state().unknown = Some(Code::Denied);
    let client = meta.client([]).await;
    let patient = client.producer().delivery_timeout(Duration::from_secs(60));
    let failed = within("the refusal", patient.build().unwrap().send(message("x")))
        .await
        .unwrap_err();
    assert!(
        matches!(
            &failed.cause,
            SendCause::RouteRefused {
                code: Code::Denied,
                ..
            }
        ),
        "{failed}"
    );
    assert!(failed.to_string().contains("denied"), "{failed}");
    let producer = client.producer().delivery_timeout(brief).build().unwrap();
    // It is known now.
    producer.send(message("x")).await.unwrap_err();
    meta.tell("a", Purpose::Produce, route(1, []));
    within("the route", async {
        while let SendCause::RouteRefused { .. } =
            producer.send(message("x")).await.unwrap_err().cause
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    expect(&producer, "no broker group").await;
    meta.go_away();
    let client = meta.builder([]).build().unwrap();
    let producer = client.producer().delivery_timeout(brief).build().unwrap();
    let failed = producer.send(message("x")).await.unwrap_err();
    assert!(
        matches!(failed.cause, SendCause::NoRoute { .. }),
        "{failed}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_subscription_that_meta_refuses_for_good_ends_and_says_why() {
    let meta = FakeMeta::start().await;
    meta.state().unknown = Some(Code::Denied);
    let client = meta.client([]).await;
    let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    let ended = within("the end", consumer.next()).await.unwrap_err();
    assert!(
        matches!(&ended, ConsumeError::Refused { code: Code::Denied, broker, .. } if **broker == *meta.address),
        "{ended}"
    );
    // What may be there later is waited for.
    meta.state().unknown = Some(Code::Busy);
    let mut consumer = client.subscribe(Subscription::new("b", "g")).unwrap();
    let brief = tokio::time::timeout(Duration::from_millis(300), consumer.next());
    assert!(brief.await.is_err());
}

#[tokio::test]
async fn a_message_waits_for_its_route() {
    let (meta, broker) = (FakeMeta::start().await, broker_of("g1"));
    let client = meta.client([&broker]).await;
    let producer = client.producer().build().unwrap();
    let sent = producer.queue(message("x")).await.unwrap();
    meta.until("asked", |state| !state.interests.is_empty())
        .await;
    meta.tell("a", Purpose::Produce, route(1, [read_only("g1", &broker)]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(broker.state().asked.is_empty());
    meta.tell("a", Purpose::Produce, route(2, [group("g1", &broker)]));
    within("the report", sent).await.unwrap();
}

#[tokio::test]
async fn what_was_sent_is_repeated_at_the_new_master_with_the_same_producer_and_numbers() {
    let (meta, old, new) = (FakeMeta::start().await, broker_of("g1"), broker_of("g1"));
    meta.tell("a", Purpose::Produce, route(1, [group("g1", &old)]));
    let client = meta.client([&old, &new]).await;
    let producer = client.producer().build().unwrap();
    send(&producer, "before").await;
    old.state().always = Some(Reaction::Silence);
    let sent = producer.queue(message("x")).await.unwrap();
    old.until("asked", |state| state.asked.len() == 2).await;
    let moved = RouteGroup {
        epoch: 2,
        ..group("g1", &new)
    };
    meta.tell("a", Purpose::Produce, route(2, [moved]));
    let report = within("the report", sent).await.unwrap();
    assert_eq!(*report.broker, *new.address);
    assert_eq!(old.state().asked[1], new.state().asked[0]);
    // What is told of an earlier epoch changes nothing.
    meta.tell("a", Purpose::Produce, route(3, [group("g1", &old)]));
    assert_eq!(send(&producer, "after").await, new.address);
}

#[tokio::test]
async fn a_subject_of_an_ordered_producer_stays_with_one_group_and_moves_behind_its_last_answer() {
    let meta = FakeMeta::start().await;
    let brokers = [broker_of("g1"), broker_of("g2"), broker_of("g3")];
    let groups = || ["g1", "g2", "g3"].into_iter().zip(&brokers);
    for subject in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let all = groups().map(|(name, broker)| group(name, broker));
        meta.tell(subject, Purpose::Produce, route(1, all));
    }
    let client = meta.client(&brokers).await;
    let producer = client
        .producer()
        .ordered()
        .batch(1, 1 << 20)
        .build()
        .unwrap();
    let mut used = Vec::new();
    for subject in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let mut places = Vec::new();
        for _ in 0..5 {
            let sent = producer.send(Message::new(subject, "x"));
            places.push(within("a report", sent).await.unwrap().broker);
        }
        places.dedup();
        assert_eq!(places.len(), 1, "{subject}");
        used.extend(places);
    }
    used.sort();
    used.dedup();
    assert!(used.len() > 1, "subjects are spread");

    let home = send(&producer, "before").await;
    let (home_name, home) = groups().find(|(_, broker)| broker.address == home).unwrap();
    home.state().script.push_back(Reaction::Silence);
    let under_way = producer.queue(message("under way")).await.unwrap();
    let asked = home.state().asked.len();
    home.until("asked", |state| {
        state.asked.len() > asked || state.script.is_empty()
    })
    .await;
    let left = groups().map(|(name, broker)| match name == home_name {
        true => read_only(name, broker),
        false => group(name, broker),
    });
    meta.tell("a", Purpose::Produce, route(2, left));
    heard(&meta, &client, home).await;
    let mut after = Vec::new();
    for n in 0..5 {
        after.push(
            producer
                .queue(message(&format!("after {n}")))
                .await
                .unwrap(),
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let elsewhere = |body: &str| {
        let others = groups().filter(|(name, _)| *name != home_name);
        others
            .map(|(_, broker)| {
                broker
                    .state()
                    .taken
                    .iter()
                    .filter(|b| b.starts_with(body.as_bytes()))
                    .count()
            })
            .sum::<usize>()
    };
    assert_eq!(elsewhere("after"), 0, "nothing passes what is under way");
    within("the first", under_way).await.unwrap();
    for sent in after {
        within("one behind it", sent).await.unwrap();
    }
    assert_eq!(elsewhere("after"), 5);
    let stored: Vec<Bytes> = brokers
        .iter()
        .flat_map(|broker| broker.state().taken.clone())
        .filter(|body| body.starts_with(b"after"))
        .collect();
    assert_eq!(
        stored,
        ["after 0", "after 1", "after 2", "after 3", "after 4"]
    );
}

#[tokio::test]
async fn a_consumer_that_is_switched_off_gets_nothing_until_it_is_switched_on() {
    let (meta, broker) = (FakeMeta::start().await, broker_of("g1"));
    let online = |stamp| route(stamp, [group("g1", &broker)]);
    let mut offline = online(2);
    offline.online = false;
    meta.tell("a", Purpose::Consume, online(1));
    let client = meta.client([&broker]).await;
    let subscription = Subscription::new("a", "g").window(2, 1 << 20);
    let mut consumer = client.subscribe(subscription).unwrap();
    broker.publish(["0", "1"]);
    let first = within("the first", consumer.next()).await.unwrap();
    broker.until("both", |state| state.held.len() == 2).await;
    meta.tell("a", Purpose::Consume, offline);
    heard(&meta, &client, &broker).await;
    // The one that nobody has looked at is given back; the other one may be finished.
    let nothing = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    broker
        .until("given back", |state| state.given_back.len() == 1)
        .await;
    first.ack().await.unwrap();
    broker.until("ended", |state| state.ends >= 1).await;
    broker.publish(["2"]);
    let nothing = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    meta.tell("a", Purpose::Consume, online(3));
    let again = within("the next", consumer.next()).await.unwrap();
    assert_eq!(again.body().as_ref(), b"2");
    again.ack().await.unwrap();
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn flows_and_pulls_come_and_go_with_the_route() {
    let (meta, first, second) = (FakeMeta::start().await, broker_of("g1"), broker_of("g2"));
    let client = meta.client([&first, &second]).await;
    let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    let puller = client.puller(Subscription::new("a", "p")).unwrap();
    let wait = Duration::from_millis(100);
    let unknown = within("an answer", puller.pull(1, wait)).await.unwrap_err();
    assert!(
        unknown.to_string().contains("has not answered yet"),
        "{unknown}"
    );
    first.publish(["first"]);
    second.publish(["second"]);
    let told =
        |stamp, groups: Vec<RouteGroup>| meta.tell("a", Purpose::Consume, route(stamp, groups));
    told(1, vec![]);
    assert!(
        within("nothing", puller.pull(1, wait))
            .await
            .unwrap()
            .is_empty()
    );
    told(2, vec![group("g1", &first)]);
    let received = within("the first", consumer.next()).await.unwrap();
    assert_eq!(received.body().as_ref(), b"first");
    received.ack().await.unwrap();
    told(3, vec![group("g2", &second)]);
    let received = within("the second", consumer.next()).await.unwrap();
    assert_eq!(received.body().as_ref(), b"second");
    received.ack().await.unwrap();
    first.until("left", |state| state.ends >= 1).await;
    consumer.close().await.unwrap();
    second.publish(["pulled"]);
    let pulled = within("a pull", async {
        loop {
            if let Some(received) = puller.pull(1, wait).await.unwrap().pop() {
                return received;
            }
        }
    })
    .await;
    assert_eq!(pulled.body().as_ref(), b"pulled");
    pulled.ack().await.unwrap();
}

#[tokio::test]
async fn a_consumer_follows_its_group_to_another_master() {
    let (meta, old, new) = (FakeMeta::start().await, broker_of("g1"), broker_of("g1"));
    meta.tell("a", Purpose::Consume, route(1, [group("g1", &old)]));
    let client = meta.client([&old, &new]).await;
    let mut consumer = client.subscribe(Subscription::new("a", "g")).unwrap();
    old.publish(["x"]);
    let held = within("the message", consumer.next()).await.unwrap();
    // As a copy has it: the message, and who holds it.
    {
        let mut state = new.state();
        state.hello.incarnation = 2;
        state.messages.push("x".into());
        state.cursor = 1;
        state.next_pull = 1;
        state.held.insert(0, 0);
    }
    old.go_away();
    within("seen as lost", async {
        let connected =
            |state: &ConnectionState| matches!(state, ConnectionState::Connected { .. });
        while client
            .connections()
            .iter()
            .any(|(_, state)| connected(state))
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let moved = RouteGroup {
        epoch: 2,
        ..group("g1", &new)
    };
    meta.tell("a", Purpose::Consume, route(2, [moved]));
    let session = |broker: &FakeBroker| {
        let state = broker.state();
        let mut main = state.subscribes.iter();
        main.find(|s| s.flow.subject == "a").map(|s| s.flow.session)
    };
    within("subscribed", async {
        while session(&new).is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(session(&old), session(&new), "it is the same consumer");
    new.publish(["y"]);
    let next = within("the next", consumer.next()).await.unwrap();
    assert_eq!(
        (next.body().as_ref(), next.broker()),
        (&b"y"[..], &*new.address)
    );
    next.ack().await.unwrap();
    drop(held);
}
