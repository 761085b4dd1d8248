//! Brokers that start while no meta server can be reached.

use qmq_meta::{BrokerRole, GroupState};
use qmq_server::membership::Standing;

use super::cluster::{Cluster, SUBJECT, acquired, enter, until_state, until_trouble};
use super::wire_client::until;

/// QMQ's defect F10: a broker does not start while its meta server is away.
#[tokio::test(flavor = "multi_thread")]
async fn f10_a_broker_restarts_while_no_meta_server_can_be_reached() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let (http, endpoint) = (meta.http_address(), meta.endpoint());
    let member = cluster.member(&[endpoint], "host-1");
    let broker = cluster.broker(member.clone()).await;
    let address = broker.broker.address();
    enter(
        &meta,
        "group-1",
        BrokerRole::Master,
        "host-1",
        address.port(),
    )
    .await;
    acquired(&broker).await;
    meta.drain().await;
    broker.drain().await;

    let again = cluster.broker_at(member, address).await;
    let what = acquired(&again).await;
    assert_eq!(what.group, "group-1");
    let standing = again
        .broker
        .membership()
        .unwrap()
        .standing()
        .borrow()
        .clone();
    assert!(
        matches!(
            standing,
            Standing::Serving {
                remembered: true,
                ..
            }
        ),
        "{standing:?}"
    );
    let gate = again.broker.administering().producing.gate().clone();
    until("messages to be taken", || gate.held().is_none()).await;
    let peer = cluster.peer(&again).await;
    assert_eq!(peer.hello.group, "group-1");
    peer.publish(SUBJECT, 1, 10).await;
    until_trouble(&again, |text| text.contains("goes on as what it was")).await;

    let meta = cluster.meta_again(http).await;
    until_state(&meta, "group-1", GroupState::ReadWrite).await;
    let membership = again.broker.membership().unwrap();
    until("a meta server to have said it", || {
        matches!(
            *membership.standing().borrow(),
            Standing::Serving {
                remembered: false,
                ..
            }
        )
    })
    .await;
    until("no trouble", || membership.trouble().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_broker_waits_for_a_meta_server() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let (http, endpoint) = (meta.http_address(), meta.endpoint());
    meta.drain().await;
    let broker = cluster.broker(cluster.member(&[endpoint], "host-1")).await;
    let trouble = until_trouble(&broker, |text| text.contains("none has ever said")).await;
    assert!(
        trouble.contains("no meta server can be reached"),
        "{trouble}"
    );
    assert!(broker.broker.membership().unwrap().known().is_none());
    let gate = broker.broker.administering().producing.gate().clone();
    until("messages to be held", || {
        gate.held()
            .is_some_and(|why| why.contains("none has ever said"))
    })
    .await;

    let meta = cluster.meta_again(http).await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    acquired(&broker).await;
    until_state(&meta, "group-1", GroupState::ReadWrite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_was_told_does_not_count() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let member = cluster.member(&[meta.endpoint()], "host-1");
    let broker = cluster.broker(member.clone()).await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    acquired(&broker).await;
    meta.drain().await;
    broker.drain().await;
    // The store's folder, moved to another machine.
    let mut moved = member;
    moved.hostname = "host-2".to_owned();
    let again = cluster.broker(moved).await;
    let trouble = until_trouble(&again, |text| text.contains("host-1/")).await;
    assert!(trouble.contains("this is another node"), "{trouble}");
    assert!(again.broker.membership().unwrap().known().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_one_group_is_not_opened_to_another() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let member = |name: &str| cluster.member(&[meta.endpoint()], name);
    let broker = cluster.broker(member("host-1")).await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    acquired(&broker).await;
    broker.drain().await;
    // Two folders have been swapped.
    let mut other = member("host-2");
    other.folder = member("host-1").folder;
    let broker = cluster.broker(other).await;
    let port = broker.broker.address().port();
    enter(&meta, "group-2", BrokerRole::Master, "host-2", port).await;
    let trouble = until_trouble(&broker, |text| text.contains("group-1")).await;
    assert!(trouble.contains("swap them back"), "{trouble}");
    let gate = broker.broker.administering().producing.gate().clone();
    assert!(gate.held().is_some());
    std::fs::remove_file(member("host-1").folder.join("membership-broker")).unwrap();
    assert_eq!(acquired(&broker).await.group, "group-2");
}
