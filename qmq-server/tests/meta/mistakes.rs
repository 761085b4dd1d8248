//! The mistakes that operators of QMQ write of, each answered with what to type.

use qmq_meta::BrokerRole;
use qmq_server::membership::NodeKind;
use qmq_wire::{Code, NodeRole};

use super::cluster::{Cluster, SUBJECT, acquired, enter, entry, until_trouble};
use super::test_broker::TestBroker;
use super::wire_client::Batch;

/// What a broker is told that asks as `hostname` while the table has others.
async fn told(cluster: &Cluster, entered: &[(&str, u16)], hostname: &str, at: u16) -> String {
    let meta = cluster.meta().await;
    for (number, (name, port)) in entered.iter().enumerate() {
        let group = format!("group-{number}");
        enter(&meta, &group, BrokerRole::Master, name, *port).await;
    }
    let member = cluster.member(&[meta.endpoint()], hostname);
    let broker = cluster.broker_at(member, ([127, 0, 0, 1], at).into()).await;
    let text = until_trouble(&broker, |text| text.contains("qmq tools AddBroker")).await;
    let own = format!(
        "qmq tools AddBroker --metaserver={} --token=TOKEN --brokerGroup=GROUP --role=0 --hostname={hostname} --ip=127.0.0.1 --servePort={at} --syncPort=20882",
        meta.http_address()
    );
    assert!(text.lines().any(|line| line == own), "{text}\n{own}");
    assert!(!text.contains("META") && !text.contains('<'), "{text}");
    text
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn add_broker_was_forgotten() {
    let text = told(&Cluster::new(), &[], "host-1", free_port()).await;
    assert!(
        text.contains("no broker is entered with host name \"host-1\""),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_name_is_another() {
    let port = free_port();
    for (entered, hint) in [
        ("host-1.example.org", "set qmq.host=host-1.example.org"),
        ("HOST-1", "set qmq.host=HOST-1"),
        ("localhost", "set qmq.host to that name"),
    ] {
        let text = told(&Cluster::new(), &[(entered, port)], "host-1", port).await;
        assert!(text.contains(hint), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_another() {
    let text = told(&Cluster::new(), &[("host-1", 20881)], "host-1", free_port()).await;
    assert!(text.contains("host-1 is entered with port 20881"), "{text}");
    assert!(
        text.contains("broker.port must be the --servePort"),
        "{text}"
    );
}

async fn holds(cluster: &Cluster, broker: &TestBroker) {
    let message = qmq_store::Message::new(SUBJECT, "1");
    let produced = cluster
        .peer(broker)
        .await
        .produce(&Batch::of([message]))
        .await;
    assert_eq!(produced.refused[0].code, Code::NotMaster);
}

/// A role that a broker does not play: it takes no messages, and says what to do.
async fn played_otherwise(role: BrokerRole) -> String {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let port = free_port();
    if role == BrokerRole::Slave {
        enter(&meta, "group-1", BrokerRole::Master, "host-0", 20881).await;
    }
    let mut entry = entry("group-1", role, "host-1", port);
    entry.sync_port = Some(20883);
    meta.meta().add_broker(&entry).await.unwrap();
    let member = cluster.member(&[meta.endpoint()], "host-1");
    let broker = cluster
        .broker_at(member, ([127, 0, 0, 1], port).into())
        .await;
    let text = until_trouble(&broker, |text| {
        text.contains(&format!(" as {} of", role.name()))
    })
    .await;
    holds(&cluster, &broker).await;
    assert!(broker.broker.membership().unwrap().known().is_none());
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_takes_no_messages_and_says_why() {
    let text = played_otherwise(BrokerRole::Slave).await;
    assert!(
        text.contains("slaves do not run as processes of their own yet"),
        "{text}"
    );
    assert!(text.contains("--role=0"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_entered_as_a_delay_server_is_told_which_program_to_run() {
    let text = played_otherwise(BrokerRole::DelayMaster).await;
    assert!(
        text.contains("qmq delay --config delay.properties"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_server_that_is_entered_as_a_broker_is_told_which_program_to_run() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    enter(&meta, "group-1", BrokerRole::Master, "host-1", 20801).await;
    let mut member = cluster.member(&[meta.endpoint()], "host-1");
    (member.kind, member.port) = (NodeKind::Delay, 20801);
    let membership = qmq_server::Membership::start(member);
    super::wire_client::until("the trouble", || {
        let trouble = membership.trouble().unwrap_or_default();
        trouble.contains("qmq broker") && trouble.contains("--role=5")
    })
    .await;
    assert_eq!(membership.role(), None);
}

/// Brokers and delay servers may not share a group.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_the_other_kind_is_refused_with_the_rule() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    enter(&meta, "group-1", BrokerRole::DelayMaster, "host-0", 20801).await;
    let mut member = cluster.member(&[meta.endpoint()], "host-1");
    member.claim = Some(("group-1".to_owned(), NodeRole::Master));
    let broker = cluster.broker(member.clone()).await;
    let text = until_trouble(&broker, |text| text.contains("group-1")).await;
    holds(&cluster, &broker).await;
    assert!(text.contains("delay") || text.contains("DELAY"), "{text}");
    drop(broker);
    // A group of its own, and it serves.
    member.claim = Some(("group-2".to_owned(), NodeRole::Master));
    member.hostname = "host-2".to_owned();
    member.folder = cluster.home.path("host-2");
    let broker = cluster.broker(member).await;
    assert_eq!(acquired(&broker).await.group, "group-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_serves_does_not_stop_at_the_first_word() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let mut member = cluster.member(&[meta.endpoint()], "host-1");
    // The first word comes with the next heartbeat.
    member.timing.heartbeat = std::time::Duration::from_millis(50);
    let broker = cluster.broker(member).await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    acquired(&broker).await;
    let membership = broker.broker.membership().unwrap().clone();
    let other = entry("group-1", BrokerRole::Master, "host-2", port);
    meta.meta().replace_broker(&other).await.unwrap();
    let begun = std::time::Instant::now();
    super::wire_client::until("the node to stop", || {
        membership.standing().borrow().refusal().is_some()
    })
    .await;
    assert!(
        begun.elapsed().as_millis() >= 2_000,
        "{:?}",
        begun.elapsed()
    );
}
