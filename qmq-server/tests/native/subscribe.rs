//! Messages out, through subscriptions.

use std::collections::BTreeSet;

use qmq_message::TagFilter;
use qmq_store::Message;
use qmq_wire::{Code, Flow, FlowFlags, Start};

use super::test_broker::TestBroker;
use super::wire_client::{Answer, Batch, Sub, flow, pull_sequences, sequences, sleep_ms, until};

const PLENTY: u64 = 1 << 40;

fn in_session(flow: Flow, session: u64) -> Flow {
    Flow { session, ..flow }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_in_messages_is_never_exceeded() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 100, 10).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 3, PLENTY).await;
    assert_eq!(sequences(&sub.all_within(200).await), [0, 1, 2]);
    sub.credit(1, 0).await;
    assert_eq!(sequences(&sub.all_within(100).await), [3]);
    sub.credit(2, 0).await;
    sub.credit(5, 0).await;
    assert_eq!(
        sequences(&sub.all_within(100).await),
        [4, 5, 6, 7, 8, 9, 10]
    );
    // Acks give none back.
    assert!(matches!(
        sub.try_ack(vec![(0, u64::MAX)]).await,
        Answer::Acked(_)
    ));
    sub.none_within(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_in_bytes_is_exceeded_by_one_message_at_most_and_counts_attributes() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let tag = "t".repeat(98);
    let message = || Message::new("order", vec![1_u8; 100]).tag(&tag);
    let batch = Batch::of((0..50).map(|_| message()));
    assert_eq!(peer.produce(&batch).await.refused, []);
    // Each has 100 bytes of attributes, and 100 of a body.
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 1_000, 1_000).await;
    assert_eq!(sub.all_within(200).await.len(), 5, "1,000 bytes are five");
    sub.credit(0, 250).await;
    assert_eq!(
        sub.all_within(100).await.len(),
        2,
        "the last one goes 150 below 0"
    );
    sub.credit(0, 150).await;
    sub.none_within(100).await;
    sub.credit(0, 1).await;
    assert_eq!(
        sub.all_within(100).await.len(),
        1,
        "a single byte lets one through"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_the_credit_gets_through() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 3, 900_000).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 1_000, 1).await;
    assert_eq!(sequences(&sub.all_within(300).await), [0]);
    sub.credit(0, 899_999).await;
    sub.none_within(100).await;
    sub.credit(0, 1).await;
    assert_eq!(sequences(&sub.all_within(300).await), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_keep_coming_while_credit_lasts() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    for len in [900_000, 60_000, 600_000] {
        let subject = format!("s{len}");
        for _ in 0..4 {
            peer.publish(&subject, 10, len).await;
        }
        let mut sub = peer
            .subscribe(&flow(&subject, "g", "c"), 1_000, PLENTY)
            .await;
        let all = sub.take(40).await;
        assert_eq!(sequences(&all), (0..40).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_without_credit_gets_nothing_and_holds_nobody_up() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut without = peer.subscribe(&flow("order", "g", "without"), 0, 0).await;
    let mut no_bytes = peer.subscribe(&flow("order", "g", "no-bytes"), 10, 0).await;
    let mut with = peer
        .subscribe(&flow("order", "g", "with"), 1_000, PLENTY)
        .await;
    peer.publish("order", 20, 10).await;
    assert_eq!(with.take(20).await.len(), 20);
    without.none_within(50).await;
    no_bytes.none_within(50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_a_full_window_stops_its_own_stream_only() {
    let broker = TestBroker::start(&[]).await;
    let mut dial = broker.dial();
    dial.stream_window = 64 << 10;
    let peer = dial.peer().await.unwrap();
    broker.peer().await.publish("large", 50, 100_000).await;
    // It has credit for all, and reads nothing.
    let stuck = peer
        .subscribe(&flow("large", "g", "c"), 1_000, PLENTY)
        .await;
    until("something handed out", || {
        broker.group("large", "g").is_some()
    })
    .await;
    let mut other = peer
        .subscribe(&flow("order", "g", "c"), 1_000, PLENTY)
        .await;
    for n in 0..20 {
        assert_eq!(peer.publish("order", 1, 10).await, n);
        assert_eq!(other.one().await.sequence, n);
    }
    let held = broker.group("large", "g").unwrap().unacked;
    assert!(
        held < 50,
        "what waits in an outlet has a limit, and {held} of 50 wait"
    );
    let mut stuck = stuck;
    assert_eq!(stuck.take(50).await.len(), 50, "it goes on when it is read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_begins_where_it_says() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 3, 1).await;
    sleep_ms(30).await;
    let time = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    sleep_ms(30).await;
    peer.publish("order", 3, 1).await;
    for (start, group, expected) in [
        (Start::default(), "latest", vec![]),
        (Start::Earliest, "earliest", vec![0, 1, 2, 3, 4, 5]),
        (Start::Sequence(4), "sequence", vec![4, 5]),
        (Start::Sequence(900), "beyond", vec![]),
        (Start::Time(time), "time", vec![3, 4, 5]),
        (Start::Time(0), "time0", vec![0, 1, 2, 3, 4, 5]),
    ] {
        let flow = Flow {
            start,
            ..flow("order", group, "c")
        };
        let mut sub = peer.subscribe(&flow, 100, PLENTY).await;
        assert_eq!(sequences(&sub.all_within(60).await), expected, "{start:?}");
    }
    // A group that has been there goes on where it is, whatever is said now.
    let again = in_session(flow("order", "sequence", "other"), 9);
    let mut again = peer.subscribe(&again, 100, PLENTY).await;
    let next = peer.publish("order", 1, 1).await;
    let came = again.all_within(60).await;
    assert!(
        came.iter().all(|one| one.sequence == next),
        "{:?}",
        sequences(&came)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_means_behind_what_was_there_when_it_subscribed() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 5, 1).await;
    let latest = Flow {
        start: Start::Latest,
        ..flow("order", "g", "c")
    };
    let mut sub = peer.subscribe(&latest, 100, PLENTY).await;
    sub.none_within(50).await;
    assert_eq!(peer.publish("order", 2, 1).await, 5);
    assert_eq!(sequences(&sub.take(2).await), [5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_gets_the_messages_of_its_tags_only() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let tagged = |tags: &[&str]| {
        let message = Message::new("order", tags.join(","));
        tags.iter().fold(message, |message, tag| message.tag(*tag))
    };
    let batch = Batch::of([
        tagged(&["a"]),
        tagged(&["a", "b"]),
        tagged(&["c"]),
        tagged(&[]),
        tagged(&["b", "a", "c"]),
    ]);
    assert_eq!(peer.produce(&batch).await.refused, []);
    let tags = || vec!["a".to_owned(), "b".to_owned()];
    for (group, filter, expected) in [
        ("any", TagFilter::Any(tags()), vec![0, 1, 4]),
        ("every", TagFilter::Every(tags()), vec![1, 4]),
        ("all", TagFilter::All, vec![0, 1, 2, 3, 4]),
    ] {
        let flow = Flow {
            filter,
            ..flow("order", group, "c")
        };
        let mut sub = peer.subscribe(&flow, 100, PLENTY).await;
        assert_eq!(sequences(&sub.all_within(60).await), expected, "{group}");
    }
    // Another filter for the same group is an error, and one that is told.
    let mut other = peer
        .subscribe(&flow("order", "any", "other"), 100, PLENTY)
        .await;
    assert_eq!(other.end().await.code, Some(Code::FilterMismatch));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_other_tags_are_no_lag_once_they_were_looked_at() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let tagged = |tag: &str| Batch::of([Message::new("order", "x").tag(tag)]);
    let red = Flow {
        filter: TagFilter::Any(vec!["red".to_owned()]),
        ..flow("order", "g", "c")
    };
    let mut sub = peer.subscribe(&red, 1, PLENTY).await;
    peer.produce(&tagged("red")).await;
    let one = sub.one().await;
    for _ in 0..5 {
        peer.produce(&tagged("blue")).await;
    }
    // Without credit nobody asks.
    assert_eq!(broker.group("order", "g").unwrap().lag, 5);
    sub.credit(1, 0).await;
    until("no lag", || broker.group("order", "g").unwrap().lag == 0).await;
    sub.ack(&[one]).await;
    peer.produce(&tagged("red")).await;
    assert_eq!(sub.one().await.sequence, 6);
    assert_eq!(broker.group("order", "g").unwrap().lag, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_consumer_of_a_broadcast_group_gets_every_message() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let broadcast = |consumer: &str| Flow {
        flags: FlowFlags {
            broadcast: true,
            ..FlowFlags::default()
        },
        ..flow("order", "g", consumer)
    };
    let mut a = peer.subscribe(&broadcast("a"), 100, PLENTY).await;
    let mut b = peer.subscribe(&broadcast("b"), 100, PLENTY).await;
    peer.publish("order", 10, 1).await;
    let (from_a, from_b) = (a.take(10).await, b.take(10).await);
    assert_eq!(sequences(&from_a), sequences(&from_b));
    a.ack(&from_a).await;
    // What one has acknowledged, the other holds still.
    b.nack(&from_b[..1], Some(0)).await;
    assert_eq!(b.one().await.sequence, 0);
    a.none_within(50).await;
    let mut shared = peer.subscribe(&flow("order", "g", "c"), 100, PLENTY).await;
    assert_eq!(shared.end().await.code, Some(Code::KindMismatch));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_of_a_group_share_its_messages() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut a = peer.subscribe(&flow("order", "g", "a"), 50, PLENTY).await;
    let mut b = peer.subscribe(&flow("order", "g", "b"), 50, PLENTY).await;
    peer.publish("order", 100, 1).await;
    let mut all = sequences(&a.take(50).await);
    all.extend(sequences(&b.take(50).await));
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (100, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_an_existing_subject_makes_none() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let existing = Flow {
        flags: FlowFlags {
            existing: true,
            ..FlowFlags::default()
        },
        start: Start::Earliest,
        ..flow("order", "g", "c")
    };
    let refused = peer.try_subscribe(&existing, 10, PLENTY).await;
    assert_eq!(
        refused.err().map(|refusal| refusal.code),
        Some(Code::UnknownSubject)
    );
    assert_eq!(broker.broker.administering().status().subjects, 0);
    peer.publish("order", 2, 1).await;
    let mut sub = peer.subscribe(&existing, 10, PLENTY).await;
    assert_eq!(sequences(&sub.take(2).await), [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_means_never_again() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "100")]).await;
    let peer = broker.peer().await;
    let at_most_once = Flow {
        flags: FlowFlags {
            at_most_once: true,
            ..FlowFlags::default()
        },
        ..flow("order", "g", "c")
    };
    peer.publish("order", 10, 1).await;
    let mut sub = peer.subscribe(&at_most_once, 5, PLENTY).await;
    assert_eq!(sub.take(5).await.len(), 5);
    assert_eq!(broker.group("order", "g").unwrap().unacked, 0);
    sub.vanish();
    sleep_ms(300).await;
    let mut next = peer
        .subscribe(&in_session(at_most_once, 2), 100, PLENTY)
        .await;
    assert_eq!(sequences(&next.all_within(100).await), [5, 6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_comes_again_after_its_delay_with_its_attempts_counted() {
    let broker = TestBroker::start(&[
        ("message.retry.delay.seconds", "1"),
        ("consumer.nack.max.ms", "60000"),
    ])
    .await;
    let peer = broker.peer().await;
    peer.publish("order", 2, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 100, PLENTY).await;
    let first = sub.take(2).await;
    assert_eq!(first.iter().map(|one| one.attempt).max(), Some(0));

    // Its own delay.
    sub.nack(&first[..1], Some(200)).await;
    sub.none_within(100).await;
    let second = sub.one().await;
    assert_eq!((second.sequence, second.attempt), (0, 1));
    assert_ne!(second.pull_sequence, first[0].pull_sequence);
    // None at all.
    sub.nack(&[second], Some(0)).await;
    let third = sub.one().await;
    assert_eq!((third.sequence, third.attempt), (0, 2));
    // The broker's.
    sub.nack(&first[1..], None).await;
    sub.none_within(700).await;
    let other = sub.one().await;
    assert_eq!((other.sequence, other.attempt), (1, 1));
    // Longer than the broker keeps anything back.
    let answer = sub
        .try_nack(std::slice::from_ref(&third), Some(60_001))
        .await;
    let Answer::Refused(refusal) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(refusal.code, Code::DelayTooLong);
    let settled = (first[0].pull_sequence, other.pull_sequence);
    sub.ack(&[third, other]).await;
    // An ack of what is settled does no harm, and neither does one of what was never held.
    let Answer::Acked(again) = sub.try_ack(vec![settled]).await else {
        panic!("no answer");
    };
    assert_eq!((again.settled, again.already), (0, 5), "{again:?}");
    let Answer::Acked(foreign) = sub.try_ack(vec![(1_000, 1_001)]).await else {
        panic!("no answer");
    };
    assert_eq!((foreign.settled, foreign.not_held), (0, 2), "{foreign:?}");
    sub.none_within(50).await;
}

async fn dead_letters(sub: &mut Sub, expected: usize) -> Vec<bytes::Bytes> {
    let all = sub.take(expected).await;
    sub.none_within(100).await;
    all.into_iter().map(|one| one.body).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_its_consumers_is_buried_once_and_holds_nobody_up() {
    let broker = TestBroker::start(&[
        ("consumer.session.timeout.ms", "100"),
        ("consumer.max.attempts", "3"),
    ])
    .await;
    let peer = broker.peer().await;
    let mut graves = peer
        .subscribe(&flow("%DEAD_RETRY%order%g", "auditor", "c"), 100, PLENTY)
        .await;
    peer.produce(&Batch::bodies("order", ["poison"])).await;
    for attempt in 0..3 {
        let victim = broker.peer().await;
        let flow = in_session(flow("order", "g", "victim"), u64::from(attempt) + 10);
        let mut sub = victim.subscribe(&flow, 1, PLENTY).await;
        let poison = sub.one().await;
        assert_eq!(
            (&poison.body[..], poison.attempt),
            (&b"poison"[..], attempt)
        );
        // The whole process goes, with the message in hand.
        victim.close();
    }
    graves.none_within(50).await;
    let survivor = in_session(flow("order", "g", "survivor"), 99);
    let mut survivor = peer.subscribe(&survivor, 100, PLENTY).await;
    peer.produce(&Batch::bodies("order", ["fine"])).await;
    let fine = survivor.one().await;
    assert_eq!(fine.body, "fine");
    survivor.ack(&[fine]).await;
    assert_eq!(dead_letters(&mut graves, 1).await, ["poison"]);
    survivor.none_within(50).await;
    let group = broker.group("order", "g").unwrap();
    assert_eq!(
        (group.lag, group.unacked, group.waiting),
        (0, 0, 0),
        "{group:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_keeps_its_tags_and_is_not_buried_again() {
    let broker = TestBroker::start(&[("consumer.max.attempts", "1")]).await;
    let peer = broker.peer().await;
    let tagged = Message::new("order", "x").tag("red").with_id("7");
    assert_eq!(peer.produce(&Batch::of([tagged])).await.refused, []);
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 100, PLENTY).await;
    let one = sub.one().await;
    sub.nack(&[one], Some(0)).await;
    sub.none_within(50).await;
    let mut graves = peer
        .subscribe(&flow("%DEAD_RETRY%order%g", "g", "c"), 100, PLENTY)
        .await;
    let dead = graves.one().await;
    let attributes = qmq_message::Attributes::decode(&dead.attributes).unwrap();
    assert_eq!(
        (attributes.id(), attributes.tags().collect::<Vec<_>>()),
        (Some("7"), vec!["red"])
    );
    for attempt in 1..5 {
        graves
            .nack(&[graves_last(&dead, attempt - 1)], Some(0))
            .await;
        let again = graves.one().await;
        assert_eq!(again.attempt, attempt, "it stays where it can be looked at");
        assert_eq!(again.sequence, dead.sequence);
    }
}

/// The pull sequences of a single message that is handed out again and again count up.
fn graves_last(first: &qmq_wire::Delivered, times: u32) -> qmq_wire::Delivered {
    qmq_wire::Delivered {
        pull_sequence: first.pull_sequence + u64::from(times),
        ..first.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_too_long_goes_to_another_unless_it_is_renewed() {
    let broker = TestBroker::start(&[("consumer.ack.timeout.ms", "400")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 2, 1).await;
    let mut slow = peer.subscribe(&flow("order", "g", "slow"), 2, PLENTY).await;
    let held = slow.take(2).await;
    let mut other = peer
        .subscribe(&flow("order", "g", "other"), 100, PLENTY)
        .await;
    let began = std::time::Instant::now();
    let mut came = Vec::new();
    while began.elapsed().as_millis() < 1_200 {
        slow.renew(&held[..1]).await;
        came.extend(other.all_within(100).await);
        other.renew(&came).await;
    }
    assert_eq!(sequences(&came), [held[1].sequence], "renewed ones stay");
    assert_eq!(came[0].attempt, 1);
    let Answer::Acked(late) = slow
        .try_ack(vec![(held[1].pull_sequence, held[1].pull_sequence)])
        .await
    else {
        panic!("no answer");
    };
    assert_eq!(
        (late.settled, late.already, late.not_held),
        (0, 0, 1),
        "{late:?}"
    );
    slow.ack(&held[..1]).await;
    let both = vec![(held[0].pull_sequence, held[1].pull_sequence)];
    let Answer::Acked(again) = slow.try_ack(both).await else {
        panic!("no answer");
    };
    assert_eq!(
        (again.settled, again.already, again.not_held),
        (0, 1, 1),
        "{again:?}"
    );
    let Answer::Acked(late) = slow.try_nack(&held[1..], Some(0)).await else {
        panic!("no answer");
    };
    assert_eq!(
        (late.settled, late.already, late.not_held),
        (0, 0, 1),
        "{late:?}"
    );
    other.nack(&came, Some(0)).await;
    let again = other.one().await;
    other.ack(&[again]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_in_time_finds_what_it_held_and_nobody_else_got_it() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "2000")]).await;
    let peer = broker.peer().await;
    let other = broker.peer().await;
    peer.publish("order", 20, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    assert!(!sub.subscribed.resumed);
    let held = sub.take(10).await;
    sub.ack(&held[..3]).await;
    let mut others = other
        .subscribe(&flow("order", "g", "other"), 100, PLENTY)
        .await;
    assert_eq!(others.take(10).await.len(), 10);
    peer.close();
    others.none_within(300).await;
    let peer = broker.peer().await;
    let mut back = peer.subscribe(&flow("order", "g", "c"), 100, PLENTY).await;
    assert!(back.subscribed.resumed);
    let again = back.take(7).await;
    assert_eq!(pull_sequences(&again), pull_sequences(&held[3..]));
    assert!(
        again.iter().all(|one| one.attempt == 0),
        "coming back is no failure"
    );
    others.none_within(50).await;
    back.ack(&again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e11_what_one_held_who_does_not_come_back_goes_to_the_others_at_once() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "300")]).await;
    let peer = broker.peer().await;
    let other = broker.peer().await;
    peer.publish("order", 5, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 5, PLENTY).await;
    let held = sub.take(5).await;
    sub.ack(&held[..2]).await;
    let mut others = other
        .subscribe(&flow("order", "g", "other"), 100, PLENTY)
        .await;
    // One stream, not the connection.
    sub.vanish();
    others.none_within(150).await;
    let came = others.take(3).await;
    assert_eq!(sequences(&came), [2, 3, 4]);
    assert!(came.iter().all(|one| one.attempt == 1));
    let mut late = peer.subscribe(&flow("order", "g", "c"), 5, PLENTY).await;
    assert!(!late.subscribed.resumed, "it was gone");
    late.none_within(50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_session_takes_over_and_the_first_can_settle_nothing() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 3, 1).await;
    let mut old = peer.subscribe(&flow("order", "g", "c"), 2, PLENTY).await;
    let held = old.take(2).await;
    let second = in_session(flow("order", "g", "c"), 2);
    let mut new = broker.peer().await.subscribe(&second, 100, PLENTY).await;
    assert!(!new.subscribed.resumed);
    let end = old.end().await;
    assert_eq!(end.code, Some(Code::Fenced), "{end:?}");
    let mut came = new.take(3).await;
    came.sort_by_key(|one| one.sequence);
    let attempts: Vec<(u64, u32)> = came.iter().map(|one| (one.sequence, one.attempt)).collect();
    assert_eq!(
        attempts,
        [(0, 1), (1, 1), (2, 0)],
        "what the first held failed with it"
    );
    // Through a request stream the first one is told; nothing is settled by it.
    let mut requests = peer.stream().await;
    let ack = qmq_wire::Ack {
        flow: Some(flow("order", "g", "c")),
        number: 5,
        durability: qmq_wire::Durability::Default,
        incarnation: old.subscribed.incarnation,
        ranges: super::wire_client::ranges(&held),
    };
    requests.send(|out| ack.encode(out)).await;
    let refusal = requests.refused().await;
    assert_eq!((refusal.number, refusal.code), (5, Code::Fenced));
    assert_eq!(broker.group("order", "g").unwrap().unacked, 3);
    new.ack(&came).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_session_subscribes_again_and_the_stream_before_ends_well() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 2, 1).await;
    let mut first = peer.subscribe(&flow("order", "g", "c"), 2, PLENTY).await;
    let held = first.take(2).await;
    let mut second = peer.subscribe(&flow("order", "g", "c"), 2, PLENTY).await;
    assert!(second.subscribed.resumed);
    assert_eq!(first.end().await.code, None);
    let again = second.take(2).await;
    assert_eq!(pull_sequences(&again), pull_sequences(&held));
    second.ack(&again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_process_fails_what_the_one_before_it_held() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 2, 1).await;
    let mut first = peer.subscribe(&flow("order", "g", "c"), 2, PLENTY).await;
    assert_eq!(first.take(2).await.len(), 2);
    let mut fresh = flow("order", "g", "c");
    fresh.flags.fresh = true;
    let mut second = peer.subscribe(&fresh, 2, PLENTY).await;
    assert!(!second.subscribed.resumed);
    assert_eq!(first.end().await.code, Some(Code::Fenced));
    let again = second.take(2).await;
    assert!(again.iter().all(|one| one.attempt == 1), "{again:?}");
    second.ack(&again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_for_good_hands_back_at_once() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "60000")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 3, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 3, PLENTY).await;
    let held = sub.take(3).await;
    let mut other = peer
        .subscribe(&flow("order", "g", "other"), 100, PLENTY)
        .await;
    other.none_within(50).await;
    sub.ack(&held[..1]).await;
    sub.leave().await;
    let came = other.take(2).await;
    assert_eq!(sequences(&came), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_looked_at_comes_again_without_an_attempt_counted() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "60000")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 4, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 4, PLENTY).await;
    let held = sub.take(4).await;
    sub.nack(&held[..1], Some(60_000)).await;
    sub.give_back(&held[1..2]).await;
    let mut other = peer
        .subscribe(&flow("order", "g", "other"), 100, PLENTY)
        .await;
    let back = other.one().await;
    assert_eq!((back.sequence, back.attempt), (1, 0));
    sub.leave_having(true).await;
    let came = other.take(2).await;
    assert_eq!(sequences(&came), [2, 3]);
    assert!(came.iter().all(|one| one.attempt == 0), "{came:?}");
    other.leave().await;
    let mut last = peer
        .subscribe(&flow("order", "g", "last"), 100, PLENTY)
        .await;
    let came = last.take(3).await;
    assert!(came.iter().all(|one| one.attempt == 1), "{came:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_sent_before_the_end_are_done_and_answered() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    for round in 0..20_u32 {
        let subject = format!("s{round}");
        peer.publish(&subject, 50, 1).await;
        let mut sub = peer.subscribe(&flow(&subject, "g", "c"), 100, PLENTY).await;
        let held = sub.take(50).await;
        let incarnation = sub.subscribed.incarnation;
        sub.stream
            .send(|out| {
                for (number, one) in (0..).zip(&held) {
                    let ack = qmq_wire::Ack {
                        flow: None,
                        number,
                        durability: qmq_wire::Durability::Synced,
                        incarnation,
                        ranges: vec![(one.pull_sequence, one.pull_sequence)],
                    };
                    ack.encode(out);
                }
                let end = qmq_wire::End {
                    code: None,
                    text: String::new(),
                    unseen: false,
                };
                end.encode(out);
            })
            .await;
        sub.stream.finish();
        let mut answers = 0;
        let mut ended = false;
        while let Some(answer) = sub.stream.next().await {
            match answer {
                Answer::Acked(acked) => answers += acked.settled,
                Answer::End(end) => ended = end.code.is_none(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((answers, ended), (50, true), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_reads_no_more_is_lost_not_fed() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "200")]).await;
    let peer = broker.peer().await;
    let mut sub = peer
        .subscribe(&flow("order", "g", "deaf"), 1_000, PLENTY)
        .await;
    // It stops reading, and keeps its own direction open.
    sub.stream.receive.stop(0_u32.into()).unwrap();
    peer.publish("order", 3, 1).await;
    let mut other = peer
        .subscribe(&flow("order", "g", "other"), 100, PLENTY)
        .await;
    assert_eq!(other.take(3).await.len(), 3);
    assert_eq!(peer.publish("order", 3, 1).await, 3);
    let came = other.take(3).await;
    assert!(
        came.iter().all(|one| one.attempt == 0),
        "none of them went to one who does not read"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_a_slow_consumer_does_not_hold_up_its_group() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 10, 1).await;
    let mut slow = peer
        .subscribe(&flow("order", "g", "slow"), 10, PLENTY)
        .await;
    let held = slow.take(10).await;
    // It refuses some, and these wait; it works on the others for ever.
    slow.nack(&held[..3], Some(60_000)).await;
    let mut quick = peer
        .subscribe(&flow("order", "g", "quick"), 1_000, PLENTY)
        .await;
    for sequence in 10..110 {
        let began = std::time::Instant::now();
        assert_eq!(peer.publish("order", 1, 1).await, sequence);
        assert_eq!(quick.one().await.sequence, sequence);
        assert!(began.elapsed().as_millis() < 1_000, "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_under_another_incarnation_is_refused_and_settles_nothing() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 1, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 1, PLENTY).await;
    let held = sub.take(1).await;
    sub.subscribed.incarnation += 1;
    let answer = sub.try_ack(super::wire_client::ranges(&held)).await;
    let Answer::Refused(refusal) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(refusal.code, Code::StaleIncarnation);
    assert_eq!(broker.group("order", "g").unwrap().unacked, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_with_nothing_to_do_take_no_turns_however_many_consumers_they_have() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut subs = Vec::new();
    for group in 0..10 {
        for consumer in 0..6 {
            let who = flow("order", &format!("g{group}"), &format!("c{consumer}"));
            subs.push(peer.subscribe(&who, 10, PLENTY).await);
        }
    }
    let turns = || {
        let counters = broker.broker.consumers().delivering().counters();
        counters.turns.load(std::sync::atomic::Ordering::Relaxed)
    };
    sleep_ms(200).await;
    let before = turns();
    sleep_ms(300).await;
    assert_eq!(turns(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_settled_as_safely_as_was_asked_is_not_settled() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 2, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    let held = sub.take(2).await;
    let ack = qmq_wire::Ack {
        flow: None,
        number: 7,
        durability: qmq_wire::Durability::Replicated,
        incarnation: sub.subscribed.incarnation,
        ranges: vec![(held[0].pull_sequence, held[1].pull_sequence)],
    };
    sub.stream.send(|out| ack.encode(out)).await;
    assert_eq!(sub.stream.refused().await.code, Code::NotReplicated);
    let unacked = broker.group("order", "g").map(|group| group.unacked);
    assert_eq!(unacked, Some(2));
    sub.ack(&held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_message_is_refused_as_often_as_another_and_then_passed_over() {
    let broker = TestBroker::start(&[]).await;
    let body = "a body that will be damaged";
    let batch = Batch::bodies("order", [body, "fine"]);
    assert_eq!(broker.peer().await.produce(&batch).await.refused, []);
    let mut home = broker.drain().await;
    for file in std::fs::read_dir(home.path("store")).unwrap() {
        let path = file.unwrap().path();
        let Ok(mut bytes) = std::fs::read(&path) else {
            continue;
        };
        let at = bytes
            .windows(body.len())
            .position(|bytes| bytes == body.as_bytes());
        if let Some(at) = at {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    home.set("consumer.max.attempts", "3");
    let broker = home.start().await;
    let peer = broker.peer().await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 100, PLENTY).await;
    let first = sub.take(2).await;
    assert!(first[0].damaged && !first[1].damaged);
    sub.ack(&first[1..]).await;
    sub.nack(&first[..1], Some(0)).await;
    for attempt in 1..3 {
        let again = sub.one().await;
        assert_eq!((again.sequence, again.attempt), (0, attempt));
        sub.nack(&[again], Some(0)).await;
    }
    sub.none_within(300).await;
    assert_eq!(
        broker.group("order", "g").map(|group| group.unacked),
        Some(0)
    );
}
