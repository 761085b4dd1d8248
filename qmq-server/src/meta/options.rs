//! What a meta server is made of.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use qmq_meta::{Database, DatabaseError, MySqlOptions};

use crate::access::{Access, Tokens, TokensError};
use crate::broker::NamedBy;
use crate::config::{
    ApiTokens, ClientAuth, ClientLogSwitch, ConfigError, HttpPorts, Lines, MetaConfig,
    MetaDatabase, Origin, Secret, Value, Watched, WatchedLines,
};
use crate::doors::quic::QuicOptions;
use crate::tls::{CertifiedFiles, ClientCertificates, TlsFiles};

/// Where a meta server keeps what it knows.
#[derive(Clone)]
pub enum MetaStore {
    /// In a SQLite file; its folder is made if need be. One meta server at a time.
    Sqlite(PathBuf),
    /// In a MySQL or MariaDB database, which several meta servers may share.
    MySql(Box<MySqlOptions>),
    /// In a database that is open already.
    Open(Arc<dyn Database>),
}

impl std::fmt::Debug for MetaStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "SQLite {}", path.display()),
            Self::MySql(options) => write!(f, "MySQL {}", options.url),
            Self::Open(database) => f.write_str(database.kind()),
        }
    }
}

/// Everything that [`MetaServer::start`](super::MetaServer::start) needs.
#[derive(Clone, Debug)]
pub struct MetaServerOptions {
    /// Name of the node.
    pub name: String,
    /// Where it keeps what it knows.
    pub database: MetaStore,
    /// The door for nodes and clients.
    pub quic: QuicOptions,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// `http.compat`: lists and switches need no token.
    pub http_compat: bool,
    /// `qmq.host`: what `/meta/address` tells; `None`: the address at which it is asked.
    pub host: Option<String>,
    /// `refresh.period.seconds`.
    pub refresh: Duration,
    /// `heartbeat.timeout.ms`; may change while it runs.
    pub heartbeat_timeout_ms: Arc<AtomicU64>,
    /// `min.group.num`; may change while it runs.
    pub min_group_num: Arc<AtomicU64>,
    /// `meta.snapshot.file`.
    pub snapshot: Option<PathBuf>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Who may do what over the native protocol.
    pub access: Arc<Access>,
    /// Which settings named the files of certificates, for errors.
    pub named_by: NamedBy,
    /// The file whose dynamic keys are followed, if there is one.
    pub watched: Option<Arc<Watched<MetaConfig>>>,
    /// `valid-api-tokens.properties`: who may administer over HTTP; `None`: nobody.
    pub api_tokens: Option<Arc<WatchedLines<ApiTokens>>>,
    /// `broker-http-port-map.properties`; `None`: nothing is in it.
    pub http_ports: Option<Arc<WatchedLines<HttpPorts>>>,
    /// `client_log_switch.properties`: subjects whose requests are logged in full; `None`: none.
    pub log_switch: Option<Arc<WatchedLines<ClientLogSwitch>>>,
}

/// Why a configuration cannot be what a meta server is made of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaOptionsError {
    /// The token file is no good.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// A file that the configuration names is no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `jdbc.url` is no good.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl MetaStore {
    fn of(database: &MetaDatabase) -> Result<Self, DatabaseError> {
        Ok(match database {
            MetaDatabase::Sqlite(path) => Self::Sqlite(path.clone()),
            MetaDatabase::Datasource(source) => Self::MySql(Box::new(MySqlOptions {
                user: source.username.clone(),
                password: source
                    .password
                    .as_ref()
                    .map_or("", Secret::expose)
                    .to_owned(),
                connections_max: source.pool_size_max,
                ..MySqlOptions::new(source.url.parse()?)
            })),
        })
    }
}

/// `broker.http.port.map.file`.
fn http_ports(config: &MetaConfig) -> Result<Option<Arc<WatchedLines<HttpPorts>>>, ConfigError> {
    match config.settings.get("broker.http.port.map.file") {
        Some(setting) => match &setting.value {
            Value::Path(path) => lines(path, setting.origin != Origin::Default),
            _ => Ok(None),
        },
        None => Ok(None),
    }
}

/// A file of lines that is followed; what is odd in it is logged.
fn lines<T: Lines>(
    path: &Path,
    required: bool,
) -> Result<Option<Arc<WatchedLines<T>>>, ConfigError> {
    let (lines, warnings) = WatchedLines::open(path.to_owned(), required)?;
    for warning in warnings {
        tracing::warn!(%warning, "the configuration");
    }
    Ok(Some(Arc::new(lines)))
}

impl MetaServerOptions {
    /// As a configuration says.
    ///
    /// # Errors
    /// When a file that it names is no good.
    pub fn from_config(config: &MetaConfig) -> Result<Self, MetaOptionsError> {
        let database = MetaStore::of(&config.database)?;
        let host = || {
            let name = rustix::system::uname();
            name.nodename().to_string_lossy().into_owned()
        };
        let security = &config.security;
        let tokens = Tokens::open(&security.tokens_file, security.tokens_required)?;
        let secret = security.cluster_token.as_ref();
        let access = Access::new(tokens, security.anonymous_rights.clone())
            .with_cluster_token(secret.map_or("", |secret| secret.expose()));
        let tls = TlsFiles {
            own: CertifiedFiles {
                certificate: security.tls_cert.clone(),
                key: security.tls_key.clone(),
            },
            authority: security.tls_ca.clone(),
            clients: match security.client_auth {
                ClientAuth::Optional => ClientCertificates::Optional,
                ClientAuth::Required => ClientCertificates::Required,
            },
        };
        let timeout_ms = config.dynamic.heartbeat_timeout.as_millis();
        Ok(Self {
            name: config.name.clone().unwrap_or_else(host),
            database,
            quic: QuicOptions {
                listen: config.listen,
                connections_max: config.connection.connections_max,
                idle: config.connection.idle,
                stall: config.connection.stall,
                handshake: config.connection.handshake,
                streams_max: config.connection.streams_max,
                receive_bytes: config.windows.receive_bytes,
                send_bytes: config.windows.send_bytes,
                windows_bytes: config.windows.windows_bytes,
                ..QuicOptions::default()
            },
            http: config.http,
            http_compat: config.http_compat,
            host: config.host.clone(),
            refresh: config.refresh_period,
            heartbeat_timeout_ms: Arc::new(AtomicU64::new(
                u64::try_from(timeout_ms).unwrap_or(u64::MAX),
            )),
            min_group_num: Arc::new(AtomicU64::new(config.dynamic.min_group_num.into())),
            snapshot: Some(config.snapshot_file.clone()),
            named_by: NamedBy::settings(&config.settings, &tls),
            tls,
            access: Arc::new(access),
            watched: None,
            api_tokens: lines(&config.api_tokens_file, config.api_tokens_required)?,
            http_ports: http_ports(config)?,
            log_switch: lines(
                &config.client_log_switch_file,
                config.client_log_switch_required,
            )?,
        })
    }
}
