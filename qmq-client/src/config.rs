//! What a client needs to know: brokers, trust, names, limits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qmq_wire::Token;

use crate::client::Client;
use crate::connection::Route;
use crate::connection::meta::Place;
use crate::error::{ConfigError, ConnectError};
use crate::trace::TraceContext;

/// PEM text, in a file or in memory.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// A file.
    File(PathBuf),
    /// The text itself.
    Text(Vec<u8>),
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            // It may be a key.
            Self::Text(text) => write!(f, "{} bytes of PEM", text.len()),
        }
    }
}

/// What a client is configured with. Made by [`ClientBuilder`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub(crate) route: Route,
    pub(crate) authorities: Option<Pem>,
    pub(crate) identity: Option<(Pem, Pem)>,
    pub(crate) server_name: Option<String>,
    pub(crate) meta_server_name: Option<String>,
    pub(crate) room: String,
    pub(crate) token: Token,
    pub(crate) application: String,
    pub(crate) expected_node: String,
    pub(crate) expected_group: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) reconnect_pause: (Duration, Duration),
    pub(crate) breaker_failures: u32,
    pub(crate) breaker_open: Duration,
    pub(crate) receive_window: u32,
    pub(crate) frame_bytes_max: u32,
    pub(crate) trace: Option<Arc<dyn TraceContext>>,
}

impl ClientConfig {
    /// Checks a duration against the range that its setter documents.
    fn check_range(
        what: &'static str,
        value: Duration,
        (least, most): (Duration, Duration),
    ) -> Result<(), ConfigError> {
        if value < least || value > most {
            return Err(ConfigError::Range {
                what,
                value: format!("{value:?}"),
                least: format!("{least:?}"),
                most: format!("{most:?}"),
            });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let ms = Duration::from_millis;
        let s = Duration::from_secs;
        self.route.check()?;
        let durations = [
            ("connect_timeout", self.connect_timeout, ms(10), s(300)),
            ("request_timeout", self.request_timeout, ms(10), s(300)),
            ("idle_timeout", self.idle_timeout, ms(100), s(600)),
            ("reconnect_pause", self.reconnect_pause.0, ms(1), s(60)),
            ("reconnect_pause", self.reconnect_pause.1, ms(1), s(600)),
            ("breaker_open", self.breaker_open, ms(1), s(600)),
        ];
        for (what, value, least, most) in durations {
            Self::check_range(what, value, (least, most))?;
        }
        let numbers = [
            ("breaker_failures", self.breaker_failures, 1_u32, 1_000_u32),
            (
                "receive_window",
                self.receive_window,
                64 << 10,
                u32::MAX >> 2,
            ),
            (
                "frame_bytes_max",
                self.frame_bytes_max,
                64 << 10,
                u32::MAX >> 2,
            ),
        ];
        for (what, value, least, most) in numbers {
            check_number(what, u64::from(value), (u64::from(least), u64::from(most)))?;
        }
        Ok(())
    }
}

/// Checks a number against the range that its setter documents.
pub(crate) fn check_number(
    what: &'static str,
    value: u64,
    (least, most): (u64, u64),
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Range {
        what,
        value: value.to_string(),
        least: least.to_string(),
        most: most.to_string(),
    })
}

/// Builds a [`Client`]. Only brokers, or meta servers that know them, and the authorities of their certificates are required.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before build or connect"]
pub struct ClientBuilder {
    config: ClientConfig,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            config: ClientConfig {
                route: Route::Unset,
                authorities: None,
                identity: None,
                server_name: None,
                meta_server_name: None,
                room: String::new(),
                token: Token::default(),
                application: String::new(),
                expected_node: String::new(),
                expected_group: String::new(),
                connect_timeout: Duration::from_secs(5),
                request_timeout: Duration::from_secs(10),
                idle_timeout: Duration::from_secs(15),
                reconnect_pause: (Duration::from_millis(100), Duration::from_secs(5)),
                breaker_failures: 5,
                breaker_open: Duration::from_secs(1),
                receive_window: 32 << 20,
                frame_bytes_max: 64 << 20,
                trace: None,
            },
        }
    }
}

impl ClientBuilder {
    /// Adds a broker, as `host:port` or `[address]:port`. Each is the master of its own broker group; 1 to 64 of them.
    pub fn broker(mut self, address: impl Into<String>) -> Self {
        self.config.route.add(address.into());
        self
    }

    /// Adds brokers; see [`ClientBuilder::broker`].
    pub fn brokers<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        for address in addresses {
            self.config.route.add(address.into());
        }
        self
    }

    /// Adds a meta server, which says where the brokers of each subject are: the address of its answer to GET, as
    /// `http://host:8080/meta/address` (`meta.server.endpoint` of QMQ). 1 to 64 of them; one is asked at a time. Not together with
    /// [`ClientBuilder::broker`].
    ///
    /// That HTTP is not trusted: where it points to must show a certificate of [`ClientBuilder::authorities`] with
    /// [`ClientBuilder::meta_server_name`], or else with the host of this address, before anything is said to it.
    pub fn meta(mut self, url: impl Into<String>) -> Self {
        self.config.route.add_meta(Place::Url(url.into()));
        self
    }

    /// Adds a meta server by the address of its QUIC, as `host:port` (port 20880 if nobody changed it); see [`ClientBuilder::meta`].
    pub fn meta_address(mut self, address: impl Into<String>) -> Self {
        self.config.route.add_meta(Place::Address(address.into()));
        self
    }

    /// The name that meta servers' certificates must have (`tls.server.name`). Default: the host that [`ClientBuilder::meta`] or
    /// [`ClientBuilder::meta_address`] was given, for each; never what HTTP answers.
    pub fn meta_server_name(mut self, name: impl Into<String>) -> Self {
        self.config.meta_server_name = Some(name.into());
        self
    }

    /// The room (data centre) of the client, which a meta server may prefer brokers by. Default: empty.
    pub fn room(mut self, name: impl Into<String>) -> Self {
        self.config.room = name.into();
        self
    }

    /// The certificates of the authorities that brokers' certificates must come from. Required: nobody is trusted by default.
    pub fn authorities(mut self, pem: Pem) -> Self {
        self.config.authorities = Some(pem);
        self
    }

    /// The client's own certificate, with what lies between it and its authority, and its key. Default: none.
    pub fn identity(mut self, certificates: Pem, key: Pem) -> Self {
        self.config.identity = Some((certificates, key));
        self
    }

    /// The name that brokers' certificates must have. Default: the host of each address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.config.server_name = Some(name.into());
        self
    }

    /// A secret that says who the client is. No log shows it. Default: none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.config.token = Token(token.into());
        self
    }

    /// What the application is called in brokers' logs and to meta servers. Default: empty.
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.config.application = name.into();
        self
    }

    /// The node that must answer, else the connection is refused. Default: any.
    pub fn expect_node(mut self, name: impl Into<String>) -> Self {
        self.config.expected_node = name.into();
        self
    }

    /// The broker group that must answer, else the connection is refused. Default: any.
    pub fn expect_group(mut self, name: impl Into<String>) -> Self {
        self.config.expected_group = name.into();
        self
    }

    /// How long a connection may take, from the look-up of its name to the broker's HELLO: 10 ms to 5 min, default 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.config.connect_timeout = limit;
        self
    }

    /// How long to wait for the answer to a request before it is asked again: 10 ms to 5 min, default 10 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.config.request_timeout = limit;
        self
    }

    /// A connection on which nothing comes for so long is lost: 100 ms to 10 min, default 15 s. Three times as often the client says that it lives.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.config.idle_timeout = limit;
        self
    }

    /// The shortest and longest pause between two tries to connect: 1 ms to 60 s and 1 ms to 10 min, default 100 ms and 5 s.
    pub fn reconnect_pause(mut self, least: Duration, most: Duration) -> Self {
        self.config.reconnect_pause = (least, most);
        self
    }

    /// After how many failures in a row a broker is left alone (1 to 1,000, default 5), and for how long before a single request probes it (1 ms
    /// to 10 min, default 1 s).
    pub fn breaker(mut self, failures: u32, open: Duration) -> Self {
        self.config.breaker_failures = failures;
        self.config.breaker_open = open;
        self
    }

    /// How many bytes of a connection may be under way to the client: 64 KiB to 1 GiB, default 32 MiB.
    pub fn receive_window(mut self, bytes: u32) -> Self {
        self.config.receive_window = bytes;
        self
    }

    /// The longest frame that the client takes: 64 KiB to 1 GiB, default 64 MiB. Longer messages cannot be consumed.
    pub fn frame_bytes_max(mut self, bytes: u32) -> Self {
        self.config.frame_bytes_max = bytes;
        self
    }

    /// Where the trace context of messages comes from that carry none. Default: nowhere.
    pub fn trace_context(mut self, context: impl TraceContext + 'static) -> Self {
        self.config.trace = Some(Arc::new(context));
        self
    }

    /// Makes the client and lets it connect in the background.
    ///
    /// # Errors
    /// [`ConfigError`], which names the setting. Also if this is not called within a tokio runtime.
    pub fn build(self) -> Result<Client, ConfigError> {
        self.config.check()?;
        Client::start(self.config)
    }

    /// Makes the client and waits until one of its brokers, or of its meta servers, has answered.
    ///
    /// # Errors
    /// [`ConnectError`], after the connect timeout at the latest.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let client = self.build()?;
        client.ready().await?;
        Ok(client)
    }
}
