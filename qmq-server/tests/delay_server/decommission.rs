//! A group of delay servers that leaves its cluster: what waits in it is delivered first.

use std::sync::Arc;
use std::time::Duration;

use qmq_client::{Client, ClientBuilder, Message, Pem};
use qmq_meta::{BrokerRole, Database, GroupState, Meta, MetaOptions};
use qmq_server::MetaServer;
use qmq_server::doors::http::meta::{AsksBrokers, Brokers};
use qmq_server::membership::NodeKind;
use qmq_server::meta::MetaStore;
use qmq_wire::{DelayOutcome, DelayRequest};

use super::cluster::{Cluster, enter, start, until_state};
use super::test_broker::TestBroker;
use super::test_delay::{DelayHome, TestDelay, ids, later, now_ms, outcome};
use super::wire_client::{Dial, LIMIT, Peer, flow, until, within};

const PLENTY: u64 = 1 << 40;
const HOUR_MS: u64 = 3_600_000;

/// A delay server of this cluster, that takes messages and gives them to this broker.
async fn delay(cluster: &Cluster, meta: &MetaServer, group: &str, to: &TestBroker) -> TestDelay {
    let hostname = format!("{group}-host");
    let mut member = cluster.member(&[meta.endpoint()], &hostname);
    member.kind = NodeKind::Delay;
    std::fs::create_dir_all(&member.folder).unwrap();
    let mut home = DelayHome::new(&[]);
    home.route("*", to.broker.address(), &cluster.home.path("tls/ca.pem"));
    home.member = Some((member, cluster.tls()));
    let delay = home.start().await;
    let port = delay.server.address().port();
    enter(meta, group, BrokerRole::DelayMaster, &hostname, port).await;
    until_state(meta, group, GroupState::ReadWrite).await;
    delay
}

fn node(cluster: &Cluster) -> ClientBuilder {
    let own = cluster.tls().own;
    Client::builder()
        .authorities(Pem::File(cluster.home.path("tls/ca.pem")))
        .identity(Pem::File(own.certificate), Pem::File(own.key))
        .server_name("localhost")
}

/// An operator's meta server, on the database of the others, that gives producers no time to leave.
async fn operator(database: &Arc<dyn Database>) -> Meta {
    let mut options = MetaOptions::new("operator", Box::new(|_| 0));
    options.settle = Duration::ZERO;
    within("a start", Meta::start(Arc::clone(database), options))
        .await
        .unwrap()
}

async fn peer(cluster: &Cluster, delay: &TestDelay) -> Peer {
    let dial = Dial::to(delay.server.address(), cluster.home.path("tls/ca.pem"));
    dial.peer().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_delay_servers_goes_when_what_waits_there_has_been_delivered() {
    let cluster = Cluster::new();
    let database: Arc<dyn Database> = cluster.shared().await;
    let meta = start(cluster.options_on(MetaStore::Open(Arc::clone(&database)))).await;
    let operator = operator(&database).await;
    let broker = cluster
        .broker(cluster.member(&[meta.endpoint()], "host-1"))
        .await;
    let port = broker.broker.address().port();
    enter(&meta, "group-1", BrokerRole::Master, "host-1", port).await;
    until_state(&meta, "group-1", GroupState::ReadWrite).await;
    let leaving = delay(&cluster, &meta, "delay-1", &broker).await;
    let alone = cluster.look().is_empty("delay-1", "127.0.0.1:1", "*").await;
    assert!(
        alone.is_err(),
        "who cannot be asked says nothing: {alone:?}"
    );
    let last = operator
        .decommission("delay-1", 10, &*cluster.look())
        .await
        .unwrap_err();
    assert!(last.to_string().contains("last"), "{last}");
    let staying = delay(&cluster, &meta, "delay-2", &broker).await;
    let at_leaving = peer(&cluster, &leaving).await;
    let waiting = ids(&at_leaving, [later("order", "x", now_ms() + HOUR_MS)]).await;
    for _ in 0..3 {
        let step = operator.decommission("delay-1", 10, &*cluster.look()).await;
        let step = step.unwrap();
        assert_eq!((step.is_done(), step.waiting), (false, 1), "{step:?}");
        assert!(step.problems.is_empty(), "{:?}", step.problems);
    }
    // What is new goes elsewhere, and what waits stays.
    until("the route", || {
        let groups = meta.meta().groups();
        groups.iter().any(|group| group.retiring)
    })
    .await;
    let client = node(&cluster)
        .meta_address(meta.address().to_string())
        .meta_server_name("localhost")
        .build()
        .unwrap();
    let producer = client.producer().build().unwrap();
    for n in 0..10 {
        let message = Message::new("order", n.to_string()).with_due_time_ms(now_ms() + HOUR_MS);
        let report = within("a report", producer.send(message)).await.unwrap();
        assert_eq!(report.delay.unwrap().group, "delay-2");
    }
    assert_eq!((leaving.pending(), staying.pending()), (1, 10));
    // It is due at last.
    let there = cluster.peer(&broker).await;
    let mut sub = there.subscribe(&flow("order", "g", "c"), 10, PLENTY).await;
    let now = DelayRequest::Reschedule {
        id: waiting[0],
        due_ms: now_ms(),
    };
    assert_eq!(outcome(&at_leaving, now).await, DelayOutcome::Done);
    assert_eq!(&sub.one().await.body[..], b"x");
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let step = operator.decommission("delay-1", 10, &*cluster.look()).await;
        let step = step.unwrap();
        if step.is_done() {
            break;
        }
        assert!(std::time::Instant::now() < end, "{step:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    operator.drop_group("delay-1").await.unwrap();
    until("the end of the group", || {
        let groups = meta.meta().groups();
        groups.iter().all(|group| group.name != "delay-1")
    })
    .await;
    client.close(Duration::from_secs(1)).await;
}

trait Looks {
    fn look(&self) -> Box<dyn qmq_meta::Emptiness>;
}

impl Looks for Cluster {
    fn look(&self) -> Box<dyn qmq_meta::Emptiness> {
        let (authority, own) = (self.home.path("tls/ca.pem"), self.tls().own);
        let brokers = Brokers::new(move || {
            Client::builder()
                .authorities(Pem::File(authority.clone()))
                .identity(
                    Pem::File(own.certificate.clone()),
                    Pem::File(own.key.clone()),
                )
                .server_name("localhost")
                .request_timeout(Duration::from_secs(2))
        });
        brokers.look(LIMIT)
    }
}
