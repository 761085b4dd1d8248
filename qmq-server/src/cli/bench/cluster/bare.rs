//! The limit: bare QUIC between two processes, without a message system.
//!
//! The other process is this program again. It throws away what it gets in one stream, and passes on what it gets in another.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use qmq_server::tls::{Authority, CertifiedFiles, ClientCertificates, Overwrite};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, RecvStream};

use super::pace::{self, Clock};
use super::report::{Measured, Row};
use super::{Plan, WARM_UP};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;

const ALPN: &[u8] = b"qmq-bench";
/// What a stream is for: its first byte.
const THROW_AWAY: u8 = b'T';
const PASS_ON: u8 = b'P';
const TAKE: u8 = b'C';
const FOLDER: &str = "QMQ_BENCH_RELAY";
const PIECE: usize = 64 << 10;

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: Failed) -> Failure {
    Failure::new(format!("bare QUIC: {error}"), "try again without --bare")
}

struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) async fn measure(plan: &Plan) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir().map_err(|error| failed(error.into()))?;
    let (_relay, address) = start(folder.path()).map_err(failed)?;
    let mut rows = vec![
        throughput(plan, folder.path(), address)
            .await
            .map_err(failed)?,
        round_trips(plan, folder.path(), address)
            .await
            .map_err(failed)?,
    ];
    if plan.rate > 0 {
        rows.push(
            latency(plan, folder.path(), address)
                .await
                .map_err(failed)?,
        );
    }
    Ok(rows)
}

fn start(folder: &Path) -> Result<(Relay, SocketAddr), Failed> {
    let now = SystemTime::now();
    let authority = Authority::create(folder, "bench", 1, now, Overwrite::Yes)?;
    let hosts = ["localhost".to_owned()];
    let node = authority.node("relay", &hosts, 1, now)?;
    node.write(&folder.join("node.pem"), &folder.join("node.key"))?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("bench-relay")
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no output of the relay")?;
    let relay = Relay(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    Ok((relay, line.trim().parse()?))
}

async fn connect(folder: &Path, address: SocketAddr) -> Result<(Endpoint, Connection), Failed> {
    let authority = folder.join("ca.pem");
    let tls = qmq_server::tls::client_config(&authority, None, &[ALPN], SystemTime::now())?;
    let crypto = QuicClientConfig::try_from(tls)?;
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let connection = endpoint.connect(address, "localhost")?.await?;
    Ok((endpoint, connection))
}

async fn throughput(plan: &Plan, folder: &Path, address: SocketAddr) -> Result<Row, Failed> {
    let (_endpoint, connection) = connect(folder, address).await?;
    let mut stream = connection.open_uni().await?;
    stream.write_all(&[THROW_AWAY]).await?;
    let piece = Bytes::from((0..PIECE).map(|n| (n * 31) as u8).collect::<Vec<u8>>());
    let clock = Clock::start();
    let mut bytes = 0_u64;
    let end = WARM_UP + plan.load;
    let mut counted_from = None;
    loop {
        let now = clock.now();
        if now >= end {
            break;
        }
        if now >= WARM_UP && counted_from.is_none() {
            counted_from = Some((now, bytes));
        }
        stream.write_chunk(piece.clone()).await?;
        bytes += PIECE as u64;
    }
    let (from, before) = counted_from.unwrap_or_default();
    let measured = Measured {
        messages: (bytes - before) / plan.size as u64,
        elapsed: clock.now() - from,
        ..Measured::default()
    };
    connection.close(0_u32.into(), b"done");
    Ok(Row::new("quinn", plan, &measured))
}

/// One message at a time through the other process and back.
async fn round_trips(plan: &Plan, folder: &Path, address: SocketAddr) -> Result<Row, Failed> {
    let (_endpoint, taking) = connect(folder, address).await?;
    let mut hello = taking.open_uni().await?;
    hello.write_all(&[TAKE]).await?;
    let (_giver, giving) = connect(folder, address).await?;
    let mut out = giving.open_uni().await?;
    out.write_all(&[PASS_ON]).await?;
    let message = vec![7; plan.size];
    let mut back = vec![0; plan.size];
    let clock = Clock::start();
    let mut measured = Measured::new(plan.load);
    out.write_all(&message).await?;
    let mut arriving = taking.accept_uni().await?;
    arriving.read_exact(&mut back).await?;
    while clock.now() < WARM_UP + plan.load {
        let sent = clock.now();
        out.write_all(&message).await?;
        arriving.read_exact(&mut back).await?;
        if sent >= WARM_UP {
            measured.messages += 1;
            measured.latency.record(clock.now() - sent);
        }
    }
    Ok(Row::new("round_trip", plan, &measured))
}

async fn latency(plan: &Plan, folder: &Path, address: SocketAddr) -> Result<Row, Failed> {
    let (_taker, taking) = connect(folder, address).await?;
    let mut hello = taking.open_uni().await?;
    hello.write_all(&[TAKE]).await?;
    let (_giver, giving) = connect(folder, address).await?;
    let mut stream = giving.open_uni().await?;
    stream.write_all(&[PASS_ON]).await?;
    let clock = Clock::start();
    let (due, mut dues) = tokio::sync::mpsc::unbounded_channel::<Duration>();
    pace::start(clock, plan.rate, WARM_UP + plan.load, vec![due])?;
    let size = plan.size;
    let sender = tokio::spawn(async move {
        let mut some = Vec::new();
        while dues.recv_many(&mut some, 1024).await > 0 {
            let mut out = BytesMut::with_capacity(some.len() * size);
            for due in some.drain(..) {
                let start = out.len();
                out.extend_from_slice(&(due.as_nanos() as u64).to_le_bytes());
                out.resize(start + size, 7);
            }
            if stream.write_chunk(out.freeze()).await.is_err() {
                return;
            }
        }
        let _ = stream.finish();
        let _ = stream.stopped().await;
    });
    let mut measured = Measured::new(plan.load);
    let mut arriving = taking.accept_uni().await?;
    let mut latency = Latency::new();
    let mut at = 0;
    let mut head = Vec::with_capacity(8);
    while let Some(chunk) = arriving.read_chunk(usize::MAX, true).await? {
        let mut bytes = &chunk.bytes[..];
        while !bytes.is_empty() {
            if at < 8 {
                let take = bytes.len().min(8 - at);
                head.extend_from_slice(&bytes[..take]);
                at += take;
                bytes = &bytes[take..];
                continue;
            }
            let take = bytes.len().min(size - at);
            at += take;
            bytes = &bytes[take..];
            if at == size {
                let nanos = u64::from_le_bytes(head[..8].try_into()?);
                let due = Duration::from_nanos(nanos);
                if due >= WARM_UP {
                    measured.messages += 1;
                    latency.record(clock.now().saturating_sub(due));
                }
                head.clear();
                at = 0;
            }
        }
    }
    measured.latency = latency;
    let _ = sender.await;
    Ok(Row::new("relay", plan, &measured))
}

/// The other process: says where it listens, and serves until it is killed.
pub(super) async fn relay() -> Result<(), Failure> {
    serve().await.map_err(failed)
}

async fn serve() -> Result<(), Failed> {
    let folder = PathBuf::from(std::env::var_os(FOLDER).ok_or("started by hand")?);
    let own = CertifiedFiles {
        certificate: folder.join("node.pem"),
        key: folder.join("node.key"),
    };
    let tls = qmq_server::tls::server_config(
        &own,
        &folder.join("ca.pem"),
        ClientCertificates::Optional,
        &[ALPN],
        SystemTime::now(),
    )?;
    let crypto = QuicServerConfig::try_from(tls)?;
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", endpoint.local_addr()?);
    let mut taker: Option<Connection> = None;
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await?;
        let mut stream = connection.accept_uni().await?;
        let mut kind = [0];
        stream.read_exact(&mut kind).await?;
        match kind[0] {
            TAKE => taker = Some(connection),
            PASS_ON => {
                if let Some(taker) = taker.take() {
                    tokio::spawn(pass_on(connection, stream, taker));
                }
            }
            _ => {
                tokio::spawn(throw_away(connection, stream));
            }
        }
    }
    Ok(())
}

async fn throw_away(_connection: Connection, mut stream: RecvStream) {
    let mut chunks = vec![Bytes::new(); 32];
    while let Ok(Some(_)) = stream.read_chunks(&mut chunks).await {}
}

async fn pass_on(_connection: Connection, mut stream: RecvStream, taker: Connection) {
    let Ok(mut out) = taker.open_uni().await else {
        return;
    };
    let mut chunks = vec![Bytes::new(); 32];
    while let Ok(Some(count)) = stream.read_chunks(&mut chunks).await {
        if out.write_all_chunks(&mut chunks[..count]).await.is_err() {
            return;
        }
    }
    let _ = out.finish();
    let _ = out.stopped().await;
}
