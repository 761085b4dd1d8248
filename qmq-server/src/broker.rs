//! The real-time broker: a store, the rooms around it, and the doors that lead there.

mod belonging;
mod options;
pub(crate) mod root;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use qmq_store::{Durability, OpenError, Store};
use qmq_wire::{ALPN, Code, End, Hello, Limits, Role, features};
use tokio::sync::oneshot;

pub use options::{BrokerOptions, NamedBy};

use crate::access::TokensError;
use crate::doors::http::HttpDoor;
use crate::doors::quic::{QuicDoor, Rooms};
use crate::membership::{Membership, NodeKind};
use crate::metrics::Sources;
use crate::rooms::administer::{Activity, Administering};
use crate::rooms::consumers::Consumers;
use crate::rooms::deliver::Delivering;
use crate::rooms::produce::Producing;
use crate::tls::{ReloadingServer, TlsError, TlsFiles};

/// How long answers that are under way when `drain.ack.ms` is over may take to arrive.
const ANSWERS_MAX: Duration = Duration::from_secs(4);
/// How long clients may take to hear that the broker ends.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How long meta servers may take to hear that the broker ends.
const OFFLINE_MAX: Duration = Duration::from_secs(3);
/// How often an ending broker looks whether anything is still held.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The store does not open.
    #[error("the store in {}: {source}", path.display())]
    Store {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: Box<OpenError>,
    },
    /// The folder is the store of a node of another kind.
    #[error("store.root: {} is the store of a {}, and this is a {}; give each its own folder", path.display(), owner.word(), this.word())]
    OtherStore {
        /// `store.root`.
        path: PathBuf,
        /// Whose it is.
        owner: NodeKind,
        /// What wanted to open it.
        this: NodeKind,
    },
    /// A certificate, a key or an authority is no good.
    #[error("{}{source}", named(named_by.as_deref()))]
    Tls {
        /// The setting that named the file, and where it stands: `tls.key (broker.properties:7)`.
        named_by: Option<String>,
        /// What is wrong with it.
        source: TlsError,
    },
    /// The token file is no good.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what}): {source}; is another broker running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// `UDP, broker.port` or `TCP, http.port`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A broker that runs. Dropping it stops it without ceremony, as a crash would; [`Broker::drain`] is the way to end it.
#[derive(Debug)]
pub struct Broker {
    store: Store,
    producing: Producing,
    consumers: Consumers,
    administering: Arc<Administering>,
    quic: QuicDoor,
    http: Option<HttpDoor>,
    draining: Arc<AtomicBool>,
    drain_ack: Duration,
    belonging: Option<belonging::Belonging>,
    _watch: watch::Watch,
}

impl Broker {
    /// Opens the store and the doors. To be called in a runtime, which then serves the connections.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        tracing::info!(
            bytes = options.memory_bytes_max(),
            windows = options.quic.windows_bytes,
            produce = options.quic.produce_bytes,
            deliver = options.deliver.budget_bytes,
            "memory for requests, deliveries and windows, at most"
        );
        let BrokerOptions {
            name,
            group,
            folder,
            store: store_options,
            produce,
            consume,
            deliver,
            quic,
            http,
            tls,
            access,
            drain_ack,
            metrics_subjects_max,
            watched,
            named_by,
            membership,
        } = options;
        let followed = watched.map(|config| watch::Followed {
            config,
            auto_create: Arc::clone(&produce.auto_create),
            retry_delay_seconds: Arc::clone(&consume.retry_delay_seconds),
            attempts_max: Arc::clone(&deliver.attempts_max),
        });
        let bad = |source: TlsError| BrokerError::Tls {
            named_by: source.path().and_then(|path| named_by.of(path)),
            source,
        };
        let (tls, secret) = identify(tls).await?.map_err(bad)?;
        let tls = Arc::new(tls);
        root::check(&folder, NodeKind::Broker)?;
        let store = open(folder, store_options).await?;
        if produce.durability == Durability::Buffered {
            tracing::warn!(
                "flush.mode=async: a message is acknowledged before it is on the disk; a loss of power can take what was acknowledged in the last {} ms",
                store.options().flush_interval.as_millis()
            );
        }
        let thread = |source| BrokerError::Io {
            doing: "starting a thread",
            source,
        };
        let activity = Arc::new(Activity::default());
        let dedup_window = produce.dedup_window;
        let attempts_max = Arc::clone(&deliver.attempts_max);
        let limits = Limits {
            body_bytes_max: u32::try_from(store.options().body_bytes_max).unwrap_or(u32::MAX),
            session_timeout_ms: ms(consume.session_timeout),
            ack_timeout_ms: ms(consume.ack_timeout),
            nack_ms_max: ms(consume.nack_max),
            dedup_window: u32::try_from(dedup_window).unwrap_or(u32::MAX),
            ..Limits::default()
        };
        let producing =
            Producing::start(store.clone(), produce, Arc::clone(&activity)).map_err(thread)?;
        let delivering =
            Delivering::start(store.clone(), deliver, Arc::clone(&activity)).map_err(thread)?;
        let consumers = Consumers::start(store.clone(), consume, delivering, Arc::clone(&activity))
            .map_err(thread)?;
        if membership.is_some() {
            belonging::hold(&producing, &consumers, belonging::NOT_YET);
        }
        let connections = Arc::new(AtomicU64::new(0));
        let draining = Arc::new(AtomicBool::new(false));
        let administering = Arc::new(Administering {
            store: store.clone(),
            producing: producing.clone(),
            consumers: consumers.clone(),
            activity,
            node: name.clone(),
            group: group.clone().into(),
            since: Instant::now(),
            connections: Arc::clone(&connections),
            draining: Arc::clone(&draining),
        });
        let hello = Hello {
            node: name,
            group,
            features: features::PRODUCE | features::CONSUME | features::CONTROL,
            limits,
            ..Hello::new(Role::Master, concat!("qmq/", env!("CARGO_PKG_VERSION")))
        };
        let rooms = Rooms {
            access: Arc::clone(&access),
            messages: Some(Arc::new(producing.clone())),
            consumers: Some(consumers.clone()),
            control: Arc::clone(&administering) as _,
            routes: None,
            incarnation: {
                let store = store.clone();
                Arc::new(move || store.incarnation())
            },
            attempts_max: Some(attempts_max),
            hello,
            connections,
            secret,
        };
        let address = quic.listen;
        let quic =
            QuicDoor::open(quic, tls.config(&[ALPN]).map_err(bad)?, rooms).map_err(|source| {
                BrokerError::Listen {
                    address,
                    what: "UDP, broker.port",
                    source,
                }
            })?;
        let http = match http {
            None => None,
            Some(address) => {
                let sources = Sources {
                    administering: Arc::clone(&administering),
                    tls: Arc::clone(&tls),
                    load: quic.load().clone(),
                    subjects_max: metrics_subjects_max,
                };
                let door = HttpDoor::open(address, sources);
                Some(door.await.map_err(|source| BrokerError::Listen {
                    address,
                    what: "TCP, http.port",
                    source,
                })?)
            }
        };
        let belonging = membership.map(|options| belonging::start(options, &quic, &administering));
        Ok(Self {
            belonging,
            _watch: watch::start(tls, access, consumers.clone(), followed),
            store,
            producing,
            consumers,
            administering,
            quic,
            http,
            draining,
            drain_ack,
        })
    }

    /// Where it listens for clients, on UDP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.quic.address()
    }

    /// Where it listens for HTTP, if it does.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpDoor::address)
    }

    /// Who consumes.
    #[must_use]
    pub fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    /// Its place in the cluster, if it has one.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.belonging
            .as_ref()
            .map(|belonging| &belonging.membership)
    }

    /// Bytes of answers and deliveries that wait for their connections.
    #[must_use]
    pub fn outgoing_bytes(&self) -> u64 {
        self.quic.load().outgoing_bytes()
    }

    /// Bytes of requests that are not in the log yet, and how many there may be.
    #[must_use]
    pub fn produce_bytes(&self) -> (u64, u64) {
        self.quic.load().produce_bytes()
    }

    /// What operators ask.
    #[must_use]
    pub fn administering(&self) -> &Arc<Administering> {
        &self.administering
    }

    /// Ends it in order: takes no more connections and messages and hands out none, waits until what is handed out is settled, or `drain.ack.ms` is over,
    /// then until what was taken is answered, for 4 s at most, tells all who are connected, syncs, and closes the store.
    ///
    /// # Errors
    /// When the store does not close well; the next open recovers it.
    pub async fn drain(self) -> Result<(), qmq_store::Error> {
        self.draining.store(true, Ordering::Release);
        if let Some(belonging) = &self.belonging
            && !belonging.membership.offline(OFFLINE_MAX).await
        {
            tracing::warn!(
                "no meta server has heard that the broker ends: they find out when its heartbeats are missing"
            );
        }
        self.quic.stop_accepting();
        self.producing.stop_accepting();
        self.consumers.stop_accepting();
        self.consumers.delivering().pause();
        let until = Instant::now() + self.drain_ack;
        while Instant::now() < until && self.is_anything_held().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.consumers.end_all(End {
            code: Some(Code::Draining),
            text: "the broker is shutting down".to_owned(),
            unseen: false,
        });
        if !self.quic.finish(ANSWERS_MAX).await {
            tracing::warn!(
                "answers did not arrive in time: whoever waits for them does not know what is stored"
            );
        }
        self.quic.close(CLOSE_MAX).await;
        self.consumers.delivering().stop();
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.close())
            .await
            .unwrap_or(Err(qmq_store::Error::Closed))
    }

    async fn is_anything_held(&self) -> bool {
        let (reply, held) = oneshot::channel();
        self.consumers.is_anything_held(Box::new(|held| {
            let _ = reply.send(held);
        }));
        held.await.unwrap_or(false)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.quic.close_now();
        self.consumers.delivering().stop();
        self.consumers.stop();
    }
}

/// The node's certificate, and what makes a restarted node known to its clients.
pub(crate) async fn identify(
    files: TlsFiles,
) -> Result<Result<(ReloadingServer, Vec<u8>), TlsError>, BrokerError> {
    let read = tokio::task::spawn_blocking(move || {
        let secret = crate::tls::key_bytes(&files.own.key)?;
        Ok((ReloadingServer::open(files, SystemTime::now())?, secret))
    });
    read.await.map_err(|error| BrokerError::Io {
        doing: "reading certificates",
        source: io::Error::other(error),
    })
}

fn named(by: Option<&str>) -> String {
    by.map(|by| format!("{by}: ")).unwrap_or_default()
}

/// Opens a store, whose folder is made if need be.
pub(crate) async fn open(path: PathBuf, options: qmq_store::Options) -> Result<Store, BrokerError> {
    let folder = path.clone();
    let opened = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        Ok(Store::open(&folder, options))
    });
    match opened.await {
        Ok(Ok(Ok(store))) => {
            let report = store.open_report();
            if report.cut_bytes > 0 {
                tracing::warn!(folder = %path.display(), cut_bytes = report.cut_bytes, "the store was not closed well; what had not been written whole was cut off");
            }
            Ok(store)
        }
        Ok(Ok(Err(source))) => Err(BrokerError::Store {
            path,
            source: Box::new(source),
        }),
        Ok(Err(source)) => Err(BrokerError::Io {
            doing: "making the store's folder",
            source,
        }),
        Err(error) => Err(BrokerError::Io {
            doing: "opening the store",
            source: io::Error::other(error),
        }),
    }
}

fn ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
