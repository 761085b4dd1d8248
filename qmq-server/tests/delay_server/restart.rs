//! The server ends, in order or not, and begins again on the same folder.

use qmq_wire::{Code, DelayOutcome, DelayRequest};

use super::test_broker::TestBroker;
use super::test_delay::{DelayHome, ids, later, now_ms, outcome};
use super::wire_client::{flow, sleep_ms, until};

const PLENTY: u64 = 1 << 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_what_waits_and_what_was_cancelled_and_sends_nothing_twice() {
    for in_order in [true, false] {
        let broker = TestBroker::start(&[]).await;
        let delay = DelayHome::new(&[]).to("*", &broker).start().await;
        let (peer, there) = (delay.peer().await, broker.peer().await);
        let mut sub = there.subscribe(&flow("order", "g", "c"), 100, PLENTY).await;
        ids(
            &peer,
            (0..10).map(|n| later("order", &format!("before {n}"), now_ms())),
        )
        .await;
        sub.take(10).await;
        until("the record", || delay.pending() == 0).await;
        let due = now_ms() + 1_500;
        let all = ids(
            &peer,
            (0..10).map(|n| later("order", &format!("after {n}"), due)),
        )
        .await;
        let cancel = DelayRequest::Cancel { id: all[0] };
        assert_eq!(outcome(&peer, cancel).await, DelayOutcome::Done);
        let home = match in_order {
            true => delay.drain().await,
            false => delay.crash(),
        };
        let delay = home.start().await;
        assert_eq!(delay.pending(), 9, "in order: {in_order}");
        let came = sub.take(9).await;
        assert!(now_ms() >= due);
        let mut bodies: Vec<_> = came.iter().map(|one| one.body.to_vec()).collect();
        bodies.sort();
        let expected: Vec<_> = (1..10).map(|n| format!("after {n}").into_bytes()).collect();
        assert_eq!(bodies, expected);
        sub.none_within(100).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_due_while_the_server_was_away_comes_at_once() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let due = now_ms() + 400;
    ids(&peer, (0..500).map(|n| later("order", &n.to_string(), due))).await;
    let home = delay.drain().await;
    while now_ms() < due + 100 {
        sleep_ms(20).await;
    }
    let delay = home.start().await;
    let there = broker.peer().await;
    let mut sub = there
        .subscribe(&flow("order", "g", "c"), 1_000, PLENTY)
        .await;
    assert_eq!(sub.take(500).await.len(), 500);
    until("the record", || delay.pending() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ending_server_takes_no_more_and_records_what_is_on_its_way() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let due = now_ms() + 60_000;
    ids(&peer, [later("order", "x", due)]).await;
    let scheduling = delay.server.controlling().scheduling().clone();
    scheduling.stop_accepting();
    let (code, _) = super::test_delay::refusal(&peer, later("order", "x", due)).await;
    assert_eq!(code, Code::Draining);
    drop(scheduling);
    // Messages are on their way to brokers that do not answer: the end does not wait for them for ever.
    let home = delay.drain().await.away("*");
    let delay = home.start().await;
    let peer = delay.peer().await;
    ids(
        &peer,
        (0..50).map(|n| later(&format!("s{n}"), "x", now_ms())),
    )
    .await;
    sleep_ms(200).await;
    let mut home = delay.drain().await;
    home.route(
        "*",
        broker.broker.address(),
        &broker.home.path("tls/ca.pem"),
    );
    let delay = home.start().await;
    until("all of them", || delay.pending() == 1).await;
    for n in 0..50 {
        let stats = broker.store().subject_stats(&format!("s{n}")).unwrap();
        assert_eq!(stats.next_sequence, 1, "s{n}");
    }
}
