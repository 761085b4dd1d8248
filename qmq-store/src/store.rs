//! The store's handle: open, maintain, close.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

pub(crate) use crate::append::Appended;
use crate::consume::later::Later;
use crate::consume::{Names, wakeup};
use crate::disk::{Disk, MappedDisk};
use crate::error::{Error, OpenError};
use crate::index::catalog::{Catalog, DamagedIndex};
use crate::keep::housekeeper;
use crate::keep::identity::Identity;
use crate::keep::opening::{self, FolderLock, OpenAs};
use crate::keep::recovery::OpenReport;
use crate::keep::retention::Retired;
use crate::log::Log;
use crate::log::role::Role;
use crate::log::segment::Segment;
use crate::options::{Background, Options};

/// An open store. Cheap to clone; all clones are the same store. Dropping the last one without [`Store::close`] is safe: the next open then
/// replays what came after the last checkpoint.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    /// Stops the threads when the last handle goes.
    _running: Arc<Running>,
}

/// What the store is made of. The threads of the store hold it, and not the handle.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) log: Log,
    pub(crate) catalog: Catalog,
    pub(crate) names: Names,
    pub(crate) report: OpenReport,
    pub(crate) created_ms: u64,
    /// Subjects of which some consumer holds messages.
    pub(crate) busy: Mutex<HashSet<u32>>,
    /// With `visible_at` above `Written`: subjects appended to, whose waiters are woken when the watermark passes.
    pub(crate) wake_later: Mutex<Later>,
    pub(crate) retired: Mutex<Vec<Retired>>,
    /// How many hold retention back: verifications and backups under way.
    pub(crate) retention_held: std::sync::atomic::AtomicUsize,
    /// See [`Store::keep_from`].
    pub(crate) keep_from: std::sync::atomic::AtomicU64,
    pub(crate) last_checkpoint: std::sync::atomic::AtomicU64,
    pub(crate) failures: Mutex<housekeeper::Failures>,
    /// One housekeeping step at a time.
    pub(crate) housekeeping: Mutex<()>,
    pub(crate) closed: AtomicBool,
    /// Highest epoch promised.
    pub(crate) promised: Mutex<u64>,
    pub(crate) lock: Mutex<Option<FolderLock>>,
}

#[derive(Debug)]
struct Running {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Running {
    fn stop(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.log.commit.stop();
        self.inner.log.ahead.stop();
        self.inner.log.housekeeping.ring();
        // Whoever waits for a message is told that none will come.
        for subject in self.inner.catalog.all() {
            wakeup::notify(&subject);
        }
        let current = std::thread::current().id();
        for thread in self.threads.lock().drain(..) {
            // A callback may hold the last handle: a thread cannot wait for itself.
            if thread.thread().id() != current {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        self.inner.log.commit.call_off();
        *self.inner.lock.lock() = None;
    }
}

impl Store {
    /// Ends the threads, and all waiting.
    pub(crate) fn stop(&self) {
        self._running.stop();
    }

    /// Opens the store in the folder `path`, creating it if it does not exist or is empty.
    ///
    /// # Errors
    /// See [`OpenError`]: an option out of range, a folder locked by another process, of another program, of a newer format, or not writable.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        options.check()?;
        let path = path.as_ref();
        let disk = MappedDisk::open(path, true)
            .map_err(|error| opening::not_writable(&path.display().to_string(), error))?;
        Self::open_on(Arc::new(disk), options)
    }

    /// Opens a store on any [`Disk`].
    ///
    /// # Errors
    /// As [`Store::open`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the store takes the disk over"
    )]
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Self, OpenError> {
        Self::open_as(&disk, options, OpenAs::Master, None)
    }

    pub(crate) fn open_as(
        disk: &Arc<dyn Disk>,
        options: Options,
        open_as: OpenAs,
        lock: Option<FolderLock>,
    ) -> Result<Self, OpenError> {
        let inner = Arc::new(opening::open(disk, options, open_as, lock)?);
        let mut threads = Vec::new();
        if inner.options.background == Background::Threads {
            threads = housekeeper::start(&inner).map_err(OpenError::io("starting a thread"))?;
        }
        let running = Running {
            inner: Arc::clone(&inner),
            threads: Mutex::new(threads),
        };
        Ok(Self {
            inner,
            _running: Arc::new(running),
        })
    }

    /// What the open found and did.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// One round of housekeeping: sync, seal, retire, checkpoint as far as they are due. With `Background::Manual` this is how they happen.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`].
    pub fn maintain(&self) -> Result<(), Error> {
        housekeeper::maintain(&self.inner)
    }

    /// Takes a checkpoint now, so that the next open replays nothing before it.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`], [`Error::Closed`].
    pub fn checkpoint(&self) -> Result<(), Error> {
        housekeeper::checkpoint_now(&self.inner)
    }

    /// Closes the store in order: everything synced, a checkpoint taken. Other clones get [`Error::Closed`] from then on.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`]; the store is closed all the same, and the next open recovers it.
    pub fn close(self) -> Result<(), Error> {
        self._running.stop();
        let outcome = opening::close(&self.inner);
        self.inner.log.commit.call_off();
        *self.inner.lock.lock() = None;
        outcome
    }
}

impl Inner {
    #[inline]
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Relaxed) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// The folder's identity as of now: of an open store.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            store_id: self.log.store_id,
            created_ms: self.created_ms,
            incarnation: self.log.incarnation(),
            clean_end: None,
            replica: self.log.role() != Role::Master,
            held: self.options.retention_hold.is_some(),
            cut: None,
        }
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.log.segments()
    }

    /// Rebuilds a damaged index file from its segment, so that the caller can try again.
    pub(crate) fn heal(&self, damaged: &DamagedIndex) -> Result<(), Error> {
        damaged.check_readable()?;
        housekeeper::rebuild(self, &damaged.0)
    }
}
