//! A connection to a meta server, and questions over it, one at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use qmq_wire::{
    ALPN, CloseCode, ControlRequest, ControlResponse, Controlled, Frame, FrameBuffer, Hello, Kind,
    Refusal, Role, WireError, features,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig,
};
use tokio::time::timeout;

use super::discover::{DiscoverError, Discovered, meta_address};
use super::options::MembershipOptions;
use crate::tls::{TlsError, client_config};

const AGENT: &str = concat!("qmq/", env!("CARGO_PKG_VERSION"));
/// Longest answer of a meta server to a node, in bytes.
const FRAME_BYTES_MAX: u32 = 1 << 20;
const READ_BYTES: usize = 64 << 10;

/// Why a meta server does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// Our own certificate, or the authority.
    #[error("{0}; a node presents its certificate to the meta server")]
    Own(#[from] TlsError),
    #[error("{address} (as {url} says): {reason}")]
    Connect {
        url: String,
        address: String,
        reason: String,
    },
    #[error("{address} refused: {}", refusal.text)]
    Refused { address: String, refusal: Refusal },
    #[error("{address}: the connection was lost before the answer came: {reason}")]
    Lost { address: String, reason: String },
}

/// A connection whose HELLO has been answered by a meta server.
pub(super) struct Link {
    connection: Connection,
    endpoint: Endpoint,
    /// Stays open as long as the connection.
    _control: (SendStream, RecvStream),
    send: SendStream,
    frames: Frames,
    number: u32,
    pub(super) found: Discovered,
}

impl Drop for Link {
    fn drop(&mut self) {
        let code = (CloseCode::Done as u32).into();
        self.connection.close(code, b"");
        self.endpoint.close(code, b"");
    }
}

impl Link {
    /// Asks the URL for an address and connects there.
    pub(super) async fn dial(options: &MembershipOptions, url: &str) -> Result<Self, NoAnswer> {
        let found = meta_address(url, options.timing.http).await?;
        let failed = |reason: String| NoAnswer::Connect {
            url: url.to_owned(),
            address: found.address.clone(),
            reason,
        };
        let name = options.server_name.clone();
        let name = name.unwrap_or_else(|| found.host.clone());
        let limit = options.timing.connect;
        let quic = timeout(limit, config(options))
            .await
            .map_err(|_| failed("reading certificates took too long".to_owned()))??;
        let connected = timeout(limit, connect(quic, &found.address, &name, options)).await;
        let connected = connected.map_err(|_| {
            format!(
                "no connection within {} ms; is its UDP port open?",
                limit.as_millis()
            )
        });
        let (endpoint, connection, control) =
            connected.and_then(|connected| connected).map_err(failed)?;
        let opened = timeout(limit, connection.open_bi()).await;
        let (send, receive) = match opened {
            Ok(Ok(streams)) => streams,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("no stream was free in time".to_owned())),
        };
        Ok(Self {
            connection,
            endpoint,
            _control: control,
            send,
            frames: Frames::of(receive),
            number: 0,
            found,
        })
    }

    /// Asks, and waits for `limit` at most. After any other error than [`NoAnswer::Refused`] the connection is of no use any more.
    pub(super) async fn ask(
        &mut self,
        request: &ControlRequest,
        limit: Duration,
    ) -> Result<ControlResponse, NoAnswer> {
        let address = self.found.address.clone();
        match timeout(limit, self.ask_without_limit(request)).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(refusal))) => Err(NoAnswer::Refused { address, refusal }),
            Ok(Err(reason)) => Err(NoAnswer::Lost { address, reason }),
            Err(_) => Err(NoAnswer::Lost {
                address,
                reason: format!("no answer within {} ms", limit.as_millis()),
            }),
        }
    }

    async fn ask_without_limit(
        &mut self,
        request: &ControlRequest,
    ) -> Result<Result<ControlResponse, Refusal>, String> {
        self.number = self.number.wrapping_add(1);
        let mut bytes = BytesMut::new();
        request.encode(self.number, &mut bytes).map_err(in_words)?;
        let sent = self.send.write_all(&bytes).await;
        sent.map_err(|error| error.to_string())?;
        loop {
            let frame = self.frames.next().await?;
            match Kind::from_byte(frame.kind) {
                Some(Kind::Controlled) => {
                    let answer = Controlled::decode(&mut frame.reader()).map_err(in_words)?;
                    if answer.number == self.number {
                        return Ok(Ok(answer.response));
                    }
                }
                Some(Kind::Refused) => {
                    let refusal = Refusal::decode(&mut frame.reader()).map_err(in_words)?;
                    if refusal.number == self.number {
                        return Ok(Err(refusal));
                    }
                }
                _ => {}
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn in_words(error: WireError) -> String {
    format!("it does not follow the protocol: {error}")
}

/// TLS, made anew for each connection, so that new certificates are presented without a restart.
async fn config(options: &MembershipOptions) -> Result<ClientConfig, NoAnswer> {
    let (authority, own) = (options.authority.clone(), options.own.clone());
    let read = move || client_config(&authority, own.as_ref(), &[ALPN], SystemTime::now());
    let tls = tokio::task::spawn_blocking(read).await;
    let failed = |reason: String| NoAnswer::Lost {
        address: "TLS".to_owned(),
        reason,
    };
    let tls = tls.map_err(|error| failed(error.to_string()))??;
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| failed(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    let idle = options.timing.idle;
    transport
        .max_idle_timeout(idle.try_into().ok())
        .keep_alive_interval(Some(idle / 3))
        .max_concurrent_bidi_streams(0_u32.into())
        .max_concurrent_uni_streams(0_u32.into());
    config.transport_config(Arc::new(transport));
    Ok(config)
}

type Connected = (Endpoint, Connection, (SendStream, RecvStream));

async fn connect(
    quic: ClientConfig,
    address: &str,
    name: &str,
    options: &MembershipOptions,
) -> Result<Connected, String> {
    let sockets = tokio::net::lookup_host(address)
        .await
        .map_err(|error| error.to_string())?;
    let mut last = "the name has no address".to_owned();
    for socket in sockets {
        let any: IpAddr = match socket {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let endpoint = Endpoint::client((any, 0).into()).map_err(|error| error.to_string())?;
        let connecting = endpoint.connect_with(quic.clone(), socket, name);
        let connecting = connecting.map_err(|error| error.to_string())?;
        match connecting.await {
            Ok(connection) => match greet(&connection, options).await {
                Ok(control) => return Ok((endpoint, connection, control)),
                Err(reason) => {
                    last = match connection.close_reason() {
                        Some(closed) => why(&closed, name),
                        None => reason,
                    }
                }
            },
            Err(error) => last = why(&error, name),
        }
    }
    Err(last)
}

/// HELLO in both directions: whoever answers must say that it is a meta server.
async fn greet(
    connection: &Connection,
    options: &MembershipOptions,
) -> Result<(SendStream, RecvStream), String> {
    let opened = connection.open_bi().await;
    let (mut send, receive) = opened.map_err(|error| error.to_string())?;
    let mut hello = Hello::new(options.kind.hello_role(), AGENT);
    hello.node = options.hostname.clone();
    hello.token = options.cluster_token.clone().unwrap_or_default();
    hello.limits.frame_bytes_max = FRAME_BYTES_MAX;
    let mut bytes = BytesMut::new();
    hello.encode(&mut bytes);
    let sent = send.write_all(&bytes).await;
    sent.map_err(|error| error.to_string())?;
    let mut frames = Frames::of(receive);
    let answer = frames.next().await?;
    if answer.kind != Kind::Hello as u8 {
        return Err("the first frame of the answer is not HELLO".to_owned());
    }
    let theirs = Hello::decode(&mut answer.reader()).map_err(in_words)?;
    if theirs.role != Role::Meta || theirs.features & features::CONTROL == 0 {
        return Err(format!(
            "{:?} is no meta server, but a {:?}; look at meta.server.endpoint",
            theirs.node, theirs.role
        ));
    }
    Ok((send, frames.receive))
}

/// Why there is no connection, and what to look at.
fn why(error: &ConnectionError, name: &str) -> String {
    match error {
        ConnectionError::ApplicationClosed(closed) => {
            let code = CloseCode::from_number(closed.error_code.into_inner());
            let text = String::from_utf8_lossy(&closed.reason);
            match code {
                Some(CloseCode::Unauthorized) => {
                    format!("{text}; cluster.token must be the same as the meta server's")
                }
                _ => text.into_owned(),
            }
        }
        ConnectionError::TransportError(error) => format!(
            "{error}; whoever is there must have a certificate of tls.ca for the name {name:?} (meta.server.name, or the host of meta.server.endpoint)"
        ),
        other => other.to_string(),
    }
}

struct Frames {
    receive: RecvStream,
    buffer: FrameBuffer,
}

impl Frames {
    fn of(receive: RecvStream) -> Self {
        Self {
            receive,
            buffer: FrameBuffer::new(FRAME_BYTES_MAX),
        }
    }

    async fn next(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(frame) = self.buffer.next().map_err(in_words)? {
                return Ok(frame);
            }
            match self.receive.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.buffer.push(chunk.bytes),
                Ok(None) => return Err("the meta server ended the stream".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
