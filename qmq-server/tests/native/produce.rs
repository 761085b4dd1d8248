//! Messages in.

use std::sync::{Arc, mpsc};

use bytes::BytesMut;
use qmq_server::BrokerOptions;
use qmq_server::access::{Access, Principal, Rights, Tokens};
use qmq_server::rooms::Caller;
use qmq_server::rooms::produce::{ProduceOptions, Producing};
use qmq_store::{Message, Options, Store, SystemClock};
use qmq_wire::{Code, Durability, Produced};

use super::gate::Gate;
use super::test_broker::{Home, TestBroker};
use super::wire_client::{Answer, Batch, flow, outcomes, sleep_ms};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_message_is_refused_by_itself_and_named() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut batch = Batch::bodies("order", ["a", "b"]);
    batch.push(b"..", &[], b"its name leads out of a folder");
    batch.push(b"\xff\xfe", &[], b"its name is not UTF-8");
    batch.push(b"order", &[0x80], b"its attributes are of no version");
    batch.push(b"order", &[], b"c");
    let produced = peer.produce(&batch).await;
    let bad = Err(Code::BadMessage);
    assert_eq!(outcomes(&produced), [Ok(0), Ok(1), bad, bad, bad, Ok(2)]);
    for refused in &produced.refused {
        assert!(!refused.text.is_empty(), "{refused:?} says why");
    }
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 100, 1 << 20).await;
    let bodies: Vec<_> = sub.take(3).await.into_iter().map(|one| one.body).collect();
    assert_eq!(bodies, ["a", "b", "c"]);
    sub.none_within(50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gets_the_first_sequences_and_is_not_appended() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let batch = Batch::bodies("order", ["a", "b", "c"]).by(7, 100);
    let first = peer.produce(&batch).await;
    assert_eq!(outcomes(&first), [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(peer.produce(&batch).await, first);
    // By another connection, and cut elsewhere.
    let other = broker.peer().await;
    let overlapping = Batch::bodies("order", ["b", "c", "d"]).by(7, 101);
    let produced = other.produce(&overlapping).await;
    assert_eq!(outcomes(&produced), [Ok(1), Ok(2), Ok(3)]);
    let of_another = Batch::bodies("order", ["a"]).by(8, 100);
    assert_eq!(outcomes(&peer.produce(&of_another).await), [Ok(4)]);
    assert_eq!(
        broker.store().subject_stats("order").unwrap().next_sequence,
        5
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_that_overtakes_the_first_try_is_not_appended_twice() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    for round in 0..20_u64 {
        let first = round * 100;
        let mut stream = peer.stream().await;
        let mut out = BytesMut::new();
        Batch::bodies("order", ["a", "b", "c"])
            .by(7, first)
            .number(0)
            .encode(&mut out);
        Batch::bodies("order", ["a", "b", "c"])
            .by(7, first)
            .number(1)
            .encode(&mut out);
        Batch::bodies("order", ["c", "d"])
            .by(7, first + 2)
            .number(2)
            .encode(&mut out);
        Batch::bodies("order", ["b"])
            .by(7, first + 1)
            .number(3)
            .encode(&mut out);
        stream.send_bytes(&out).await;
        let mut answers = [const { Vec::new() }; 4];
        for _ in 0..4 {
            let produced = stream.produced().await;
            answers[produced.number as usize] = outcomes(&produced);
        }
        let base = round * 4;
        let abc = [Ok(base), Ok(base + 1), Ok(base + 2)];
        assert_eq!(answers[0], abc);
        assert_eq!(answers[1], abc);
        assert_eq!(answers[2], [Ok(base + 2), Ok(base + 3)]);
        assert_eq!(answers[3], [Ok(base + 1)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_older_than_the_window_is_forgotten_not_appended_again() {
    let broker = TestBroker::start(&[("producer.dedup.window", "10")]).await;
    let peer = broker.peer().await;
    assert_eq!(peer.hello.limits.dedup_window, 10);
    let one = |number| Batch::bodies("order", ["x"]).by(7, number);
    assert_eq!(outcomes(&peer.produce(&one(0)).await), [Ok(0)]);
    assert_eq!(outcomes(&peer.produce(&one(50)).await), [Ok(1)]);
    assert_eq!(
        outcomes(&peer.produce(&one(0)).await),
        [Err(Code::Forgotten)]
    );
    assert_eq!(
        outcomes(&peer.produce(&one(41)).await),
        [Ok(2)],
        "within the window"
    );
    assert_eq!(outcomes(&peer.produce(&one(50)).await), [Ok(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_at_the_end_of_their_range_do_no_harm() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    for ordered in [false, true] {
        for first in [u64::MAX, u64::MAX - 1] {
            let mut batch = Batch::bodies("order", ["a", "b"]).by(7, first);
            batch.header.ordered = ordered;
            let mut stream = peer.stream().await;
            stream.send(|out| batch.encode(out)).await;
            let answer = stream.next().await;
            assert!(
                matches!(answer, Some(Answer::Produced(_) | Answer::Refused(_))),
                "{first}: {answer:?}"
            );
        }
    }
    let fine = Batch::bodies("order", ["a"]).by(8, 0);
    assert_eq!(peer.produce(&fine).await.refused, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_producer_cannot_leave_a_gap_and_goes_on_after_a_replay() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut stream = peer.stream().await;
    let ordered = |first, bodies: &[&'static str]| {
        Batch::bodies("order", bodies.iter().copied())
            .by(7, first)
            .ordered()
    };
    for (batch, expected) in [
        (ordered(10, &["a", "b"]), vec![Ok(0), Ok(1)]),
        (ordered(13, &["d"]), vec![Err(Code::OutOfOrder)]),
        (ordered(12, &["c", "d"]), vec![Ok(2), Ok(3)]),
        (
            ordered(10, &["a", "b", "c", "d", "e"]),
            vec![Ok(0), Ok(1), Ok(2), Ok(3), Ok(4)],
        ),
    ] {
        stream.send(|out| batch.encode(out)).await;
        assert_eq!(outcomes(&stream.produced().await), expected);
    }
    // A message that is refused holds back what is behind it, in its request and in later ones.
    let mut refused = ordered(15, &["f"]);
    refused.push(b"..", &[], b"bad");
    refused.push(b"order", &[], b"h");
    stream.send(|out| refused.encode(out)).await;
    let expected = [Ok(5), Err(Code::BadMessage), Err(Code::OutOfOrder)];
    assert_eq!(outcomes(&stream.produced().await), expected);
    stream.send(|out| ordered(18, &["i"]).encode(out)).await;
    assert_eq!(outcomes(&stream.produced().await), [Err(Code::OutOfOrder)]);
    stream
        .send(|out| ordered(16, &["g", "h", "i"]).encode(out))
        .await;
    assert_eq!(outcomes(&stream.produced().await), [Ok(6), Ok(7), Ok(8)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordered_requests_in_flight_behind_a_refused_one_are_refused_too() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut stream = peer.stream().await;
    let mut out = BytesMut::new();
    let mut bad = Batch::default().by(7, 0).ordered();
    bad.push(b"order", &[], b"a");
    bad.push(b"..", &[], b"bad");
    bad.encode(&mut out);
    for number in 1..50_u32 {
        let one = Batch::bodies("order", ["x"])
            .by(7, u64::from(number) + 1)
            .ordered();
        one.number(number).encode(&mut out);
    }
    stream.send_bytes(&out).await;
    for _ in 0..50 {
        let produced = stream.produced().await;
        let expected = match produced.number {
            0 => vec![Ok(0), Err(Code::BadMessage)],
            _ => vec![Err(Code::OutOfOrder)],
        };
        assert_eq!(outcomes(&produced), expected);
    }
    assert_eq!(
        broker.store().subject_stats("order").unwrap().next_sequence,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_ordered_producer_passes_its_very_first_request_when_that_is_refused() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut stream = peer.stream().await;
    let mut first = Batch::default().by(7, 0).ordered();
    first.push(b"..", &[], b"bad");
    let behind = Batch::bodies("order", ["b"]).by(7, 1).ordered().number(1);
    let again = Batch::bodies("order", ["a", "b"])
        .by(7, 0)
        .ordered()
        .number(2);
    for (batch, expected) in [
        (&first, vec![Err(Code::BadMessage)]),
        (&behind, vec![Err(Code::OutOfOrder)]),
        (&again, vec![Ok(0), Ok(1)]),
    ] {
        stream.send(|out| batch.encode(out)).await;
        assert_eq!(outcomes(&stream.produced().await), expected);
    }
}

#[test]
fn nothing_of_an_ordered_producer_passes_a_request_that_found_the_queue_full() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let options = ProduceOptions {
        queue_max: 1,
        durability: qmq_store::Durability::Buffered,
        ..ProduceOptions::default()
    };
    let room = Producing::start(store, options, Arc::default()).unwrap();
    let access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
    let caller = Caller::new(access, Principal::Anonymous);
    let submit = |batch: &Batch, reply: Box<dyn FnOnce(Produced) + Send>| {
        room.submit(batch.decoded(), &caller, Box::new(()), reply);
    };
    // The room's thread is kept in the first answer, and the second request fills the queue.
    let (let_go, kept) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    submit(
        &Batch::bodies("order", ["a"]),
        Box::new(move |_| {
            begun.send(()).unwrap();
            let _ = kept.recv();
        }),
    );
    has_begun.recv().unwrap();
    let (answer, answers) = mpsc::channel();
    let reply = || -> Box<dyn FnOnce(Produced) + Send> {
        let answer = answer.clone();
        Box::new(move |produced| answer.send(outcomes(&produced)).unwrap())
    };
    submit(&Batch::bodies("order", ["b"]), reply());
    let ordered = |first| Batch::bodies("order", ["x"]).by(7, first).ordered();
    submit(&ordered(0), reply());
    assert_eq!(answers.recv().unwrap(), [Err(Code::Busy)]);
    drop(let_go);
    assert_eq!(answers.recv().unwrap(), [Ok(1)]);
    submit(&ordered(1), reply());
    assert_eq!(answers.recv().unwrap(), [Err(Code::OutOfOrder)]);
    submit(&ordered(0), reply());
    assert_eq!(answers.recv().unwrap(), [Ok(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_beyond_its_deadline_is_not_appended() {
    let home = Home::new(&[]);
    let gate = Arc::new(Gate::new(SystemClock));
    let options = home.options();
    let mut store = options.store.clone();
    store.clock = Arc::clone(&gate) as _;
    let broker = home.start_with(BrokerOptions { store, ..options }).await;
    let peer = broker.peer().await;
    peer.publish("order", 1, 1).await;
    let stored = Batch::bodies("order", ["s"]).by(9, 0).deadline_ms(10);
    assert_eq!(
        outcomes(&peer.produce(&stored.clone().deadline_ms(0)).await),
        [Ok(1)]
    );
    let mut before = peer.stream().await;
    let mut behind = peer.stream().await;
    gate.close();
    before
        .send(|out| Batch::bodies("order", ["a"]).encode(out))
        .await;
    gate.somebody_waits().await;
    let late = Batch::bodies("order", ["b"]).by(7, 0).deadline_ms(10);
    behind.send(|out| late.encode(out)).await;
    behind.send(|out| stored.encode(out)).await;
    let patient = Batch::bodies("order", ["c"]).by(7, 0).deadline_ms(60_000);
    sleep_ms(60).await;
    gate.open();
    assert_eq!(outcomes(&before.produced().await), [Ok(2)]);
    assert_eq!(outcomes(&behind.produced().await), [Err(Code::TooLate)]);
    // A repeat is told what is so, however late it is.
    assert_eq!(outcomes(&behind.produced().await), [Ok(1)]);
    // Nothing was done, so the number is free.
    assert_eq!(outcomes(&peer.produce(&patient).await), [Ok(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_the_limit_is_taken_and_one_byte_more_is_not() {
    let broker = TestBroker::start(&[("message.max.bytes", "100K")]).await;
    let peer = broker.peer().await;
    let limit = peer.hello.limits.body_bytes_max as usize;
    assert_eq!(limit, 100 << 10);
    let message = |len| Message::new("order", vec![7_u8; len]);
    let batch = Batch::of([message(limit), message(limit + 1), message(0)]);
    let produced = peer.produce(&batch).await;
    assert_eq!(outcomes(&produced), [Ok(0), Err(Code::TooLarge), Ok(1)]);
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 100, 1 << 20).await;
    let messages = sub.take(2).await;
    assert_eq!(messages[0].body, vec![7_u8; limit]);
    assert_eq!(messages[1].body, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_due_in_the_future_is_for_a_delay_server() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let due = |time| Message::new("order", "x").with_due_time_ms(time);
    let batch = Batch::of([due(now + 3_600_000), due(now - 1_000)]);
    let produced = peer.produce(&batch).await;
    assert_eq!(outcomes(&produced), [Err(Code::Delayed), Ok(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_auto_create_only_known_subjects_are_taken() {
    let broker = TestBroker::start(&[]).await;
    broker.peer().await.publish("known", 1, 1).await;
    let mut home = broker.drain().await;
    home.set("subject.auto.create", "false");
    let broker = home.start().await;
    let peer = broker.peer().await;
    let batch = Batch::of([Message::new("known", "x"), Message::new("unknown", "x")]);
    let produced = peer.produce(&batch).await;
    assert_eq!(outcomes(&produced), [Ok(1), Err(Code::UnknownSubject)]);
    let refused = peer.try_subscribe(&flow("unknown", "g", "c"), 1, 1).await;
    assert_eq!(
        refused.err().map(|refusal| refusal.code),
        Some(Code::UnknownSubject)
    );
    assert!(!broker.store().has_subject("unknown"));
    peer.subscribe(&flow("known", "g", "c"), 1, 1)
        .await
        .one()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_to_be_synced_is_synced_when_it_is_answered() {
    let broker =
        TestBroker::start(&[("flush.mode", "async"), ("flush.interval.ms", "3600000")]).await;
    let peer = broker.peer().await;
    let one = |durability| Batch::bodies("order", ["x"]).durability(durability);
    for asked in [Durability::Default, Durability::Buffered] {
        assert_eq!(peer.produce(&one(asked)).await.refused, []);
        let marks = broker.store().watermarks();
        assert!(
            marks.synced < marks.written,
            "{asked:?} waits for no sync: {marks:?}"
        );
    }
    assert_eq!(peer.produce(&one(Durability::Synced)).await.refused, []);
    let marks = broker.store().watermarks();
    assert_eq!(marks.synced, marks.written);
    let produced = peer.produce(&one(Durability::Replicated)).await;
    assert_eq!(outcomes(&produced), [Err(Code::NotReplicated)]);
    assert_eq!(
        broker.store().watermarks().written,
        marks.written,
        "what cannot be as safe as asked is not stored"
    );
    drop(broker);

    let broker =
        TestBroker::start(&[("flush.mode", "sync"), ("flush.interval.ms", "3600000")]).await;
    let peer = broker.peer().await;
    assert_eq!(peer.produce(&one(Durability::Default)).await.refused, []);
    let marks = broker.store().watermarks();
    assert_eq!(marks.synced, marks.written, "flush.mode=sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_larger_than_a_batch_of_the_log_is_stored_in_parts() {
    let broker =
        TestBroker::start(&[("store.segment.bytes", "64K"), ("message.max.bytes", "16K")]).await;
    let peer = broker.peer().await;
    let body = "x".repeat(300);
    for (producer, ordered) in [(7, false), (8, true)] {
        let mut batch = Batch::bodies("order", vec![body.as_str(); 500]).by(producer, 0);
        batch.header.ordered = ordered;
        let first = outcomes(&peer.produce(&batch).await);
        let sequences: Vec<_> = first.iter().map(|outcome| outcome.unwrap()).collect();
        assert!(sequences.is_sorted() && sequences.len() == 500);
        assert_eq!(outcomes(&peer.produce(&batch).await), first, "a repeat");
    }
    let stats = broker.store().subject_stats("order").unwrap();
    assert_eq!(stats.next_sequence, 1_000);
}
