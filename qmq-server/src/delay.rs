//! The delay server: a store and a scheduler, the rooms around them, the doors that lead there, and the thread that gives messages to brokers when their time
//! has come. `docs/decisions/0021-delay-server.md` says why it is as it is.

mod belonging;
mod control;
mod dispatch;
mod lanes;
mod letters;
mod options;
mod post;
mod record;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use qmq_sched::Scheduler;
use qmq_store::disk::MappedDisk;
use qmq_store::{Durability, RetentionHold, Store};
use qmq_wire::{ALPN, Hello, Limits, Role, features};

pub use control::Controlling;
pub use dispatch::{BackOff, Counters as DispatchCounters, DispatchOptions, Trouble};
pub use options::DelayOptions;
pub use post::{ClientPost, Delivering, Delivery, Destination, Post, PostOptions};

use crate::broker::{BrokerError, identify};
use crate::config::{DelayConfig, Watched};
use crate::doors::http::HttpDoor;
use crate::doors::http::delay_server::DelayDoor;
use crate::doors::quic::{QuicDoor, Rooms};
use crate::membership::{Membership, NodeKind};
use crate::meta::watch::{Look, Watch};
use crate::metrics::DelaySources;
use crate::rooms::schedule::Scheduling;
use crate::tls::TlsError;
use belonging::Belonging;
use dispatch::Dispatching;
use letters::Letters;

/// How long answers that are under way may take to arrive when the server ends.
const ANSWERS_MAX: Duration = Duration::from_secs(4);
/// How long clients may take to hear that the server ends.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How long meta servers may take to hear it.
const OFFLINE_MAX: Duration = Duration::from_secs(3);
/// Longest delay that the scheduler keeps: also that of dead letters, which are due after a hundred years. Clients are held to less.
const SCHEDULER_DELAY_MAX: Duration = Duration::from_secs(73_000 * 86_400);

/// Why a delay server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DelayError {
    /// What a broker could fail at as well: its store, its certificates, its addresses.
    #[error(transparent)]
    Node(#[from] BrokerError),
    /// The scheduler does not open.
    #[error("the scheduler in {}: {source}", path.display())]
    Scheduler {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: Box<qmq_sched::Error>,
    },
    /// The way to brokers is not configured well.
    #[error("the way to brokers: {0}")]
    Client(#[from] qmq_client::ConfigError),
}

/// A delay server that runs. Dropping it stops it without ceremony, as a crash would; [`DelayServer::drain`] is the way to end it.
#[derive(Debug)]
pub struct DelayServer {
    scheduler: Scheduler,
    scheduling: Scheduling,
    controlling: Arc<Controlling>,
    dispatching: Dispatching,
    quic: QuicDoor,
    http: Option<HttpDoor>,
    draining: Arc<AtomicBool>,
    belonging: Option<Belonging>,
    _watch: Watch,
}

impl DelayServer {
    /// Opens the store, the scheduler and the doors. To be called in a runtime, which then serves the connections.
    ///
    /// # Errors
    /// See [`DelayError`].
    pub async fn start(options: DelayOptions) -> Result<Self, DelayError> {
        let DelayOptions {
            name,
            group,
            folder,
            store: store_options,
            scheduler: scheduler_options,
            schedule,
            dispatch,
            dead_letter_max,
            destinations,
            post,
            quic,
            http,
            tls,
            access,
            drain,
            membership,
            watched,
            named_by,
        } = options;
        let back_off = Arc::clone(&dispatch.back_off);
        let bad = |source: TlsError| BrokerError::Tls {
            named_by: source.path().and_then(|path| named_by.of(path)),
            source,
        };
        let (tls, secret) = identify(tls).await?.map_err(bad)?;
        let tls = Arc::new(tls);
        let store_options = qmq_store::Options {
            retention_hold: Some(RetentionHold::default()),
            ..store_options
        };
        let scheduler_options = qmq_sched::Options {
            max_delay: SCHEDULER_DELAY_MAX,
            // Dead letters come and go while so many are out.
            outstanding_max: dispatch.outstanding_max,
            ..scheduler_options
        };
        let scheduler = open(folder, store_options, scheduler_options).await?;
        if schedule.durability == Durability::Buffered {
            tracing::warn!(
                "a message is acknowledged before it is on the disk; a loss of power can take what was acknowledged in the last {} ms",
                scheduler.store().options().flush_interval.as_millis()
            );
        }
        let thread = |source| BrokerError::Io {
            doing: "starting a thread",
            source,
        };
        let delay_max = schedule.delay_max;
        let body_bytes_max = u32::try_from(schedule.body_bytes_max).unwrap_or(u32::MAX);
        let scheduling =
            Scheduling::start(scheduler.clone(), schedule, letters::SUBJECT).map_err(thread)?;
        if membership.is_some() {
            scheduling.gate().hold(belonging::NOT_YET);
        }
        let letters = Arc::new(Letters::open(scheduler.clone(), dead_letter_max));
        let post = Arc::new(ClientPost::new(destinations, post)?);
        let dispatching = Dispatching::start(
            scheduler.clone(),
            Arc::clone(&letters),
            post,
            &dispatch,
            drain,
        )
        .map_err(thread)?;
        let connections = Arc::new(AtomicU64::new(0));
        let draining = Arc::new(AtomicBool::new(false));
        let controlling = Arc::new(Controlling {
            scheduler: scheduler.clone(),
            letters,
            scheduling: scheduling.clone(),
            dispatched: Arc::clone(dispatching.counters()),
            delay_max,
            node: name.clone(),
            group: RwLock::new(group.clone()),
            since: Instant::now(),
            connections: Arc::clone(&connections),
            draining: Arc::clone(&draining),
        });
        let hello = Hello {
            node: name,
            group,
            features: features::SCHEDULE | features::CONTROL,
            limits: Limits {
                body_bytes_max,
                ..Limits::default()
            },
            ..Hello::new(Role::Delay, concat!("qmq/", env!("CARGO_PKG_VERSION")))
        };
        let rooms = Rooms {
            access: Arc::clone(&access),
            messages: Some(Arc::new(scheduling.clone())),
            consumers: None,
            control: Arc::clone(&controlling) as _,
            routes: None,
            incarnation: {
                let store = scheduler.store().clone();
                Arc::new(move || store.incarnation())
            },
            attempts_max: None,
            hello,
            connections,
            secret,
        };
        let listen = |address, what| {
            move |source| BrokerError::Listen {
                address,
                what,
                source,
            }
        };
        let address = quic.listen;
        let config = tls.config(&[ALPN]).map_err(bad)?;
        let quic =
            QuicDoor::open(quic, config, rooms).map_err(listen(address, "UDP, broker.port"))?;
        let http = match http {
            None => None,
            Some(address) => {
                let sources = DelaySources {
                    room: Arc::clone(&controlling),
                    tls: Arc::clone(&tls),
                    load: quic.load().clone(),
                };
                let door = DelayDoor { sources }.open(address);
                Some(door.await.map_err(listen(address, "TCP, http.port"))?)
            }
        };
        let belonging = membership.map(|options| belonging::start(options, &quic, &controlling));
        let looks =
            watched.map(|watched| -> Look { Box::new(move || follow(&watched, &back_off)) });
        let looks = looks.into_iter().collect();
        Ok(Self {
            belonging,
            _watch: crate::meta::watch::start(tls, access, looks),
            scheduler,
            scheduling,
            controlling,
            dispatching,
            quic,
            http,
            draining,
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

    /// Its place in its cluster, if it has one.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.belonging
            .as_ref()
            .map(|belonging| &belonging.membership)
    }

    /// What is asked about messages that wait.
    #[must_use]
    pub fn controlling(&self) -> &Arc<Controlling> {
        &self.controlling
    }

    /// What has gone to brokers.
    #[must_use]
    pub fn dispatched(&self) -> &Arc<DispatchCounters> {
        self.dispatching.counters()
    }

    /// Ends it in order: takes no more connections and messages, hands out none, waits until what is on its way to brokers is recorded, then until
    /// what was taken is answered, for 4 s at most, tells all who are connected, syncs, and closes the store. What was not delivered is at the next start.
    ///
    /// # Errors
    /// When the store does not close well; the next open recovers it.
    pub async fn drain(mut self) -> Result<(), qmq_store::Error> {
        self.draining.store(true, Ordering::Release);
        if let Some(belonging) = &self.belonging
            && !belonging.membership.offline(OFFLINE_MAX).await
        {
            tracing::warn!(
                "no meta server has heard that the delay server ends: they find out when its heartbeats are missing"
            );
        }
        self.quic.stop_accepting();
        self.scheduling.stop_accepting();
        self.dispatching.stop();
        self.dispatching.ended().await;
        if !self.quic.finish(ANSWERS_MAX).await {
            tracing::warn!(
                "answers did not arrive in time: whoever waits for them does not know what is scheduled"
            );
        }
        self.quic.close(CLOSE_MAX).await;
        let store = self.scheduler.store().clone();
        tokio::task::spawn_blocking(move || store.close())
            .await
            .unwrap_or(Err(qmq_store::Error::Closed))
    }
}

impl Drop for DelayServer {
    fn drop(&mut self) {
        self.quic.close_now();
        self.dispatching.stop();
    }
}

/// Looks whether the configuration has changed.
fn follow(watched: &Watched<DelayConfig>, back_off: &BackOff) {
    match watched.poll() {
        Ok(None) => {}
        Ok(Some(reload)) => {
            let current = watched.current();
            back_off.set(current.retry_min, current.retry_max);
            reload.log();
        }
        Err(error) => {
            tracing::error!(%error, "the changed configuration is no good; the old one counts");
        }
    }
}

/// The store in `log` and the scheduler in `index`, below `folder`.
async fn open(
    folder: PathBuf,
    store: qmq_store::Options,
    scheduler: qmq_sched::Options,
) -> Result<Scheduler, DelayError> {
    crate::broker::root::check(&folder, NodeKind::Delay)?;
    let store = crate::broker::open(folder.join("log"), store).await?;
    let path = folder.join("index");
    let index = path.clone();
    let opened = tokio::task::spawn_blocking(move || open_index(store, &index, scheduler)).await;
    let opened = opened.map_err(|error| BrokerError::Io {
        doing: "opening the scheduler",
        source: std::io::Error::other(error),
    })?;
    let opened = opened.map_err(|source| BrokerError::Io {
        doing: "making the scheduler's folder",
        source,
    })?;
    let scheduler = opened.map_err(|source| DelayError::Scheduler {
        path,
        source: Box::new(source),
    })?;
    let report = scheduler.open_report();
    tracing::info!(
        pending = scheduler.totals().count,
        outstanding = scheduler.outstanding(),
        ?report,
        "the scheduler is open"
    );
    if report.damaged > 0 || !report.lost_files.is_empty() {
        tracing::error!(
            records = report.damaged,
            files = report.lost_files.len(),
            "delayed messages were damaged on the disk and are lost: stop the server and type `qmq delay verify --dir` with its folder, which lists what is damaged; a backup may have it"
        );
    }
    Ok(scheduler)
}

fn open_index(
    store: Store,
    path: &Path,
    options: qmq_sched::Options,
) -> std::io::Result<Result<Scheduler, qmq_sched::Error>> {
    std::fs::create_dir_all(path)?;
    let disk = MappedDisk::open(path, true)?;
    Ok(Scheduler::open(store, disk, options))
}
