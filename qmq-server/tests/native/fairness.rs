//! Groups share the broker evenly, whatever the numbers of their consumers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::test_broker::TestBroker;
use super::wire_client::{Sub, flow};

const PLENTY: u64 = 1 << 40;
const BODY: usize = 4 << 10;
const MESSAGES: usize = 12_000;

/// Reads what comes from the moment on at which all of them begin.
fn count(mut sub: Sub, begin: Arc<Notify>, into: Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        begin.notified().await;
        sub.credit(100_000, 0).await;
        // All of it stays: whoever ends its own direction goes.
        let stream = &mut sub.stream;
        while let Ok(Some(chunk)) = stream.receive.read_chunk(1 << 20, true).await {
            into.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        }
    })
}

/// A thousand subscriptions of one group on fifty connections, and one of another: both have the same backlog, and each gets its half for as long as
/// both have one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_consumer_gets_as_much_as_a_group_of_a_thousand() {
    let broker = TestBroker::start(&[]).await;
    let producer = broker.peer().await;
    for subject in ["many", "single"] {
        producer.publish(subject, MESSAGES, BODY).await;
    }
    let mut peers = Vec::new();
    let mut subs = Vec::new();
    for n in 0..50 {
        let peer = broker.peer().await;
        for m in 0..20 {
            let flow = flow("many", "many", &format!("c{n}-{m}"));
            subs.push(peer.subscribe(&flow, 0, PLENTY).await);
        }
        peers.push(peer);
    }
    let alone = broker.peer().await;
    let single = alone
        .subscribe(&flow("single", "single", "c"), 0, PLENTY)
        .await;
    let (of_many, of_single) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let begin = Arc::new(Notify::new());
    let mut tasks = vec![count(single, Arc::clone(&begin), Arc::clone(&of_single))];
    for sub in subs {
        tasks.push(count(sub, Arc::clone(&begin), Arc::clone(&of_many)));
    }
    shares_evenly(begin, &of_many, &of_single, tasks).await;
}

/// Two hundred consumers of one group that pull, on twenty connections, and one subscription of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_subscription_gets_as_much_as_two_hundred_who_pull() {
    let broker = TestBroker::start(&[]).await;
    let producer = broker.peer().await;
    for subject in ["many", "single"] {
        producer.publish(subject, MESSAGES, BODY).await;
    }
    let (of_many, of_single) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let begin = Arc::new(Notify::new());
    let alone = broker.peer().await;
    let single = alone
        .subscribe(&flow("single", "single", "c"), 0, PLENTY)
        .await;
    let mut tasks = vec![count(single, Arc::clone(&begin), Arc::clone(&of_single))];
    for n in 0..20 {
        let peer = Arc::new(broker.peer().await);
        for m in 0..10 {
            let flow = flow("many", "many", &format!("c{n}-{m}"));
            let (peer, begin, into) = (Arc::clone(&peer), Arc::clone(&begin), Arc::clone(&of_many));
            tasks.push(tokio::spawn(async move {
                let mut stream = peer.stream().await;
                begin.notified().await;
                for number in 0.. {
                    stream.pull(number, 50, 1_000, &flow).await;
                    let came = stream.pulled().await.messages;
                    let bytes: usize = came.iter().map(|one| one.body.len()).sum();
                    into.fetch_add(bytes as u64, Ordering::Relaxed);
                }
            }));
        }
    }
    shares_evenly(begin, &of_many, &of_single, tasks).await;
}

/// Lets them begin, and looks when one of the groups has three quarters of its backlog.
async fn shares_evenly(
    begin: Arc<Notify>,
    of_many: &AtomicU64,
    of_single: &AtomicU64,
    tasks: Vec<tokio::task::JoinHandle<()>>,
) {
    tokio::time::sleep(Duration::from_millis(100)).await;
    begin.notify_waiters();
    let end = Instant::now() + Duration::from_secs(20);
    let enough = (MESSAGES * BODY) as u64 * 3 / 4;
    let (many, single) = loop {
        let now = (
            of_many.load(Ordering::Relaxed),
            of_single.load(Ordering::Relaxed),
        );
        if now.0.max(now.1) >= enough {
            break now;
        }
        assert!(Instant::now() < end, "{now:?} bytes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for task in tasks {
        task.abort();
    }
    let share = many as f64 / (many + single) as f64;
    assert!(
        (0.4..=0.6).contains(&share),
        "{many} bytes to many, {single} to one: {share:.2}"
    );
}
