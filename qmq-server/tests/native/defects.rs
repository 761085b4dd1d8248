//! Defects of QMQ's, by their numbers, that no other test of the protocol is about.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use qmq_server::access::{Access, Principal, Rights, Tokens};
use qmq_server::rooms::{Caller, Outlet};
use qmq_wire::Credit;

use super::test_broker::TestBroker;
use super::wire_client::{LIMIT, flow, sequences, until};

const PLENTY: u64 = 1 << 40;

/// QMQ looks for new messages every 5 ms: one that is published right behind the last look waits for all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_a_message_is_delivered_when_it_is_published_not_at_the_next_look() {
    const QMQ_LOOKS_EVERY: Duration = Duration::from_millis(5);
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut sub = peer
        .subscribe(&flow("order", "g", "c"), 1_000, PLENTY)
        .await;
    let mut rounds = Vec::new();
    for sequence in 0..200 {
        // Each round begins when the one before has been delivered, and so right behind a look.
        let began = Instant::now();
        assert_eq!(peer.publish("order", 1, 1).await, sequence);
        assert_eq!(sub.one().await.sequence, sequence);
        rounds.push(began.elapsed());
    }
    rounds.sort();
    // A busy machine may make most of them slow, not all.
    let quick = rounds[rounds.len() / 10];
    assert!(quick < QMQ_LOOKS_EVERY * 4 / 5, "{quick:?}");
}

/// Holds up whoever puts something in.
#[derive(Default)]
struct Stuck {
    /// Who is inside, and whether they may go on.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Stuck {
    fn inside(&self) -> usize {
        self.state.lock().0
    }

    fn let_go(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }
}

struct StuckOutlet(Arc<Stuck>);

impl Outlet for StuckOutlet {
    fn put(&self, chunks: &mut Vec<Bytes>) {
        chunks.clear();
        let mut state = self.0.state.lock();
        state.0 += 1;
        // A test that fails must not hang in the drop of its broker.
        let free = |state: &mut (usize, bool)| !state.1;
        self.0.changed.wait_while_for(&mut state, free, LIMIT);
    }

    fn waiting(&self) -> usize {
        0
    }

    fn want_room(&self) {}
}

/// QMQ's thread that makes messages visible tells those who wait, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_a_publish_does_not_wait_for_those_whom_it_wakes() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let stuck = Arc::new(Stuck::default());
    let access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
    let caller = Caller::new(access, Principal::Anonymous);
    let mut attached = Vec::new();
    for n in 0..8 {
        let (reply, answer) = tokio::sync::oneshot::channel();
        broker.broker.consumers().subscribe(
            &flow("order", &format!("g{n}"), "c"),
            Credit {
                messages: 1_000,
                bytes: PLENTY,
            },
            &caller,
            Arc::new(StuckOutlet(Arc::clone(&stuck))),
            Box::new(|_| {}),
            Box::new(move |outcome| drop(reply.send(outcome))),
        );
        attached.push(answer.await.unwrap().unwrap());
    }
    assert_eq!(peer.publish("order", 1, 1).await, 0);
    until("whoever hands out to be stuck", || stuck.inside() >= 2).await;
    for sequence in 1..20 {
        assert_eq!(peer.publish("order", 1, 1).await, sequence);
    }
    stuck.let_go();
}

/// QMQ sends a message that one group refuses to all groups again, and keeps back the acks behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e13_a_refused_message_comes_again_to_its_group_alone_and_keeps_no_ack_back() {
    let broker = TestBroker::start(&[]).await;
    let peer = broker.peer().await;
    let mut refuses = peer
        .subscribe(&flow("order", "refuses", "c"), 1_000, PLENTY)
        .await;
    let mut takes = peer
        .subscribe(&flow("order", "takes", "c"), 1_000, PLENTY)
        .await;
    peer.publish("order", 1, 1).await;
    let first = takes.take(1).await;
    takes.ack(&first).await;
    let refused = refuses.take(1).await;
    refuses.nack(&refused, Some(0)).await;
    let again = refuses.take(1).await;
    assert_eq!((again[0].sequence, again[0].attempt), (0, 1));
    refuses.nack(&again, Some(600_000)).await;
    peer.publish("order", 9, 1).await;
    let rest = refuses.take(9).await;
    refuses.ack(&rest).await;
    let group = broker.group("order", "refuses").unwrap();
    assert_eq!((group.unacked, group.waiting, group.cursor), (0, 1, 10));
    // Had the refused one gone to all groups, it would stand before these.
    assert_eq!(
        sequences(&takes.take(9).await),
        (1..10).collect::<Vec<u64>>()
    );
    takes.none_within(100).await;
    let stats = broker.store().subject_stats("order").unwrap();
    assert_eq!(stats.next_sequence, 10, "and no copy of it is made");
}
