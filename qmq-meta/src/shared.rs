//! What all clones of a handle, and its background tasks, have together.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::clients::Clients;
use crate::database::{Database, Liveness};
use crate::error::DatabaseError;
use crate::model::{BrokerRole, SubjectRoute};
use crate::options::Random;
use crate::patience::Patience;
use crate::picture::Picture;
use crate::refresh::Reading;
use crate::status::DatabaseStatus;

/// Requests for subjects whose names fall into the same of so many classes wait for each other while one is given groups.
const SUBJECT_CLASSES: usize = 64;

/// A node that spoke.
pub(crate) struct Node {
    pub(crate) group: String,
    pub(crate) role: BrokerRole,
    pub(crate) at: Instant,
}

/// What is known, and what was added since the last read began.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) picture: Picture,
    /// Routes made here, with the number of the read that had last begun.
    pub(crate) made: Vec<(u64, SubjectRoute)>,
}

pub(crate) struct Shared {
    pub(crate) database: Arc<dyn Database>,
    pub(crate) name: String,
    pub(crate) refresh: Duration,
    pub(crate) heartbeat_timeout_ms: Arc<AtomicU64>,
    pub(crate) patience: Mutex<Patience>,
    min_group_num: Arc<AtomicU64>,
    pub(crate) snapshot: Option<PathBuf>,
    pub(crate) settle: Duration,
    pub(crate) random: Mutex<Random>,
    pub(crate) known: RwLock<Known>,
    /// The greatest time of which anything was ever known here.
    pub(crate) stamp: AtomicU64,
    pub(crate) changes: watch::Sender<u64>,
    link: RwLock<DatabaseStatus>,
    pub(crate) from_snapshot: AtomicBool,
    /// Routes given while the database was away.
    pub(crate) temporary: RwLock<BTreeMap<String, Vec<String>>>,
    /// Whether the snapshot lacks something.
    pub(crate) unsaved: AtomicBool,
    /// What masters said while the database was away, by group.
    pub(crate) untold: Mutex<HashMap<String, (Liveness, Instant)>>,
    pub(crate) nodes: Mutex<BTreeMap<(String, u16), Node>>,
    /// Since when this process knows that producers leave a group, by subject and group.
    pub(crate) leaving: Mutex<HashMap<(String, String), Instant>>,
    /// Where the next step of a rebalance or decommission goes on asking.
    pub(crate) turn: AtomicUsize,
    classes: Vec<tokio::sync::Mutex<()>>,
    /// Subjects that could not be given more groups, and until when nobody tries again.
    pub(crate) resting: Mutex<HashMap<String, Instant>>,
    pub(crate) reading: Reading,
    /// When the database was last read because somebody was not found.
    pub(crate) looked: Mutex<Option<Instant>>,
    pub(crate) clients: Clients,
}

impl Shared {
    pub(crate) fn new(
        database: Arc<dyn Database>,
        options: crate::options::MetaOptions,
        clients: Clients,
    ) -> Self {
        Self {
            database,
            name: options.name,
            refresh: options.refresh.max(Duration::from_millis(1)),
            patience: Mutex::new(Patience::new(
                options.heartbeat_timeout_ms.load(Ordering::Relaxed),
            )),
            heartbeat_timeout_ms: options.heartbeat_timeout_ms,
            min_group_num: options.min_group_num,
            snapshot: options.snapshot,
            settle: options.settle,
            random: Mutex::new(options.random),
            known: RwLock::default(),
            stamp: AtomicU64::new(0),
            changes: watch::channel(0).0,
            link: RwLock::new(DatabaseStatus::Up),
            from_snapshot: AtomicBool::new(false),
            temporary: RwLock::default(),
            unsaved: AtomicBool::new(false),
            untold: Mutex::default(),
            nodes: Mutex::default(),
            leaving: Mutex::default(),
            turn: AtomicUsize::new(0),
            classes: (0..SUBJECT_CLASSES)
                .map(|_| tokio::sync::Mutex::new(()))
                .collect(),
            resting: Mutex::default(),
            reading: Reading::default(),
            looked: Mutex::default(),
            clients,
        }
    }

    /// How many groups a subject should have.
    pub(crate) fn min_groups(&self) -> usize {
        usize::try_from(self.min_group_num.load(Ordering::Relaxed))
            .unwrap_or(usize::MAX)
            .max(1)
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// Waits until nobody else gives groups to a subject of the same class.
    pub(crate) async fn alone(&self, subject: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let class = crc32fast::hash(subject.as_bytes()) as usize % SUBJECT_CLASSES;
        self.classes[class].lock().await
    }

    pub(crate) fn link(&self) -> DatabaseStatus {
        self.link.read().clone()
    }

    pub(crate) fn is_away(&self) -> bool {
        matches!(*self.link.read(), DatabaseStatus::Away { .. })
    }

    /// Notes that the database is away if that is what it says.
    pub(crate) fn noted<T>(&self, outcome: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        if let Err(DatabaseError::Away { reason }) = &outcome {
            self.gone(reason);
        }
        outcome
    }

    pub(crate) fn gone(&self, why: &str) {
        let mut link = self.link.write();
        if let DatabaseStatus::Away { reason, .. } = &mut *link {
            why.clone_into(reason);
            return;
        }
        *link = DatabaseStatus::Away {
            since: SystemTime::now(),
            reason: why.to_owned(),
        };
        drop(link);
        let at = self.stamp.load(Ordering::Acquire);
        tracing::error!(
            meta = self.name,
            reason = why,
            at,
            "the database is away: routes are answered as they were last known, and nothing can be changed until it is back"
        );
        self.changed();
    }

    pub(crate) fn back(&self) {
        let mut link = self.link.write();
        let before = std::mem::replace(&mut *link, DatabaseStatus::Up);
        drop(link);
        self.from_snapshot.store(false, Ordering::Release);
        if let DatabaseStatus::Away { since, .. } = before {
            let seconds = since.elapsed().map_or(0, |away| away.as_secs());
            tracing::warn!(
                meta = self.name,
                away_seconds = seconds,
                "the database is back"
            );
            self.changed();
        }
    }
}
