//! Defects of QMQ's delay server that this one does not have, by their names in its analysis.

use qmq_store::Message;
use qmq_wire::Code;

use super::test_broker::TestBroker;
use super::test_delay::{DelayHome, ids, later, letters, now_ms, schedule, until_letters};
use super::wire_client::{Batch, flow, until};

const PLENTY: u64 = 1 << 40;

/// An illegal subject is accepted, and parks a thread for ever once it is due; four stop the whole server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_an_illegal_subject_is_refused_at_the_door() {
    let broker = TestBroker::start(&[]).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let due = now_ms() + 50;
    let mut batch = Batch::of([]);
    let mut attributes = Vec::new();
    qmq_message::Attributes::encode(&later("x", "", due), &mut attributes).unwrap();
    let bad: [&[u8]; 6] = [
        b"..",
        b"a/b",
        b" order",
        b"order\n",
        b"\xff",
        b"%DELAY_DEAD_LETTER",
    ];
    for subject in bad.iter().cycle().take(30) {
        batch.push(subject, &attributes, b"poison");
    }
    batch.push(b"order", &attributes, b"good");
    let scheduled = schedule(&peer, &batch).await;
    assert_eq!(scheduled.accepted.len(), 1);
    assert_eq!(scheduled.refused.len(), 30);
    assert!(
        scheduled
            .refused
            .iter()
            .all(|one| one.code == Code::BadMessage)
    );
    let there = broker.peer().await;
    let mut sub = there.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    assert_eq!(&sub.one().await.body[..], b"good");
    until("the record", || delay.pending() == 0).await;
}

/// A message that the broker refuses is queued again for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_what_a_broker_refuses_for_good_becomes_a_listed_dead_letter() {
    let sets = [("anonymous.rights", "produce:order;consume:*")];
    becomes_a_letter(&sets, later("secret", "x", 0), "(denied)").await;
}

/// Nor does what is too large for the broker's HELLO, which the client sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_what_is_too_large_for_its_broker_becomes_a_listed_dead_letter() {
    let sets = [("message.max.bytes", "64K")];
    let large = "x".repeat(100_000);
    becomes_a_letter(&sets, later("order", &large, 0), "65536").await;
}

/// A broker of these settings never takes this message, and takes the next.
async fn becomes_a_letter(sets: &[(&str, &str)], bad: Message, reason: &str) {
    let broker = TestBroker::start(sets).await;
    let delay = DelayHome::new(&[]).to("*", &broker).start().await;
    let peer = delay.peer().await;
    let due = now_ms() + 50;
    let bad = bad.with_due_time_ms(due);
    let all = ids(&peer, [bad, later("order", "good", due)]).await;
    until_letters(&delay, 1).await;
    until("the record", || delay.pending() == 0).await;
    let (found, total, _) = letters(&peer).await;
    assert_eq!((total, found[0].id), (1, all[0]));
    assert!(found[0].reason.contains(reason), "{}", found[0].reason);
    let there = broker.peer().await;
    let mut sub = there.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    assert_eq!(&sub.one().await.body[..], b"good");
    let put_off = &delay.server.dispatched().put_off;
    assert_eq!(
        put_off.load(std::sync::atomic::Ordering::Relaxed),
        0,
        "never again"
    );
}

/// Any group that is away blocks a dispatch thread for minutes, and so all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_a_group_that_is_away_delays_no_other() {
    let broker = TestBroker::start(&[]).await;
    let mut home = DelayHome::new(&[]).to("here.*", &broker).away("*");
    // Small bounds, so that what is away could fill them all.
    home.adjust = |options| {
        options.dispatch.in_flight_max = 64;
        options.dispatch.outstanding_max = 256;
    };
    let delay = home.start().await;
    let peer = delay.peer().await;
    let there = broker.peer().await;
    let mut sub = there
        .subscribe(&flow("here.order", "g", "c"), 1_000, PLENTY)
        .await;
    ids(&peer, [later("here.order", "first", now_ms())]).await;
    sub.one().await;
    // More subjects and messages of groups that are away than may be on their way, and than may be remembered.
    let past = now_ms();
    for round in 0..10 {
        let away = (0..1_000).map(|n| later(&format!("away.{}", n % 40), "x", past));
        ids(&peer, away).await;
        let busy = (0..500).map(|_| later(&format!("away.busy.{round}"), "x", past));
        ids(&peer, busy).await;
    }
    until("a first failure", || {
        delay
            .server
            .dispatched()
            .stuck
            .load(std::sync::atomic::Ordering::Relaxed)
            > 0
    })
    .await;
    let mut worst = 0;
    for n in 0..20 {
        let due = now_ms() + 100;
        ids(&peer, [later("here.order", &n.to_string(), due)]).await;
        let one = sub.one().await;
        assert_eq!(&one.body[..], n.to_string().as_bytes());
        worst = worst.max(now_ms() - due);
    }
    assert!(worst < 1_000, "{worst} ms late");
    // A subject of which nothing is known comes as well.
    let mut new = there
        .subscribe(&flow("here.new", "g", "c"), 10, PLENTY)
        .await;
    ids(&peer, [later("here.new", "new", now_ms())]).await;
    assert_eq!(&new.one().await.body[..], b"new");
    until("the records", || delay.pending() == 15_000).await;
    assert_eq!(delay.pending(), 15_000, "the others wait");
    let dispatched = delay.server.dispatched();
    let held = dispatched
        .waiting
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(held <= 256, "{held} are remembered");
    // The group comes back: everything arrives.
    let mut home = delay.drain().await;
    let away = TestBroker::start(&[]).await;
    home.route("*", away.broker.address(), &away.home.path("tls/ca.pem"));
    let delay = home.start().await;
    until("what was away", || delay.pending() == 0).await;
    let stats = away.store().subject_stats("away.busy.3").unwrap();
    assert_eq!(stats.next_sequence, 500);
}

/// The same, without a restart in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_a_group_that_comes_back_gets_everything() {
    let here = TestBroker::start(&[]).await;
    let away = TestBroker::start(&[]).await;
    let (address, authority) = (away.broker.address(), away.home.path("tls/ca.pem"));
    let mut home = DelayHome::new(&[]).to("here.*", &here);
    home.route("*", address, &authority);
    home.adjust = |options| {
        options.dispatch.in_flight_max = 64;
        options.dispatch.outstanding_max = 256;
        options.post.timeout = std::time::Duration::from_millis(300);
    };
    let delay = home.start().await;
    let peer = delay.peer().await;
    let gone = away.crash();
    let past = now_ms();
    ids(
        &peer,
        (0..2_000).map(|n| later(&format!("away.{}", n % 7), "x", past)),
    )
    .await;
    until("a failure", || {
        delay
            .server
            .dispatched()
            .stuck
            .load(std::sync::atomic::Ordering::Relaxed)
            > 3
    })
    .await;
    let mut options = gone.options();
    options.quic.listen = address;
    let away = gone.start_with(options).await;
    until("what was away", || delay.pending() == 0).await;
    let of = |n| {
        away.store()
            .subject_stats(&format!("away.{n}"))
            .unwrap()
            .next_sequence
    };
    let all: u64 = (0..7).map(of).sum();
    assert!(all >= 2_000, "{all}");
}
