//! A broker in this process, on loopback, with an authority of its own; it can be ended and begun again on the same folder.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use qmq_server::access::{Access, Rights, Tokens};
use qmq_server::config::{BrokerConfig, Sources};
use qmq_server::tls::{Authority, CertifiedFiles, Issued, Overwrite};
use qmq_server::{Broker, BrokerOptions};
use qmq_store::Store;
use qmq_wire::{ControlResponse, GroupStatus};

use super::wire_client::{Dial, Peer, within};

const DAYS: u32 = 30;

/// Its folder, with certificates, and what it is told.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    sets: Vec<(String, String)>,
}

impl Home {
    /// With these settings besides the defaults of a test: small segments, a free port, everybody may do everything.
    pub(crate) fn new(sets: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = folder.path().join("tls");
        std::fs::create_dir_all(&tls).unwrap();
        let now = SystemTime::now();
        let authority = Authority::create(&tls, "test", DAYS, now, Overwrite::Never).unwrap();
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let node = authority.node("node", &hosts, DAYS, now).unwrap();
        node.write(&tls.join("node.pem"), &tls.join("node.key"))
            .unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut all: Vec<(String, String)> = [
            ("store.root", path("store")),
            ("store.segment.bytes", "8M".to_owned()),
            ("message.max.bytes", "1M".to_owned()),
            ("flush.mode", "async".to_owned()),
            ("tls.cert", path("tls/node.pem")),
            ("tls.key", path("tls/node.key")),
            ("tls.ca", path("tls/ca.pem")),
            ("tokens.file", path("tokens")),
            ("broker.name", "node".to_owned()),
            ("broker.group", "group".to_owned()),
            ("drain.ack.ms", "0".to_owned()),
            ("anonymous.rights", Rights::everything().to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        std::fs::write(folder.path().join("tokens"), "").unwrap();
        all.extend(
            sets.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        Self {
            folder,
            authority,
            sets: all,
        }
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.sets.push((key.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a certificate and its key.
    pub(crate) fn write(&self, name: &str, issued: &Issued) -> CertifiedFiles {
        let files = CertifiedFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        issued.write(&files.certificate, &files.key).unwrap();
        files
    }

    pub(crate) fn options(&self) -> BrokerOptions {
        let mut last: Vec<(String, String)> = Vec::new();
        for (key, value) in &self.sets {
            last.retain(|(known, _)| known != key);
            last.push((key.clone(), value.clone()));
        }
        let config = BrokerConfig::load(&Sources {
            sets: last,
            ..Sources::default()
        })
        .unwrap();
        let mut options = BrokerOptions::from_config(&config).unwrap();
        options.quic.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        options.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let tokens = Tokens::open(&config.tokens_file, true).unwrap();
        options.access = Arc::new(Access::new(tokens, config.anonymous_rights));
        options
    }

    pub(crate) async fn start(self) -> TestBroker {
        let options = self.options();
        self.start_with(options).await
    }

    /// Once whoever had the folder has let go of it.
    pub(crate) async fn start_patiently(self) -> TestBroker {
        let end = std::time::Instant::now() + super::wire_client::LIMIT;
        loop {
            match Broker::start(self.options()).await {
                Ok(broker) => return TestBroker { broker, home: self },
                Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
            }
            super::wire_client::sleep_ms(10).await;
        }
    }

    pub(crate) async fn start_with(self, options: BrokerOptions) -> TestBroker {
        let broker = within("a start", Broker::start(options)).await.unwrap();
        TestBroker { broker, home: self }
    }
}

pub(crate) struct TestBroker {
    pub(crate) broker: Broker,
    pub(crate) home: Home,
}

impl TestBroker {
    pub(crate) async fn start(sets: &[(&str, &str)]) -> Self {
        Home::new(sets).start().await
    }

    pub(crate) fn dial(&self) -> Dial {
        Dial::to(self.broker.address(), self.home.path("tls/ca.pem"))
    }

    pub(crate) async fn peer(&self) -> Peer {
        self.dial().peer().await.unwrap()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.broker.administering().store
    }

    pub(crate) async fn drain(self) -> Home {
        let Self { broker, home } = self;
        within("a drain", broker.drain()).await.unwrap();
        home
    }

    /// Ends it as if its process had been killed, as far as that is possible inside of one.
    pub(crate) fn crash(self) -> Home {
        let Self { broker, home } = self;
        drop(broker);
        home
    }

    /// How a group is; `None` if it is not there.
    pub(crate) fn group(&self, subject: &str, group: &str) -> Option<GroupStatus> {
        let administering = self.broker.administering();
        let request = qmq_wire::ControlRequest::Subjects {
            pattern: subject.to_owned(),
            after: String::new(),
            max: 1,
        };
        let access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
        let caller =
            qmq_server::rooms::Caller::new(access, qmq_server::access::Principal::Anonymous);
        let answer = administering.answer(0, &request, &caller).unwrap();
        let ControlResponse::Subjects(subjects) = answer else {
            panic!("{answer:?}");
        };
        let groups = subjects
            .into_iter()
            .find(|known| known.subject == subject)?
            .groups;
        groups.into_iter().find(|known| known.group == group)
    }
}
