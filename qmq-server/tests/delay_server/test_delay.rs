//! A delay server in this process, on loopback, with brokers that a test names; it can be ended and begun again on the same folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use qmq_client::{Client, Pem};
use qmq_server::access::{Pattern, Rights};
use qmq_server::config::{DelayConfig, Sources};
use qmq_server::delay::{DelayOptions, DelayServer, Destination};
use qmq_server::membership::MembershipOptions;
use qmq_server::tls::{Authority, Overwrite, TlsFiles};
use qmq_store::Message;
use qmq_wire::{
    Code, ControlRequest, ControlResponse, DelayOutcome, DelayRequest, DelayResponse, Refusal,
    Scheduled,
};

use super::test_broker::TestBroker;
use super::wire_client::{Answer, Batch, Dial, LIMIT, Peer, within};

const DAYS: u32 = 30;

/// Which brokers have which subjects.
#[derive(Clone)]
struct Way {
    subjects: String,
    brokers: Vec<String>,
    authority: PathBuf,
}

/// Its folder, with certificates, and what it is told.
pub(crate) struct DelayHome {
    folder: tempfile::TempDir,
    sets: Vec<(String, String)>,
    ways: Vec<Way>,
    pub(crate) adjust: fn(&mut DelayOptions),
    /// Its place in a cluster, with the certificates of that.
    pub(crate) member: Option<(MembershipOptions, TlsFiles)>,
}

impl DelayHome {
    /// With these settings besides the defaults of a test.
    pub(crate) fn new(sets: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = folder.path().join("tls");
        std::fs::create_dir_all(&tls).unwrap();
        let now = SystemTime::now();
        let authority = Authority::create(&tls, "test", DAYS, now, Overwrite::Never).unwrap();
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let node = authority.node("delay", &hosts, DAYS, now).unwrap();
        node.write(&tls.join("node.pem"), &tls.join("node.key"))
            .unwrap();
        std::fs::write(folder.path().join("tokens"), "").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut all: Vec<(String, String)> = [
            (
                "meta.server.endpoint",
                "http://127.0.0.1:1/meta/address".to_owned(),
            ),
            ("store.root", path("store")),
            ("store.segment.bytes", "8M".to_owned()),
            ("message.max.bytes", "1M".to_owned()),
            ("tls.cert", path("tls/node.pem")),
            ("tls.key", path("tls/node.key")),
            ("tls.ca", path("tls/ca.pem")),
            ("tokens.file", path("tokens")),
            ("broker.name", "delay".to_owned()),
            ("broker.group", "delay-group".to_owned()),
            ("netty.send.message.retry.min.sleep.millis", "50".to_owned()),
            (
                "netty.send.message.retry.max.sleep.millis",
                "200".to_owned(),
            ),
            ("anonymous.rights", Rights::everything().to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        for (key, value) in sets {
            all.retain(|(known, _)| known != key);
            all.push(((*key).to_owned(), (*value).to_owned()));
        }
        Self {
            folder,
            sets: all,
            ways: Vec::new(),
            adjust: |_| {},
            member: None,
        }
    }

    /// Messages of these subjects go to this broker.
    pub(crate) fn to(mut self, subjects: &str, broker: &TestBroker) -> Self {
        let authority = broker.home.path("tls/ca.pem");
        self.route(subjects, broker.broker.address(), &authority);
        self
    }

    /// Messages of these subjects go to where nobody listens.
    pub(crate) fn away(mut self, subjects: &str) -> Self {
        let authority = self.path("tls/ca.pem");
        self.route(subjects, SocketAddr::from(([127, 0, 0, 1], 9)), &authority);
        self
    }

    pub(crate) fn route(&mut self, subjects: &str, broker: SocketAddr, authority: &Path) {
        self.ways.retain(|way| way.subjects != subjects);
        self.ways.push(Way {
            subjects: subjects.to_owned(),
            brokers: vec![broker.to_string()],
            authority: authority.to_owned(),
        });
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.sets.retain(|(known, _)| known != key);
        self.sets.push((key.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn options(&self) -> DelayOptions {
        let config = DelayConfig::load(&Sources {
            sets: self.sets.clone(),
            ..Sources::default()
        })
        .unwrap();
        let destinations = self.ways.iter().map(|way| Destination {
            subjects: Pattern::new(&way.subjects),
            client: Client::builder()
                .brokers(way.brokers.clone())
                .authorities(Pem::File(way.authority.clone()))
                .server_name("localhost")
                .reconnect_pause(Duration::from_millis(10), Duration::from_millis(100)),
        });
        let mut options = DelayOptions::from_config(&config).unwrap();
        options.destinations = destinations.collect();
        options.membership = None;
        if let Some((member, tls)) = &self.member {
            (options.membership, options.tls) = (Some(member.clone()), tls.clone());
        }
        options.quic.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        options.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        options.post.timeout = Duration::from_secs(1);
        options.drain = Duration::from_secs(3);
        (self.adjust)(&mut options);
        options
    }

    /// Once whoever had the folder has let go of it.
    pub(crate) async fn start(self) -> TestDelay {
        let end = std::time::Instant::now() + LIMIT;
        loop {
            match DelayServer::start(self.options()).await {
                Ok(server) => return TestDelay { server, home: self },
                Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
            }
            super::wire_client::sleep_ms(10).await;
        }
    }
}

pub(crate) struct TestDelay {
    pub(crate) server: DelayServer,
    pub(crate) home: DelayHome,
}

impl TestDelay {
    pub(crate) fn dial(&self) -> Dial {
        Dial::to(self.server.address(), self.home.path("tls/ca.pem"))
    }

    pub(crate) async fn peer(&self) -> Peer {
        self.dial().peer().await.unwrap()
    }

    pub(crate) async fn drain(self) -> DelayHome {
        let Self { server, home } = self;
        within("a drain", server.drain()).await.unwrap();
        home
    }

    /// Ends it as if its process had been killed, as far as that is possible inside of one.
    pub(crate) fn crash(self) -> DelayHome {
        let Self { server, home } = self;
        drop(server);
        home
    }

    /// Messages that wait or are on their way.
    pub(crate) fn pending(&self) -> u64 {
        self.server.controlling().pending().0
    }
}

pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

pub(crate) fn later(subject: &str, body: &str, due_ms: u64) -> Message {
    Message::new(subject, body.to_owned()).with_due_time_ms(due_ms)
}

/// Schedules what a batch has.
pub(crate) async fn schedule(peer: &Peer, batch: &Batch) -> Scheduled {
    let mut stream = peer.stream().await;
    stream.send(|out| batch.encode(out)).await;
    stream.scheduled().await
}

/// Schedules messages, all of which must be accepted; their ids.
pub(crate) async fn ids(peer: &Peer, messages: impl IntoIterator<Item = Message>) -> Vec<[u8; 16]> {
    let scheduled = schedule(peer, &Batch::of(messages)).await;
    assert_eq!(scheduled.refused, []);
    let accepted = scheduled.accepted.iter().enumerate();
    accepted
        .map(|(index, one)| {
            assert_eq!(one.index as usize, index);
            one.id
        })
        .collect()
}

/// What a message is refused for.
pub(crate) async fn refusal(peer: &Peer, message: Message) -> (Code, String) {
    let scheduled = schedule(peer, &Batch::of([message])).await;
    assert_eq!(scheduled.accepted, []);
    let refused = scheduled.refused.into_iter().next().unwrap();
    (refused.code, refused.text)
}

pub(crate) async fn ask(peer: &Peer, request: DelayRequest) -> Result<DelayResponse, Refusal> {
    let mut stream = peer.stream().await;
    let request = ControlRequest::Delay(request);
    stream.send(|out| request.encode(7, out).unwrap()).await;
    match stream.answer().await {
        Answer::Controlled(controlled) => match controlled.response {
            ControlResponse::Delay(response) => Ok(response),
            other => panic!("{other:?}"),
        },
        Answer::Refused(refusal) => {
            assert_eq!(refusal.number, 7);
            Err(refusal)
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn outcome(peer: &Peer, request: DelayRequest) -> DelayOutcome {
    match ask(peer, request).await.unwrap() {
        DelayResponse::Changed(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn letters(peer: &Peer) -> (Vec<qmq_wire::DeadLetter>, u64, u64) {
    let request = DelayRequest::DeadLetters { after: 0, max: 100 };
    match ask(peer, request).await.unwrap() {
        DelayResponse::DeadLetters {
            letters,
            total,
            forgotten,
        } => (letters, total, forgotten),
        other => panic!("{other:?}"),
    }
}

/// Waits until the server has so many dead letters.
pub(crate) async fn until_letters(delay: &TestDelay, count: u64) {
    super::wire_client::until("a dead letter", || {
        delay.server.controlling().pending().1 == count
    })
    .await;
}
