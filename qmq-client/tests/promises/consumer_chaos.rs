//! Whatever happens to its connections, a consumer has no message in hand twice, and every message is acknowledged in the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use qmq_client::Subscription;
use qmq_wire::Code;

use crate::chaos::Chance;
use crate::fake::{FakeBroker, within};

const MESSAGES: usize = 120;

async fn all_are_handled(seed: u64) {
    let mut chance = Chance(seed);
    let broker = FakeBroker::start();
    let client = broker.client().await;
    let window = 1 + chance.below(20) as u32;
    let concurrency = 1 + chance.below(8) as usize;
    let subscription = Subscription::new("a", "g").window(window, 1 << 20);
    let consumer = client
        .subscribe(subscription.concurrency(concurrency))
        .unwrap();
    let in_hand = Arc::new(Mutex::new(HashSet::<Bytes>::new()));
    let hands = Arc::clone(&in_hand);
    let listening = consumer.listen(move |received| {
        let hands = Arc::clone(&hands);
        async move {
            let body = received.body().clone();
            assert!(
                hands.lock().insert(body.clone()),
                "in hand twice, seed {seed}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
            hands.lock().remove(&body);
            Ok(())
        }
    });
    let bodies = (0..MESSAGES).map(|n| Bytes::from(n.to_string()));
    broker.publish_all(bodies);
    within("everything", async {
        loop {
            let acked: HashSet<u64> = broker.state().acked.iter().copied().collect();
            if acked.len() == MESSAGES {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1 + chance.below(10))).await;
            match chance.below(12) {
                0 => broker.drop_connections(),
                1 => {
                    broker.state().hello.incarnation += 1;
                    broker.drop_connections();
                }
                2 => broker.end_subscriptions(Code::Draining, "scripted"),
                3 => broker.hand_back(),
                _ => {}
            }
        }
    })
    .await;
    within("close", listening.close()).await.unwrap();
    assert!(in_hand.lock().is_empty(), "seed {seed}");
    let state = broker.state();
    assert!(
        state.nacked.is_empty(),
        "no handler failed, seed {seed}: {:?}",
        state.nacked
    );
}

#[tokio::test]
async fn every_message_is_handled_whatever_happens_to_the_connection() {
    for seed in 1..=10 {
        all_are_handled(seed).await;
    }
}
