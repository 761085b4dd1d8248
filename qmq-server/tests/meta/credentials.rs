//! Who may say that it is a node, and whom a node believes.

use std::net::SocketAddr;

use qmq_meta::{BrokerRole, GroupState};
use qmq_wire::{
    Acquire, Claim, Code, ControlRequest, ControlResponse, NodeRole, Presence, Purpose, Register,
    Token,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::cluster::{Cluster, SECRET, Watching, acquired, ask, enter, state, until_trouble};
use super::wire_client::Peer;

const PORT: u16 = 20881;

fn acquire(claim: Option<&str>) -> ControlRequest {
    ControlRequest::Acquire(Acquire {
        hostname: "host-1".to_owned(),
        port: PORT,
        claim: claim.map(|group| Claim {
            group: group.to_owned(),
            role: NodeRole::Master,
            ip: "127.0.0.1".to_owned(),
            sync_port: 20882,
        }),
    })
}

fn register(group: &str, role: NodeRole) -> ControlRequest {
    ControlRequest::Register(Register {
        presence: Presence::Online,
        hostname: "host-1".to_owned(),
        port: PORT,
        group: group.to_owned(),
        role,
        address: format!("127.0.0.1:{PORT}"),
        writable: true,
        epoch: 0,
    })
}

async fn denied(peer: &Peer) {
    for request in [
        acquire(None),
        acquire(Some("group-2")),
        register("group-1", NodeRole::Master),
    ] {
        let refusal = ask(peer, &request).await.unwrap_err();
        assert_eq!(refusal.code, Code::Denied, "{request:?}");
        for word in ["tls.cert", "cluster.token", "host-1"] {
            assert!(refusal.text.contains(word), "{}", refusal.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_say_that_they_are_nodes() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    enter(&meta, "group-1", BrokerRole::Master, "host-1", PORT).await;

    denied(&cluster.client(&meta).await).await;
    let mut client = cluster.dial(&meta);
    client.own = Some(cluster.client_certificate());
    denied(&client.peer().await.unwrap()).await;
    assert!(meta.meta().brokers(Some("group-2")).is_empty());
    assert_ne!(state(&meta, "group-1"), Some(GroupState::ReadWrite));

    let by_token = cluster.dial(&meta).token(SECRET).peer().await.unwrap();
    for node in [cluster.node(&meta).await, by_token] {
        let answer = ask(&node, &acquire(None)).await.unwrap();
        assert!(matches!(answer, ControlResponse::Acquired(_)), "{answer:?}");
        let answer = ask(&node, &register("group-1", NodeRole::Master))
            .await
            .unwrap();
        let ControlResponse::Registered(registered) = answer else {
            panic!("{answer:?}");
        };
        assert!(registered.stored);
        assert_eq!(registered.again_ms, 10_000);
    }
    assert!(
        cluster
            .dial(&meta)
            .token("cluster-secreT")
            .peer()
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_entered_in_another_role_or_group_is_refused() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    enter(&meta, "group-1", BrokerRole::Master, "host-1", PORT).await;
    let node = cluster.node(&meta).await;
    for (group, role) in [
        ("group-1", NodeRole::Slave),
        ("group-1", NodeRole::DelayMaster),
        ("group-2", NodeRole::Master),
    ] {
        let refusal = ask(&node, &register(group, role)).await.unwrap_err();
        assert_eq!(refusal.code, Code::WrongRole);
        assert!(
            refusal.text.contains("MASTER of broker group \"group-1\""),
            "{}",
            refusal.text
        );
    }
    assert_eq!(state(&meta, "group-2"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_told_to_those_who_may_use_the_subject() {
    let cluster = Cluster::new();
    let mut options = cluster.options();
    options.access = std::sync::Arc::new(qmq_server::access::Access::new(
        qmq_server::access::Tokens::none(),
        "consume:order.*".parse().unwrap(),
    ));
    let meta = super::cluster::start(options).await;
    enter(&meta, "group-1", BrokerRole::Master, "host-1", PORT).await;
    let peer = cluster.client(&meta).await;
    let refusal = Watching::begin(&peer, Purpose::Produce, "")
        .await
        .next()
        .await
        .unwrap_err();
    assert_eq!(refusal.code, Code::Denied);
    assert!(
        meta.meta().subjects().is_empty(),
        "a refused interest makes no subject"
    );
    Watching::begin(&peer, Purpose::Consume, "g")
        .await
        .next()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_a_nodes_certificate_comes_in_by_the_cluster_token() {
    let cluster = Cluster::new();
    let meta = cluster.meta().await;
    let mut member = cluster.member(&[meta.endpoint()], "host-1");
    member.own = Some(cluster.client_certificate());
    let refused = cluster.broker(member.clone()).await;
    let trouble = until_trouble(&refused, |text| text.contains("cluster.token")).await;
    assert!(
        trouble.contains("billing (by client certificate)"),
        "{trouble}"
    );
    drop(refused);

    member.hostname = "host-2".to_owned();
    member.folder = cluster.home.path("host-2");
    member.cluster_token = Some(Token(SECRET.to_owned()));
    member.claim = Some(("group-2".to_owned(), NodeRole::Master));
    let broker = cluster.broker(member).await;
    assert_eq!(acquired(&broker).await.group, "group-2");
}

/// Answers every request with this text, as `/meta/address` does.
async fn lying(text: String) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = [0; 4096];
            let _ = stream.read(&mut read).await;
            let len = text.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{text}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn http_that_lies_leads_nowhere() {
    let cluster = Cluster::new();
    // A whole meta server, of another authority.
    let stranger = Cluster::new();
    let theirs = stranger.meta().await;
    let http = lying(theirs.address().to_string()).await;
    let endpoint = format!("http://{http}/meta/address");
    let mut member = cluster.member(&[endpoint], "host-1");
    member.cluster_token = Some(Token(SECRET.to_owned()));
    member.claim = Some(("group-1".to_owned(), NodeRole::Master));
    let broker = cluster.broker(member.clone()).await;
    let trouble = until_trouble(&broker, |text| text.contains("tls.ca")).await;
    assert!(trouble.contains("meta.server.name"), "{trouble}");
    assert!(
        theirs.meta().brokers(None).is_empty(),
        "nobody came in there"
    );
    assert!(broker.broker.membership().unwrap().known().is_none());

    // One of the right authority, with another name than the one that is expected.
    let meta = cluster.meta().await;
    member.endpoints = vec![meta.endpoint()];
    member.hostname = "host-2".to_owned();
    member.folder = cluster.home.path("host-2");
    member.server_name = Some("meta.example.org".to_owned());
    let named = cluster.broker(member.clone()).await;
    until_trouble(&named, |text| text.contains("meta.example.org")).await;
    assert!(meta.meta().brokers(None).is_empty());

    // A node of the cluster that is no meta server.
    member.cluster_token = None;
    let other = super::test_broker::Home::new(&[]);
    let mut options = other.options();
    options.tls = cluster.tls();
    let plain = other.start_with(options).await;
    let http = lying(plain.broker.address().to_string()).await;
    member.server_name = Some("localhost".to_owned());
    member.endpoints = vec![format!("http://{http}/meta/address")];
    member.hostname = "host-3".to_owned();
    member.folder = cluster.home.path("host-3");
    let misled = cluster.broker(member).await;
    until_trouble(&misled, |text| text.contains("is no meta server")).await;
}
