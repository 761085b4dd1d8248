//! What a change of the configuration does while the broker runs.

use std::sync::Arc;
use std::time::Instant;

use qmq_server::config::{Sources, WatchedConfig};

use super::test_broker::Home;
use super::wire_client::{LIMIT, flow, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_attempts_change_without_a_restart() {
    let home = Home::new(&[]);
    let file = home.path("broker.properties");
    std::fs::write(&file, "consumer.max.attempts=1000000\n").unwrap();
    let (watched, config) = WatchedConfig::load(Sources::of_file(&file)).unwrap();
    let mut options = home.options();
    let most = config.dynamic.attempts_max;
    options
        .deliver
        .attempts_max
        .store(most, std::sync::atomic::Ordering::SeqCst);
    options.watched = Some(Arc::new(watched));
    let broker = home.start_with(options).await;
    let peer = broker.peer().await;
    assert_eq!(peer.hello.limits.attempts_max, 1_000_000);
    peer.publish("order", 1, 1).await;
    let mut sub = peer.subscribe(&flow("order", "g", "c"), 1, 1 << 40).await;
    std::fs::write(&file, "consumer.max.attempts=2\n").unwrap();
    let dead = || broker.store().subject_stats("%DEAD_RETRY%order%g").is_ok();
    let began = Instant::now();
    while !dead() && began.elapsed() < LIMIT {
        for one in sub.all_within(50).await {
            sub.nack(&[one], Some(0)).await;
            sub.credit(1, 0).await;
        }
    }
    until("the message to be a dead letter", dead).await;
    assert_eq!(broker.peer().await.hello.limits.attempts_max, 2);
}
