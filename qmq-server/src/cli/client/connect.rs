//! Reaching the broker, and saying why it cannot be reached, at once where the reason is known at once.

use std::collections::HashSet;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::ops::Deref;
use std::time::Duration;

use qmq_client::{Client, ClientBuilder, CloseCode, ConnectError, ConnectionState};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::{interval, sleep, timeout};

use super::{START_OR_NAME, Settings};
use crate::cli::failure::Failure;
use crate::cli::output::note;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection so long silent is lost; three times as often the broker is asked for a sign, so a new process of it is soon noticed.
const IDLE: Duration = Duration::from_secs(6);
/// How often the connections are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often they are looked at once they are made.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// How long brokers may take to hear that the client goes.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a machine may take to say that nothing listens there.
const ECHO: Duration = Duration::from_millis(500);

/// A client, and who tells of its losses meanwhile.
#[derive(Debug)]
pub(super) struct Connected {
    client: Client,
    teller: AbortHandle,
}

impl Deref for Connected {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Connected {
    /// Whether any broker, or a meta server, is there at the moment.
    pub(super) fn is_connected(&self) -> bool {
        let connections = self.client.connections().into_iter();
        connections
            .chain(self.client.meta())
            .any(|(_, state)| matches!(state, ConnectionState::Connected { .. }))
    }

    /// Lets the brokers know that nobody is here any more.
    pub(super) async fn close(self) {
        self.teller.abort();
        self.client.close(GOODBYE).await;
    }
}

impl Settings {
    /// A client that finds each subject's brokers; a meta server, or one of its brokers, has answered.
    pub(super) async fn connect(&self) -> Result<Connected, Failure> {
        let meta = &self.config.meta_endpoints;
        let way = match meta.is_empty() {
            true => Way::Brokers(&self.config.addresses),
            false => Way::Meta(meta),
        };
        self.reach(self.builder()?, way).await
    }

    /// A client of the brokers that the file names, of whom one has answered at least.
    pub(super) async fn connect_to_brokers(&self) -> Result<Connected, Failure> {
        let way = Way::Brokers(&self.config.addresses);
        self.reach(self.builder_for_brokers()?, way).await
    }

    async fn reach(&self, builder: ClientBuilder, way: Way<'_>) -> Result<Connected, Failure> {
        let client = builder
            .connect_timeout(PATIENCE)
            .idle_timeout(IDLE)
            .build()
            .map_err(|error| {
                let next = format!("correct {}", self.shown());
                Failure::of("cannot make a client", &error, next)
            })?;
        let reached = tokio::select! {
            ready = client.ready() => ready.map_err(|error| self.failed(&error, way)),
            error = refused_by_all(&client) => Err(self.failed(&error, way)),
            () = nobody_listens(way.sockets()) => Err(Failure::new(
                format!("no broker runs at {}", way.sockets().join(", ")),
                format!("it stands in {}; {}", self.shown(), way.start_or_name()),
            )),
        };
        reached?;
        let teller = tokio::spawn(tell_of_losses(client.clone())).abort_handle();
        Ok(Connected { client, teller })
    }

    fn failed(&self, error: &ConnectError, way: Way<'_>) -> Failure {
        let file = self.shown();
        let what = format!("cannot connect: {error}");
        let next = match error {
            ConnectError::Transport { reason, .. } if reason.contains("certificate") => format!(
                "the broker's certificate must come from tls.ca and bear tls.server.name of {file}; {}",
                way.start_or_name()
            ),
            ConnectError::Closed { code, .. } => match code {
                Some(CloseCode::Unauthorized) => {
                    format!("correct token, tls.cert and tls.key of {file}")
                }
                Some(CloseCode::ShuttingDown | CloseCode::TooManyConnections) => {
                    "try again in a moment".to_owned()
                }
                _ => format!("the address stands in {file}"),
            },
            ConnectError::Config(_) => format!("correct {file}"),
            _ => format!("the address stands in {file}; {}", way.start_or_name()),
        };
        Failure::new(what, next)
    }
}

/// How a client finds its brokers.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    /// By asking at these URLs.
    Meta(&'a [String]),
    /// They are at these addresses.
    Brokers(&'a [String]),
}

impl<'a> Way<'a> {
    /// Addresses of brokers that are known beforehand.
    fn sockets(self) -> &'a [String] {
        match self {
            Self::Meta(_) => &[],
            Self::Brokers(addresses) => addresses,
        }
    }

    /// What to do where nobody is: only what runs on this machine is the user's to start.
    fn start_or_name(self) -> &'static str {
        let is_here = |address: &str| {
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            let host = host.trim_matches(['[', ']']);
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        };
        let all_here = match self {
            Self::Meta(urls) => urls.iter().all(|url| is_here(&host_of(url))),
            Self::Brokers(addresses) => addresses.iter().all(|address| is_here(address)),
        };
        match all_here {
            true => START_OR_NAME,
            false => "see that it runs there, or give --client FILE",
        }
    }
}

/// `host:port` of `http://host:port/path`.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some(_) => host.to_owned(),
        None => format!("{host}:80"),
    }
}

/// Waits until every broker was reached and would not have us.
async fn refused_by_all(client: &Client) -> ConnectError {
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let states = client.connections().into_iter().chain(client.meta());
        let mut causes = states.map(|(_, state)| match state {
            ConnectionState::Waiting {
                cause: cause @ (ConnectError::Transport { .. } | ConnectError::Lookup { .. }),
                ..
            } => Some(cause),
            _ => None,
        });
        let first = causes.next().flatten();
        if let (Some(cause), true) = (first, causes.all(|cause| cause.is_some())) {
            return cause;
        }
    }
}

/// Waits until it is known that nobody listens at any of the addresses; for ever, if it cannot be known.
///
/// QUIC takes a port at which nobody listens for a network that loses everything, and waits. A connected UDP socket is told.
async fn nobody_listens(addresses: &[String]) {
    if addresses.is_empty() {
        std::future::pending::<()>().await;
    }
    for address in addresses {
        if !refused(address).await {
            std::future::pending::<()>().await;
        }
    }
}

async fn refused(address: &str) -> bool {
    let address = address.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        address
            .to_socket_addrs()
            .map(Iterator::collect::<Vec<_>>)
            .unwrap_or_default()
    });
    let found = found.await.unwrap_or_default();
    for address in &found {
        let any = if address.is_ipv6() {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let Ok(socket) = UdpSocket::bind(any).await else {
            return false;
        };
        let asked = socket.connect(address).await.is_ok() && socket.send(&[0]).await.is_ok();
        let mut answer = [0];
        let told = timeout(ECHO, socket.recv(&mut answer)).await;
        let refused =
            |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        if !asked || !matches!(told, Ok(Err(error)) if refused(&error)) {
            return false;
        }
    }
    !found.is_empty()
}

/// Says on standard error when a broker, or the meta server, is lost, and when it is back.
async fn tell_of_losses(client: Client) {
    let mut lost: HashSet<String> = HashSet::new();
    loop {
        sleep(WATCH_EVERY).await;
        for (address, state) in client.connections().into_iter().chain(client.meta()) {
            match state {
                ConnectionState::Waiting { cause, .. } if !lost.contains(&address) => {
                    note(&format!("{address} is away, trying again: {cause}"));
                    lost.insert(address);
                }
                ConnectionState::Connected { .. } if lost.remove(&address) => {
                    note(&format!("{address} is back"));
                }
                _ => {}
            }
        }
    }
}
