//! Brokers come into routes, by operators or by themselves.

use qmq_meta::{BrokerRole, GroupState};
use qmq_server::MembershipOptions;
use qmq_store::Message;
use qmq_wire::{Code, NodeRole, Purpose};

use super::cluster::{
    Cluster, SUBJECT, Watching, acquired, enter, entry, until_state, until_trouble,
};
use super::wire_client::{Batch, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_entered_comes_into_routes_and_goes_out_when_it_drains() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let broker = cluster
        .broker(cluster.member(&[meta.endpoint()], "host-1"))
        .await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    let what = acquired(&broker).await;
    assert_eq!(
        (what.group.as_str(), what.role),
        ("group-1", NodeRole::Master)
    );
    until_state(&meta, "group-1", GroupState::ReadWrite).await;

    let client = cluster.client(&meta).await;
    let mut producing = Watching::begin(&client, Purpose::Produce, "").await;
    let route = producing.until(|route| !route.groups.is_empty()).await;
    let group = &route.groups[0];
    assert_eq!(group.name, "group-1");
    assert_eq!(group.master, format!("127.0.0.1:{port}"));
    assert!(group.writable && group.readable && route.online && !route.stale);

    let peer = cluster.peer(&broker).await;
    assert_eq!(peer.hello.group, "group-1");
    peer.publish(SUBJECT, 1, 10).await;

    broker.drain().await;
    // Pushed at once: the heartbeat's timeout is far away.
    let route = producing.until(|route| route.groups.is_empty()).await;
    assert!(route.stamp > 0);
    producing.end().await;
    meta.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_nobody_has_entered_goes_on_asking_and_takes_no_messages() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let broker = cluster
        .broker(cluster.member(&[meta.endpoint()], "host-1"))
        .await;
    let port = broker.broker.address().port();
    let line = format!(
        "qmq tools AddBroker --metaserver={} --token=TOKEN --brokerGroup=GROUP --role=0 --hostname=host-1 --ip=127.0.0.1 --servePort={port} --syncPort=20882",
        meta.http_address()
    );
    let trouble = until_trouble(&broker, |text| text.contains("AddBroker")).await;
    assert!(
        trouble.lines().any(|said| said == line),
        "{trouble}\n{line}"
    );
    assert_eq!(trouble.matches("AddBroker").count(), 1, "{trouble}");

    let peer = cluster.peer(&broker).await;
    let produced = peer.produce(&Batch::of([Message::new(SUBJECT, "1")])).await;
    assert_eq!(produced.refused.len(), 1);
    let refused = &produced.refused[0];
    assert_eq!(refused.code, Code::NotMaster);
    assert!(refused.text.contains("AddBroker"), "{}", refused.text);
    let flow = super::wire_client::flow(SUBJECT, "g", "c");
    let refusal = peer.try_subscribe(&flow, 1, 1 << 20).await.err().unwrap();
    assert_eq!(refusal.code, Code::NotMaster);

    // The line's effect; no restart is needed.
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    acquired(&broker).await;
    until("messages to be taken", || {
        broker
            .broker
            .administering()
            .producing
            .gate()
            .held()
            .is_none()
    })
    .await;
    peer.publish(SUBJECT, 1, 10).await;
}

fn claiming(options: MembershipOptions, group: &str, role: NodeRole) -> MembershipOptions {
    MembershipOptions {
        claim: Some((group.to_owned(), role)),
        group: Some(group.to_owned()),
        ..options
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_group_and_role_enters_itself() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let member = cluster.member(&[meta.endpoint()], "host-1");
    let broker = cluster
        .broker(claiming(member, "group-1", NodeRole::Master))
        .await;
    let what = acquired(&broker).await;
    assert_eq!(
        (what.group.as_str(), what.differs.as_str()),
        ("group-1", "")
    );
    until_state(&meta, "group-1", GroupState::ReadWrite).await;
    let entered = meta.meta().brokers(Some("group-1"));
    let port = broker.broker.address().port();
    assert_eq!(
        entered,
        [entry("group-1", BrokerRole::Master, "host-1", port)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_table_says_otherwise_the_table_counts() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let port = free_port();
    enter(&meta, "of-the-table", BrokerRole::Master, "host-1", port).await;
    let member = cluster.member(&[meta.endpoint()], "host-1");
    let member = claiming(member, "of-the-settings", NodeRole::Master);
    let broker = cluster
        .broker_at(member, ([127, 0, 0, 1], port).into())
        .await;
    let what = acquired(&broker).await;
    assert_eq!(what.group, "of-the-table");
    assert!(what.differs.contains("of-the-settings"), "{}", what.differs);
    until_state(&meta, "of-the-table", GroupState::ReadWrite).await;
    assert!(meta.meta().brokers(Some("of-the-settings")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_the_table_makes_another_stops() {
    let cluster = Cluster::new().silent_after(1_000);
    let meta = cluster.meta().await;
    let broker = cluster
        .broker(cluster.member(&[meta.endpoint()], "host-1"))
        .await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    acquired(&broker).await;
    until_state(&meta, "group-1", GroupState::ReadWrite).await;
    // Another machine takes the place of this one.
    let other = entry("group-1", BrokerRole::Master, "host-2", port);
    within("a change", meta.meta().replace_broker(&other))
        .await
        .unwrap();
    let trouble = until_trouble(&broker, |text| text.contains("AddBroker")).await;
    assert!(trouble.contains("host-1"), "{trouble}");
    let gate = broker.broker.administering().producing.gate().clone();
    until("no messages to be taken", || gate.held().is_some()).await;
    let subscription = cluster.peer(&broker).await;
    let flow = super::wire_client::flow(SUBJECT, "g", "c");
    assert!(subscription.try_subscribe(&flow, 1, 1 << 20).await.is_err());
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_has_not_changed_is_said_again_with_the_next_two_stamps_and_then_no_more() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    enter(&meta, "group-1", BrokerRole::Master, "host-1", 20881).await;
    let client = cluster.client(&meta).await;
    let mut producing = Watching::begin(&client, Purpose::Produce, "").await;
    let mut stamp = 0;
    for _ in 0..3 {
        let route = producing.next().await.unwrap();
        assert!(route.stamp > stamp, "{route:?} after {stamp}");
        stamp = route.stamp;
    }
    let fourth = tokio::time::timeout(std::time::Duration::from_secs(5), producing.next()).await;
    assert!(fourth.is_err(), "{fourth:?}");
    producing.end().await;
    meta.drain().await;
}
