//! Certificates that change or end while a broker runs.

use std::time::{Duration, SystemTime};

use qmq_server::tls::{Authority, Overwrite};

use super::test_broker::{Home, TestBroker};
use super::wire_client::{Dial, LIMIT, sleep_ms};

/// Until who comes is served, or until it is not.
async fn until_served(dial: &Dial, served: bool) {
    let end = std::time::Instant::now() + LIMIT;
    while dial.bare().await.is_ok() != served {
        assert!(std::time::Instant::now() < end, "served: {}", !served);
        sleep_ms(50).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_is_shown_to_who_comes_next() {
    let broker = TestBroker::start(&[]).await;
    let before = broker.dial();
    let stays = broker.peer().await;
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let other = Authority::create(folder.path(), "other", 1, now, Overwrite::Never).unwrap();
    let after = Dial::to(broker.broker.address(), folder.path().join("ca.pem"));
    assert!(after.bare().await.is_err(), "a stranger");
    let node = other
        .node("node", &["localhost".to_owned()], 1, now)
        .unwrap();
    let tls = broker.home.path("tls");
    node.write(&tls.join("node.pem"), &tls.join("node.key"))
        .unwrap();
    until_served(&after, true).await;
    assert!(before.bare().await.is_err(), "the old one is gone");
    assert_eq!(stays.publish("order", 1, 1).await, 0, "who was there stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_while_the_broker_runs_keeps_away_who_comes_and_nobody_who_is_there()
 {
    const LEFT: Duration = Duration::from_secs(10);
    let home = Home::new(&[]);
    let now = SystemTime::now();
    let issue = |from: SystemTime| {
        let hosts = ["localhost".to_owned()];
        home.authority.node("node", &hosts, 1, from).unwrap()
    };
    let tls = home.path("tls");
    let files = (tls.join("node.pem"), tls.join("node.key"));
    issue(now - Duration::from_secs(86_400) + LEFT)
        .write(&files.0, &files.1)
        .unwrap();
    let next = issue(now);
    let broker = home.start().await;
    let dial = broker.dial();
    let stays = broker.peer().await;
    until_served(&dial, false).await;
    assert_eq!(stays.publish("order", 1, 1).await, 0);
    next.write(&files.0, &files.1).unwrap();
    until_served(&dial, true).await;
}
