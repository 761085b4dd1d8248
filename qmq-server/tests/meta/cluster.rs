//! A cluster in this process: meta servers and brokers with one authority.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use qmq_meta::{Broker, BrokerRole, Database, GroupState, Sqlite};
use qmq_server::access::{Access, Rights, Tokens};
use qmq_server::doors::quic::QuicOptions;
use qmq_server::membership::{HttpLimits, MembershipOptions, NodeKind, Timing};
use qmq_server::meta::MetaStore;
use qmq_server::tls::{CertifiedFiles, ClientCertificates, TlsFiles};
use qmq_server::{BrokerOptions, MetaServer, MetaServerOptions};
use qmq_wire::{
    ControlRequest, ControlResponse, Controlled, Interest, Purpose, Refusal, Route, Unwatch,
};

use super::test_broker::{Home, TestBroker};
use super::wire_client::{Answer, Dial, Peer, Stream, until, within};

pub(crate) const LOCAL: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// The secret of the cluster.
pub(crate) const SECRET: &str = "cluster-secret";
/// A subject that tests route.
pub(crate) const SUBJECT: &str = "order.changed";

/// The authority, and what its meta servers share.
pub(crate) struct Cluster {
    pub(crate) home: Home,
    pub(crate) heartbeat_timeout_ms: u64,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            home: Home::new(&[]),
            heartbeat_timeout_ms: 30_000,
        }
    }

    pub(crate) fn silent_after(mut self, ms: u64) -> Self {
        self.heartbeat_timeout_ms = ms;
        self
    }

    pub(crate) fn tls(&self) -> TlsFiles {
        TlsFiles {
            own: CertifiedFiles {
                certificate: self.home.path("tls/node.pem"),
                key: self.home.path("tls/node.key"),
            },
            authority: self.home.path("tls/ca.pem"),
            clients: ClientCertificates::Optional,
        }
    }

    pub(crate) fn database_file(&self) -> PathBuf {
        self.home.path("meta/meta.db")
    }

    /// On a database of its own, on any free ports.
    pub(crate) fn options(&self) -> MetaServerOptions {
        self.options_on(MetaStore::Sqlite(self.database_file()))
    }

    pub(crate) fn options_on(&self, database: MetaStore) -> MetaServerOptions {
        let access = Access::new(Tokens::none(), "produce:*;consume:*".parse().unwrap());
        MetaServerOptions {
            name: "meta".to_owned(),
            database,
            quic: QuicOptions {
                listen: LOCAL,
                ..QuicOptions::default()
            },
            http: LOCAL,
            http_compat: true,
            host: None,
            refresh: Duration::from_millis(100),
            heartbeat_timeout_ms: Arc::new(AtomicU64::new(self.heartbeat_timeout_ms)),
            min_group_num: Arc::new(AtomicU64::new(2)),
            snapshot: Some(self.home.path("meta/snapshot")),
            tls: self.tls(),
            access: Arc::new(access.with_cluster_token(SECRET)),
            named_by: Default::default(),
            watched: None,
            api_tokens: None,
            http_ports: None,
            log_switch: None,
        }
    }

    pub(crate) async fn meta(&self) -> MetaServer {
        start(self.options()).await
    }

    /// A meta server where one was: at its HTTP port, once that and the database are free.
    pub(crate) async fn meta_again(&self, http: SocketAddr) -> MetaServer {
        let end = std::time::Instant::now() + super::wire_client::LIMIT;
        loop {
            let options = MetaServerOptions {
                http,
                ..self.options()
            };
            match MetaServer::start(options).await {
                Ok(meta) => return meta,
                Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
            }
            super::wire_client::sleep_ms(20).await;
        }
    }

    /// A database that several meta servers share, as they would MySQL.
    pub(crate) async fn shared(&self) -> Arc<dyn Database> {
        std::fs::create_dir_all(self.home.path("meta")).unwrap();
        Arc::new(Sqlite::open(self.database_file()).await.unwrap())
    }

    /// What a broker of this cluster is told: it asks at these, under this name.
    pub(crate) fn member(&self, endpoints: &[String], hostname: &str) -> MembershipOptions {
        let tls = self.tls();
        MembershipOptions {
            kind: NodeKind::Broker,
            endpoints: endpoints.to_vec(),
            server_name: None,
            authority: tls.authority,
            own: Some(tls.own),
            cluster_token: None,
            hostname: hostname.to_owned(),
            ip: Some("127.0.0.1".to_owned()),
            port: 0,
            sync_port: 20882,
            claim: None,
            group: None,
            folder: self.home.path(hostname),
            timing: timing(),
        }
    }

    /// A broker that belongs to the cluster, with a folder of its own; it has a port that is known before it is entered.
    pub(crate) async fn broker(&self, membership: MembershipOptions) -> TestBroker {
        self.broker_at(membership, LOCAL).await
    }

    pub(crate) async fn broker_at(
        &self,
        mut membership: MembershipOptions,
        listen: SocketAddr,
    ) -> TestBroker {
        let home = Home::new(&[]);
        membership.port = listen.port();
        std::fs::create_dir_all(&membership.folder).unwrap();
        let options = home.options();
        let options = BrokerOptions {
            folder: membership.folder.clone(),
            tls: self.tls(),
            quic: QuicOptions {
                listen,
                ..options.quic.clone()
            },
            access: Arc::new(Access::new(Tokens::none(), Rights::everything())),
            membership: Some(membership),
            ..options
        };
        home.start_with(options).await
    }

    /// A client of a meta server, with nothing to show for itself.
    pub(crate) fn dial(&self, meta: &MetaServer) -> Dial {
        Dial::to(meta.address(), self.home.path("tls/ca.pem"))
    }

    /// A client with a node's certificate.
    pub(crate) async fn node(&self, meta: &MetaServer) -> Peer {
        let mut dial = self.dial(meta);
        dial.own = Some(self.tls().own);
        dial.peer().await.unwrap()
    }

    pub(crate) async fn client(&self, meta: &MetaServer) -> Peer {
        self.dial(meta).peer().await.unwrap()
    }

    /// A client of a broker of this cluster.
    pub(crate) async fn peer(&self, broker: &TestBroker) -> Peer {
        let dial = Dial::to(broker.broker.address(), self.home.path("tls/ca.pem"));
        dial.peer().await.unwrap()
    }

    /// A client certificate.
    pub(crate) fn client_certificate(&self) -> CertifiedFiles {
        let issued = self.home.authority.client("billing", 30, SystemTime::now());
        self.home.write("billing", &issued.unwrap())
    }
}

pub(crate) async fn start(options: MetaServerOptions) -> MetaServer {
    within("a start", MetaServer::start(options)).await.unwrap()
}

/// Short pauses, and limits that a busy machine keeps to.
pub(crate) fn timing() -> Timing {
    let patient = Duration::from_secs(5);
    Timing {
        http: HttpLimits {
            connect: patient,
            read: patient,
        },
        connect: patient,
        request: patient,
        idle: patient,
        pause_least: Duration::from_millis(20),
        pause_most: Duration::from_millis(200),
        ..Timing::default()
    }
}

/// As an operator enters a broker.
pub(crate) fn entry(group: &str, role: BrokerRole, hostname: &str, port: u16) -> Broker {
    Broker {
        group: group.to_owned(),
        role,
        hostname: hostname.to_owned(),
        ip: "127.0.0.1".to_owned(),
        serve_port: port,
        sync_port: Some(20882),
    }
}

pub(crate) async fn enter(
    meta: &MetaServer,
    group: &str,
    role: BrokerRole,
    hostname: &str,
    port: u16,
) {
    let entry = entry(group, role, hostname, port);
    meta.meta().add_broker(&entry).await.unwrap();
}

/// State of a group, as this meta server knows it.
pub(crate) fn state(meta: &MetaServer, group: &str) -> Option<GroupState> {
    let groups = meta.meta().groups();
    let found = groups.into_iter().find(|known| known.name == group);
    found.map(|group| group.state)
}

pub(crate) async fn until_state(meta: &MetaServer, group: &str, expected: GroupState) {
    let what = format!("{group} to be {}", expected.name());
    until(&what, || state(meta, group) == Some(expected)).await;
}

/// What keeps the broker waiting.
pub(crate) async fn until_trouble(broker: &TestBroker, fits: impl Fn(&str) -> bool) -> String {
    let membership = broker.broker.membership().unwrap();
    let mut trouble = String::new();
    until("the trouble", || {
        trouble = membership.trouble().unwrap_or_default();
        fits(&trouble)
    })
    .await;
    trouble
}

pub(crate) async fn acquired(broker: &TestBroker) -> qmq_wire::Acquired {
    let membership = broker.broker.membership().unwrap();
    within("what it is", membership.acquired()).await
}

/// Asks a meta server something.
pub(crate) async fn ask(peer: &Peer, request: &ControlRequest) -> Result<ControlResponse, Refusal> {
    let mut stream = peer.stream().await;
    stream.send(|out| request.encode(3, out).unwrap()).await;
    match stream.answer().await {
        Answer::Controlled(Controlled {
            number: 3,
            response,
        }) => Ok(response),
        Answer::Refused(refusal) => Err(refusal),
        other => panic!("{other:?} instead of an answer"),
    }
}

/// An interest that is open.
pub(crate) struct Watching {
    stream: Stream,
}

impl Watching {
    pub(crate) async fn begin(peer: &Peer, purpose: Purpose, group: &str) -> Self {
        let interest = Interest {
            subject: SUBJECT.to_owned(),
            purpose,
            group: group.to_owned(),
            client: "client-1".to_owned(),
            application: "test".to_owned(),
            room: String::new(),
        };
        let mut stream = peer.stream().await;
        stream.send(|out| interest.encode(1, out).unwrap()).await;
        Self { stream }
    }

    /// The next answer.
    pub(crate) async fn next(&mut self) -> Result<Route, Refusal> {
        match self.stream.answer().await {
            Answer::Route(1, route) => Ok(route),
            Answer::Refused(refusal) => Err(refusal),
            other => panic!("{other:?} instead of a route"),
        }
    }

    /// Answers until one fits.
    pub(crate) async fn until(&mut self, fits: impl Fn(&Route) -> bool) -> Route {
        loop {
            let route = self.next().await.unwrap();
            if fits(&route) {
                return route;
            }
        }
    }

    pub(crate) async fn end(mut self) {
        self.stream
            .send(|out| Unwatch { number: 1 }.encode(out))
            .await;
        self.stream.finish();
        assert_eq!(self.stream.next().await, None, "the stream ends");
    }
}
