//! Brokers that end without a word, meta servers that end, heartbeats that are lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_meta::{BrokerRole, GroupState};
use qmq_server::meta::MetaStore;
use qmq_wire::Purpose;

use super::cluster::{Cluster, Watching, acquired, enter, start, state, until_state};
use super::wire_client::{sleep_ms, until};

/// So long may a master be silent in these tests; heartbeats come three times as often.
const SILENT_MS: u64 = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_broker_leaves_the_routes_and_clients_are_told() {
    let cluster = Cluster::new().silent_after(SILENT_MS);
    let meta = cluster.meta().await;
    let broker = cluster
        .broker(cluster.member(&[meta.endpoint()], "host-1"))
        .await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    acquired(&broker).await;
    let client = cluster.client(&meta).await;
    let mut consuming = Watching::begin(&client, Purpose::Consume, "billing").await;
    consuming.until(|route| !route.groups.is_empty()).await;
    // While it lives it stays, for longer than it may be silent.
    sleep_ms(SILENT_MS * 2).await;
    assert_eq!(state(&meta, "group-1"), Some(GroupState::ReadWrite));
    let died = Instant::now();
    broker.crash();
    consuming.until(|route| route.groups.is_empty()).await;
    assert!(
        died.elapsed() >= Duration::from_millis(SILENT_MS / 2),
        "it was given up too soon"
    );
    assert_eq!(state(&meta, "group-1"), Some(GroupState::None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_goes_on_with_a_meta_server_that_was_restarted() {
    let cluster = Cluster::new().silent_after(SILENT_MS);
    let meta = cluster.meta().await;
    let http = meta.http_address();
    let broker = cluster
        .broker(cluster.member(&[meta.endpoint()], "host-1"))
        .await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    until_state(&meta, "group-1", GroupState::ReadWrite).await;
    meta.drain().await;
    // Meanwhile it serves.
    let peer = cluster.peer(&broker).await;
    peer.publish("order.changed", 1, 10).await;
    let again = cluster.meta_again(http).await;
    let membership = broker.broker.membership().unwrap().clone();
    until("a heartbeat at the new one", || {
        membership
            .heard()
            .is_some_and(|ago| ago < Duration::from_millis(300))
            && again
                .meta()
                .status()
                .nodes
                .iter()
                .any(|node| node.hostname == "host-1")
    })
    .await;
    sleep_ms(SILENT_MS * 2).await;
    assert_eq!(state(&again, "group-1"), Some(GroupState::ReadWrite));
}

/// QMQ's defect F1: a broker that switches to another meta server is marked as away by the one that it has left, though it lives.
#[tokio::test(flavor = "multi_thread")]
async fn f1_a_broker_that_switches_meta_servers_never_counts_as_away() {
    let cluster = Cluster::new().silent_after(SILENT_MS);
    let database = cluster.shared().await;
    let on = || cluster.options_on(MetaStore::Open(Arc::clone(&database)));
    let (first, second) = (start(on()).await, start(on()).await);
    let endpoints = [first.endpoint(), second.endpoint()];
    let broker = cluster.broker(cluster.member(&endpoints, "host-1")).await;
    let port = broker.broker.address().port();
    enter(&first, "group-1", BrokerRole::Master, "host-1", port).await;
    until_state(&second, "group-1", GroupState::ReadWrite).await;

    let (left, stayed) = match first.meta().status().nodes.is_empty() {
        true => (second, first),
        false => (first, second),
    };
    // It is cut off and goes on: its own clock of the broker runs out.
    let old = left.meta().clone();
    drop(left);
    let end = Instant::now() + Duration::from_millis(SILENT_MS * 3);
    while Instant::now() < end {
        for meta in [stayed.meta(), &old] {
            let groups = meta.groups();
            assert_eq!(groups[0].state, GroupState::ReadWrite, "{groups:?}");
        }
        sleep_ms(20).await;
    }
    assert!(
        !stayed.meta().status().nodes.is_empty(),
        "the broker speaks to the other"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_heartbeats_were_lost_comes_back() {
    let cluster = Cluster::new().silent_after(SILENT_MS);
    let database = cluster.shared().await;
    let on = || cluster.options_on(MetaStore::Open(Arc::clone(&database)));
    // The broker knows of the first alone; the second is there to count.
    let (first, second) = (start(on()).await, start(on()).await);
    let http = first.http_address();
    let broker = cluster
        .broker(cluster.member(&[first.endpoint()], "host-1"))
        .await;
    let port = broker.broker.address().port();
    enter(&first, "group-1", BrokerRole::Master, "host-1", port).await;
    until_state(&second, "group-1", GroupState::ReadWrite).await;
    drop(first);
    until_state(&second, "group-1", GroupState::None).await;
    let mut options = on();
    options.http = http;
    let again = start(options).await;
    until_state(&second, "group-1", GroupState::ReadWrite).await;
    assert_eq!(again.meta().status().nodes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_no_messages_says_so_at_once() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let broker = cluster
        .broker(cluster.member(&[meta.endpoint()], "host-1"))
        .await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    until_state(&meta, "group-1", GroupState::ReadWrite).await;
    // The next heartbeat is 10 s away. The broker looks by itself every second, and takes messages: so this is told again and again.
    let membership = broker.broker.membership().unwrap().clone();
    until("the group to be read-only", || {
        membership.set_writable(false);
        state(&meta, "group-1") == Some(GroupState::Read)
    })
    .await;
    until_state(&meta, "group-1", GroupState::ReadWrite).await;
}
