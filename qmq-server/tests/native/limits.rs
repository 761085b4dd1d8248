//! Limits, and those who do not keep to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use qmq_server::access::{Access, Principal, Rights, Tokens};
use qmq_server::rooms::Caller;
use qmq_store::Message;
use qmq_wire::{
    Ack, CloseCode, Code, ControlRequest, ControlResponse, Durability, Hello, Kind, Role,
};

use super::relay::Relay;
use super::test_broker::TestBroker;
use super::wire_client::{
    Answer, Batch, Peer, Stream, close_code, flow, open, outcomes, sequences, sleep_ms, until,
    within,
};

const PLENTY: u64 = 1 << 40;

/// The broker is as before for others.
async fn is_well(broker: &TestBroker) {
    let peer = broker.peer().await;
    let subject = format!("well.{}", Instant::now().elapsed().as_nanos());
    let first = peer.publish(&subject, 1, 10).await;
    let mut sub = peer
        .subscribe(&flow(&subject, "g", "c"), 1_000, PLENTY)
        .await;
    let one = sub.take(1).await;
    assert!(one[0].sequence <= first);
    sub.ack(&one).await;
    sub.leave().await;
}

/// Payloads that are no payload of that kind.
fn malformed() -> Vec<(&'static str, u8, Vec<u8>)> {
    let mut all: Vec<(&str, u8, Vec<u8>)> = Vec::new();
    let whole = |fill: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        fill(&mut out);
        out[8..].to_vec()
    };
    let flow = flow("order", "g", "c");
    let batch = Batch::bodies("order", ["a"]);
    let pull = super::wire_client::pull(1, 1, 0, &flow);
    let ack = Ack {
        flow: Some(flow),
        number: 1,
        durability: Durability::Default,
        incarnation: 1,
        ranges: vec![(1, 2)],
    };
    let good = [
        ("PRODUCE", Kind::Produce, whole(&|out| batch.encode(out))),
        ("PULL", Kind::Pull, whole(&|out| pull.encode(out))),
        ("ACK", Kind::Ack, whole(&|out| ack.encode(out))),
    ];
    for (what, kind, payload) in good {
        for cut in [0, 3, 11, payload.len() - 1] {
            // A PULL's optional fields may end where they like.
            all.push((what, kind as u8, payload[..cut].to_vec()));
        }
        let mut longer = payload.clone();
        longer.push(1);
        all.push((what, kind as u8, longer));
    }
    let mut backwards = ack;
    backwards.ranges = vec![(2, 1)];
    all.push((
        "a range backwards",
        Kind::Ack as u8,
        whole(&|out| backwards.encode(out)),
    ));
    let mut durability = whole(&|out| batch.encode(out));
    durability[8] = 9;
    all.push((
        "a durability of no version",
        Kind::Produce as u8,
        durability,
    ));
    let mut huge_count = whole(&|out| batch.encode(out));
    huge_count[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
    all.push(("messages without number", Kind::Produce as u8, huge_count));
    let mut long_subject = Batch::default();
    long_subject.push(&[b'x'; 300], &[], b"");
    all.push((
        "a subject of 300 bytes",
        Kind::Produce as u8,
        whole(&|out| long_subject.encode(out)),
    ));
    let mut lying_body = BytesMut::new();
    lying_body.put_slice(&whole(&|out| batch.encode(out)));
    lying_body[44..48].copy_from_slice(&u32::MAX.to_le_bytes());
    all.push((
        "a body of 4 GiB that is not there",
        Kind::Produce as u8,
        lying_body.to_vec(),
    ));
    // Of the protocol, and not for the broker, or not here.
    for kind in [
        Kind::Hello,
        Kind::Refused,
        Kind::Produced,
        Kind::Pulled,
        Kind::Subscribed,
        Kind::Deliver,
        Kind::Credit,
        Kind::Acked,
        Kind::End,
        Kind::Controlled,
    ] {
        all.push(("a kind that has no place here", kind as u8, vec![0; 8]));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_follow_the_protocol_is_closed_and_nobody_else_notices() {
    let broker = TestBroker::start(&[]).await;
    let bystander = broker.peer().await;
    let mut sub = bystander
        .subscribe(&flow("order", "others", "c"), 10_000, PLENTY)
        .await;
    for (what, kind, payload) in malformed() {
        let peer = broker.peer().await;
        let mut stream = peer.stream().await;
        stream.send_frame(kind, &payload).await;
        assert_eq!(
            peer.close_code().await,
            Some(CloseCode::Malformed),
            "{what}: {payload:?}"
        );
    }
    // Inside a subscription.
    for (kind, payload) in [
        (Kind::Ack, vec![1]),
        (Kind::Credit, vec![1, 2, 3]),
        (Kind::Produce, vec![0; 40]),
    ] {
        let peer = broker.peer().await;
        let mut other = peer.subscribe(&flow("order", "g", "c"), 1, 1).await;
        other.stream.send_frame(kind as u8, &payload).await;
        assert_eq!(
            peer.close_code().await,
            Some(CloseCode::Malformed),
            "{kind:?}"
        );
    }
    bystander.publish("order", 3, 1).await;
    assert_eq!(sequences(&sub.take(3).await), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_a_frame_beyond_the_limit_is_refused_by_its_header_alone() {
    let broker = TestBroker::start(&[]).await;
    for len in [
        broker.peer().await.hello.limits.frame_bytes_max + 1,
        i32::MAX as u32,
        u32::MAX,
    ] {
        let peer = broker.peer().await;
        let mut stream = peer.stream().await;
        let mut header = len.to_le_bytes().to_vec();
        header.extend([Kind::Produce as u8, 0, 0, 0]);
        stream.send_bytes(&header).await;
        assert_eq!(peer.close_code().await, Some(CloseCode::Malformed), "{len}");
    }
    is_well(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_kinds_to_come_are_answered_and_frames_to_come_are_skipped_in_subscriptions() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut stream = peer.stream().await;
    for (kind, payload) in [
        (99, vec![7, 0, 0, 0, 1, 2, 3]),
        (0, vec![8, 0, 0, 0]),
        (255, vec![]),
    ] {
        stream.send_frame(kind, &payload).await;
        let refusal = stream.refused().await;
        let number = payload.first().copied().unwrap_or(0).into();
        assert_eq!(
            (refusal.number, refusal.code),
            (number, Code::UnknownRequest)
        );
    }
    stream
        .send_frame(Kind::Control as u8, &[9, 0, 0, 0, 0xff, 0, 0, 0])
        .await;
    let refusal = stream.refused().await;
    assert_eq!((refusal.number, refusal.code), (9, Code::UnknownRequest));
    stream
        .send(|out| Batch::bodies("order", ["x"]).encode(out))
        .await;
    assert_eq!(stream.produced().await.refused, [], "the stream goes on");
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    sub.stream.send_frame(99, b"of a later version").await;
    let one = sub.take(1).await;
    sub.ack(&one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_comes_first_in_time_and_right_or_the_connection_is_closed() {
    let broker = TestBroker::start(&[("handshake.timeout.ms", "400")]).await;
    let dial = broker.dial();
    // None at all; a stream, and nothing in it; half of it.
    for half in [None, Some(0), Some(20)] {
        let (_endpoint, connection) = dial.bare().await.unwrap();
        let mut kept = None;
        if let Some(half) = half {
            let mut stream = open(&connection).await.unwrap();
            let mut hello = BytesMut::new();
            dial.hello.encode(&mut hello);
            stream.send_bytes(&hello[..half]).await;
            kept = Some(stream);
        }
        let began = Instant::now();
        assert_eq!(
            close_code(&connection).await,
            Some(CloseCode::NoHello),
            "{half:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(5));
        drop(kept);
    }
    // Another request first.
    let (_endpoint, connection) = dial.bare().await.unwrap();
    let mut stream = open(&connection).await.unwrap();
    stream
        .send(|out| Batch::bodies("order", ["early"]).encode(out))
        .await;
    assert_eq!(close_code(&connection).await, Some(CloseCode::Malformed));
    assert!(!broker.store().has_subject("order"), "nothing was done");
    // A HELLO that is none.
    let (_endpoint, connection) = dial.bare().await.unwrap();
    let mut stream = open(&connection).await.unwrap();
    stream
        .send_frame(Kind::Hello as u8, b"HTTP/1.1 and so on")
        .await;
    assert_eq!(close_code(&connection).await, Some(CloseCode::Malformed));
    for (hello, expected) in [
        (
            Hello {
                version_min: 2,
                version_max: 9,
                ..dial.hello.clone()
            },
            CloseCode::NoCommonVersion,
        ),
        (
            Hello {
                expected_node: "other".to_owned(),
                ..dial.hello.clone()
            },
            CloseCode::WrongNode,
        ),
        (
            Hello {
                expected_group: "other".to_owned(),
                ..dial.hello.clone()
            },
            CloseCode::WrongNode,
        ),
    ] {
        let (_endpoint, connection) = dial.bare().await.unwrap();
        let mut stream = open(&connection).await.unwrap();
        stream.send(|out| hello.encode(out)).await;
        assert_eq!(close_code(&connection).await, Some(expected));
    }
    let mut right = broker.dial();
    right.hello = Hello {
        version_min: 1,
        version_max: 9,
        expected_node: "node".to_owned(),
        expected_group: "group".to_owned(),
        ..Hello::new(Role::Client, "later")
    };
    let peer = right.peer().await.unwrap();
    assert_eq!((peer.hello.version_min, peer.hello.version_max), (1, 1));
    is_well(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_before_hello_are_not_looked_at_before_it() {
    let broker = TestBroker::start(&[]).await;
    let dial = broker.dial();
    let (_endpoint, connection) = dial.bare().await.unwrap();
    let mut control = open(&connection).await.unwrap();
    let mut early = open(&connection).await.unwrap();
    early
        .send(|out| Batch::bodies("order", ["early"]).encode(out))
        .await;
    assert!(early.next_within(200).await.is_none());
    assert!(!broker.store().has_subject("order"));
    control.send(|out| dial.hello.encode(out)).await;
    assert!(matches!(control.answer().await, Answer::Hello(_)));
    assert_eq!(early.produced().await.refused, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_too_many_is_told_so_and_there_is_room_again_when_one_goes() {
    let broker = TestBroker::start(&[("connection.max", "3")]).await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(broker.peer().await);
    }
    for _ in 0..5 {
        let (_endpoint, connection) = broker.dial().bare().await.unwrap();
        assert_eq!(
            close_code(&connection).await,
            Some(CloseCode::TooManyConnections)
        );
    }
    peers.pop().unwrap().close();
    let connections = || broker.broker.administering().status().connections;
    until("a connection to be gone", || connections() < 3).await;
    is_well(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_so_many_streams_and_no_more() {
    let broker = TestBroker::start(&[("streams.max", "8")]).await;
    let peer = broker.peer().await;
    assert_eq!(peer.hello.limits.streams_max, 8);
    let mut streams = Vec::new();
    for _ in 0..7 {
        streams.push(peer.stream().await);
    }
    let one_more = tokio::time::timeout(Duration::from_millis(200), peer.connection.open_bi());
    assert!(one_more.await.is_err(), "the ninth waits");
    let mut first = streams.pop().unwrap();
    first
        .send(|out| Batch::bodies("order", ["x"]).encode(out))
        .await;
    assert_eq!(first.produced().await.refused, []);
    // Room is announced in steps.
    streams.push(first);
    for mut stream in streams.drain(..3) {
        stream.finish();
        assert_eq!(stream.next().await, None);
    }
    within("a stream that is free again", peer.connection.open_bi())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c12_who_takes_nothing_of_what_waits_is_closed_and_what_it_pinned_is_free() {
    let broker = TestBroker::start(&[
        ("connection.stall.ms", "1000"),
        ("memory.send.bytes", "64K"),
        ("consumer.session.timeout.ms", "200"),
    ])
    .await;
    let producer = broker.peer().await;
    producer.publish("large", 20, 300_000).await;
    let mut dial = broker.dial();
    dial.stream_window = 16 << 10;
    let peer = dial.peer().await.unwrap();
    let stuck = peer
        .subscribe(&flow("large", "g", "stuck"), 1_000, PLENTY)
        .await;
    let began = Instant::now();
    assert_eq!(peer.close_code().await, Some(CloseCode::Stalled));
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    drop(stuck);
    // Another one gets all of it.
    let mut other = producer
        .subscribe(&flow("large", "g", "other"), 1_000, PLENTY)
        .await;
    let all = other.take(20).await;
    other.ack(&all).await;
    drop(all);
    let pinned = || broker.store().stats().pinned_bytes;
    until("the segments to be free", || pinned() == 0).await;
}

/// A broker of a subject with one message, and a peer behind a relay. The peer says for ever that it is there.
async fn relayed() -> (TestBroker, Peer, Relay) {
    let broker = TestBroker::start(&[
        ("connection.stall.ms", "1000"),
        ("connection.idle.ms", "3600000"),
        ("consumer.session.timeout.ms", "200"),
    ])
    .await;
    broker.peer().await.publish("one", 1, 300_000).await;
    let relay = Relay::to(broker.broker.address()).await;
    let mut dial = broker.dial();
    dial.address = relay.address;
    dial.idle = Duration::from_secs(3_600);
    let peer = dial.peer().await.unwrap();
    (broker, peer, relay)
}

/// Until nobody is connected.
async fn is_left_alone(broker: &TestBroker) {
    let administering = broker.broker.administering();
    let connections = || administering.connections.load(Ordering::SeqCst);
    until("the connection to be closed", || connections() == 0).await;
    is_well(broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_acknowledges_nothing_of_what_was_sent_is_closed_however_little_it_is() {
    let (broker, peer, relay) = relayed().await;
    let mut sub = peer.subscribe(&flow("one", "g", "deaf"), 0, 0).await;
    relay.deafen();
    sub.credit(1, PLENTY).await;
    let held = || broker.group("one", "g").map(|group| group.unacked);
    until("the message to be on its way", || held() == Some(1)).await;
    is_left_alone(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_acknowledges_nothing_is_closed_though_its_stream_has_ended() {
    let (broker, peer, relay) = relayed().await;
    let mut stream = peer.stream().await;
    relay.deafen();
    stream
        .send(|out| Batch::bodies("order", ["x"]).encode(out))
        .await;
    stream.finish();
    is_left_alone(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_a_large_message_slowly_is_let_finish() {
    const BODY: usize = 2 << 20;
    let broker = TestBroker::start(&[
        ("connection.stall.ms", "2000"),
        ("message.max.bytes", "4M"),
        ("store.segment.bytes", "32M"),
    ])
    .await;
    broker.peer().await.publish("one", 1, BODY).await;
    let mut dial = broker.dial();
    dial.stream_window = 64 << 10;
    let peer = dial.peer().await.unwrap();
    let mut sub = peer
        .subscribe(&flow("one", "g", "slow"), 1_000, PLENTY)
        .await;
    let began = Instant::now();
    let mut some = vec![0; 64 << 10];
    // A little of it may have come with what was read before.
    for _ in 0..BODY / some.len() - 2 {
        let taken = within("some of it", sub.stream.receive.read_exact(&mut some)).await;
        taken.unwrap();
        sleep_ms(100).await;
    }
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(3),
        "too fast to show it: {took:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_does_not_end_closes_its_connection() {
    let broker = TestBroker::start(&[("connection.stall.ms", "1000")]).await;
    let peer = broker.peer().await;
    let mut stream = peer.stream().await;
    let mut begin = 1_000_000_u32.to_le_bytes().to_vec();
    begin.extend([Kind::Produce as u8, 0, 0, 0, 1, 2, 3]);
    stream.send_bytes(&begin).await;
    assert_eq!(peer.close_code().await, Some(CloseCode::Stalled));
    is_well(&broker).await;
}

/// The beginning of a PRODUCE of `len` bytes, of which `come` are sent.
async fn begin_frame(peer: &Peer, len: u32, come: usize) -> Stream {
    let mut stream = peer.stream().await;
    let mut begin = len.to_le_bytes().to_vec();
    begin.extend([Kind::Produce as u8, 0, 0, 0]);
    begin.resize(8 + come, 0);
    stream.send_bytes(&begin).await;
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_announces_much_and_sends_little_takes_no_room_from_others() {
    let broker = TestBroker::start(&[
        ("memory.produce.bytes", "16M"),
        ("connection.stall.ms", "600000"),
    ])
    .await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let attacker = broker.peer().await;
        let len = attacker.hello.limits.frame_bytes_max;
        let mut streams = Vec::new();
        for _ in 0..100 {
            streams.push(begin_frame(&attacker, len, 1).await);
        }
        held.push((attacker, streams));
    }
    // All of it has come.
    sleep_ms(200).await;
    let others = broker.peer().await;
    let large = Batch::of([Message::new("order", vec![0; 1 << 20])]);
    assert_eq!(outcomes(&others.produce(&large).await), [Ok(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_takes_a_quarter_of_the_room_whatever_it_sends() {
    let broker = TestBroker::start(&[
        ("memory.produce.bytes", "16M"),
        ("memory.receive.bytes", "64M"),
        ("connection.stall.ms", "600000"),
    ])
    .await;
    let attacker = broker.peer().await;
    let mut streams = Vec::new();
    for _ in 0..30 {
        streams.push(begin_frame(&attacker, 1 << 20, 1_000_000).await);
    }
    // All of it has come.
    sleep_ms(200).await;
    let used = broker.broker.produce_bytes().0;
    assert!((2 << 20..=4 << 20).contains(&used), "{used} bytes");
    let others = broker.peer().await;
    let large = Batch::of([Message::new("order", vec![0; 1 << 20])]);
    assert_eq!(outcomes(&others.produce(&large).await), [Ok(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_came_in_part_and_have_taken_all_the_room_come_to_their_end() {
    let broker = TestBroker::start(&[
        ("memory.produce.bytes", "1M"),
        ("connection.stall.ms", "600000"),
    ])
    .await;
    let mut frame = BytesMut::new();
    Batch::of([Message::new("order", vec![0; 900_000])]).encode(&mut frame);
    let (some, rest) = frame.split_at(200_000);
    let mut begun = Vec::new();
    for _ in 0..10 {
        let peer = broker.peer().await;
        let mut stream = peer.stream().await;
        stream.send_bytes(some).await;
        begun.push((peer, stream));
    }
    until("all the room to be taken", || {
        broker.broker.produce_bytes().0 == 1 << 20
    })
    .await;
    for (_, stream) in &mut begun {
        stream.send_bytes(rest).await;
    }
    for (_, stream) in &mut begun {
        assert_eq!(stream.produced().await.refused, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_subscriptions_than_the_budget_of_requests_has_units_hold_nobody_up() {
    let broker =
        TestBroker::start(&[("memory.produce.bytes", "1M"), ("streams.max", "4096")]).await;
    let peer = broker.peer().await;
    let mut subs = Vec::new();
    for n in 0..1_100 {
        subs.push(
            peer.subscribe(&flow("order", "g", &format!("c{n}")), 0, 0)
                .await,
        );
    }
    // A frame that is longer than the budget comes in, too.
    let large = Batch::of([Message::new("order", vec![0; 1 << 20])]);
    assert_eq!(outcomes(&peer.produce(&large).await), [Ok(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_what_is_asked_without_reading_the_answers_waits_at_the_asker() {
    let broker = TestBroker::start(&[]).await;
    let admin = broker.peer().await;
    for n in 0..300 {
        admin
            .publish(&format!("subject.{n}.{}", "x".repeat(200)), 1, 1)
            .await;
    }
    let mut dial = broker.dial();
    dial.stream_window = 4 << 10;
    let peer = dial.peer().await.unwrap();
    let mut stream = peer.stream().await;
    let request = ControlRequest::Subjects {
        pattern: String::new(),
        after: String::new(),
        max: 10_000,
    };
    // Each answer has some 80 KB, so 2,000 of them have 160 MB.
    let mut sent = 0_u32;
    let began = Instant::now();
    while sent < 2_000 && began.elapsed() < Duration::from_secs(3) {
        let mut out = BytesMut::new();
        request.encode(sent, &mut out).unwrap();
        let wrote = tokio::time::timeout(Duration::from_millis(300), stream.send.write_all(&out));
        match wrote.await {
            Ok(wrote) => wrote.unwrap(),
            Err(_) => break,
        }
        sent += 1;
        sleep_ms(0).await;
    }
    sleep_ms(300).await;
    let waiting = broker.broker.outgoing_bytes();
    assert!(
        waiting < 8 << 20,
        "{waiting} bytes of answers wait after {sent} requests"
    );
    // Every one of them is answered to who reads.
    for number in 0..sent.min(50) {
        match stream.answer().await {
            Answer::Controlled(answer) => assert_eq!(answer.number, number),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_more_requests_than_may_be_under_way_are_all_answered() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut stream = peer.stream().await;
    let count = 6_000_u32;
    let Stream { send, .. } = &mut stream;
    let mut all = BytesMut::new();
    for number in 0..count {
        Batch::bodies("order", ["x"])
            .by(7, u64::from(number))
            .number(number)
            .encode(&mut all);
    }
    within("sending", send.write_all(&all)).await.unwrap();
    let mut seen = vec![false; count as usize];
    for _ in 0..count {
        let produced = stream.produced().await;
        assert_eq!(produced.refused, []);
        assert!(!std::mem::replace(
            &mut seen[produced.number as usize],
            true
        ));
    }
    assert_eq!(
        broker.store().subject_stats("order").unwrap().next_sequence,
        u64::from(count)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_names_that_are_no_names_disturb_no_other_subject() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut sub = peer.subscribe(&flow("good", "g", "c"), 1_000, PLENTY).await;
    let bad: [&[u8]; 8] = [
        b"..", b".", b"a/b", b"a\\b", b"a b", b"a\nb", b"\xff", b"a\0b",
    ];
    for (round, name) in (0..).zip(bad) {
        let mut batch = Batch::bodies("good", ["before"]);
        batch.push(name, &[], b"poison");
        batch.push(b"good", &[], b"behind");
        let expected = [Ok(round * 2), Err(Code::BadMessage), Ok(round * 2 + 1)];
        assert_eq!(outcomes(&peer.produce(&batch).await), expected, "{name:?}");
        assert_eq!(sub.take(2).await.len(), 2);
    }
    // A name of 300 bytes is no frame; one of 255 is a subject.
    let mut long = Batch::default();
    long.push(&[b'x'; 255], &[], b"long");
    assert_eq!(outcomes(&peer.produce(&long).await), [Ok(0)]);
    for name in ["..", "a/b", ""] {
        let refused = peer.try_subscribe(&flow(name, "g", "c"), 1, 1).await.err();
        assert_eq!(
            refused.map(|refusal| refusal.code),
            Some(Code::BadMessage),
            "{name:?}"
        );
        let refused = peer
            .try_subscribe(&flow("good", name, "c"), 1, 1)
            .await
            .err();
        assert_eq!(
            refused.map(|refusal| refusal.code),
            Some(Code::BadMessage),
            "{name:?}"
        );
        let refused = peer
            .try_subscribe(&flow("good", "g", name), 1, 1)
            .await
            .err();
        assert_eq!(
            refused.map(|refusal| refusal.code),
            Some(Code::BadMessage),
            "{name:?}"
        );
    }
    // Neither does a restart.
    let broker = broker.drain().await.start().await;
    let peer = broker.peer().await;
    let mut sub = peer
        .subscribe(&flow("good", "other", "c"), 1_000, PLENTY)
        .await;
    assert_eq!(sub.take(16).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_c6_what_waits_for_consumers_has_a_limit_in_bytes() {
    let broker =
        TestBroker::start(&[("memory.deliver.bytes", "4M"), ("memory.send.bytes", "64K")]).await;
    let producer = broker.peer().await;
    producer.publish("large", 60, 1_000_000).await;
    let mut dial = broker.dial();
    dial.stream_window = 16 << 10;
    let peer = dial.peer().await.unwrap();
    let mut stuck = Vec::new();
    for n in 0..20 {
        let flow = flow("large", &format!("g{n}"), "c");
        stuck.push(peer.subscribe(&flow, 10_000, PLENTY).await);
    }
    sleep_ms(1_000).await;
    let waiting = broker.broker.outgoing_bytes();
    // One message each at least, since one of any size gets through.
    assert!(
        waiting <= 4_000_000 + 20 * 1_100_000,
        "{waiting} bytes wait"
    );
    let held: u64 = (0..20)
        .filter_map(|n| broker.group("large", &format!("g{n}")))
        .map(|group| group.unacked)
        .sum();
    assert!(
        held <= 60,
        "{held} messages of a megabyte are handed out to those who read nothing"
    );
    for sub in &mut stuck {
        assert_eq!(sub.take(3).await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_consumers_that_come_and_go_leave_nothing_behind() {
    let broker = TestBroker::start(&[("consumer.session.timeout.ms", "100")]).await;
    let peer = broker.peer().await;
    peer.publish("order", 1, 1).await;
    for n in 0..200 {
        let own = flow("order", "g", &format!("consumer-{n}"));
        let sub = peer.subscribe(&own, 0, 0).await;
        match n % 3 {
            0 => sub.leave().await,
            1 => sub.vanish(),
            _ => drop(sub),
        }
        let own = flow("order", "g", &format!("puller-{n}"));
        let mut stream = peer.stream().await;
        stream.pull(1, 1, 0, &own).await;
        stream.pulled().await;
    }
    peer.close();
    let consumers = || broker.broker.consumers().known();
    until("the consumers to be gone", || consumers() == 0).await;
    assert_eq!(broker.broker.consumers().attached(), 0);
    let flows = || broker.broker.consumers().delivering().flows();
    until("the groups to be gone", || flows() == 0).await;
    let group = broker.group("order", "g").unwrap();
    assert_eq!((group.consumers.len(), group.unacked), (0, 0), "{group:?}");
    let connections = || broker.broker.administering().status().connections;
    until("the connection to be gone", || connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_reset_and_drop_groups() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    peer.publish("order", 10, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 100, PLENTY).await;
    let all = sub.take(10).await;
    sub.ack(&all).await;
    let access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
    let caller = Caller::new(access, Principal::Anonymous);
    let reset = ControlRequest::Reset {
        subject: "order".to_owned(),
        group: "g".to_owned(),
        to: qmq_wire::ResetTo::Sequence(4),
    };
    let administering = broker.broker.administering();
    assert_eq!(
        administering.answer(0, &reset, &caller).unwrap(),
        ControlResponse::Reset(4)
    );
    assert_eq!(
        sequences(&sub.take(6).await),
        [4, 5, 6, 7, 8, 9],
        "it wakes who waits"
    );
}
