//! One connection to one broker, from the handshake to its end.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use qmq_wire::{CloseCode, Hello, Kind, Role, features};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, EndpointConfig, TransportConfig, VarInt};

use super::pipe::{Lost, PipeReader};
use super::{route, tls};
use crate::config::ClientConfig;
use crate::error::{ConfigError, ConnectError};

const AGENT: &str = concat!("qmq-client/", env!("CARGO_PKG_VERSION"));

/// A connection whose HELLO has been answered.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    hello: Hello,
    /// The control stream stays open as long as the connection.
    _control: (quinn::SendStream, PipeReader),
}

impl Link {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What the broker said of itself.
    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }
}

/// Who is meant to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer<'a> {
    /// A broker or delay server.
    Broker {
        /// Its group; empty: any.
        group: &'a str,
    },
    /// A meta server.
    Meta {
        /// What its certificate must have been made out for, unless the application says otherwise.
        name: &'a str,
    },
}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Dialer {
    config: Arc<ClientConfig>,
    quic: quinn::ClientConfig,
    /// Sockets for IPv4 and IPv6, made when first needed.
    endpoints: Mutex<[Option<Endpoint>; 2]>,
}

impl Dialer {
    pub(crate) fn new(config: Arc<ClientConfig>) -> Result<Self, ConfigError> {
        let tls = tls::config(&config)?;
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| ConfigError::Certificate {
            what: "authorities",
            reason: error.to_string(),
        })?;
        let mut quic = quinn::ClientConfig::new(Arc::new(crypto));
        quic.transport_config(Arc::new(transport(&config)));
        Ok(Self {
            config,
            quic,
            endpoints: Mutex::new([None, None]),
        })
    }

    /// Connects and says HELLO. Takes no longer than the connect timeout.
    pub(crate) async fn dial(&self, address: &str, peer: Peer<'_>) -> Result<Link, ConnectError> {
        let limit = self.config.connect_timeout;
        tokio::time::timeout(limit, self.dial_without_limit(address, peer))
            .await
            .unwrap_or_else(|_| {
                Err(ConnectError::TimedOut {
                    address: address.to_owned(),
                    limit,
                })
            })
    }

    async fn dial_without_limit(
        &self,
        address: &str,
        peer: Peer<'_>,
    ) -> Result<Link, ConnectError> {
        let lookup = |reason: String| ConnectError::Lookup {
            address: address.to_owned(),
            reason,
        };
        let found = tokio::net::lookup_host(address)
            .await
            .map_err(|error| lookup(error.to_string()))?;
        let mut last = lookup("the name has none".to_owned());
        for socket in found {
            match self.dial_socket(address, socket, peer).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn dial_socket(
        &self,
        address: &str,
        socket: SocketAddr,
        peer: Peer<'_>,
    ) -> Result<Link, ConnectError> {
        let transport = |reason: String| ConnectError::Transport {
            address: address.to_owned(),
            reason,
        };
        let name = match peer {
            Peer::Broker { .. } => match &self.config.server_name {
                Some(name) => name.as_str(),
                None => route::host(address)?,
            },
            Peer::Meta { name } => self.config.meta_server_name.as_deref().unwrap_or(name),
        };
        let connection = self
            .endpoint(socket)
            .map_err(|error| transport(error.to_string()))?
            .connect_with(self.quic.clone(), socket, name)
            .map_err(|error| transport(error.to_string()))?
            .await
            .map_err(|error| why(address, &error))?;
        let answer = self.greet(&connection, peer).await;
        answer.map_err(|lost| match (connection.close_reason(), lost) {
            (None, Lost::Wire(error)) => {
                close(&connection, CloseCode::Malformed);
                ConnectError::Protocol {
                    address: address.to_owned(),
                    error,
                }
            }
            (Some(reason), _) => why(address, &reason),
            (None, lost) => transport(lost.to_string()),
        })
    }

    async fn greet(&self, connection: &Connection, peer: Peer<'_>) -> Result<Link, Lost> {
        let stream = |error: String| Lost::Stream(error);
        let (mut send, receive) = connection
            .open_bi()
            .await
            .map_err(|error| stream(error.to_string()))?;
        let mut ours = Hello::new(Role::Client, AGENT);
        ours.node = self.config.application.clone();
        match peer {
            Peer::Broker { group: "" } => {
                ours.expected_node = self.config.expected_node.clone();
                ours.expected_group = self.config.expected_group.clone();
            }
            // Another group at that address is not the one that the route is about.
            Peer::Broker { group } => ours.expected_group = group.to_owned(),
            Peer::Meta { .. } => {}
        }
        ours.token = self.config.token.clone();
        ours.features = features::PRODUCE
            | features::CONSUME
            | features::CONTROL
            | features::SCHEDULE
            | features::ROUTES;
        ours.limits.frame_bytes_max = self.config.frame_bytes_max;
        let mut bytes = BytesMut::new();
        ours.encode(&mut bytes);
        send.write_chunk(bytes.freeze())
            .await
            .map_err(|error| stream(error.to_string()))?;
        let mut reader = PipeReader::new(receive, self.config.frame_bytes_max);
        let frame = reader.next().await?;
        if frame.kind != Kind::Hello as u8 {
            return Err(Lost::Wire(qmq_wire::WireError::NoHello));
        }
        let hello = Hello::decode(&mut frame.reader())?;
        if ours.common_version(&hello) != Some(hello.version_max) {
            return Err(Lost::Wire(qmq_wire::WireError::Value {
                what: "version chosen",
                value: u64::from(hello.version_max),
            }));
        }
        Ok(Link {
            connection: connection.clone(),
            hello,
            _control: (send, reader),
        })
    }

    fn endpoint(&self, to: SocketAddr) -> io::Result<Endpoint> {
        let (place, any) = if to.is_ipv6() {
            (1, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
        } else {
            (0, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
        };
        let mut endpoints = self.endpoints.lock();
        if let Some(endpoint) = &endpoints[place] {
            return Ok(endpoint.clone());
        }
        let endpoint = endpoint(any)?;
        endpoints[place] = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// Closes all connections and waits until brokers know, up to the limit.
    pub(crate) async fn close(&self, limit: Duration) {
        let endpoints = std::mem::take(&mut *self.endpoints.lock());
        for endpoint in endpoints.into_iter().flatten() {
            endpoint.close(VarInt::from_u32(CloseCode::Done as u32), b"");
            let _ = tokio::time::timeout(limit, endpoint.wait_idle()).await;
        }
    }
}

/// Bytes that are asked of the system for a socket in each direction; it gives what `net.core.rmem_max` and `wmem_max` allow. What does not fit
/// while this process is busy is lost, and slows the connection down.
const SOCKET_BYTES: usize = 8 << 20;

fn endpoint(any: SocketAddr) -> io::Result<Endpoint> {
    let socket = std::net::UdpSocket::bind(any)?;
    let buffers = socket2::SockRef::from(&socket);
    // With less it works as well, only slower.
    let _ = buffers.set_recv_buffer_size(SOCKET_BYTES);
    let _ = buffers.set_send_buffer_size(SOCKET_BYTES);
    let runtime = quinn::default_runtime()
        .ok_or_else(|| io::Error::other("no async runtime to connect in"))?;
    Endpoint::new(EndpointConfig::default(), None, socket, runtime)
}

fn transport(config: &ClientConfig) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle_ms = u32::try_from(config.idle_timeout.as_millis()).unwrap_or(u32::MAX);
    transport
        .max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()))
        .keep_alive_interval(Some(config.idle_timeout / 3))
        .receive_window(VarInt::from_u32(config.receive_window))
        .stream_receive_window(VarInt::from_u32(config.receive_window / 2))
        .send_window(u64::from(config.receive_window))
        // Brokers open no streams.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    transport
}

fn close(connection: &Connection, code: CloseCode) {
    connection.close(VarInt::from_u32(code as u32), b"");
}

/// Why a connection ended.
pub(crate) fn why(address: &str, error: &ConnectionError) -> ConnectError {
    let address = address.to_owned();
    match error {
        ConnectionError::ApplicationClosed(closed) => ConnectError::Closed {
            address,
            code: CloseCode::from_number(closed.error_code.into_inner()),
            reason: String::from_utf8_lossy(&closed.reason).into_owned(),
        },
        other => ConnectError::Transport {
            address,
            reason: other.to_string(),
        },
    }
}

/// The broker does not follow the protocol: the connection is closed.
pub(crate) fn malformed(link: &Link) {
    close(&link.connection, CloseCode::Malformed);
}
