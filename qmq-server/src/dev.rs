//! The embedded default: meta server, broker and delay server in one process, on loopback, with certificates of their own and their data in one folder.

mod certificates;
mod ports;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qmq_meta::{BrokerRole, MetaError};

use crate::access::{Access, Rights, Tokens};
use crate::broker::{Broker, BrokerError, BrokerOptions};
use crate::config::files::{Readers, write_atomic};
use crate::config::{
    BrokerConfig, ClientConfig, ClientConfigError, ConfigError, DelayConfig, MetaConfig, Sources,
    Warning,
};
use crate::delay::{DelayError, DelayOptions, DelayServer};
use crate::membership::{Membership, MembershipOptions};
use crate::meta::{MetaOptionsError, MetaServer, MetaServerError, MetaServerOptions};
use crate::tls::TlsError;
use certificates::SERVER_NAME;
use ports::Ports;

/// The broker group that it has.
const GROUP: &str = "dev";
const META_FILE: &str = "metaserver.properties";
const TOKEN_FILE: &str = "valid-api-tokens.properties";
/// The delay group that it has: no two groups have one name.
const DELAY_GROUP: &str = "dev-delay";
/// For `qmq tools --token`.
const TOKEN: &str = "dev";
/// Delayed messages of somebody who tries things out need less room.
const DELAY_SEGMENT_BYTES: &str = "16M";
/// Where all of it listens.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Until the broker knows that it is entered; it asks every few milliseconds.
const JOIN_MAX: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Where it runs.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// The folder of everything: `meta`, `store`, `delay`, `tls`, `client.properties`, `metaserver.properties`, `valid-api-tokens.properties`.
    pub folder: PathBuf,
    /// Port of the broker, on UDP; 0: any that is free.
    pub port: u16,
    /// Port of the broker's HTTP, on TCP; 0: any that is free; `None`: no HTTP.
    pub http_port: Option<u16>,
    /// Port of the meta server's HTTP, on TCP; 0: any that is free; `None`: the one that it had in this folder before, if that is free, else 8080 if the
    /// broker's is 20881, else any.
    pub meta_port: Option<u16>,
    /// Further settings of the broker, as in `broker.properties`; they count before the defaults of `dev`. Where it listens is said by the fields above:
    /// `broker.listen`, `broker.port`, `http.listen` and `http.port` are refused.
    pub sets: Vec<(String, String)>,
}

impl DevOptions {
    /// In this folder, on any free ports.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            port: 0,
            http_port: Some(0),
            meta_port: None,
            sets: Vec::new(),
        }
    }
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// Its folder cannot be made.
    #[error("{}: the folder cannot be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The broker does not.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The meta server does not.
    #[error(transparent)]
    Meta(#[from] MetaServerError),
    /// The system has no port for it.
    #[error("no port is free on loopback: {0}")]
    Ports(#[source] io::Error),
    /// The delay server does not.
    #[error(transparent)]
    Delay(#[from] DelayError),
    /// What the meta server is told is no good.
    #[error(transparent)]
    MetaOptions(#[from] MetaOptionsError),
    /// The meta server does not take the servers that belong to it.
    #[error("the meta server does not take its own servers: {0}")]
    Enter(#[from] MetaError),
    /// A server has not found itself at the meta server.
    #[error("the {what} does not find itself at its meta server: {why}")]
    Join {
        /// Which.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A file of settings cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A setting is no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting that says where it listens.
    #[error("{key} cannot be set here: {instead}")]
    Listens {
        /// The setting.
        key: &'static str,
        /// What says it.
        instead: &'static str,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// `client.properties` cannot be written.
    #[error(transparent)]
    Client(#[from] ClientConfigError),
    /// The token file is no good.
    #[error(transparent)]
    Tokens(#[from] crate::access::TokensError),
}

/// A cluster for development, tests and the demo. Whoever reaches it may do everything: it listens on loopback alone.
#[derive(Debug)]
pub struct Dev {
    delay: DelayServer,
    broker: Broker,
    meta: MetaServer,
    client_file: PathBuf,
    warnings: Vec<Warning>,
}

impl Dev {
    /// Starts it, in the runtime that this is called in. What is missing in the folder is made.
    ///
    /// # Errors
    /// See [`DevError`].
    pub async fn start(options: &DevOptions) -> Result<Self, DevError> {
        listens_nowhere_else(&options.sets)?;
        let (folder, now) = (&options.folder, SystemTime::now());
        let tls = folder.join("tls");
        std::fs::create_dir_all(&tls).map_err(|source| DevError::Folder {
            path: tls.clone(),
            source,
        })?;
        certificates::make(&tls, now)?;
        let client_file = folder.join("client.properties");
        let ports = ports::choose(options, &client_file).map_err(DevError::Ports)?;
        let meta = start_meta(options, &ports).await?;
        enter(&meta, GROUP, BrokerRole::Master, ports.broker).await?;
        enter(&meta, DELAY_GROUP, BrokerRole::DelayMaster, ports.delay).await?;
        let (broker, warnings) = start_broker(options, &ports, &meta).await?;
        let delay = start_delay(options, &ports, &meta).await?;
        joined("broker", broker.membership()).await?;
        joined("delay server", delay.membership()).await?;
        let authority = tls.join("ca.pem");
        let client = ClientConfig {
            meta_endpoints: vec![meta.endpoint()],
            addresses: vec![broker.address().to_string()],
            tls_ca: Some(std::path::absolute(&authority).unwrap_or(authority)),
            server_name: Some(SERVER_NAME.to_owned()),
            ..ClientConfig::default()
        };
        client.write(&client_file)?;
        Ok(Self {
            delay,
            broker,
            meta,
            client_file,
            warnings,
        })
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The delay server.
    #[must_use]
    pub fn delay(&self) -> &DelayServer {
        &self.delay
    }

    /// The meta server.
    #[must_use]
    pub fn meta(&self) -> &MetaServer {
        &self.meta
    }

    /// What is odd about its settings.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What clients connect with.
    #[must_use]
    pub fn client_file(&self) -> &Path {
        &self.client_file
    }

    /// Ends it in order: the delay server, see [`DelayServer::drain`], the broker, see [`Broker::drain`], and the meta server.
    ///
    /// # Errors
    /// As these.
    pub async fn drain(self) -> Result<(), qmq_store::Error> {
        let delay = self.delay.drain().await;
        let broker = self.broker.drain().await;
        self.meta.drain().await;
        delay.and(broker)
    }
}

/// Writes a file that is not there yet.
fn made(path: &Path, text: &str) -> Result<(), DevError> {
    if path.exists() {
        return Ok(());
    }
    write_atomic(path, text.as_bytes(), Readers::Owner).map_err(|source| DevError::File {
        path: path.to_owned(),
        source,
    })
}

/// Settings that all its servers have.
fn common(folder: &Path) -> Vec<(String, String)> {
    let tls = folder.join("tls");
    [
        ("tls.cert", tls.join("node.pem")),
        ("tls.key", tls.join("node.key")),
        ("tls.ca", tls.join("ca.pem")),
    ]
    .map(|(key, path)| (key.to_owned(), path.display().to_string()))
    .into()
}

fn set(key: &str, value: impl Into<String>) -> (String, String) {
    (key.to_owned(), value.into())
}

fn sources(sets: Vec<(String, String)>) -> Sources {
    Sources {
        sets,
        ..Sources::default()
    }
}

async fn start_meta(options: &DevOptions, ports: &Ports) -> Result<MetaServer, DevError> {
    // Beside this file lie the others: those of the folder in which somebody happens to be are not meant.
    let file = options.folder.join(META_FILE);
    made(
        &file,
        "# Further settings of the meta server of `qmq dev`.\n",
    )?;
    made(
        &options.folder.join(TOKEN_FILE),
        &format!("{TOKEN}=whoever tries things out\n"),
    )?;
    let root = options.folder.join("meta");
    let mut sets = common(&options.folder);
    sets.extend([
        set("meta.name", GROUP),
        set("meta.root", root.display().to_string()),
        set("http.listen", LOOPBACK.to_string()),
    ]);
    let config = MetaConfig::load(&Sources {
        sets,
        ..Sources::of_file(&file)
    })?;
    let mut meta = MetaServerOptions::from_config(&config)?;
    meta.access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
    meta.quic.listen = ports.meta;
    meta.http = ports.meta_http;
    Ok(MetaServer::start(meta).await?)
}

/// Settings of a server that belongs to the meta server.
fn member(options: &DevOptions, meta: &MetaServer, group: &str) -> Vec<(String, String)> {
    let mut sets = common(&options.folder);
    sets.extend([
        set("broker.name", group),
        set("broker.group", group),
        set("meta.server.endpoint", meta.endpoint()),
        set("meta.server.name", SERVER_NAME),
        set("qmq.host", SERVER_NAME),
        set("qmq.ip", LOOPBACK.to_string()),
    ]);
    sets
}

/// Somebody waits for it to hear that it is entered: it asks again soon.
fn impatient(membership: &mut Option<MembershipOptions>, address: SocketAddr) {
    if let Some(membership) = membership {
        membership.port = address.port();
        membership.timing.pause_least = ASK_EVERY;
        membership.timing.pause_most = ASK_EVERY;
    }
}

async fn start_broker(
    options: &DevOptions,
    ports: &Ports,
    meta: &MetaServer,
) -> Result<(Broker, Vec<Warning>), DevError> {
    let mut sets = member(options, meta, GROUP);
    let store = options.folder.join("store");
    sets.push(set("store.root", store.display().to_string()));
    sets.extend(options.sets.iter().cloned());
    let config = BrokerConfig::load(&sources(sets))?;
    let mut broker = BrokerOptions::from_config(&config)?;
    broker.quic.listen = ports.broker;
    broker.http = options
        .http_port
        .map(|port| SocketAddr::new(LOOPBACK, port));
    impatient(&mut broker.membership, ports.broker);
    let rights = if config.anonymous_rights.is_empty() {
        Rights::everything()
    } else {
        config.anonymous_rights.clone()
    };
    let tokens = Tokens::open(&config.tokens_file, config.tokens_required)?;
    broker.access = Arc::new(Access::new(tokens, rights));
    let broker = Broker::start(broker).await?;
    Ok((broker, config.settings.warnings))
}

async fn start_delay(
    options: &DevOptions,
    ports: &Ports,
    meta: &MetaServer,
) -> Result<DelayServer, DevError> {
    let mut sets = member(options, meta, DELAY_GROUP);
    let store = options.folder.join("delay");
    sets.extend([
        set("store.root", store.display().to_string()),
        set("store.segment.bytes", DELAY_SEGMENT_BYTES),
    ]);
    let mut delay = DelayOptions::from_config(&DelayConfig::load(&sources(sets))?)?;
    delay.quic.listen = ports.delay;
    delay.http = None;
    impatient(&mut delay.membership, ports.delay);
    delay.access = Arc::new(Access::new(Tokens::none(), Rights::everything()));
    Ok(DelayServer::start(delay).await?)
}

/// Enters one of its servers, in the place of the one that it was when it ran here last.
async fn enter(
    meta: &MetaServer,
    group: &str,
    role: BrokerRole,
    address: SocketAddr,
) -> Result<(), DevError> {
    let broker = qmq_meta::Broker {
        group: group.to_owned(),
        role,
        hostname: SERVER_NAME.to_owned(),
        ip: address.ip().to_string(),
        serve_port: address.port(),
        sync_port: Some(if address.port() == 1 { 2 } else { 1 }),
    };
    let known = meta.meta().brokers(Some(group));
    match known.iter().find(|known| known.role == role) {
        Some(known) if *known == broker => {}
        Some(_) => drop(meta.meta().replace_broker(&broker).await?),
        None => drop(meta.meta().add_broker(&broker).await?),
    }
    Ok(())
}

/// Waits until a server has heard what it is.
async fn joined(what: &'static str, membership: Option<&Membership>) -> Result<(), DevError> {
    let Some(membership) = membership else {
        return Ok(());
    };
    let joined = async {
        membership.acquired().await;
        while membership.heard().is_none() {
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    tokio::time::timeout(JOIN_MAX, joined).await.map_err(|_| {
        let why = membership.trouble();
        let why = why.unwrap_or_else(|| format!("not within {JOIN_MAX:?}"));
        DevError::Join { what, why }
    })
}

const LOOPBACK_ALONE: &str = "whoever reaches this broker may do everything, so it listens on 127.0.0.1 alone; `qmq broker` listens elsewhere";

fn listens_nowhere_else(sets: &[(String, String)]) -> Result<(), DevError> {
    let refused = [
        ("broker.listen", LOOPBACK_ALONE),
        ("http.listen", LOOPBACK_ALONE),
        ("broker.port", "give the port as --port, `DevOptions::port`"),
        (
            "http.port",
            "give the port as --http-port, `DevOptions::http_port`",
        ),
    ];
    let is_set = |key: &str| {
        let of_file = |set: &str| set.strip_suffix(".file") == Some(key);
        sets.iter().any(|(set, _)| set == key || of_file(set))
    };
    match refused.into_iter().find(|(key, _)| is_set(key)) {
        Some((key, instead)) => Err(DevError::Listens { key, instead }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_addresses_and_ports_are_refused_with_what_to_do() {
        for (key, instead) in [
            ("broker.listen", "qmq broker"),
            ("http.listen", "qmq broker"),
            ("broker.port", "--port"),
            ("http.port", "--http-port"),
            ("http.port.file", "--http-port"),
        ] {
            let refused = listens_nowhere_else(&[(key.to_owned(), "1".to_owned())]);
            let text = refused.unwrap_err().to_string();
            assert!(text.contains(key.trim_end_matches(".file")), "{text}");
            assert!(text.contains(instead), "{text}");
        }
        let other = ("flush.mode".to_owned(), "async".to_owned());
        assert!(listens_nowhere_else(&[other]).is_ok());
    }
}
