//! A broker in a folder of its own, and what tests do with it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use qmq_message::Message;
use qmq_message::attributes::Attributes;
use qmq_server::access::{Access, Principal, Rights, Tokens};
use qmq_server::doors::quic::QuicOptions;
use qmq_server::rooms::consumers::Attached;
use qmq_server::rooms::{Caller, Outlet};
use qmq_server::tls::{Authority, CertifiedFiles, ClientCertificates, Overwrite, TlsFiles};
use qmq_server::{Broker, BrokerOptions};
use qmq_store::Options;
use qmq_wire::{
    Ack, Acked, Credit, Durability, Flow, FlowFlags, Incoming, Produce, ProduceHeader, Produced,
    Start,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::exposition::Exposition;

/// Days for which the certificate is valid.
pub(crate) const CERTIFICATE_DAYS: u32 = 30;

pub(crate) struct Running {
    pub(crate) broker: Broker,
    pub(crate) http: SocketAddr,
    caller: Caller,
    pub(crate) folder: tempfile::TempDir,
}

/// An answer over HTTP.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) async fn start(subjects_max: usize) -> Running {
    start_in(tempfile::tempdir().unwrap(), subjects_max).await
}

pub(crate) async fn start_in(folder: tempfile::TempDir, subjects_max: usize) -> Running {
    let access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
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
            listen: local,
            ..QuicOptions::default()
        },
        http: Some(local),
        tls: certificates(folder.path()),
        access: Arc::clone(&access),
        drain_ack: Duration::from_millis(100),
        metrics_subjects_max: subjects_max,
    };
    let broker = Broker::start(options).await.unwrap();
    Running {
        http: broker.http_address().unwrap(),
        broker,
        caller: Caller::new(access, Principal::Anonymous),
        folder,
    }
}

fn certificates(folder: &Path) -> TlsFiles {
    let now = SystemTime::now();
    let authority = Authority::create(folder, "test", 365, now, Overwrite::Yes).unwrap();
    let own = CertifiedFiles {
        certificate: folder.join("node.pem"),
        key: folder.join("node.key"),
    };
    // An hour more than the days that are asked for later, so that they are whole.
    let later = now + Duration::from_secs(3600);
    let hosts = ["localhost".to_owned()];
    let issued = authority.node("node", &hosts, CERTIFICATE_DAYS, later);
    issued.unwrap().write(&own.certificate, &own.key).unwrap();
    TlsFiles {
        own,
        authority: folder.join("ca.pem"),
        clients: ClientCertificates::Optional,
    }
}

impl Running {
    /// Produces messages with these subjects and bodies, in one request.
    pub(crate) async fn produce(&self, messages: &[(&str, &[u8])]) -> Produced {
        let incoming = messages.iter().enumerate().map(|(at, (subject, body))| {
            let mut attributes = Vec::new();
            Attributes::encode(&Message::new(*subject, body.to_vec()), &mut attributes).unwrap();
            Incoming {
                subject: Bytes::copy_from_slice(subject.as_bytes()),
                attributes: attributes.into(),
                body: at..at + 1,
                body_len: body.len() as u32,
            }
        });
        let produce = Produce {
            header: ProduceHeader {
                durability: Durability::Buffered,
                ..ProduceHeader::default()
            },
            messages: incoming.collect(),
            pieces: messages
                .iter()
                .map(|(_, body)| Bytes::copy_from_slice(body))
                .collect(),
        };
        let (reply, answer) = oneshot::channel();
        let room = &self.broker.administering().producing;
        let reply = Box::new(move |produced| drop(reply.send(produced)));
        room.submit(produce, &self.caller, Box::new(()), reply);
        answer.await.unwrap()
    }

    /// A consumer that is granted so many messages.
    pub(crate) async fn subscribe(
        &self,
        subject: &str,
        group: &str,
        consumer: &str,
        messages: u32,
    ) -> (Attached, Arc<Taken>) {
        let flow = Flow {
            subject: subject.to_owned(),
            group: group.to_owned(),
            consumer: consumer.to_owned(),
            session: 1,
            flags: FlowFlags::default(),
            start: Start::Earliest,
            filter: qmq_message::TagFilter::All,
        };
        let credit = Credit {
            messages,
            bytes: 1 << 20,
        };
        let taken = Arc::new(Taken::default());
        let (reply, answer) = oneshot::channel();
        self.broker.administering().consumers.subscribe(
            &flow,
            credit,
            &self.caller,
            Arc::clone(&taken) as _,
            Box::new(|_| {}),
            Box::new(move |outcome| drop(reply.send(outcome))),
        );
        (answer.await.unwrap().unwrap(), taken)
    }

    /// Sends a request of that text, and reads until the connection ends.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str, headers: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: qmq\r\n{headers}\r\n");
        self.ask(&request).await
    }

    /// Scrapes, and checks that the text is what the format asks for.
    pub(crate) async fn scrape(&self) -> Exposition {
        let answer = self.get("/metrics", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(
            answer
                .head
                .contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{}",
            answer.head
        );
        Exposition::parse(&answer.body)
    }

    /// Scrapes until the text says so, since rooms count on threads of their own.
    pub(crate) async fn scrape_until(&self, so: impl Fn(&Exposition) -> bool) -> Exposition {
        for _ in 0..40 {
            let scraped = self.scrape().await;
            if so(&scraped) {
                return scraped;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("it did not come about in 20 s");
    }
}

/// Acknowledges pull sequences.
pub(crate) async fn ack(attached: &Attached, first: u64, last: u64) -> Acked {
    let ack = Ack {
        flow: None,
        number: 1,
        durability: Durability::Buffered,
        incarnation: attached.incarnation,
        ranges: vec![(first, last)],
    };
    let (reply, answer) = oneshot::channel();
    attached.ack(ack, Box::new(move |outcome| drop(reply.send(outcome))));
    answer.await.unwrap().unwrap()
}

/// What a consumer was handed: it takes everything at once.
#[derive(Default)]
pub(crate) struct Taken(Mutex<Vec<Bytes>>);

impl Outlet for Taken {
    fn want_room(&self) {}

    fn put(&self, chunks: &mut Vec<Bytes>) {
        self.0.lock().append(chunks);
    }

    fn waiting(&self) -> usize {
        0
    }
}
