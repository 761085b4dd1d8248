//! What health says.

use crate::broker::start;
use std::sync::atomic::Ordering;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_messages_is_ok() {
    let running = start(10).await;
    let answer = running.get("/health", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    let verbose = running.get("/health?verbose", "").await;
    assert_eq!(verbose.status, 200);
    assert!(verbose.body.starts_with("ok\nnode: node-1\n"));
    assert!(verbose.body.contains("\nfree_bytes: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_json() {
    let running = start(10).await;
    let accept = "Accept: text/html, application/json;q=0.9\r\n";
    let answer = running.get("/health", accept).await;
    assert!(answer.head.contains("content-type: application/json"));
    let health: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["node"], "node-1");
    assert_eq!(health["reasons"], serde_json::json!([]));
    assert!(health["free_bytes"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_drains_says_so() {
    let running = start(10).await;
    let draining = &running.broker.administering().draining;
    draining.store(true, Ordering::Relaxed);
    let answer = running.get("/health", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("draining"), "{}", answer.body);
    let answer = running.get("/health", "Accept: application/json\r\n").await;
    assert_eq!(answer.status, 503);
    let health: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(health["status"], "unavailable");
    assert_eq!(health["reasons"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_is_the_reason() {
    let running = start(10).await;
    let store = running.broker.administering().store.clone();
    store.close().unwrap();
    let answer = running.get("/health", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("store: "), "{}", answer.body);
    // Monitoring goes on.
    let scraped = running.scrape().await;
    assert_eq!(scraped.value("qmq_store_healthy", &[]), 0.0);
}
