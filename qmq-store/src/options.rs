//! Every limit and choice, with its default, range and effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};

/// What an append, ack or nack survives once it has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// The death of the process at any instruction. A loss of power may take up to `Options::flush_interval` of it.
    Buffered,
    /// A loss of power at any instruction.
    Synced,
    /// The loss of the machine: synced here, and held by as many slaves as the replicator was told.
    Replicated,
}

/// From when on consumers see a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VisibleAt {
    /// As soon as it is written: lowest latency; a loss of power may take back what a consumer has seen.
    Written,
    /// Once it is synced.
    Synced,
    /// Once it is replicated.
    Replicated,
}

/// Who does the housekeeping: syncs on a timer, sealing, checkpoints, retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Background {
    /// Three threads of the store's own: `qmq-flush`, `qmq-keep` and `qmq-ahead`.
    Threads,
    /// No threads: the caller calls `Store::maintain` (every second is a good rhythm), and appends sync by themselves when
    /// `flush_bytes` are waiting.
    Manual,
}

/// What is kept, store-wide. The oldest segments go first; the active one always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Retire segments whose newest message is older. Default: three days, as in QMQ (`messagelog.retention.hours` = 72).
    /// `None`: no limit by age.
    pub max_age: Option<Duration>,
    /// Retire the oldest segments while the log is larger, in bytes. Default: `None`.
    pub max_bytes: Option<u64>,
    /// Retire the oldest segments while the disk has less free space, in bytes. Default: `None`.
    pub min_free_bytes: Option<u64>,
    /// Never retire what a group has not acknowledged: then a full disk refuses appends. Default: `false`, so that one forgotten
    /// group cannot fill the disk; what it misses is counted in `GroupStats::skipped`.
    pub keep_unconsumed: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: Some(Duration::from_secs(72 * 3600)),
            max_bytes: None,
            min_free_bytes: None,
            keep_unconsumed: false,
        }
    }
}

/// Keeps retention from what an embedding program still needs: nothing at or behind an offset that it raises is retired, whatever
/// [`Retention`] says, and a full disk then refuses appends. A new one holds everything. A clone is the same hold.
#[derive(Clone, Debug, Default)]
pub struct RetentionHold(Arc<AtomicU64>);

impl RetentionHold {
    /// Lets go of everything before `offset`; of no less than before.
    pub fn release_below(&self, offset: u64) {
        self.0.fetch_max(offset, Ordering::AcqRel);
    }

    /// Holds everything again, for a store that begins anew with what an older one had let go.
    pub fn hold_all(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Where it begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Settings of a store. `Options::default()` is right for most; each field says its range.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a log segment in bytes: 64 KiB to 4 GiB, default 64 MiB. Three of them are allocated at open (the active one and a reserve
    /// that keeps acks working on a full disk). Retention frees whole segments. May differ from open to open.
    pub segment_bytes: u64,
    /// Largest body in bytes: 1 to a quarter of `segment_bytes`, default 4 MiB.
    pub body_bytes_max: u64,
    /// Largest batch in bytes on disk: 4 KiB to half of `segment_bytes`, default 16 MiB.
    pub batch_bytes_max: u64,
    /// Number of subjects: 1 to 16,777,216, default 1,000,000. Protects against names made of random numbers.
    pub subjects_max: u32,
    /// Number of groups of a subject (of a broadcast group, each consumer counts): 1 to 1,000,000, default 10,000.
    pub groups_max: u32,
    /// What `append` waits for. Default: `Synced`.
    pub durability: Durability,
    /// From when on consumers see a message. Default: `Written`.
    pub visible_at: VisibleAt,
    /// Longest time that buffered data stays unsynced, which is the stated loss window of buffered appends at a loss of power:
    /// 1 ms to 1 h, default 200 ms.
    pub flush_interval: Duration,
    /// Most unsynced data in bytes; beyond it appends wait: 64 KiB to 4 GiB, default 8 MiB.
    pub flush_bytes: u64,
    /// Most messages of a group that are unacknowledged or wait to be handed out again: 1 to 10,000,000, default 100,000. Then pull says
    /// `TooManyUnacked`; one that waits goes on while time alone makes room.
    pub unacked_max: u64,
    /// A consumer that has not pulled or acked for so long is taken as gone by `Store::expire`: 100 ms to 7 days, default 30 s.
    pub lease: Duration,
    /// What is kept. Default: see `Retention`.
    pub retention: Retention,
    /// What holds retention back, if anything does. Default: `None`. A store that was ever opened with a hold remembers it: without one nothing
    /// of it is retired.
    pub retention_hold: Option<RetentionHold>,
    /// A checkpoint is taken when so much has been written since the last one: 64 KiB to 64 GiB, default 64 MiB. It bounds the time of an
    /// open after a crash.
    pub checkpoint_bytes: u64,
    /// Most files kept mapped at a time (a segment is up to two): 16 to 60,000, default 4,096.
    pub mapped_files_max: usize,
    /// Most index entries that one pull looks at before it returns, found or not: 1,000 to 100,000,000, default 1,000,000. Bounds the
    /// time that a very selective filter holds its group.
    pub scan_max: usize,
    /// Who does the housekeeping. Default: `Threads`.
    pub background: Background,
    /// Where the time comes from. Default: the system's clock.
    pub clock: Arc<dyn Clock>,
    /// Seed of the store's identity when a new store is created; `None` takes it from the operating system. Default: `None`.
    pub identity_seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            body_bytes_max: 4 << 20,
            batch_bytes_max: 16 << 20,
            subjects_max: 1_000_000,
            groups_max: 10_000,
            durability: Durability::Synced,
            visible_at: VisibleAt::Written,
            flush_interval: Duration::from_millis(200),
            flush_bytes: 8 << 20,
            unacked_max: 100_000,
            lease: Duration::from_secs(30),
            retention: Retention::default(),
            retention_hold: None,
            checkpoint_bytes: 64 << 20,
            mapped_files_max: 4096,
            scan_max: 1_000_000,
            background: Background::Threads,
            clock: Arc::new(SystemClock),
            identity_seed: None,
        }
    }
}

/// An option is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Options::{name} is {value}; it must be {low} to {high}")]
pub struct OptionsError {
    /// Field of `Options`.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// Least value allowed.
    pub low: u64,
    /// Greatest value allowed.
    pub high: u64,
}

impl Options {
    /// Defaults that suit segments of `segment_bytes`: the limits that depend on it are lowered along.
    #[must_use]
    pub fn with_segment_bytes(segment_bytes: u64) -> Self {
        let defaults = Self::default();
        Self {
            segment_bytes,
            body_bytes_max: defaults.body_bytes_max.min(segment_bytes / 4),
            batch_bytes_max: defaults.batch_bytes_max.min(segment_bytes / 2),
            checkpoint_bytes: defaults.checkpoint_bytes.min(segment_bytes),
            ..defaults
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// The first field that is out of its range, with the range.
    pub fn check(&self) -> Result<(), OptionsError> {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let rows = [
            ("segment_bytes", self.segment_bytes, 64 << 10, 4 << 30),
            (
                "body_bytes_max",
                self.body_bytes_max,
                1,
                self.segment_bytes / 4,
            ),
            (
                "batch_bytes_max",
                self.batch_bytes_max,
                4 << 10,
                self.segment_bytes / 2,
            ),
            ("subjects_max", u64::from(self.subjects_max), 1, 1 << 24),
            ("groups_max", u64::from(self.groups_max), 1, 1_000_000),
            ("flush_interval (ms)", ms(self.flush_interval), 1, 3_600_000),
            ("flush_bytes", self.flush_bytes, 64 << 10, 4 << 30),
            ("unacked_max", self.unacked_max, 1, 10_000_000),
            ("lease (ms)", ms(self.lease), 100, 7 * 86_400_000),
            (
                "checkpoint_bytes",
                self.checkpoint_bytes,
                64 << 10,
                64 << 30,
            ),
            ("mapped_files_max", self.mapped_files_max as u64, 16, 60_000),
            ("scan_max", self.scan_max as u64, 1_000, 100_000_000),
        ];
        for (name, value, low, high) in rows {
            if value < low || value > high {
                return Err(OptionsError {
                    name,
                    value,
                    low,
                    high,
                });
            }
        }
        Ok(())
    }
}
