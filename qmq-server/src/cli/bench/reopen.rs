//! The `reopen` rows: after a drop, and after a close.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qmq_store::Store;

use super::limits::{self, SEGMENT_HEADER_BYTES};
use super::meter::{Meter, Resources};
use super::report::{Measured, Row};
use super::store::{Plan, failed, io_failed};
use crate::cli::failure::Failure;
use crate::cli::latency::Latency;

/// How often the store is opened.
const TIMES: u64 = 5;

/// How the store is left before it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Dropped,
    Closed,
}

/// Opens the store again, several times each after a drop and after a close, and leaves it closed.
pub(super) fn run(plan: &Plan, store: Store, dir: &Path) -> Result<[Row; 2], Failure> {
    let (dropped, store) = reopened(plan, store, dir, Left::Dropped)?;
    let (closed, store) = reopened(plan, store, dir, Left::Closed)?;
    close(store)?;
    Ok([dropped, closed])
}

fn reopened(
    plan: &Plan,
    mut store: Store,
    dir: &Path,
    left: Left,
) -> Result<(Row, Store), Failure> {
    let mut meter = Meter::new(dir);
    let mut latency = Latency::new();
    let mut limit = Duration::ZERO;
    let mut resources = Resources::default();
    for _ in 0..TIMES {
        match left {
            Left::Dropped => drop(store),
            Left::Closed => close(store)?,
        }
        let checkpoints = files_named(dir, "checkpoint").map_err(|e| io_failed(&e))?;
        let before = meter.elapsed;
        let opened = meter
            .piece(|| Store::open(dir, plan.options()))
            .map_err(|e| io_failed(&e))?;
        latency.record(meter.elapsed - before);
        store = opened.map_err(|e| failed("cannot reopen the store", &e))?;
        resources = Resources::now().map_err(|e| io_failed(&e))?;
        let replayed = store.open_report().replayed_bytes;
        let mut parts =
            tail(dir, store.watermarks().written, replayed).map_err(|e| io_failed(&e))?;
        parts.extend(checkpoints);
        limit += limits::read_time(&parts).map_err(|e| io_failed(&e))?;
    }
    let messages = plan.stored() * TIMES;
    let measured = Measured {
        name: match left {
            Left::Dropped => "reopen",
            Left::Closed => "reopen_closed",
        },
        messages,
        body_bytes: messages * plan.size as u64,
        meter: &meter,
        latency: &latency,
        resources,
    };
    let limit = messages as f64 / limit.max(Duration::from_nanos(1)).as_secs_f64();
    Ok((Row::new(&measured, limit), store))
}

fn close(store: Store) -> Result<(), Failure> {
    store
        .close()
        .map_err(|e| failed("cannot close the store", &e))
}

/// The newest file of a kind that an open reads, as a part that [`limits::read_time`] takes.
pub(super) fn files_named(dir: &Path, prefix: &str) -> io::Result<Option<(PathBuf, u64, u64)>> {
    let mut newest = None;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(prefix)) {
            newest = newest.max(Some((name, entry.path(), entry.metadata()?.len())));
        }
    }
    Ok(newest.map(|(_, path, len)| (path, 0, len)))
}

/// Where the last `len` bytes of the log before `end` stand in its files.
pub(super) fn tail(dir: &Path, end: u64, len: u64) -> io::Result<Vec<(PathBuf, u64, u64)>> {
    let mut parts = Vec::new();
    let mut upto = end;
    let from = end.saturating_sub(len);
    for (base, path) in limits::segment_files(dir)?.into_iter().rev() {
        if upto <= from || base >= upto {
            continue;
        }
        let begin = from.max(base);
        parts.push((path, SEGMENT_HEADER_BYTES + (begin - base), upto - begin));
        upto = begin;
    }
    Ok(parts)
}
