//! Faults that a test sets on a simulated disk while it runs.

use std::io;
use std::ops::Range;

/// What goes wrong on a simulated disk. Counts are of calls from now on: 1 is the next one. Each counted fault happens
/// once.
#[derive(Debug, Default)]
pub struct SimulatedFaults {
    sync: Countdown,
    sync_names: Countdown,
    every_sync: bool,
    lying_sync: bool,
    short_write: Countdown,
    short_write_kind: Option<io::ErrorKind>,
    read_errors: Vec<(String, Range<u64>)>,
}

/// What a sync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncOutcome {
    Covers,
    Lies,
    Fails,
}

impl SimulatedFaults {
    /// The `nth` sync of a file fails with EIO. As on Linux, what it should have covered is taken for clean from then
    /// on: later syncs return `Ok` without covering it, unless it is written again.
    pub fn fail_sync(&mut self, nth: u64) {
        self.sync.set(nth);
    }

    /// The `nth` sync of the names fails with EIO; a later one covers what it did not.
    pub fn fail_sync_names(&mut self, nth: u64) {
        self.sync_names.set(nth);
    }

    /// Every sync of a file or of the names fails with EIO, until it is switched off.
    pub fn fail_every_sync(&mut self, on: bool) {
        self.every_sync = on;
    }

    /// Syncs of files and of the names return `Ok` and cover nothing, until it is switched off; then the next sync
    /// covers what these did not.
    pub fn lying_sync(&mut self, on: bool) {
        self.lying_sync = on;
    }

    /// The `nth` write_at writes only a beginning of its bytes (perhaps none, never all) and fails: with `StorageFull`
    /// if that is the kind, or else with EIO.
    pub fn short_write(&mut self, nth: u64, kind: io::ErrorKind) {
        self.short_write.set(nth);
        self.short_write_kind = Some(kind);
    }

    /// Reads by read_at that touch these bytes of the file of this name fail with EIO. Reads through a region, which
    /// in reality would end the process, still succeed.
    pub fn read_error(&mut self, name: impl Into<String>, range: Range<u64>) {
        self.read_errors.push((name.into(), range));
    }

    /// Takes all faults back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn sync_of_file(&mut self) -> SyncOutcome {
        let due = self.sync.fire();
        self.outcome(due)
    }

    pub(super) fn sync_of_names(&mut self) -> SyncOutcome {
        let due = self.sync_names.fire();
        self.outcome(due)
    }

    fn outcome(&self, due: bool) -> SyncOutcome {
        if due || self.every_sync {
            SyncOutcome::Fails
        } else if self.lying_sync {
            SyncOutcome::Lies
        } else {
            SyncOutcome::Covers
        }
    }

    /// The error of a write that is to fall short.
    pub(super) fn write(&mut self) -> Option<io::Error> {
        self.short_write
            .fire()
            .then(|| match self.short_write_kind {
                Some(io::ErrorKind::StorageFull) => io::ErrorKind::StorageFull.into(),
                _ => input_output(),
            })
    }

    pub(super) fn fails_read(&self, name: &str, start: u64, end: u64) -> bool {
        let touches = |range: &Range<u64>| range.start < end && start < range.end;
        self.read_errors
            .iter()
            .any(|(of, range)| of == name && touches(range))
    }

    pub(super) fn has_read_errors(&self) -> bool {
        !self.read_errors.is_empty()
    }
}

/// EIO, as the system reports it.
pub(super) fn input_output() -> io::Error {
    rustix::io::Errno::IO.into()
}

/// Calls until a fault; 0 is never.
#[derive(Debug, Default)]
struct Countdown(u64);

impl Countdown {
    fn set(&mut self, nth: u64) {
        self.0 = nth;
    }

    fn fire(&mut self) -> bool {
        let due = self.0 == 1;
        self.0 = self.0.saturating_sub(1);
        due
    }
}
