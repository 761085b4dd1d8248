//! What the operating system says about this process, and what a phase of work adds to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::files::DiskUse;

/// Resources that the process has at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resources {
    /// Anonymous memory in bytes: the heap and the stacks, without file pages.
    pub(super) rss_anon_bytes: u64,
    /// Open file descriptors.
    pub(super) open_files: u64,
    /// Memory mappings.
    pub(super) mappings: u64,
}

impl Resources {
    /// Reads them from `/proc/self`.
    pub(super) fn now() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let kib = field(&status, "RssAnon:").unwrap_or(0);
        Ok(Self {
            rss_anon_bytes: kib * 1024,
            // Listing them takes one itself.
            open_files: (fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1),
            mappings: fs::read_to_string("/proc/self/maps")?.lines().count() as u64,
        })
    }
}

/// How long this thread has waited for a core by now; nothing where the system does not count that.
fn queued() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Time and written bytes of one kind of work, which may come in several pieces.
#[derive(Debug)]
pub(super) struct Meter {
    dir: PathBuf,
    /// Time spent in the pieces.
    pub(super) elapsed: Duration,
    written: u64,
    grown: u64,
    queued: Duration,
}

/// The state at the start of a piece.
#[derive(Clone, Copy, Debug)]
struct Mark {
    written: u64,
    allocated: u64,
}

impl Meter {
    /// A meter of work on the files below `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            elapsed: Duration::ZERO,
            written: 0,
            grown: 0,
            queued: Duration::ZERO,
        }
    }

    /// Share of the time in which the thread that did the work could have gone on, and had no core: others were at work on all of them.
    pub(super) fn core_wait(&self) -> f64 {
        let elapsed = self.elapsed.max(Duration::from_nanos(1));
        self.queued.as_secs_f64() / elapsed.as_secs_f64()
    }

    /// Measures one piece of work.
    pub(super) fn piece<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<T> {
        let before = self.mark()?;
        let queued = queued();
        let start = Instant::now();
        let result = work();
        self.elapsed += start.elapsed();
        self.queued += self::queued().saturating_sub(queued);
        let after = self.mark()?;
        self.written += after.written.saturating_sub(before.written);
        self.grown += after.allocated.saturating_sub(before.allocated);
        Ok(result)
    }

    fn mark(&self) -> io::Result<Mark> {
        let io = fs::read_to_string("/proc/self/io")?;
        Ok(Mark {
            written: field(&io, "write_bytes:").unwrap_or(0),
            allocated: DiskUse::of(&self.dir)?.allocated,
        })
    }

    /// Bytes that the work caused to be written: what the kernel counts as dirtied by this process, by calls or
    /// through mappings; where it does not count (tmpfs), the growth of the files' blocks.
    pub(super) fn written_bytes(&self) -> u64 {
        if self.written > 0 {
            self.written
        } else {
            self.grown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_mappings() {
        let now = Resources::now().unwrap();
        assert!(
            now.rss_anon_bytes > 0 && now.open_files >= 3 && now.mappings > 5,
            "{now:?}"
        );
    }

    #[test]
    fn written_bytes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut meter = Meter::new(dir.path());
        let work = || fs::write(dir.path().join("x"), vec![7; 1 << 20]);
        meter.piece(work).unwrap().unwrap();
        assert!(meter.written_bytes() >= 1 << 20, "{meter:?}");
    }
}
