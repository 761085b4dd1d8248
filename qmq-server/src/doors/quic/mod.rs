//! The native door: QUIC, TLS 1.3, one connection a process, a stream a subscription. `docs/protocol.md` has the protocol.

mod answer;
mod budget;
mod closing;
mod connection;
mod frames;
mod handshakes;
mod load;
mod outbox;
mod progress;
mod requests;
mod routes;
mod subscription;
mod windows;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use closing::Closing;
use handshakes::{Handshake, Handshakes};
pub use load::Load;
use parking_lot::Mutex;
use qmq_wire::{CloseCode, Hello};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout, Incoming,
    ServerConfig, TransportConfig, VarInt,
};
use ring::hmac;
use tokio::sync::Semaphore;
pub(crate) use windows::LEAST_BYTES as LEAST_WINDOW_BYTES;
use windows::Windows;

use crate::access::Access;
use crate::doors::seldom::Seldom;
use crate::rooms::consumers::Consumers;
use crate::rooms::{AnswersControl, TakesMessages, TellsRoutes};

/// Limits of the door. Every queue and window has one.
#[derive(Clone, Debug)]
pub struct QuicOptions {
    /// Where it listens, on UDP.
    pub listen: SocketAddr,
    /// Most connections at a time.
    pub connections_max: usize,
    /// A connection that is silent for so long is closed.
    pub idle: Duration,
    /// A stream of which the other end takes nothing for so long takes its connection down.
    pub stall: Duration,
    /// TLS and HELLO must be done by then.
    pub handshake: Duration,
    /// Streams of a connection at a time.
    pub streams_max: u32,
    /// Most bytes that a connection may send before they are read.
    pub receive_bytes: u64,
    /// Most bytes that a connection keeps until the other end has them.
    pub send_bytes: u64,
    /// Bytes of both, of all connections: with many of them each has less.
    pub windows_bytes: u64,
    /// Bytes of requests that are not in the log yet, of all connections; one has a quarter at most.
    pub produce_bytes: u64,
    /// Requests of one stream that wait for an answer.
    pub unanswered_max: usize,
    /// Longest frame taken.
    pub frame_bytes_max: u32,
}

impl Shared {
    /// What the node says of itself now.
    fn hello_now(&self) -> Hello {
        let mut hello = Hello {
            incarnation: (self.incarnation)(),
            ..self.hello.clone()
        };
        if let Some(attempts_max) = &self.attempts_max {
            hello.limits.attempts_max = attempts_max.load(Ordering::Relaxed);
        }
        if let Some((group, epoch)) = &*self.plate.0.lock() {
            (hello.group, hello.epoch) = (group.clone(), *epoch);
        }
        hello
    }
}

impl Default for QuicOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 20881)),
            connections_max: 10_000,
            idle: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            handshake: Duration::from_secs(5),
            streams_max: 1024,
            receive_bytes: 16 << 20,
            send_bytes: 16 << 20,
            windows_bytes: 2 << 30,
            produce_bytes: 256 << 20,
            unanswered_max: 4096,
            frame_bytes_max: 17 << 20,
        }
    }
}

/// What a connection's tasks share.
pub(crate) struct Shared {
    options: QuicOptions,
    access: Arc<Access>,
    messages: Option<Arc<dyn TakesMessages>>,
    consumers: Option<Consumers>,
    control: Arc<dyn AnswersControl>,
    routes: Option<Arc<dyn TellsRoutes>>,
    incarnation: Incarnation,
    attempts_max: Option<Arc<AtomicU32>>,
    hello: Hello,
    /// Group and epoch that the node has got since, for each HELLO from then on.
    plate: Plate,
    connections: Arc<AtomicU64>,
    produce_budget: budget::Whole,
    /// Bytes that wait in all outboxes.
    outgoing: Arc<AtomicU64>,
    closing: Closing,
    /// Connections that were closed since they did not follow the protocol.
    malformed: Mutex<Seldom>,
    /// What all connections begin with, but for their windows.
    server: ServerConfig,
    receive_windows: Arc<Windows>,
    send_windows: Arc<Windows>,
}

/// Bytes that are asked of the system for the socket in each direction; it gives what `net.core.rmem_max` and `wmem_max` allow. What does not fit
/// while this process is busy is lost, and slows connections down.
const SOCKET_BYTES: usize = 8 << 20;
/// Connections beyond the limit that are told so at a time, among those that may be in their handshake. The others are refused without a word of the protocol, which costs less.
const TOLD_MAX: usize = 64;

/// The incarnation of a store, as it is now.
pub type Incarnation = Arc<dyn Fn() -> u32 + Send + Sync>;

/// The rooms that the door leads to, and what it says of the node.
pub struct Rooms {
    /// Who may do what.
    pub access: Arc<Access>,
    /// Messages in, if the node takes any.
    pub messages: Option<Arc<dyn TakesMessages>>,
    /// Messages out, and what becomes of them, if the node has any.
    pub consumers: Option<Consumers>,
    /// What operators and other nodes ask.
    pub control: Arc<dyn AnswersControl>,
    /// Routes of subjects, if the node knows them.
    pub routes: Option<Arc<dyn TellsRoutes>>,
    /// Incarnation of the node's store, for each HELLO; 0: it has none.
    pub incarnation: Incarnation,
    /// How often a group gets a message before it is a dead letter, for each HELLO, if the node has messages out.
    pub attempts_max: Option<Arc<AtomicU32>>,
    /// What the node says of itself; the door adds its own limits.
    pub hello: Hello,
    /// Counts the connections.
    pub connections: Arc<AtomicU64>,
    /// What makes a restarted node known to its clients: nobody else may have it.
    pub secret: Vec<u8>,
}

/// The open door.
#[derive(Debug)]
pub struct QuicDoor {
    endpoint: Endpoint,
    address: SocketAddr,
    load: Load,
    closing: Closing,
    plate: Plate,
}

/// What the door says of its node in each HELLO from then on. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Plate(Arc<Mutex<Option<(String, u64)>>>);

impl Plate {
    /// Its broker group, and its epoch as the master of that.
    pub fn set(&self, group: &str, epoch: u64) {
        *self.0.lock() = Some((group.to_owned(), epoch));
    }
}

impl QuicDoor {
    /// Opens it: listens, and serves each connection in a task of the runtime that this is called in.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the TLS settings do not suit QUIC.
    pub fn open(options: QuicOptions, tls: rustls::ServerConfig, rooms: Rooms) -> io::Result<Self> {
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(Arc::new(transport(
            &options,
            (options.receive_bytes, options.send_bytes),
        )?));
        let socket = std::net::UdpSocket::bind(options.listen)?;
        let buffers = socket2::SockRef::from(&socket);
        // With less it works as well, only slower.
        let _ = buffers.set_recv_buffer_size(SOCKET_BYTES);
        let _ = buffers.set_send_buffer_size(SOCKET_BYTES);
        let runtime = quinn::default_runtime()
            .ok_or_else(|| io::Error::other("no async runtime to serve connections in"))?;
        let config = endpoint(&rooms.secret, &rooms.hello.node);
        let endpoint = Endpoint::new(config, Some(server.clone()), socket, runtime)?;
        let address = endpoint.local_addr()?;
        let mut hello = rooms.hello;
        hello.limits.frame_bytes_max = options.frame_bytes_max;
        hello.limits.streams_max = options.streams_max;
        hello.limits.batch_messages_max = qmq_wire::BATCH_MESSAGES_MAX;
        let load = Load::new(options.produce_bytes, options.connections_max);
        let closing = Closing::new();
        let plate = Plate::default();
        let windows = |most| Windows::new(options.windows_bytes / 2, options.connections_max, most);
        let shared = Arc::new(Shared {
            closing: closing.clone(),
            access: rooms.access,
            messages: rooms.messages,
            consumers: rooms.consumers,
            control: rooms.control,
            routes: rooms.routes,
            incarnation: rooms.incarnation,
            attempts_max: rooms.attempts_max,
            hello,
            plate: plate.clone(),
            connections: rooms.connections,
            produce_budget: load.produce.clone(),
            outgoing: Arc::clone(&load.outgoing),
            malformed: Mutex::default(),
            server,
            receive_windows: windows(options.receive_bytes),
            send_windows: windows(options.send_bytes),
            options,
        });
        tokio::spawn(accept(endpoint.clone(), shared));
        Ok(Self {
            endpoint,
            address,
            load,
            closing,
            plate,
        })
    }

    /// How much of its limits is in use.
    #[must_use]
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says of its node, where that changes.
    #[must_use]
    pub fn plate(&self) -> &Plate {
        &self.plate
    }

    /// Takes no more connections: who comes is told that the broker is shutting down. Those that are open go on.
    pub fn stop_accepting(&self) {
        self.closing.shut();
    }

    /// Reads no more requests, and waits until the answers to those that were read have arrived, for `limit` at most. Whether they have. Subscriptions are
    /// waited for as well; it is for their consumers' room to end them.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.closing.finish(limit).await
    }

    /// Closes all connections, and waits for nobody.
    pub fn close_now(&self) {
        let why = b"the broker has ended";
        self.endpoint
            .close((CloseCode::ShuttingDown as u32).into(), why);
    }

    /// Closes all connections, and waits until they have been told, for `limit` at most.
    pub async fn close(&self, limit: Duration) {
        let why = b"the broker is shutting down";
        self.endpoint
            .close((CloseCode::ShuttingDown as u32).into(), why);
        let _ = tokio::time::timeout(limit, self.endpoint.wait_idle()).await;
    }
}

/// Signs stateless resets as the process before did: after a crash its clients take the new one's word that their connections are gone, at once,
/// instead of waiting until these have been silent for too long. Nodes that share a secret have keys of their own.
fn endpoint(secret: &[u8], node: &str) -> EndpointConfig {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let resets = hmac::sign(&secret, format!("qmq stateless reset {node}").as_bytes());
    let resets = hmac::Key::new(hmac::HMAC_SHA256, resets.as_ref());
    let mut config = EndpointConfig::new(Arc::new(resets));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// Ids that do not tell which process made them: quinn's own do, and nothing is answered to those of another process.
#[derive(Debug)]
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let id = getrandom::u64().unwrap_or_default();
        ConnectionId::new(&id.to_ne_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport(
    options: &QuicOptions,
    (receive_bytes, send_bytes): (u64, u64),
) -> io::Result<TransportConfig> {
    let varint = |value: u64| VarInt::from_u64(value).map_err(io::Error::other);
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(options.idle).map_err(io::Error::other)?;
    transport
        .max_idle_timeout(Some(idle))
        .max_concurrent_bidi_streams(options.streams_max.into())
        .max_concurrent_uni_streams(0_u32.into())
        .receive_window(varint(receive_bytes)?)
        .stream_receive_window(varint(receive_bytes)?)
        .send_window(send_bytes)
        .datagram_receive_buffer_size(None);
    Ok(transport)
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>) {
    let told = Arc::new(Semaphore::new(TOLD_MAX));
    let limit = shared.options.handshake;
    let handshakes = Handshakes::new(shared.options.connections_max);
    let mut full = Seldom::default();
    while let Some(incoming) = endpoint.accept().await {
        let Some((incoming, handshake)) = handshakes.begin(incoming) else {
            continue;
        };
        if shared.closing.is_shut() {
            turn_away(incoming, handshake, CloseCode::ShuttingDown, limit, &told);
            continue;
        }
        let open = shared.connections.fetch_add(1, Ordering::AcqRel);
        if open >= shared.options.connections_max as u64 {
            shared.connections.fetch_sub(1, Ordering::AcqRel);
            if let Some(refused) = full.say(Instant::now()) {
                tracing::warn!(from = %incoming.remote_address(), refused, "connections are refused: connection.max are open");
            }
            let code = CloseCode::TooManyConnections;
            turn_away(incoming, handshake, code, limit, &told);
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let from = incoming.remote_address();
            if let Err(error) = connection::serve(incoming, handshake, &shared).await {
                tracing::debug!(%from, %error, "a connection ended");
            }
            shared.connections.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

/// Tells why, if not too many are being told.
fn turn_away(
    incoming: Incoming,
    handshake: Handshake,
    code: CloseCode,
    limit: Duration,
    told: &Arc<Semaphore>,
) {
    let Ok(permit) = Arc::clone(told).try_acquire_owned() else {
        return incoming.refuse();
    };
    tokio::spawn(async move {
        connection::turn_away(incoming, code, limit).await;
        drop((permit, handshake));
    });
}
