//! The store's own three threads, and the steps they do.
//!
//! `qmq-flush` syncs: every `flush_interval`, when `flush_bytes` wait, and whenever a callback waits for a sync. `qmq-keep` does what may take
//! longer: prepares segments, seals, retires, takes checkpoints. `qmq-ahead` takes page faults for a fast writer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use super::damage::{Damage, DamageKind};
use super::seal::seal_next;
use super::{checkpoint as checkpoints, rebuild, retention};
use crate::error::Error;
use crate::log::segment::Segment;
use crate::options::Background;
use crate::store::Inner;

/// How often `qmq-keep` looks around when nobody rings.
const KEEP_INTERVAL: Duration = Duration::from_millis(500);

/// A quick sync is put off for so long where that costs nobody anything: one for every few callbacks costs more in wake-ups than in syncing.
const GATHER: Duration = Duration::from_micros(50);

/// Steps that failed, for the statistics: most are done where nobody gets an error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    pub(crate) last: Option<String>,
}

/// What a thread does until the store closes.
type Work = fn(&Inner);

/// Starts the threads.
pub(crate) fn start(inner: &Arc<Inner>) -> io::Result<Vec<JoinHandle<()>>> {
    let work: [(&str, Work); 3] = [
        ("qmq-flush", flush_loop),
        ("qmq-keep", keep_loop),
        ("qmq-ahead", |inner| inner.log.ahead.run()),
    ];
    work.into_iter()
        .map(|(name, work)| {
            let inner = Arc::clone(inner);
            std::thread::Builder::new()
                .name(name.into())
                .spawn(move || work(&inner))
        })
        .collect()
}

fn flush_loop(inner: &Inner) {
    let mut failed = false;
    while inner.log.commit.flusher_wait(inner.options.flush_interval) {
        if inner.log.commit.has_time(GATHER) {
            std::thread::sleep(GATHER);
        }
        // A failed sync poisons the log, which says so to whoever appends or waits.
        if !failed {
            failed = inner.sync_to(inner.log.commit.written()).is_err();
        }
        inner.log.commit.run_ready();
        inner.wake_visible();
        if failed {
            std::thread::sleep(inner.options.flush_interval);
        }
    }
}

fn keep_loop(inner: &Inner) {
    while !inner.closed.load(Ordering::SeqCst) {
        inner.log.housekeeping.wait(KEEP_INTERVAL);
        if inner.closed.load(Ordering::SeqCst) || inner.log.commit.check().is_err() {
            continue;
        }
        // What fails is counted, and tried again in the next round.
        let prepared = inner.log.prepare_spare();
        let _ = noted(inner, prepared.map_err(Error::io("preparing a segment")));
        let _ = maintain(inner);
    }
}

/// One round: sync if it is the caller's to do, seal, retire, checkpoint as far as they are due.
pub(crate) fn maintain(inner: &Inner) -> Result<(), Error> {
    inner.check_open()?;
    // Before the lock is taken: callbacks run here, and may want it.
    if inner.options.background == Background::Manual {
        inner.sync_to(inner.log.commit.written())?;
    }
    noted(inner, one_step(inner, maintain_held))
}

fn maintain_held(inner: &Inner) -> Result<(), Error> {
    inner.check_open()?;
    inner.log.commit.check()?;
    seal_all(inner).map_err(Error::io("sealing a segment"))?;
    retention::retire(inner)?;
    retention::free_retired(inner).map_err(Error::io("freeing a retired segment"))?;
    inner
        .log
        .fill_reserve()
        .map_err(Error::io("filling the reserve"))?;
    if inner.log.commit.written() - inner.last_checkpoint.load(Ordering::Relaxed)
        >= inner.options.checkpoint_bytes
    {
        checkpoint(inner)?;
    }
    Ok(())
}

/// Takes the housekeeping lock for `step`. What waits for a sync that the step makes is called and woken when the lock is let go: it may want it.
fn one_step<T>(inner: &Inner, step: impl FnOnce(&Inner) -> T) -> T {
    let held = inner.housekeeping.lock();
    let outcome = step(inner);
    drop(held);
    inner.tell_synced();
    outcome
}

/// Seals everything that waits.
pub(crate) fn seal_all(inner: &Inner) -> io::Result<()> {
    while seal_next(&inner.log, &inner.catalog)? {}
    Ok(())
}

/// Seals on behalf of an appender, unless somebody is at it.
pub(crate) fn seal(inner: &Inner) -> Result<(), Error> {
    let Some(held) = inner.housekeeping.try_lock() else {
        return Ok(());
    };
    let outcome = seal_all(inner);
    drop(held);
    inner.tell_synced();
    noted(inner, outcome.map_err(Error::io("sealing a segment")))
}

/// Counts a failure; that of a store which is closed or takes no more writes is told to everybody anyway.
fn noted<T>(inner: &Inner, outcome: Result<T, Error>) -> Result<T, Error> {
    if let Err(error) = &outcome
        && !matches!(error, Error::Closed)
        && inner.log.commit.check().is_ok()
    {
        let mut failures = inner.failures.lock();
        failures.count += 1;
        failures.last = Some(error.to_string());
    }
    outcome
}

/// Takes a checkpoint.
pub(crate) fn checkpoint_now(inner: &Inner) -> Result<(), Error> {
    one_step(inner, |inner| {
        inner.check_open()?;
        checkpoint(inner)
    })
}

/// As [`checkpoint_now`], for who holds the housekeeping lock already.
pub(crate) fn checkpoint(inner: &Inner) -> Result<(), Error> {
    // A failed sync may have taken the name of an index that it would count on, and no later one would tell.
    inner.log.commit.check()?;
    let replay_from = checkpoints::take(&inner.log, &inner.catalog)?;
    inner.last_checkpoint.store(replay_from, Ordering::Relaxed);
    inner.names.prune();
    Ok(())
}

impl crate::Store {
    /// Rebuilds the index files that a verification found damaged, or not to lead to their records. Returns how many.
    pub(crate) fn rebuild_indexes(&self, found: &[Damage]) -> Result<u64, Error> {
        let _step = self.inner.housekeeping.lock();
        let mut rebuilt = 0;
        for segment in self.inner.segments().iter() {
            let name = segment.index_file().name();
            let is_its = |damage: &Damage| damage.kind == DamageKind::Index && damage.file == name;
            if found.iter().any(is_its) {
                replace_index(&self.inner, segment)?;
                rebuilt += 1;
            }
        }
        Ok(rebuilt)
    }
}

/// Rebuilds the index file of a sealed segment in place of one whose checksums are bad.
pub(crate) fn rebuild(inner: &Inner, segment: &Arc<Segment>) -> Result<(), Error> {
    let _step = inner.housekeeping.lock();
    rebuild_held(inner, segment)
}

/// As [`rebuild`], for who holds the housekeeping lock already.
pub(crate) fn rebuild_held(inner: &Inner, segment: &Arc<Segment>) -> Result<(), Error> {
    if segment.sealed().is_some_and(|index| index.verify().is_ok()) {
        return Ok(()); // Somebody was faster.
    }
    replace_index(inner, segment)
}

/// The caller holds the housekeeping lock.
fn replace_index(inner: &Inner, segment: &Arc<Segment>) -> Result<(), Error> {
    let segments = inner.log.segments();
    let Some(at) = segments
        .iter()
        .position(|known| Arc::ptr_eq(known, segment))
    else {
        return Ok(()); // Retired meanwhile.
    };
    rebuild::rebuild(&*inner.log.disk, &inner.catalog, &segments, at).map_err(Error::io(format!(
        "rebuilding {}",
        segment.index_file().name()
    )))
}
