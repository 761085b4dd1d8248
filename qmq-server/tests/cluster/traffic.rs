//! Messages that are sent and received all the time, each accounted for in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use qmq_client::{Client, Listening, Message, Start, Subscription};
use tokio::task::{JoinHandle, JoinSet};

use crate::nodes::{Cluster, LIMIT, Node, until};

/// The subject of all that is sent.
pub(crate) const SUBJECT: &str = "order.changed";
/// Between two messages.
const PACE: Duration = Duration::from_millis(10);
/// Every so many-th message is a delayed one, if there is a delay server.
const DELAYED_EACH: u64 = 5;
/// By how long.
const DELAY: Duration = Duration::from_millis(1_500);

/// What became of the messages.
#[derive(Default)]
struct Ledger {
    /// Body to the broker that has it.
    sent: BTreeMap<String, String>,
    failed: Vec<String>,
    received: BTreeSet<String>,
    early: Vec<String>,
}

/// A producer and a consumer, with a client each.
pub(crate) struct Traffic {
    pub(crate) producing: Client,
    pub(crate) consuming: Client,
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    producer: JoinHandle<()>,
    listening: Listening,
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// A body that says when it may come at the earliest.
fn body(number: u64, due_ms: u64) -> String {
    format!("{number} {due_ms}")
}

fn is_early(body: &str) -> bool {
    let due_ms: u64 = body.split_once(' ').unwrap().1.parse().unwrap();
    now_ms() < due_ms
}

impl Traffic {
    pub(crate) fn begin(cluster: &Cluster, metas: &[&Node], with_delayed: bool) -> Self {
        let (producing, consuming) = (cluster.client(metas), cluster.client(metas));
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let taken = Arc::clone(&ledger);
        let subscription = Subscription::new(SUBJECT, "billing").start(Start::Earliest);
        let consumer = consuming.subscribe(subscription).unwrap();
        let listening = consumer.listen(move |message| {
            let body = String::from_utf8(message.body().to_vec()).unwrap();
            let mut ledger = taken.lock();
            if is_early(&body) {
                ledger.early.push(body.clone());
            }
            ledger.received.insert(body);
            async { Ok(()) }
        });
        let producer = producing.producer().build().unwrap();
        let (noted, stopped) = (Arc::clone(&ledger), Arc::clone(&stop));
        let producer = tokio::spawn(async move {
            let mut answers = JoinSet::new();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let is_delayed = with_delayed && number % DELAYED_EACH == 0;
                let due_ms = match is_delayed {
                    true => now_ms() + u64::try_from(DELAY.as_millis()).unwrap(),
                    false => 0,
                };
                let body = body(number, due_ms);
                let message = Message::new(SUBJECT, body.clone());
                let message = match is_delayed {
                    true => message.with_due_time_ms(due_ms),
                    false => message,
                };
                match producer.queue(message).await {
                    Ok(sent) => {
                        let noted = Arc::clone(&noted);
                        answers.spawn(async move {
                            match sent.await {
                                Ok(report) => {
                                    noted.lock().sent.insert(body, report.broker.to_string());
                                }
                                Err(error) => noted.lock().failed.push(format!("{body}: {error}")),
                            }
                        });
                    }
                    Err(error) => noted.lock().failed.push(format!("{body}: {error}")),
                }
                tokio::time::sleep(PACE).await;
            }
            while answers.join_next().await.is_some() {}
        });
        Self {
            producing,
            consuming,
            ledger,
            stop,
            producer,
            listening,
        }
    }

    fn counts(&self) -> (usize, usize) {
        let ledger = self.ledger.lock();
        (ledger.sent.len(), ledger.received.len())
    }

    /// Brokers of the messages that were acknowledged from `from` on, counted by acknowledgements.
    pub(crate) fn brokers(&self) -> BTreeMap<String, usize> {
        let ledger = self.ledger.lock();
        let mut brokers = BTreeMap::new();
        for broker in ledger.sent.values() {
            *brokers.entry(broker.clone()).or_default() += 1;
        }
        brokers
    }

    /// Waits until so many more were sent, and so many more received.
    pub(crate) async fn goes_on(&self, what: &str, more: usize) {
        let (sent, received) = self.counts();
        until(&format!("traffic {what}"), async || {
            let now = self.counts();
            now.0 >= sent + more && now.1 >= received + more
        })
        .await;
    }

    /// Stops, and accounts for every message: none refused, none lost, none early. How many there were.
    pub(crate) async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        tokio::time::timeout(LIMIT, self.producer)
            .await
            .unwrap()
            .unwrap();
        let ledger = self.ledger;
        until("every message to come", async || {
            let ledger = ledger.lock();
            ledger
                .sent
                .keys()
                .all(|body| ledger.received.contains(body))
        })
        .await;
        tokio::time::timeout(LIMIT, self.listening.close())
            .await
            .unwrap()
            .unwrap();
        for client in [self.producing, self.consuming] {
            client.close(Duration::from_secs(1)).await;
        }
        let ledger = ledger.lock();
        assert_eq!(ledger.failed, [""; 0]);
        assert_eq!(ledger.early, [""; 0]);
        ledger.sent.len()
    }
}
