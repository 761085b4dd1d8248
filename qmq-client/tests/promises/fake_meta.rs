//! A meta server in memory: it tells the routes that the test gives it, over QUIC, and where it is, over HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use qmq_client::{Client, ClientBuilder, Pem};
use qmq_wire::{
    Code, ControlRequest, ControlResponse, Controlled, Hello, Interest, Kind, Purpose, Refusal,
    Role, Route, RouteGroup, Unwatch, features,
};
use quinn::{Connection, Endpoint, VarInt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::fake::{FakeBroker, listen, within};
use crate::fake_streams::Frames;

pub(crate) struct MetaState {
    pub(crate) hello: Hello,
    /// By subject and purpose; what is not there has no route.
    routes: HashMap<(String, Purpose), Route>,
    /// What happens to interests in subjects without a route; `None`: silence.
    pub(crate) unknown: Option<Code>,
    watchers: Vec<(u32, Interest, mpsc::UnboundedSender<Bytes>)>,
    /// All interests that ever came.
    pub(crate) interests: Vec<Interest>,
    connections: Vec<Connection>,
    /// What HTTP answers: the status line's end and the body.
    pub(crate) http: (String, String),
    pub(crate) http_requests: usize,
    /// Where groups are, for those who ask by name.
    pub(crate) groups: HashMap<String, String>,
}

pub(crate) struct FakeMeta {
    pub(crate) address: String,
    pub(crate) url: String,
    pub(crate) certificate: String,
    state: Arc<Mutex<MetaState>>,
    endpoint: Endpoint,
    config: quinn::ServerConfig,
}

/// A group in a route.
pub(crate) fn group(name: &str, broker: &FakeBroker) -> RouteGroup {
    RouteGroup {
        name: name.to_owned(),
        master: broker.address.clone(),
        writable: true,
        readable: true,
        epoch: 1,
    }
}

/// A route of groups.
pub(crate) fn route(stamp: u64, groups: impl IntoIterator<Item = RouteGroup>) -> Route {
    Route {
        stamp,
        online: true,
        stale: false,
        groups: groups.into_iter().collect(),
    }
}

/// A broker of a group.
pub(crate) fn broker_of(group: &str) -> FakeBroker {
    let broker = FakeBroker::start();
    broker.state().hello.group = group.to_owned();
    broker
}

impl FakeMeta {
    pub(crate) async fn start() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self::start_with(&certified).await
    }

    pub(crate) async fn start_with(certified: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Self {
        let (endpoint, config) = listen(certified, None);
        let address = format!("127.0.0.1:{}", endpoint.local_addr().unwrap().port());
        let mut hello = Hello::new(Role::Meta, "fake");
        hello.node = "meta-1".to_owned();
        hello.features = features::ROUTES | features::CONTROL;
        let state = Arc::new(Mutex::new(MetaState {
            hello,
            routes: HashMap::new(),
            unknown: None,
            watchers: Vec::new(),
            interests: Vec::new(),
            connections: Vec::new(),
            http: ("200 OK".to_owned(), address.clone()),
            http_requests: 0,
            groups: HashMap::new(),
        }));
        tokio::spawn(serve(endpoint.clone(), Arc::clone(&state)));
        let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/meta/address", http.local_addr().unwrap());
        tokio::spawn(answer_http(http, Arc::clone(&state)));
        Self {
            address,
            url,
            certificate: certified.cert.pem(),
            state,
            endpoint,
            config,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, MetaState> {
        self.state.lock()
    }

    /// Tells all who want to know, now and later.
    pub(crate) fn tell(&self, subject: &str, purpose: Purpose, route: Route) {
        let mut state = self.state();
        for (number, interest, sender) in &state.watchers {
            if interest.subject == subject && interest.purpose == purpose {
                let mut bytes = BytesMut::new();
                route.encode(*number, &mut bytes).unwrap();
                let _ = sender.send(bytes.freeze());
            }
        }
        state.routes.insert((subject.to_owned(), purpose), route);
    }

    /// Settings that suit tests, with all that these brokers need.
    pub(crate) fn builder<'a>(
        &self,
        brokers: impl IntoIterator<Item = &'a FakeBroker>,
    ) -> ClientBuilder {
        let mut pem = self.certificate.clone();
        for broker in brokers {
            pem += &broker.certificate;
        }
        settings(pem).meta(&self.url)
    }

    pub(crate) async fn client<'a>(
        &self,
        brokers: impl IntoIterator<Item = &'a FakeBroker>,
    ) -> Client {
        self.builder(brokers).connect().await.unwrap()
    }

    /// Ends, as when its process is killed; HTTP goes on.
    pub(crate) fn go_away(&self) {
        self.endpoint.set_server_config(None);
        let mut state = self.state();
        state.watchers.clear();
        for connection in state.connections.drain(..) {
            connection.close(VarInt::from_u32(99), b"scripted");
        }
    }

    pub(crate) fn come_back(&self) {
        self.endpoint.set_server_config(Some(self.config.clone()));
    }

    /// Waits until `done` holds.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&MetaState) -> bool) {
        within(what, async {
            while !done(&self.state()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

/// A client's settings that suit tests, with these authorities.
pub(crate) fn settings(pem: String) -> ClientBuilder {
    Client::builder()
        .authorities(Pem::Text(pem.into_bytes()))
        .server_name("localhost")
        .meta_server_name("localhost")
        .connect_timeout(Duration::from_secs(3))
        .request_timeout(Duration::from_secs(2))
        .reconnect_pause(Duration::from_millis(5), Duration::from_millis(40))
        .breaker(5, Duration::from_millis(100))
}

impl MetaState {
    /// Interests that are followed now.
    pub(crate) fn watched(&self) -> Vec<&Interest> {
        self.watchers
            .iter()
            .map(|(_, interest, _)| interest)
            .collect()
    }

    fn watch(&mut self, number: u32, interest: Interest, sender: &mpsc::UnboundedSender<Bytes>) {
        let mut bytes = BytesMut::new();
        let key = (interest.subject.clone(), interest.purpose);
        match (self.routes.get(&key), self.unknown) {
            (Some(route), _) => route.encode(number, &mut bytes).unwrap(),
            (None, Some(code)) => Refusal::new(number, code, "scripted").encode(&mut bytes),
            (None, None) => {}
        }
        if !bytes.is_empty() {
            let _ = sender.send(bytes.freeze());
        }
        self.interests.push(interest.clone());
        self.watchers.push((number, interest, sender.clone()));
    }
}

async fn serve(endpoint: Endpoint, state: Arc<Mutex<MetaState>>) {
    while let Some(incoming) = endpoint.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            let Ok((mut send, receive)) = connection.accept_bi().await else {
                return;
            };
            let mut frames = Frames::new(receive);
            let Some(frame) = frames.next().await else {
                return;
            };
            Hello::decode(&mut frame.reader()).unwrap();
            let mut bytes = BytesMut::new();
            {
                let mut state = state.lock();
                state.hello.encode(&mut bytes);
                state.connections.push(connection.clone());
            }
            let _ = send.write_chunk(bytes.freeze()).await;
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(stream(send, Frames::new(receive), Arc::clone(&state)));
            }
        });
    }
}

async fn stream(mut send: quinn::SendStream, mut frames: Frames, state: Arc<Mutex<MetaState>>) {
    let (outgoing, mut queued) = mpsc::unbounded_channel::<Bytes>();
    tokio::spawn(async move {
        while let Some(bytes) = queued.recv().await {
            if send.write_chunk(bytes).await.is_err() {
                return;
            }
        }
    });
    while let Some(frame) = frames.next().await {
        let reader = &mut frame.reader();
        let mut state = state.lock();
        match Kind::from_byte(frame.kind).unwrap() {
            Kind::Watch => {
                let (number, interest) = Interest::decode(reader).unwrap();
                state.watch(number, interest, &outgoing);
            }
            Kind::Unwatch => {
                let ended = Unwatch::decode(reader).unwrap().number;
                let same = |sender: &mpsc::UnboundedSender<Bytes>| sender.same_channel(&outgoing);
                state
                    .watchers
                    .retain(|(number, _, sender)| *number != ended || !same(sender));
            }
            Kind::Control => {
                let (number, request) = ControlRequest::decode(reader).unwrap();
                let mut bytes = BytesMut::new();
                match find(&state, &request) {
                    Some(response) => Controlled { number, response }.encode(&mut bytes).unwrap(),
                    None => {
                        Refusal::new(number, Code::UnknownRequest, "scripted").encode(&mut bytes);
                    }
                }
                let _ = outgoing.send(bytes.freeze());
            }
            other => panic!("{other:?} to a meta server"),
        }
    }
}

fn find(state: &MetaState, request: &ControlRequest) -> Option<ControlResponse> {
    let ControlRequest::FindGroup { name } = request else {
        return None;
    };
    let group = state.groups.get(name).map(|master| RouteGroup {
        name: name.clone(),
        master: master.clone(),
        writable: true,
        readable: true,
        epoch: 1,
    });
    Some(ControlResponse::Group(group))
}

async fn answer_http(listener: tokio::net::TcpListener, state: Arc<Mutex<MetaState>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let mut head = vec![0; 4_096];
            let _ = stream.read(&mut head).await;
            let (status, body) = {
                let mut state = state.lock();
                state.http_requests += 1;
                state.http.clone()
            };
            let len = body.len();
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: {len}\r\n\r\n{body}");
            let _ = stream.write_all(text.as_bytes()).await;
        });
    }
}
