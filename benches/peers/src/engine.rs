//! What an engine must be able to do, and the list of engines.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::cli::Plan;
use crate::engines;
use crate::measure::Load;
use crate::mode::Mode;
use crate::records::Records;

/// An open store. It was opened for one mode, so its writers know whether to sync.
pub trait Engine: Send + Sync {
    /// A writer for one thread.
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>>;

    /// Keeps 64 records in flight for so long; `None` if the engine has no callbacks.
    fn in_flight(&self, _records: &Records, _time: Duration) -> Option<Result<Load>> {
        None
    }

    /// Threads that append in this mode.
    fn threads(&self, mode: Mode) -> usize {
        mode.threads()
    }

    /// Records that one call of [`Writer::append`] stands for.
    fn records_per_append(&self) -> u64 {
        1
    }
}

pub trait Writer {
    /// Appends the record of this slot; in synced modes it returns once the record is synced.
    fn append(&mut self, slot: usize) -> Result<()>;

    /// Appends the whole pool in one call.
    fn append_batch(&mut self) -> Result<()> {
        anyhow::bail!("this engine has no batches")
    }
}

/// One line of the list of engines.
pub struct Kind {
    pub name: &'static str,
    pub supports: fn(Mode) -> bool,
    /// Opens the engine in the plan's empty folder.
    pub open: fn(&Path, &Plan) -> Result<Box<dyn Engine>>,
    /// The limit itself or the engine under test, hence not among the peers to beat.
    pub is_peer: bool,
}

/// The engines that were built in, the limit first.
pub fn kinds() -> Vec<Kind> {
    vec![
        engines::raw::KIND,
        #[cfg(feature = "qmq")]
        engines::qmq::KIND,
        #[cfg(feature = "commitlog")]
        engines::commitlog::KIND,
        #[cfg(feature = "okaywal")]
        engines::okaywal::KIND,
        #[cfg(feature = "raft-engine")]
        engines::raft_engine::KIND,
        #[cfg(feature = "fjall")]
        engines::fjall::KIND,
        #[cfg(feature = "redb")]
        engines::redb::KIND,
        #[cfg(feature = "walrus")]
        engines::walrus::KIND,
    ]
}
