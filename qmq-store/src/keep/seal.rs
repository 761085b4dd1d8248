//! Turns the memory index of a finished segment into a file.

use std::io;
use std::sync::Arc;

use super::files::write_index;
use crate::index::catalog::Catalog;
use crate::index::sealed::{IndexBuilder, SealedIndex};
use crate::log::segment::{SEGMENT_HEADER_LEN, Segment, index_name};
use crate::log::{Log, SealJob};

/// Seals the oldest finished segment. `false`: there is none.
pub(crate) fn seal_next(log: &Log, catalog: &Catalog) -> io::Result<bool> {
    let Some(job) = log.next_to_seal() else {
        return Ok(false);
    };
    match seal(log, catalog, &job) {
        Ok(()) => {
            log.sealed_one();
            Ok(true)
        }
        Err(error) => {
            log.seal_failed(job);
            Err(error)
        }
    }
}

fn seal(log: &Log, catalog: &Catalog, job: &SealJob) -> io::Result<()> {
    let Some(end) = job.segment.end() else {
        return Ok(());
    };
    let base = job.segment.base;
    if log.sync_to(end).is_err() {
        return Err(io::Error::other("the log takes no more writes"));
    }
    // The blocks beyond the last record go back to the disk.
    job.file.set_len(SEGMENT_HEADER_LEN + (end - base))?;
    job.file.sync()?;
    let mut touched = job.touched.clone();
    touched.sort_unstable();
    let mut touched = touched.into_iter().peekable();
    let subjects = catalog.all();
    let mut builder = IndexBuilder::new(log.store_id, base, job.subjects as usize);
    for subject in subjects.iter().take(job.subjects as usize) {
        let index = subject.index.lock();
        if touched.next_if_eq(&subject.id).is_some() {
            builder.subject(index.reached_before(base), index.run_of(base));
        } else {
            builder.subject(index.reached_before(base), None);
        }
    }
    let times = times(&job.segment);
    let bytes = builder.finish(end, times.0, times.1);
    log.with_reserve(|| write_index(&*log.disk, base, &bytes))?;
    let index = SealedIndex::open(job.segment.index_file().clone(), base, end)
        .map_err(|_| io::Error::other(format!("{} does not read back", index_name(base))))?;
    job.segment.set_sealed(Some(Arc::new(index)));
    for subject in &job.touched {
        if let Some(subject) = catalog.by_id(*subject) {
            subject.index.lock().drop_run(base);
        }
    }
    Ok(())
}

fn times(segment: &Segment) -> (u64, u64) {
    use std::sync::atomic::Ordering::Relaxed;
    (
        segment.first_time_ms.load(Relaxed),
        segment.last_time_ms.load(Relaxed),
    )
}
