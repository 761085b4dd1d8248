//! Open: from the newest good checkpoint, through the records after it, to a log that can be written.
//!
//! What is known to be synced (from the checkpoint, a clean close, and the `synced_end` of every good record) separates damage from a torn tail: a bad
//! record below it is kept and reported, and the rest is served; the first bad record above it ends the log.
//!
//! [`recover`] says the steps in their order; each has a file: `find` what the folder holds, `replay` it (`apply` is one record of that, `tail`
//! where the log ends), put the state in order that damage left (`holes`). A writer then makes it all `durable`.

mod apply;
mod durable;
mod find;
mod holes;
mod replay;
mod tail;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use apply::Replay;
pub(crate) use durable::make_durable;

use super::checkpoint::Summary;
use super::damage::Damage;
use crate::consume::Names;
use crate::disk::{Disk, Maps};
use crate::error::OpenError;
use crate::index::catalog::Catalog;
use crate::log::segment::Segment;

/// What an open found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// The store had been closed in order.
    pub clean: bool,
    /// Bytes of log read and verified.
    pub replayed_bytes: u64,
    /// Records among them.
    pub replayed_records: u64,
    /// Bytes cut from the end, from the first bad record that was not known to be synced to the last byte that was not zero.
    pub cut_bytes: u64,
    /// Whole records among the bytes cut: they were written and never synced.
    pub whole_records_cut: u64,
    /// Damage found in what was read.
    pub damages: Vec<Damage>,
    /// Indexes that had to be rebuilt.
    pub rebuilt_indexes: u64,
    /// The store's incarnation from now on.
    pub incarnation: u32,
}

/// Everything that recovery hands over.
pub(crate) struct Recovered {
    pub(crate) catalog: Catalog,
    pub(crate) names: Names,
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Per segment that is not sealed, numbers of the subjects that have messages in it.
    pub(crate) touched: BTreeMap<u64, Vec<u32>>,
    pub(crate) end: u64,
    /// Up to here something says that the log was synced.
    pub(crate) synced: u64,
    /// Synced records at the end are gone.
    pub(crate) lost_tail: bool,
    /// The highest that wrote any of it.
    pub(crate) incarnation: u32,
    pub(crate) last_time_ms: u64,
    /// Of the last record.
    pub(crate) last_incarnation: u32,
    pub(crate) report: OpenReport,
}

/// How far the log may be read: everything for a writer, the published end for a follower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) known_synced: u64,
    pub(crate) until: u64,
    pub(crate) writable: bool,
    /// Records were written by this store itself, so the synced ends in them are its own. Those in a replica's are its master's.
    pub(crate) own: bool,
    /// The log has just been cut: older checkpoints may be all that is left.
    pub(crate) cut: bool,
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    maps: &'a Arc<Maps>,
    store_id: u128,
    extent: Extent,
    report: OpenReport,
    catalog: Catalog,
    names: Names,
    summary: Summary,
    segments: Vec<Arc<Segment>>,
    /// Segments that have an index file.
    index_files: BTreeSet<u64>,
    touched: BTreeMap<u64, Vec<u32>>,
    /// Highest synced end known.
    synced: u64,
    /// Of the last good record; it never goes back.
    incarnation: u32,
    /// The checkpoint may be older than the newest: what is missing at the front may have been retired after it.
    older: bool,
    /// A bad record has been met and the rest of the log has been searched for higher synced ends.
    searched: bool,
    lost_tail: bool,
    last_time_ms: u64,
}

/// Recovers the state of the store on `disk`.
pub(crate) fn recover(
    disk: &dyn Disk,
    maps: &Arc<Maps>,
    store_id: u128,
    extent: Extent,
) -> Result<Recovered, OpenError> {
    let mut recovery = Recovery {
        disk,
        maps,
        store_id,
        extent,
        report: OpenReport::default(),
        catalog: Catalog::default(),
        names: Names::default(),
        summary: Summary::default(),
        segments: Vec::new(),
        index_files: BTreeSet::new(),
        touched: BTreeMap::new(),
        synced: extent.known_synced,
        incarnation: 0,
        older: false,
        searched: false,
        lost_tail: false,
        last_time_ms: 0,
    };
    recovery.load_checkpoint()?;
    recovery.find_segments()?;
    let (sealed, damaged) = recovery.open_sealed();
    let end = recovery.replay(sealed)?;
    // Only now is it known where the subjects stood when the segment behind the last sealed one began.
    for at in damaged {
        recovery.rebuild(at)?;
    }
    recovery.settle(end);
    recovery.remove_strangers()?;
    Ok(Recovered {
        catalog: recovery.catalog,
        names: recovery.names,
        segments: recovery.segments,
        touched: recovery.touched,
        end,
        synced: recovery.synced.min(end),
        lost_tail: recovery.lost_tail,
        incarnation: recovery.incarnation.max(recovery.summary.incarnation),
        last_time_ms: recovery.last_time_ms,
        last_incarnation: recovery.incarnation.max(recovery.summary.last_incarnation),
        report: recovery.report,
    })
}
