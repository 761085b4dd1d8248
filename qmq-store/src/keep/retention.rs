//! What is kept, and how space comes back.
//!
//! Whole segments are retired, oldest first. A checkpoint says so durably before a file goes. The names go at once; the blocks follow
//! step by step, so that no single call stalls the disk, and only when no reader has the segment mapped any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::files::{is_foreign, set_aside};
use crate::disk::{Access, DiskFile};
use crate::error::Error;
use crate::index::catalog::floor;
use crate::log::segment::Segment;
use crate::options::RetentionHold;
use crate::store::{Inner, Store};

/// Blocks given back at a time.
const FREE_STEP: u64 = 8 << 20;

/// A file whose name is gone and whose blocks are not yet.
#[derive(Debug)]
pub(crate) struct Retired {
    file: Arc<dyn DiskFile>,
    len: u64,
    freed: u64,
}

impl Retired {
    pub(crate) fn bytes(&self) -> u64 {
        self.len - self.freed
    }

    /// Gives all blocks back, in steps. `false`: somebody reads them.
    fn free(&mut self) -> io::Result<bool> {
        if !self.file.unshared()? {
            return Ok(false);
        }
        while self.freed < self.len {
            let step = FREE_STEP.min(self.len - self.freed);
            self.file.punch(self.freed, step)?;
            self.freed += step;
        }
        Ok(true)
    }
}

/// While it lives, nothing is retired.
#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a AtomicUsize);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inner {
    /// Nothing is retired while the answer lives. Waits for a retirement that is under way.
    pub(crate) fn hold_retention(&self) -> Hold<'_> {
        self.retention_held.fetch_add(1, Ordering::SeqCst);
        drop(self.housekeeping.lock());
        Hold(&self.retention_held)
    }
}

/// Retires what is due. The caller holds the housekeeping lock.
pub(crate) fn retire(inner: &Inner) -> Result<(), Error> {
    if inner.retention_held.load(Ordering::SeqCst) > 0 {
        return Ok(());
    }
    let hold = inner.options.retention_hold.as_ref();
    let held_from = hold.map_or(u64::MAX, RetentionHold::offset);
    let floor = due_floor(
        inner,
        held_from.min(inner.keep_from.load(Ordering::Acquire)),
    )?;
    if floor <= inner.log.start_offset() {
        return Ok(());
    }
    let retired = inner.log.retire_below(floor);
    if retired.is_empty() {
        return Ok(());
    }
    // The checkpoint says where the log starts; after it the files are not missed.
    if let Err(error) = super::housekeeper::checkpoint(inner) {
        // They are tried again in the next round; nobody has been told that they are gone.
        inner.log.take_back(retired);
        return Err(error);
    }
    for segment in &retired {
        remove(inner, segment).map_err(Error::io("removing a retired segment"))?;
    }
    free_retired(inner).map_err(Error::io("freeing a retired segment"))
}

fn remove(inner: &Inner, segment: &Segment) -> io::Result<()> {
    let mut retired = inner.retired.lock();
    let name = segment.data().name();
    if is_foreign(&*inner.log.disk, name, inner.log.store_id).unwrap_or(false) {
        segment.data().forget();
        set_aside(&*inner.log.disk, name)?;
    }
    for file in [segment.data(), segment.index_file()] {
        let open = match inner.log.disk.open(file.name(), Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            open => open?,
        };
        file.forget();
        inner.log.disk.remove(file.name())?;
        retired.push(Retired {
            len: open.len()?,
            freed: 0,
            file: open,
        });
    }
    Ok(())
}

/// Gives back blocks of retired files that nobody reads any more: all that is due, in steps.
pub(crate) fn free_retired(inner: &Inner) -> io::Result<()> {
    let waiting = std::mem::take(&mut *inner.retired.lock());
    let mut outcome = Ok(());
    for mut retired in waiting {
        let freed = retired.free();
        let done = matches!(freed, Ok(true));
        if !done {
            inner.retired.lock().push(retired);
        }
        outcome = outcome.and(freed.map(|_| ()));
    }
    outcome
}

impl Store {
    /// Offset below which retention would take the log now, were it not for [`Options::retention_hold`](crate::Options::retention_hold). Who
    /// holds it moves what it needs of that elsewhere, and lets go.
    ///
    /// # Errors
    /// [`Error::Io`], if the disk does not say how much room it has.
    pub fn retention_due(&self) -> Result<u64, Error> {
        due_floor(&self.inner, self.inner.keep_from.load(Ordering::Acquire))
    }

    /// For a replicator: retention takes nothing at or behind `offset`, whatever [`Retention`](crate::Retention) says, until it is called again; a full disk
    /// then refuses appends. With `u64::MAX`, as after each open, it holds nothing. It holds beside
    /// [`Options::retention_hold`](crate::Options::retention_hold), and does not bring back what is gone.
    pub fn keep_from(&self, offset: u64) {
        self.inner.keep_from.store(offset, Ordering::Release);
    }
}

/// Offset below which segments are to go, but nothing at or behind `held_from`.
fn due_floor(inner: &Inner, held_from: u64) -> Result<u64, Error> {
    let retention = &inner.options.retention;
    let segments = inner.log.segments();
    let sealed = segments
        .iter()
        .take_while(|segment| segment.sealed().is_some());
    let end = inner.log.commit.written();
    let now = inner.options.clock.now_ms();
    let mut free = match retention.min_free_bytes {
        Some(_) => inner
            .log
            .disk
            .free_bytes()
            .map_err(Error::io("asking for free space"))?,
        None => 0,
    };
    // What readers still hold comes back once they let go of it: retiring more would not make it come sooner.
    free = free.saturating_add(inner.retired.lock().iter().map(Retired::bytes).sum());
    let needed_from = if retention.keep_unconsumed {
        oldest_needed(inner, &segments)?
    } else {
        u64::MAX
    };
    let needed_from = needed_from.min(held_from);
    let mut floor = inner.log.start_offset();
    for segment in sealed {
        let Some(segment_end) = segment.end() else {
            break;
        };
        let last_time = segment.last_time_ms.load(Ordering::Relaxed);
        let too_old = retention
            .max_age
            .is_some_and(|age| u128::from(now.saturating_sub(last_time)) > age.as_millis());
        let too_much = retention
            .max_bytes
            .is_some_and(|max| end - segment.base > max);
        let too_full = retention.min_free_bytes.is_some_and(|least| free < least);
        if !(too_old || too_much || too_full) || segment_end > needed_from {
            break;
        }
        free = free.saturating_add(segment_end - segment.base);
        floor = segment_end;
    }
    Ok(floor)
}

/// Offset of the oldest record that some group has not settled; 0 while that is not known.
fn oldest_needed(inner: &Inner, segments: &[Arc<Segment>]) -> Result<u64, Error> {
    let mut needed = u64::MAX;
    for subject in inner.catalog.all() {
        let lowest = {
            let consumption = subject.consumption.lock();
            consumption
                .groups
                .iter()
                .map(crate::consume::Group::lowest_unsettled)
                .min()
        };
        let Some(lowest) = lowest else { continue };
        let first = match floor(&subject, segments) {
            Ok(first) => first,
            Err(damaged) => {
                damaged.check_readable()?;
                super::housekeeper::rebuild_held(inner, &damaged.0)?;
                return Ok(0);
            }
        };
        let mut found = None;
        let walked = crate::index::catalog::walk(
            &subject,
            &|| inner.segments(),
            lowest.max(first),
            u64::MAX,
            |segment, _, _| {
                found = Some(segment.base);
                false
            },
        );
        if walked.is_ok() {
            needed = needed.min(found.unwrap_or(u64::MAX));
        } else {
            return Ok(0);
        }
    }
    Ok(needed)
}
