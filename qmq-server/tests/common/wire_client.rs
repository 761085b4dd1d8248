//! A client of the native protocol without manners of its own: it sends what a test says, and shows what comes back. Every wait has a limit.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use qmq_server::tls::{CertifiedFiles, client_config};
use qmq_store::Message;
use qmq_wire::{
    ALPN, Ack, AckRange, Acked, CloseCode, Controlled, Credit, Delivered, Delivery, Durability,
    End, Flow, FlowFlags, FrameBuffer, Hello, Kind, Nack, Produce, ProduceHeader, Produced, Pull,
    Refusal, Renew, Role, Route, Scheduled, Start, Subscribe, Subscribed, Token, put_message,
    put_produce_header,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig,
    VarInt,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Longest wait for anything that should come.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);

/// Waits for `future`, within [`LIMIT`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(LIMIT, future).await;
    waited.unwrap_or_else(|_| panic!("{what} took longer than {LIMIT:?}"))
}

/// Waits until `holds`, within [`LIMIT`].
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "{what} took longer than {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// What a connection is made with.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) address: SocketAddr,
    pub(crate) authority: PathBuf,
    pub(crate) own: Option<CertifiedFiles>,
    pub(crate) server_name: String,
    pub(crate) hello: Hello,
    /// Bytes that the other end may send on a stream before they are read.
    pub(crate) stream_window: u32,
    pub(crate) idle: Duration,
}

impl Dial {
    pub(crate) fn to(address: SocketAddr, authority: PathBuf) -> Self {
        Self {
            address,
            authority,
            own: None,
            server_name: "localhost".to_owned(),
            hello: Hello::new(Role::Client, "raw/1"),
            stream_window: 8 << 20,
            idle: Duration::from_secs(20),
        }
    }

    pub(crate) fn token(mut self, token: &str) -> Self {
        self.hello.token = Token(token.to_owned());
        self
    }

    /// Connects to nobody yet.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let authority = &self.authority;
        let mut tls = client_config(authority, None, &[ALPN], SystemTime::now()).unwrap();
        if let Some(own) = &self.own {
            tls.client_auth_cert_resolver = unchecked(own);
        }
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(self.idle.try_into().unwrap()))
            .keep_alive_interval(Some(self.idle / 4))
            .stream_receive_window(self.stream_window.into());
        config.transport_config(Arc::new(transport));
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        endpoint.set_default_client_config(config);
        endpoint
    }

    /// TLS, and nothing more.
    pub(crate) async fn bare(&self) -> Result<(Endpoint, Connection), ConnectionError> {
        let endpoint = self.endpoint();
        let connecting = endpoint.connect(self.address, &self.server_name).unwrap();
        let connection = within("TLS", connecting).await?;
        Ok((endpoint, connection))
    }

    /// TLS and HELLO.
    pub(crate) async fn peer(&self) -> Result<Peer, ConnectionError> {
        let (endpoint, connection) = self.bare().await?;
        let mut control = open(&connection).await?;
        control.send(|out| self.hello.encode(out)).await;
        match control.next().await {
            Some(Answer::Hello(hello)) => Ok(Peer {
                _endpoint: endpoint,
                connection,
                _control: control,
                hello,
                frame_bytes_max: self.hello.limits.frame_bytes_max,
            }),
            Some(other) => panic!("{other:?} instead of HELLO"),
            None => Err(within("the reason of a close", connection.closed()).await),
        }
    }
}

/// A certificate as it is, however bad.
fn unchecked(own: &CertifiedFiles) -> Arc<rustls::sign::SingleCertAndKey> {
    let chain = CertificateDer::pem_file_iter(&own.certificate).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let certified = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
    Arc::new(rustls::sign::SingleCertAndKey::from(certified))
}

/// Opens a stream.
pub(crate) async fn open(connection: &Connection) -> Result<Stream, ConnectionError> {
    let (send, receive) = within("a stream", connection.open_bi()).await?;
    Ok(Stream {
        send,
        receive,
        buffer: FrameBuffer::new(u32::MAX),
    })
}

/// The close code with which the other end closed.
pub(crate) async fn close_code(connection: &Connection) -> Option<CloseCode> {
    match within("a close", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_number(close.error_code.into_inner())
        }
        other => panic!("{other}"),
    }
}

/// A connection behind HELLO.
pub(crate) struct Peer {
    _endpoint: Endpoint,
    pub(crate) connection: Connection,
    _control: Stream,
    pub(crate) hello: Hello,
    frame_bytes_max: u32,
}

impl Peer {
    /// It takes frames as long as its HELLO has said.
    pub(crate) async fn stream(&self) -> Stream {
        let mut stream = open(&self.connection).await.unwrap();
        if self.frame_bytes_max > 0 {
            stream.buffer = FrameBuffer::new(self.frame_bytes_max);
        }
        stream
    }

    pub(crate) async fn close_code(&self) -> Option<CloseCode> {
        close_code(&self.connection).await
    }

    /// Produces through a stream of its own.
    pub(crate) async fn produce(&self, batch: &Batch) -> Produced {
        let mut stream = self.stream().await;
        stream.send(|out| batch.encode(out)).await;
        stream.produced().await
    }

    /// Produces `count` bodies, all of which must be accepted; the sequence of the first.
    pub(crate) async fn publish(&self, subject: &str, count: usize, body_len: usize) -> u64 {
        let message = |n: usize| {
            let mut body = n.to_string().into_bytes();
            body.resize(body_len.max(body.len()), b'.');
            Message::new(subject, body)
        };
        let mut first = None;
        let together = (1_000_000 / body_len.max(1)).clamp(1, 10_000);
        let mut all = 0..count;
        while !all.is_empty() {
            let batch = Batch::of(all.by_ref().take(together).map(message));
            let produced = self.produce(&batch).await;
            assert_eq!(produced.refused, [], "all of {subject}");
            first = first.or(Some(produced.accepted[0].sequence));
        }
        first.unwrap()
    }

    pub(crate) async fn subscribe(&self, flow: &Flow, messages: u32, bytes: u64) -> Sub {
        let opened = self.try_subscribe(flow, messages, bytes).await;
        opened.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    pub(crate) async fn try_subscribe(
        &self,
        flow: &Flow,
        messages: u32,
        bytes: u64,
    ) -> Result<Sub, Refusal> {
        let mut stream = self.stream().await;
        let subscribe = Subscribe {
            flow: flow.clone(),
            credit: Credit { messages, bytes },
        };
        stream.send(|out| subscribe.encode(out)).await;
        match stream.answer().await {
            Answer::Subscribed(subscribed) => Ok(Sub {
                stream,
                subscribed,
                arrived: VecDeque::new(),
                frames: 0,
                number: 0,
            }),
            Answer::Refused(refusal) => {
                assert_eq!(stream.next().await, None, "the stream ends");
                Err(refusal)
            }
            other => panic!("{other:?} instead of SUBSCRIBED"),
        }
    }

    pub(crate) fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Hello(Hello),
    Produced(Produced),
    Pulled(Delivery),
    Deliver(Delivery),
    Subscribed(Subscribed),
    Acked(Acked),
    Refused(Refusal),
    End(End),
    Controlled(Controlled),
    Scheduled(Scheduled),
    Route(u32, Route),
    Other(u8),
}

/// A stream of frames.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
    buffer: FrameBuffer,
}

impl Stream {
    pub(crate) async fn send(&mut self, fill: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        fill(&mut out);
        self.send_bytes(&out).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = within("sending", self.send.write_all(bytes)).await;
        sent.unwrap();
    }

    /// Sends a frame of that kind with that payload.
    pub(crate) async fn send_frame(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.extend([kind, 0, 0, 0]);
        frame.extend(payload);
        self.send_bytes(&frame).await;
    }

    /// Ends its direction.
    pub(crate) fn finish(&mut self) {
        self.send.finish().unwrap();
    }

    /// The next frame; `None` when the stream ends or breaks off.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        within("a frame", self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Option<Answer> {
        loop {
            if let Some(frame) = self.buffer.next().unwrap() {
                let mut reader = frame.reader();
                let reader = &mut reader;
                return Some(match Kind::from_byte(frame.kind) {
                    Some(Kind::Hello) => Answer::Hello(Hello::decode(reader).unwrap()),
                    Some(Kind::Produced) => Answer::Produced(Produced::decode(reader).unwrap()),
                    Some(Kind::Pulled) => Answer::Pulled(Delivery::decode(reader, true).unwrap()),
                    Some(Kind::Deliver) => {
                        Answer::Deliver(Delivery::decode(reader, false).unwrap())
                    }
                    Some(Kind::Subscribed) => {
                        Answer::Subscribed(Subscribed::decode(reader).unwrap())
                    }
                    Some(Kind::Acked) => Answer::Acked(Acked::decode(reader).unwrap()),
                    Some(Kind::Refused) => Answer::Refused(Refusal::decode(reader).unwrap()),
                    Some(Kind::End) => Answer::End(End::decode(reader).unwrap()),
                    Some(Kind::Controlled) => {
                        Answer::Controlled(Controlled::decode(reader).unwrap())
                    }
                    Some(Kind::Scheduled) => Answer::Scheduled(Scheduled::decode(reader).unwrap()),
                    Some(Kind::Route) => {
                        let (number, route) = Route::decode(reader).unwrap();
                        Answer::Route(number, route)
                    }
                    _ => Answer::Other(frame.kind),
                });
            }
            match self.receive.read_chunk(1 << 20, true).await {
                Ok(Some(chunk)) => self.buffer.push(chunk.bytes),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next frame, which must come.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.next().await.expect("the stream ended")
    }

    pub(crate) async fn produced(&mut self) -> Produced {
        match self.answer().await {
            Answer::Produced(produced) => produced,
            other => panic!("{other:?} instead of PRODUCED"),
        }
    }

    pub(crate) async fn scheduled(&mut self) -> Scheduled {
        match self.answer().await {
            Answer::Scheduled(scheduled) => scheduled,
            other => panic!("{other:?} instead of SCHEDULED"),
        }
    }

    pub(crate) async fn pulled(&mut self) -> Delivery {
        match self.answer().await {
            Answer::Pulled(delivery) => delivery,
            other => panic!("{other:?} instead of PULLED"),
        }
    }

    pub(crate) async fn acked(&mut self) -> Acked {
        match self.answer().await {
            Answer::Acked(acked) => acked,
            other => panic!("{other:?} instead of ACKED"),
        }
    }

    pub(crate) async fn refused(&mut self) -> Refusal {
        match self.answer().await {
            Answer::Refused(refusal) => refusal,
            other => panic!("{other:?} instead of REFUSED"),
        }
    }

    /// The next frame, if one comes within that time.
    pub(crate) async fn next_within(&mut self, ms: u64) -> Option<Answer> {
        let limit = Duration::from_millis(ms);
        tokio::time::timeout(limit, self.next_frame()).await.ok()?
    }

    pub(crate) async fn pull(&mut self, number: u32, messages: u32, wait_ms: u32, flow: &Flow) {
        let pull = pull(number, messages, wait_ms, flow);
        self.send(|out| pull.encode(out)).await;
    }
}

pub(crate) fn pull(number: u32, messages: u32, wait_ms: u32, flow: &Flow) -> Pull {
    Pull {
        number,
        wait_ms,
        messages,
        bytes: 64 << 20,
        flow: flow.clone(),
    }
}

/// A subscription.
pub(crate) struct Sub {
    pub(crate) stream: Stream,
    pub(crate) subscribed: Subscribed,
    arrived: VecDeque<Delivered>,
    /// DELIVER frames that came.
    pub(crate) frames: usize,
    number: u32,
}

impl Sub {
    /// The next `count` messages.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Delivered> {
        let end = tokio::time::Instant::now() + LIMIT;
        while self.arrived.len() < count {
            let next = tokio::time::timeout_at(end, self.stream.next_frame()).await;
            match next {
                Ok(Some(Answer::Deliver(delivery))) => self.arrive(delivery),
                Ok(other) => panic!("{other:?} after {} of {count} messages", self.arrived.len()),
                Err(_) => panic!(
                    "{} of {count} messages came within {LIMIT:?}",
                    self.arrived.len()
                ),
            }
        }
        self.arrived.drain(..count).collect()
    }

    fn arrive(&mut self, delivery: Delivery) {
        assert_eq!(delivery.incarnation, self.subscribed.incarnation);
        self.frames += 1;
        self.arrived.extend(delivery.messages);
    }

    pub(crate) async fn one(&mut self) -> Delivered {
        self.take(1).await.remove(0)
    }

    /// All that comes within that time.
    pub(crate) async fn all_within(&mut self, ms: u64) -> Vec<Delivered> {
        let end = tokio::time::Instant::now() + Duration::from_millis(ms);
        while let Ok(next) = tokio::time::timeout_at(end, self.stream.next_frame()).await {
            match next {
                Some(Answer::Deliver(delivery)) => self.arrive(delivery),
                other => panic!("{other:?} instead of messages"),
            }
        }
        self.arrived.drain(..).collect()
    }

    /// Nothing may come within that time.
    pub(crate) async fn none_within(&mut self, ms: u64) {
        let came = self.all_within(ms).await;
        let came: Vec<u64> = came.iter().map(|one| one.sequence).collect();
        assert!(came.is_empty(), "sequences {came:?}");
    }

    pub(crate) async fn credit(&mut self, messages: u32, bytes: u64) {
        let credit = Credit { messages, bytes };
        self.stream.send(|out| credit.encode(out)).await;
    }

    /// Its answer to a request; deliveries that come before are kept.
    async fn settled(&mut self) -> Answer {
        loop {
            match self.stream.answer().await {
                Answer::Deliver(delivery) => self.arrive(delivery),
                other => return other,
            }
        }
    }

    pub(crate) async fn try_ack(&mut self, ranges: Vec<AckRange>) -> Answer {
        self.number += 1;
        let ack = Ack {
            flow: None,
            number: self.number,
            durability: Durability::Default,
            incarnation: self.subscribed.incarnation,
            ranges,
        };
        self.stream.send(|out| ack.encode(out)).await;
        self.settled().await
    }

    /// Acknowledges all of `messages`, which must be its own.
    pub(crate) async fn ack(&mut self, messages: &[Delivered]) {
        let answer = self.try_ack(ranges(messages)).await;
        let Answer::Acked(acked) = answer else {
            panic!("{answer:?} instead of ACKED");
        };
        assert_eq!(acked.settled, messages.len() as u64, "{acked:?}");
    }

    pub(crate) async fn try_nack(
        &mut self,
        messages: &[Delivered],
        delay_ms: Option<u32>,
    ) -> Answer {
        self.number += 1;
        let nack = Nack {
            flow: None,
            number: self.number,
            durability: Durability::Default,
            incarnation: self.subscribed.incarnation,
            delay_ms,
            unseen: false,
            ranges: ranges(messages),
        };
        self.stream.send(|out| nack.encode(out)).await;
        self.settled().await
    }

    pub(crate) async fn nack(&mut self, messages: &[Delivered], delay_ms: Option<u32>) {
        let answer = self.try_nack(messages, delay_ms).await;
        let Answer::Acked(acked) = answer else {
            panic!("{answer:?} instead of ACKED");
        };
        assert_eq!(acked.settled, messages.len() as u64, "{acked:?}");
    }

    /// Gives back what nobody has looked at.
    pub(crate) async fn give_back(&mut self, messages: &[Delivered]) {
        self.number += 1;
        let nack = Nack {
            flow: None,
            number: self.number,
            durability: Durability::Default,
            incarnation: self.subscribed.incarnation,
            delay_ms: Some(0),
            unseen: true,
            ranges: ranges(messages),
        };
        self.stream.send(|out| nack.encode(out)).await;
        let answer = self.settled().await;
        assert!(matches!(answer, Answer::Acked(_)), "{answer:?}");
    }

    pub(crate) async fn renew(&mut self, messages: &[Delivered]) {
        let renew = Renew {
            flow: None,
            incarnation: self.subscribed.incarnation,
            ranges: ranges(messages),
        };
        self.stream.send(|out| renew.encode(out)).await;
    }

    /// Goes for good, and waits until the broker has said the same.
    pub(crate) async fn leave(self) {
        self.leave_having(false).await;
    }

    /// As [`Sub::leave`]; it may say that it has not looked at what it holds.
    pub(crate) async fn leave_having(mut self, unseen: bool) {
        let end = End {
            code: None,
            text: String::new(),
            unseen,
        };
        self.stream.send(|out| end.encode(out)).await;
        self.stream.finish();
        let ended = self.end().await;
        assert_eq!(ended.code, None, "{ended:?}");
        assert_eq!(self.stream.next().await, None, "the stream ends");
    }

    /// Goes for good, and does not wait for the broker.
    pub(crate) async fn leave_at_once(mut self) {
        let end = End {
            code: None,
            text: String::new(),
            unseen: false,
        };
        self.stream.send(|out| end.encode(out)).await;
        self.stream.finish();
    }

    /// The broker ends it.
    pub(crate) async fn end(&mut self) -> End {
        match self.settled().await {
            Answer::End(end) => end,
            other => panic!("{other:?} instead of END"),
        }
    }

    /// Goes without a word, as a process that dies.
    pub(crate) fn vanish(mut self) {
        let _ = self.stream.send.reset(VarInt::from_u32(0));
        let _ = self.stream.receive.stop(VarInt::from_u32(0));
    }
}

pub(crate) fn ranges(messages: &[Delivered]) -> Vec<AckRange> {
    let one = |message: &Delivered| (message.pull_sequence, message.pull_sequence);
    messages.iter().map(one).collect()
}

pub(crate) fn sequences(messages: &[Delivered]) -> Vec<u64> {
    messages.iter().map(|one| one.sequence).collect()
}

pub(crate) fn pull_sequences(messages: &[Delivered]) -> Vec<u64> {
    messages.iter().map(|one| one.pull_sequence).collect()
}

/// The flow of a consumer in session 1, from the oldest message on.
pub(crate) fn flow(subject: &str, group: &str, consumer: &str) -> Flow {
    Flow {
        subject: subject.to_owned(),
        group: group.to_owned(),
        consumer: consumer.to_owned(),
        session: 1,
        flags: FlowFlags::default(),
        start: Start::Earliest,
        filter: qmq_message::TagFilter::All,
    }
}

/// A PRODUCE in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) header: ProduceHeader,
    messages: BytesMut,
    count: u32,
}

impl Batch {
    /// Of whole messages.
    pub(crate) fn of(messages: impl IntoIterator<Item = Message>) -> Self {
        let mut batch = Self::default();
        for message in messages {
            let mut attributes = Vec::new();
            qmq_message::Attributes::encode(&message, &mut attributes).unwrap();
            batch.push(message.subject().as_bytes(), &attributes, message.body());
        }
        batch
    }

    /// Of so many short bodies.
    pub(crate) fn bodies<'a>(subject: &str, bodies: impl IntoIterator<Item = &'a str>) -> Self {
        let message = |body: &str| Message::new(subject, body.to_owned());
        Self::of(bodies.into_iter().map(message))
    }

    /// Adds what may be no message at all.
    pub(crate) fn push(&mut self, subject: &[u8], attributes: &[u8], body: &[u8]) {
        let mut head = BytesMut::new();
        put_message(&mut head, "", attributes, body.len() as u32);
        let (lengths, attributes) = head.split_at(8);
        self.messages
            .extend_from_slice(&(subject.len() as u16).to_le_bytes());
        self.messages.extend_from_slice(&lengths[2..]);
        self.messages.extend_from_slice(subject);
        self.messages.extend_from_slice(attributes);
        self.messages.extend_from_slice(body);
        self.count += 1;
    }

    pub(crate) fn number(mut self, number: u32) -> Self {
        self.header.number = number;
        self
    }

    /// By that producer, from that number on.
    pub(crate) fn by(mut self, producer: u128, first: u64) -> Self {
        self.header.producer = producer;
        self.header.first = first;
        self
    }

    pub(crate) fn ordered(mut self) -> Self {
        self.header.ordered = true;
        self
    }

    pub(crate) fn durability(mut self, durability: Durability) -> Self {
        self.header.durability = durability;
        self
    }

    pub(crate) fn deadline_ms(mut self, ms: u32) -> Self {
        self.header.deadline_ms = ms;
        self
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let bytes = self.messages.len() as u32;
        put_produce_header(out, &self.header, self.count, bytes);
        out.extend_from_slice(&self.messages);
    }

    /// It reads as what it was written from.
    pub(crate) fn decoded(&self) -> Produce {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        let mut buffer = FrameBuffer::new(u32::MAX);
        buffer.push(out.freeze());
        let frame = buffer.next().unwrap().unwrap();
        Produce::decode(&mut frame.reader()).unwrap()
    }
}

/// What became of each message: its sequence, or the code of its refusal.
pub(crate) fn outcomes(produced: &Produced) -> Vec<Result<u64, qmq_wire::Code>> {
    let accepted = produced
        .accepted
        .iter()
        .flat_map(|run| (0..run.len).map(|n| (run.index + n, Ok(run.sequence + u64::from(n)))));
    let refused = produced
        .refused
        .iter()
        .map(|one| (one.index, Err(one.code)));
    let mut all: Vec<_> = accepted.chain(refused).collect();
    all.sort_by_key(|(index, _)| *index);
    let indexes: Vec<u32> = all.iter().map(|(index, _)| *index).collect();
    let expected: Vec<u32> = (0..all.len() as u32).collect();
    assert_eq!(indexes, expected, "each message is in the answer once");
    all.into_iter().map(|(_, outcome)| outcome).collect()
}
