//! A broker in memory that follows the protocol, and a script: it loses answers, refuses, and goes away when told to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use qmq_client::{Attributes, Client, ClientBuilder, Pem};
use qmq_wire::{
    Accepted, AcceptedDelay, AckRange, Acked, CloseCode, Code, Credit, DelayRequest, End, Hello,
    Produce, Produced, Refusal, Refused, Role, Scheduled, Subscribe, features,
    put_delivered_header, put_delivery_header,
};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, VarInt};
use rustls::server::WebPkiClientVerifier;
use tokio::sync::{Notify, mpsc};

use crate::fake_streams;

/// What happens to a PRODUCE.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// Its messages are taken, and the connection goes before the answer.
    LoseAnswer,
    /// The connection goes before anything is taken.
    LoseRequest,
    /// All is refused.
    Refuse(Code),
    /// All is refused if it is more than one message.
    RefuseMany(Code),
    /// One message is refused, the others are taken.
    RefuseOne(u32, Code),
    /// Nothing happens, ever.
    Silence,
}

/// A PRODUCE as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) producer: u128,
    pub(crate) first: u64,
    pub(crate) ordered: bool,
    pub(crate) subjects: Vec<String>,
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) attributes: Vec<Bytes>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) hello: Hello,
    /// HELLOs of clients.
    pub(crate) greeted: Vec<Hello>,
    /// Why HELLO is refused.
    pub(crate) closes: Option<(CloseCode, &'static str)>,
    /// What happens to the next PRODUCEs; all is well with those after them.
    pub(crate) script: VecDeque<Reaction>,
    /// What happens to every PRODUCE after those of the script.
    pub(crate) always: Option<Reaction>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) taken: Vec<Bytes>,
    /// Sequences, by producer and number.
    numbers: HashMap<(u128, u64), u64>,
    /// The next number of an ordered producer.
    next: HashMap<u128, u64>,
    /// What delay servers were asked about what waits in them.
    pub(crate) delay_requests: Vec<DelayRequest>,
    /// Messages to be handed out, by sequence.
    pub(crate) messages: Vec<Bytes>,
    /// They are those of the retry subject, with these attributes.
    pub(crate) retries: Option<Bytes>,
    pub(crate) cursor: usize,
    /// Sequence, by pull sequence.
    pub(crate) held: BTreeMap<u64, u64>,
    pub(crate) next_pull: u64,
    /// Sequences, in the order in which they were acknowledged.
    pub(crate) acked: Vec<u64>,
    /// Sequence and delay.
    pub(crate) nacked: Vec<(u64, Option<u32>)>,
    pub(crate) ack_requests: usize,
    pub(crate) ack_incarnations: Vec<u32>,
    pub(crate) renewed: Vec<AckRange>,
    pub(crate) subscribes: Vec<Subscribe>,
    pub(crate) credits: Vec<Credit>,
    pub(crate) ends: usize,
    /// Of these, those of consumers that have not looked at what they hold.
    pub(crate) unseen_ends: usize,
    /// Pull sequences that nobody has looked at.
    pub(crate) given_back: Vec<u64>,
    pub(crate) silent_acks: bool,
    /// Ends every subscription that begins.
    pub(crate) refuse_subscribe: Option<Code>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) subscriptions: Vec<mpsc::UnboundedSender<Bytes>>,
}

pub(crate) struct FakeBroker {
    pub(crate) address: String,
    pub(crate) certificate: String,
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
    endpoint: Endpoint,
    config: quinn::ServerConfig,
}

impl FakeBroker {
    pub(crate) fn start() -> Self {
        Self::start_for(None)
    }

    /// Takes only clients with this certificate, or one that comes from it.
    pub(crate) fn start_for(clients: Option<rustls_pki_types::CertificateDer<'static>>) -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.pem();
        let (endpoint, config) = listen(&certified, clients);
        let mut hello = Hello::new(Role::Master, "fake");
        hello.node = "fake-1".to_owned();
        hello.incarnation = 1;
        hello.features = features::PRODUCE | features::CONSUME | features::CONTROL;
        hello.limits.dedup_window = 1_000;
        hello.limits.ack_timeout_ms = 30_000;
        hello.limits.nack_ms_max = 60_000;
        hello.limits.body_bytes_max = 1 << 20;
        let state = State {
            hello,
            ..State::default()
        };
        let broker = Self {
            address: format!("127.0.0.1:{}", endpoint.local_addr().unwrap().port()),
            certificate,
            state: Arc::new(Mutex::new(state)),
            wake: Arc::new(Notify::new()),
            endpoint,
            config,
        };
        tokio::spawn(fake_streams::serve(
            broker.endpoint.clone(),
            Arc::clone(&broker.state),
            Arc::clone(&broker.wake),
        ));
        broker
    }

    /// A delay server of that group.
    pub(crate) fn start_delay(group: &str) -> Self {
        let server = Self::start();
        {
            let mut state = server.state();
            state.hello.role = Role::Delay;
            state.hello.group = group.to_owned();
            state.hello.features = features::SCHEDULE | features::CONTROL;
        }
        server
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A client's settings that suit tests: short pauses.
    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder()
            .broker(&self.address)
            .authorities(Pem::Text(self.certificate.clone().into_bytes()))
            .server_name("localhost")
            .connect_timeout(Duration::from_secs(3))
            .request_timeout(Duration::from_secs(2))
            .reconnect_pause(Duration::from_millis(5), Duration::from_millis(40))
            .breaker(5, Duration::from_millis(100))
    }

    pub(crate) async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    /// All connections are lost, without a word of the broker's.
    pub(crate) fn drop_connections(&self) {
        self.state().drop_connections();
    }

    /// Does not answer any more, nor take connections, until [`FakeBroker::come_back`].
    pub(crate) fn go_away(&self) {
        self.drop_connections();
        self.endpoint.set_server_config(None);
    }

    pub(crate) fn come_back(&self) {
        self.endpoint.set_server_config(Some(self.config.clone()));
    }

    /// Makes messages to be handed out.
    pub(crate) fn publish(&self, bodies: impl IntoIterator<Item = &'static str>) {
        self.publish_all(bodies.into_iter().map(Bytes::from));
    }

    pub(crate) fn publish_all(&self, bodies: impl IntoIterator<Item = Bytes>) {
        self.state().messages.extend(bodies);
        self.wake.notify_waiters();
    }

    /// Ends all subscriptions with that code.
    pub(crate) fn end_subscriptions(&self, code: Code, text: &str) {
        let mut bytes = BytesMut::new();
        let end = End {
            code: Some(code),
            text: text.to_owned(),
            unseen: false,
        };
        end.encode(&mut bytes);
        let bytes = bytes.freeze();
        for subscription in self.state().subscriptions.drain(..) {
            let _ = subscription.send(bytes.clone());
        }
    }

    /// Takes one message from the consumer, which has it in hand no more, and acknowledges it for somebody else.
    pub(crate) fn hand_back(&self) {
        let mut state = self.state();
        if let Some((_, sequence)) = state.held.pop_first() {
            state.acked.push(sequence);
        }
    }

    /// Waits until `done` holds.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&State) -> bool) {
        within(what, async {
            while !done(&self.state()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

/// Listens with that certificate, and takes only clients with one that comes from `clients`.
pub(crate) fn listen(
    certified: &rcgen::CertifiedKey<rcgen::KeyPair>,
    clients: Option<rustls_pki_types::CertificateDer<'static>>,
) -> (Endpoint, quinn::ServerConfig) {
    let key = certified.signing_key.serialize_der();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificate).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut tls = builder
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![qmq_wire::ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = Endpoint::server(config.clone(), any).unwrap();
    (endpoint, config)
}

/// Fails if it takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(8), future).await {
        Ok(value) => value,
        Err(_) => panic!("took too long: {what}"),
    }
}

impl State {
    /// As after a restart.
    pub(crate) fn forget_producers(&mut self) {
        self.numbers.clear();
        self.next.clear();
    }

    fn drop_connections(&mut self) {
        self.subscriptions.clear();
        for connection in self.connections.drain(..) {
            connection.close(VarInt::from_u32(99), b"scripted");
        }
    }

    pub(crate) fn produce(&mut self, produce: &Produce) -> Option<Bytes> {
        let header = produce.header;
        let bodies: Vec<Bytes> = produce
            .messages
            .iter()
            .map(|message| produce.body(message).concat().into())
            .collect();
        self.asked.push(Asked {
            producer: header.producer,
            first: header.first,
            ordered: header.ordered,
            subjects: produce
                .messages
                .iter()
                .map(|message| String::from_utf8(message.subject.to_vec()).unwrap())
                .collect(),
            bodies: bodies.clone(),
            attributes: produce
                .messages
                .iter()
                .map(|message| message.attributes.clone())
                .collect(),
        });
        let reaction = self.script.pop_front().or_else(|| self.always.clone());
        let mut produced = Produced {
            number: header.number,
            ..Produced::default()
        };
        match &reaction {
            Some(Reaction::LoseRequest) => {
                self.drop_connections();
                return None;
            }
            Some(Reaction::Silence) => return None,
            Some(Reaction::RefuseMany(_)) if bodies.len() < 2 => {}
            Some(Reaction::Refuse(code) | Reaction::RefuseMany(code)) => {
                let mut bytes = BytesMut::new();
                Refusal::new(header.number, *code, "scripted").encode(&mut bytes);
                return Some(bytes.freeze());
            }
            _ => {}
        }
        let delays = self.hello.role == Role::Delay;
        let due = |index: usize| {
            let attributes = &produce.messages[index].attributes;
            Attributes::decode(attributes).unwrap().due_time_ms()
        };
        for (index, body) in bodies.into_iter().enumerate() {
            let has_due = due(index).is_some();
            let number = header.first + index as u64;
            let index = index as u32;
            let mut refuse = |code| {
                produced.refused.push(Refused {
                    index,
                    code,
                    text: "scripted".to_owned(),
                });
            };
            let known = self.numbers.get(&(header.producer, number)).copied();
            if let Some(Reaction::RefuseOne(at, code)) = reaction
                && at == index
                && known.is_none()
            {
                refuse(code);
                continue;
            }
            if has_due != delays {
                refuse(if delays {
                    Code::NotDelayed
                } else {
                    Code::Delayed
                });
                continue;
            }
            let next = self.next.entry(header.producer).or_insert(0);
            if header.ordered && known.is_none() && *next != number {
                refuse(Code::OutOfOrder);
                continue;
            }
            let sequence = known.unwrap_or_else(|| {
                *next = number + 1;
                self.taken.push(body);
                self.taken.len() as u64 - 1
            });
            self.numbers.insert((header.producer, number), sequence);
            produced.accepted.push(Accepted {
                index,
                len: 1,
                sequence,
            });
        }
        if let Some(Reaction::LoseAnswer) = reaction {
            self.drop_connections();
            return None;
        }
        let mut bytes = BytesMut::new();
        if delays {
            let accepted = produced.accepted.iter().map(|one| AcceptedDelay {
                index: one.index,
                id: u128::from(one.sequence).to_be_bytes(),
            });
            let scheduled = Scheduled {
                number: produced.number,
                accepted: accepted.collect(),
                refused: produced.refused,
            };
            scheduled.encode(&mut bytes);
        } else {
            produced.encode(&mut bytes);
        }
        Some(bytes.freeze())
    }

    /// Numbers of messages to be delivered now, redelivered ones first.
    pub(crate) fn hand_out(&mut self, most: usize) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        while out.len() < most && self.cursor < self.messages.len() {
            let sequence = self.cursor as u64;
            self.cursor += 1;
            let pull_sequence = self.next_pull;
            self.next_pull += 1;
            self.held.insert(pull_sequence, sequence);
            out.push((pull_sequence, sequence));
        }
        out
    }

    pub(crate) fn delivery(&self, number: Option<u32>, messages: &[(u64, u64)]) -> Bytes {
        let body = |sequence: u64| self.messages[sequence as usize].clone();
        let attributes = self.retries.clone().unwrap_or_default();
        let fixed = qmq_wire::DELIVERED_HEADER_LEN + attributes.len();
        let len: usize = messages
            .iter()
            .map(|(_, sequence)| fixed + body(*sequence).len())
            .sum();
        let mut out = BytesMut::new();
        let incarnation = self.hello.incarnation;
        put_delivery_header(
            &mut out,
            number,
            incarnation,
            messages.len() as u32,
            len as u32,
        );
        for (pull_sequence, sequence) in messages {
            let body = body(*sequence);
            let lengths = Some((attributes.len() as u16, body.len() as u32));
            put_delivered_header(&mut out, (*sequence, *pull_sequence), 1, 0, lengths);
            out.extend_from_slice(&attributes);
            out.extend_from_slice(&body);
        }
        out.freeze()
    }

    pub(crate) fn settle(
        &mut self,
        (number, incarnation): (u32, u32),
        ranges: &[AckRange],
        nack: Option<Option<u32>>,
    ) -> Option<Bytes> {
        self.ack_requests += 1;
        self.ack_incarnations.push(incarnation);
        let mut bytes = BytesMut::new();
        if self.silent_acks {
            return None;
        }
        if incarnation != self.hello.incarnation {
            let code = Code::StaleIncarnation;
            Refusal::new(number, code, "scripted").encode(&mut bytes);
            return Some(bytes.freeze());
        }
        let mut acked = Acked {
            number,
            ..Acked::default()
        };
        for pull_sequence in ranges.iter().flat_map(|(first, last)| *first..=*last) {
            match self.held.remove(&pull_sequence) {
                Some(sequence) => {
                    acked.settled += 1;
                    match nack {
                        None => self.acked.push(sequence),
                        Some(delay) => self.nacked.push((sequence, delay)),
                    }
                }
                None => acked.not_held += 1,
            }
        }
        acked.encode(&mut bytes);
        Some(bytes.freeze())
    }
}
