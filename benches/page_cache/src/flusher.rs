//! The thread that syncs what was appended, every so often or so many bytes.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustix::fs::Advice;

use crate::cell::Flush;
use crate::mapping::Advisor;
use crate::segment::Segment;

pub(crate) struct Flusher<'scope> {
    shared: Arc<Shared>,
    thread: ScopedJoinHandle<'scope, io::Result<Duration>>,
}

struct Shared {
    flush: Flush,
    segment_bytes: u64,
    targets: Mutex<Vec<Target>>,
    /// Bytes written to all segments together.
    written: AtomicU64,
    /// Bytes that the thread has begun to sync.
    begun: AtomicU64,
    stopping: AtomicBool,
}

/// What the thread needs of a segment.
#[derive(Clone)]
struct Target {
    file: Arc<File>,
    advisor: Option<Arc<Advisor>>,
}

impl<'scope> Flusher<'scope> {
    pub(crate) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        flush: Flush,
        segment_bytes: u64,
    ) -> Self {
        let shared = Arc::new(Shared {
            flush,
            segment_bytes,
            targets: Mutex::default(),
            written: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        Self {
            shared,
            thread: scope.spawn(move || of_thread.run()),
        }
    }

    /// The appender goes on in this segment.
    pub(crate) fn next_segment(&self, segment: &Segment) {
        let target = Target {
            file: Arc::clone(&segment.file),
            advisor: segment.advisor.clone(),
        };
        self.shared
            .targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(target);
    }

    /// So many more bytes were written.
    pub(crate) fn written(&self, bytes: u64) {
        let written = self.shared.written.fetch_add(bytes, Ordering::Release) + bytes;
        let begun = self.shared.begun.load(Ordering::Relaxed);
        if written.saturating_sub(begun) >= self.shared.flush.bytes {
            self.thread.thread().unpark();
        }
    }

    /// Ends the thread after a last sync; the time of its slowest one.
    pub(crate) fn stop(self) -> Result<Duration> {
        self.shared.stopping.store(true, Ordering::Release);
        self.thread.thread().unpark();
        Ok(self
            .thread
            .join()
            .map_err(|_| anyhow!("the flusher panicked"))??)
    }
}

impl Shared {
    fn run(&self) -> io::Result<Duration> {
        let mut slowest = Duration::ZERO;
        let mut synced = 0;
        loop {
            let stopping = self.wait(synced);
            let end = self.written.load(Ordering::Acquire);
            self.begun.store(end, Ordering::Relaxed);
            if end > synced {
                let start = Instant::now();
                self.sync(synced, end)?;
                slowest = slowest.max(start.elapsed());
                synced = end;
            }
            if stopping {
                return Ok(slowest);
            }
        }
    }

    /// Sleeps until it is time, or enough was written, or the end; true at the end.
    fn wait(&self, synced: u64) -> bool {
        let start = Instant::now();
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return true;
            }
            let left = self.flush.interval.saturating_sub(start.elapsed());
            let unsynced = self.written.load(Ordering::Acquire) - synced;
            if left.is_zero() || unsynced >= self.flush.bytes {
                return false;
            }
            thread::park_timeout(left);
        }
    }

    fn sync(&self, from: u64, to: u64) -> io::Result<()> {
        for number in from / self.segment_bytes..=(to - 1) / self.segment_bytes {
            let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            let target = targets[number as usize].clone();
            drop(targets);
            target.file.sync_data()?;
            if self.flush.drop_behind {
                let first = number * self.segment_bytes;
                let range = from.max(first) - first..to.min(first + self.segment_bytes) - first;
                target.drop_behind(range.start, range.end)?;
            }
        }
        Ok(())
    }
}

impl Target {
    /// Only whole pages: the last one is still being written.
    fn drop_behind(&self, from: u64, to: u64) -> io::Result<()> {
        const PAGE_BYTES: u64 = 4096;
        let from = from / PAGE_BYTES * PAGE_BYTES;
        let bytes = (to / PAGE_BYTES * PAGE_BYTES).saturating_sub(from);
        let Some(length) = NonZero::new(bytes) else {
            return Ok(());
        };
        if let Some(advisor) = &self.advisor {
            advisor.drop_range(from as usize, bytes as usize)?;
        }
        rustix::fs::fadvise(&self.file, from, Some(length), Advice::DontNeed)?;
        Ok(())
    }
}
