//! Asking a broker that runs: whether anything is left there, and moving its groups.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qmq_client::{Client, ClientBuilder, Consumer, Message, Pem, ResetTo, Start, Subscription};
use qmq_server::access::{Access, Rights, Tokens};
use qmq_server::doors::http::meta::{AsksBrokers, Brokers};
use qmq_server::doors::quic::QuicOptions;
use qmq_server::tls::{Authority, CertifiedFiles, ClientCertificates, Overwrite, TlsFiles};
use qmq_server::{Broker, BrokerOptions};
use qmq_store::Options;
use sha2::{Digest as _, Sha256};

const LIMIT: Duration = Duration::from_secs(20);

struct Running {
    broker: Broker,
    folder: tempfile::TempDir,
}

/// Strangers may do nothing, and "audit-secret" sees "open.*" only.
async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let hash: String = Sha256::digest("audit-secret")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("{hash}=audit;consume:open.*\n")).unwrap();
    let tokens = Tokens::open(&file, true).unwrap();
    let options = BrokerOptions {
        watched: None,
        named_by: Default::default(),
        membership: None,
        name: "node-1".to_owned(),
        group: "group-1".to_owned(),
        folder: folder.path().join("store"),
        store: Options::with_segment_bytes(4 << 20),
        produce: Default::default(),
        consume: Default::default(),
        deliver: Default::default(),
        quic: QuicOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..QuicOptions::default()
        },
        http: None,
        tls: certificates(folder.path()),
        access: Arc::new(Access::new(tokens, Rights::none())),
        drain_ack: Duration::from_millis(100),
        metrics_subjects_max: 10,
    };
    let broker = Broker::start(options).await.unwrap();
    Running { broker, folder }
}

fn certificates(folder: &Path) -> TlsFiles {
    let now = SystemTime::now();
    let authority = Authority::create(folder, "test", 365, now, Overwrite::Yes).unwrap();
    let own = CertifiedFiles {
        certificate: folder.join("node.pem"),
        key: folder.join("node.key"),
    };
    let hosts = ["localhost".to_owned()];
    let issued = authority.node("node", &hosts, 30, now).unwrap();
    issued.write(&own.certificate, &own.key).unwrap();
    TlsFiles {
        own,
        authority: folder.join("ca.pem"),
        clients: ClientCertificates::Optional,
    }
}

impl Running {
    fn stranger(folder: &Path) -> ClientBuilder {
        Client::builder()
            .authorities(Pem::File(folder.join("ca.pem")))
            .server_name("localhost")
    }

    fn node(folder: &Path) -> ClientBuilder {
        let (certificate, key) = (folder.join("node.pem"), folder.join("node.key"));
        Self::stranger(folder).identity(Pem::File(certificate), Pem::File(key))
    }

    fn master(&self) -> String {
        self.broker.address().to_string()
    }

    fn brokers(&self) -> Brokers {
        let folder = self.folder.path().to_owned();
        Brokers::new(move || Self::node(&folder))
    }

    async fn client(&self) -> Client {
        let builder = Self::node(self.folder.path()).broker(self.master());
        builder.connect().await.unwrap()
    }

    async fn look(&self, subject: &str) -> Result<bool, String> {
        let looking = self.brokers().look(LIMIT);
        looking.is_empty("group-1", &self.master(), subject).await
    }

    async fn until(&self, subject: &str, expected: bool) {
        let end = tokio::time::Instant::now() + LIMIT;
        while self.look(subject).await != Ok(expected) {
            assert!(
                tokio::time::Instant::now() < end,
                "{subject} is never {expected}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn produce(client: &Client, subject: &str, count: usize) {
    let producer = client.producer().build().unwrap();
    for n in 0..count {
        producer
            .send(Message::new(subject, n.to_string()))
            .await
            .unwrap();
    }
    producer.close().await.unwrap();
}

fn consume(client: &Client, subject: &str, group: &str) -> Consumer {
    let subscription = Subscription::new(subject, group).start(Start::Earliest);
    client.subscribe(subscription).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_empty_once_every_group_has_settled_everything() {
    let running = start().await;
    let client = running.client().await;
    assert_eq!(running.look("s").await, Ok(true));
    produce(&client, "s", 3).await;
    produce(&client, "other", 1).await;
    // Nobody has consumed it yet.
    assert_eq!(running.look("s").await, Ok(false));
    let mut one = consume(&client, "s", "one");
    let mut two = consume(&client, "s", "two");
    for _ in 0..3 {
        one.next().await.unwrap().ack().await.unwrap();
    }
    assert_eq!(running.look("s").await, Ok(false));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(two.next().await.unwrap());
    }
    // Handed out is not settled.
    assert_eq!(running.look("s").await, Ok(false));
    for message in held {
        message.ack().await.unwrap();
    }
    running.until("s", true).await;
    assert_eq!(running.look("other").await, Ok(false));
    let _ = (one.close().await, two.close().await);
    client.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_of_a_subject_are_left_of_it() {
    let running = start().await;
    let client = running.client().await;
    produce(&client, "s", 1).await;
    let mut consumer = consume(&client, "s", "g");
    consumer.next().await.unwrap().ack().await.unwrap();
    running.until("s", true).await;
    produce(&client, "%RETRY%s%g", 1).await;
    assert_eq!(running.look("s").await, Ok(false));
    let _ = consumer.close().await;
    client.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_not_empty() {
    let running = start().await;
    let client = running.client().await;
    produce(&client, "s", 1).await;
    // Who is not shown "s" would take the broker for empty.
    for token in ["", "audit-secret"] {
        let folder = running.folder.path().to_owned();
        let blind = Brokers::new(move || Running::stranger(&folder).token(token));
        let blind = blind.look(LIMIT);
        let told = blind.is_empty("group-1", &running.master(), "s").await;
        assert!(told.is_err(), "{token:?}: {told:?}");
    }
    // Another group's master is there.
    let told = running.brokers().look(LIMIT);
    let told = told.is_empty("group-2", &running.master(), "s").await;
    assert!(told.is_err(), "{told:?}");
    let told = running
        .brokers()
        .look(LIMIT)
        .is_empty("group-1", "", "s")
        .await;
    assert!(told.unwrap_err().contains("master"));
    // No time is left.
    let told = running.brokers().look(Duration::ZERO);
    assert_eq!(
        told.is_empty("group-1", &running.master(), "none").await,
        Ok(false)
    );
    let told = running
        .brokers()
        .look(LIMIT)
        .is_empty("group-1", &running.master(), "*")
        .await;
    assert!(told.is_err(), "{told:?}");
    client.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_moved_and_what_was_not_is_said() {
    let running = start().await;
    let client = running.client().await;
    produce(&client, "s", 2).await;
    let mut consumer = consume(&client, "s", "g");
    for _ in 0..2 {
        consumer.next().await.unwrap().ack().await.unwrap();
    }
    let _ = consumer.close().await;
    running.until("s", true).await;
    let (brokers, master) = (running.brokers(), running.master());
    brokers
        .reset("group-1", &master, "s", "g", ResetTo::Earliest)
        .await
        .unwrap();
    assert_eq!(running.look("s").await, Ok(false));
    brokers
        .reset("group-1", &master, "s", "g", ResetTo::Latest)
        .await
        .unwrap();
    running.until("s", true).await;
    let unknown = brokers
        .reset("group-1", &master, "s", "nobody", ResetTo::Latest)
        .await;
    assert!(unknown.unwrap_err().contains("nobody"));
    client.close(Duration::from_secs(1)).await;
}
