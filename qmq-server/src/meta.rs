//! The meta server: the rules of [`qmq_meta`] on a database, and the doors that lead there.

mod management;
mod options;
pub(crate) mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use qmq_meta::{Database, DatabaseError, Meta, MetaError, MetaOptions, MySql, Sqlite};
use qmq_wire::{ALPN, Hello, Limits, Role, features};

pub use options::{MetaOptionsError, MetaServerOptions, MetaStore};

use crate::doors::http::HttpDoor;
use crate::doors::http::meta_server::MetaDoor;
use crate::doors::quic::{QuicDoor, Rooms};
use crate::metrics::MetaSources;
use crate::rooms::meta::MetaRoom;
use crate::tls::{ReloadingServer, TlsError, TlsFiles};

/// How long answers that are under way may take to arrive.
const ANSWERS_MAX: Duration = Duration::from_secs(4);
/// How long clients may take to hear that the meta server ends.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Why a meta server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaServerError {
    /// The database is no good.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// What the database has is no good.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A certificate, a key or an authority is no good.
    #[error("{}{source}", named_by.as_deref().map(|by| format!("{by}: ")).unwrap_or_default())]
    Tls {
        /// The setting that named the file, and where it stands.
        named_by: Option<String>,
        /// What is wrong with it.
        source: TlsError,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what}): {source}; is another meta server running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// `UDP, meta.server.port` or `TCP, meta.server.discover.port`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why.
        source: io::Error,
    },
}

/// A meta server that runs. Dropping it stops it without ceremony, as a crash would; [`MetaServer::drain`] is the way to end it.
#[derive(Debug)]
pub struct MetaServer {
    room: MetaRoom,
    kind: &'static str,
    quic: QuicDoor,
    http: HttpDoor,
    _watch: watch::Watch,
}

impl MetaServer {
    /// Opens the database and the doors. To be called in a runtime, which then serves the connections.
    ///
    /// # Errors
    /// See [`MetaServerError`].
    pub async fn start(options: MetaServerOptions) -> Result<Self, MetaServerError> {
        let MetaServerOptions {
            name,
            database,
            quic,
            http,
            http_compat,
            host,
            refresh,
            heartbeat_timeout_ms,
            min_group_num,
            snapshot,
            tls,
            access,
            named_by,
            watched,
            api_tokens,
            http_ports,
            log_switch,
        } = options;
        let bad = |source: TlsError| MetaServerError::Tls {
            named_by: source.path().and_then(|path| named_by.of(path)),
            source,
        };
        let files = tls.clone();
        let (tls, secret) = identify(tls).await?.map_err(bad)?;
        let tls = Arc::new(tls);
        if let Some(folder) = snapshot.as_deref().and_then(Path::parent) {
            make_folder(folder)?;
        }
        let database = open(database).await?;
        let kind = database.kind();
        let mut looks: Vec<watch::Look> = Vec::new();
        if let Some(watched) = watched {
            let (timeout, least) = (&heartbeat_timeout_ms, &min_group_num);
            looks.push(watch::following(watched, timeout, least));
        }
        if let Some(lines) = &api_tokens {
            looks.push(watch::following_lines(Arc::clone(lines)));
        }
        if let Some(lines) = &http_ports {
            looks.push(watch::following_lines(Arc::clone(lines)));
        }
        if let Some(lines) = &log_switch {
            looks.push(watch::following_lines(Arc::clone(lines)));
        }
        let meta = MetaOptions {
            refresh,
            heartbeat_timeout_ms: Arc::clone(&heartbeat_timeout_ms),
            min_group_num,
            snapshot,
            ..MetaOptions::new(name.clone(), Box::new(below))
        };
        let meta = Meta::start(database, meta).await?;
        let mut room = MetaRoom::new(meta, name.clone(), heartbeat_timeout_ms);
        room.log_switch = log_switch;
        let hello = Hello {
            node: name,
            features: features::CONTROL | features::ROUTES,
            limits: Limits::default(),
            ..Hello::new(Role::Meta, concat!("qmq/", env!("CARGO_PKG_VERSION")))
        };
        let rooms = Rooms {
            access: Arc::clone(&access),
            messages: None,
            consumers: None,
            control: Arc::new(room.clone()),
            routes: Some(Arc::new(room.clone())),
            incarnation: Arc::new(|| 0),
            attempts_max: None,
            hello,
            connections: Arc::clone(&room.connections),
            secret,
        };
        let address = quic.listen;
        let opened = QuicDoor::open(quic, tls.config(&[ALPN]).map_err(bad)?, rooms);
        let quic = opened.map_err(|source| MetaServerError::Listen {
            address,
            what: "UDP, meta.server.port",
            source,
        })?;
        let door = MetaDoor {
            sources: MetaSources {
                room: room.clone(),
                tls: Arc::clone(&tls),
            },
            port: quic.address().port(),
            host,
        };
        let management = management::pages(management::Management {
            meta: room.meta.clone(),
            compat: http_compat,
            api_tokens,
            http_ports,
            tls: files,
            name: room.node.clone(),
        });
        let opened = door.open(http, management).await;
        let http = opened.map_err(|source| MetaServerError::Listen {
            address: http,
            what: "TCP, meta.server.discover.port",
            source,
        })?;
        Ok(Self {
            _watch: watch::start(tls, access, looks),
            room,
            kind,
            quic,
            http,
        })
    }

    /// Where it listens for nodes and clients, on UDP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.quic.address()
    }

    /// Where it listens for HTTP.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// What brokers, delay servers and clients are told as `meta.server.endpoint`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}/meta/address", self.http_address())
    }

    /// The rules.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.room.meta
    }

    /// In which kind of database it keeps what it knows: `sqlite` or `mysql`.
    #[must_use]
    pub fn database_kind(&self) -> &'static str {
        self.kind
    }

    /// Ends it in order: takes no more connections, waits until what was asked is answered, for 4 s at most, tells all who are connected, writes what
    /// waits to be written, and lets go of the database.
    pub async fn drain(self) {
        self.room.draining.store(true, Ordering::Release);
        self.quic.stop_accepting();
        if !self.quic.finish(ANSWERS_MAX).await {
            tracing::warn!("answers did not arrive in time");
        }
        self.quic.close(CLOSE_MAX).await;
        self.room.meta.close().await;
    }
}

impl Drop for MetaServer {
    fn drop(&mut self) {
        self.quic.close_now();
    }
}

/// By chance, an index below this.
fn below(count: u64) -> u64 {
    getrandom::u64().unwrap_or_default() % count.max(1)
}

async fn open(database: MetaStore) -> Result<Arc<dyn Database>, MetaServerError> {
    Ok(match database {
        MetaStore::Sqlite(path) => {
            if let Some(folder) = path.parent() {
                make_folder(folder)?;
            }
            Arc::new(Sqlite::open(path).await?)
        }
        MetaStore::MySql(options) => Arc::new(MySql::connect(&options)?),
        MetaStore::Open(database) => database,
    })
}

fn make_folder(folder: &Path) -> Result<(), MetaServerError> {
    if folder == Path::new("") {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|source| MetaServerError::Io {
        doing: format!("making the folder {}", PathBuf::from(folder).display()),
        source,
    })
}

/// The node's certificate, and what makes a restarted node known to its clients.
async fn identify(
    files: TlsFiles,
) -> Result<Result<(ReloadingServer, Vec<u8>), TlsError>, MetaServerError> {
    let read = tokio::task::spawn_blocking(move || {
        let secret = crate::tls::key_bytes(&files.own.key)?;
        Ok((ReloadingServer::open(files, SystemTime::now())?, secret))
    });
    read.await.map_err(|error| MetaServerError::Io {
        doing: "reading certificates".to_owned(),
        source: io::Error::other(error),
    })
}
