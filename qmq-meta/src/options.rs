//! How a meta server goes about it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Picks an index below its argument, which is at least 1.
pub type Random = Box<dyn FnMut(u64) -> u64 + Send>;

/// How a meta server goes about it.
pub struct MetaOptions {
    /// Its name in logs.
    pub name: String,
    /// How often it reads everything (`refresh.period.seconds`); at least 1 ms.
    pub refresh: Duration,
    /// After how many ms of silence a group's master counts as away (`heartbeat.timeout.ms`); read anew at each sweep.
    pub heartbeat_timeout_ms: Arc<AtomicU64>,
    /// How many groups serve a subject (`min.group.num`); read anew at each request; 0 counts as 1.
    pub min_group_num: Arc<AtomicU64>,
    /// Where everything is written after each change, for the time in which the database is away. `None`: nowhere.
    pub snapshot: Option<PathBuf>,
    /// How long producers may take to leave a group that became read-only, before anybody asks whether it is empty: QMQ's clients ask every 60 s.
    pub settle: Duration,
    /// Where chance comes from.
    pub random: Random,
}

impl MetaOptions {
    /// QMQ's defaults: everything read every 5 s, away after 30 s of silence, two groups a subject; no snapshot.
    #[must_use]
    pub fn new(name: impl Into<String>, random: Random) -> Self {
        Self {
            name: name.into(),
            refresh: Duration::from_secs(5),
            heartbeat_timeout_ms: Arc::new(AtomicU64::new(30_000)),
            min_group_num: Arc::new(AtomicU64::new(2)),
            snapshot: None,
            settle: Duration::from_secs(75),
            random,
        }
    }
}

impl std::fmt::Debug for MetaOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetaOptions")
            .field("name", &self.name)
            .field("refresh", &self.refresh)
            .field("heartbeat_timeout_ms", &self.heartbeat_timeout_ms)
            .field("min_group_num", &self.min_group_num)
            .field("snapshot", &self.snapshot)
            .field("settle", &self.settle)
            .finish_non_exhaustive()
    }
}
