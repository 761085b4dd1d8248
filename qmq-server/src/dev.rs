//! The embedded default: a broker in one process, on loopback, with certificates of its own and its data in one folder.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::access::{Access, Rights, Tokens};
use crate::broker::{Broker, BrokerError, BrokerOptions};
use crate::config::{BrokerConfig, ClientConfig, ClientConfigError, ConfigError, Sources, Warning};
use crate::tls::{Authority, Overwrite, TlsError};

/// For how long the certificates that it makes are good, in days.
const DAYS: u32 = 365;
/// With so many days left they are made anew.
const DAYS_LEFT_MIN: u64 = 7;
const SERVER_NAME: &str = "localhost";

/// Where it runs.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// The folder of everything: `store`, `tls`, `client.properties`.
    pub folder: PathBuf,
    /// Port of the broker, on UDP; 0: any that is free.
    pub port: u16,
    /// Port of HTTP, on TCP; 0: any that is free; `None`: no HTTP.
    pub http_port: Option<u16>,
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

/// A broker for development, tests and the demo. Whoever reaches it may do everything: it listens on loopback alone.
#[derive(Debug)]
pub struct Dev {
    broker: Broker,
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
        certificates(&tls, now)?;
        let path = |path: PathBuf| path.display().to_string();
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut sets = vec![
            ("store.root".to_owned(), path(folder.join("store"))),
            ("tls.cert".to_owned(), path(tls.join("node.pem"))),
            ("tls.key".to_owned(), path(tls.join("node.key"))),
            ("tls.ca".to_owned(), path(tls.join("ca.pem"))),
            ("broker.name".to_owned(), "dev".to_owned()),
            ("broker.group".to_owned(), "dev".to_owned()),
        ];
        sets.extend(options.sets.iter().cloned());
        let config = BrokerConfig::load(&Sources {
            sets,
            ..Sources::default()
        })?;
        let mut broker = BrokerOptions::from_config(&config)?;
        broker.quic.listen = SocketAddr::new(loopback, options.port);
        broker.http = options
            .http_port
            .map(|port| SocketAddr::new(loopback, port));
        let rights = if config.anonymous_rights.is_empty() {
            Rights::everything()
        } else {
            config.anonymous_rights.clone()
        };
        let tokens = Tokens::open(&config.tokens_file, config.tokens_required)?;
        broker.access = Arc::new(Access::new(tokens, rights));
        let broker = Broker::start(broker).await?;
        let client_file = folder.join("client.properties");
        let client = ClientConfig {
            addresses: vec![broker.address().to_string()],
            tls_ca: Some(
                std::path::absolute(tls.join("ca.pem")).unwrap_or_else(|_| tls.join("ca.pem")),
            ),
            server_name: Some(SERVER_NAME.to_owned()),
            ..ClientConfig::default()
        };
        client.write(&client_file)?;
        Ok(Self {
            broker,
            client_file,
            warnings: config.settings.warnings,
        })
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
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

    /// Ends it in order: see [`Broker::drain`].
    ///
    /// # Errors
    /// As [`Broker::drain`].
    pub async fn drain(self) -> Result<(), qmq_store::Error> {
        self.broker.drain().await
    }
}

const LOOPBACK: &str = "whoever reaches this broker may do everything, so it listens on 127.0.0.1 alone; `qmq broker` listens elsewhere";

fn listens_nowhere_else(sets: &[(String, String)]) -> Result<(), DevError> {
    let refused = [
        ("broker.listen", LOOPBACK),
        ("http.listen", LOOPBACK),
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

/// Makes an authority and a node's certificate where there are none, or none that will be good for long.
fn certificates(tls: &Path, now: SystemTime) -> Result<(), TlsError> {
    let (certificate, key) = (tls.join("node.pem"), tls.join("node.key"));
    let good_for_long = |path: &Path| {
        let soon = now + std::time::Duration::from_secs(DAYS_LEFT_MIN * 86_400);
        path.exists() && crate::tls::certificate_expiry(path).is_ok_and(|end| end > soon)
    };
    if good_for_long(&tls.join("ca.pem")) && good_for_long(&certificate) && key.exists() {
        return Ok(());
    }
    let authority = match Authority::open(tls, now) {
        Ok(authority) if good_for_long(&tls.join("ca.pem")) => authority,
        _ => Authority::create(tls, "qmq-dev", DAYS, now, Overwrite::Yes)?,
    };
    let hosts = [SERVER_NAME, "127.0.0.1", "::1"].map(str::to_owned);
    authority
        .node("dev", &hosts, DAYS, now)?
        .write(&certificate, &key)
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
