//! The log of a [`Store`], as replication asks for it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use qmq_store::{Error, OpenError, Options, PrimaryFiles, ReplicaError, Store};

use crate::log::{Epoch, Log, LogError, MasterLog, SlaveLog, Snapshot};
use crate::place::{InFolder, Place};

/// A store as a replica until a promotion.
///
/// A cut and a snapshot open the store anew, so that handles taken from [`StoreLog::store`] before are closed: take it again after
/// [`crate::Event::LostTail`] and [`crate::Event::Installed`].
#[derive(Debug)]
pub struct StoreLog {
    store: Store,
    place: Arc<dyn Place>,
    options: Options,
    accepting: AtomicBool,
    files: Option<Arc<dyn PrimaryFiles + Send + Sync>>,
    /// The log was cut or begun anew, and the files still know what was beyond.
    beyond: bool,
    /// What the place has kept.
    marked: AtomicU64,
}

impl StoreLog {
    /// Opens the store in `folder` as a replica. Finishes the installation of a snapshot that was interrupted.
    ///
    /// # Errors
    /// As [`Store::open_replica`].
    pub fn open(folder: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let place = InFolder(folder.as_ref().to_path_buf());
        Self::open_at(Arc::new(place), options)
    }

    /// As [`StoreLog::open`], in any place.
    ///
    /// # Errors
    /// As [`StoreLog::open`].
    pub fn open_at(place: Arc<dyn Place>, options: Options) -> Result<Self, OpenError> {
        // It may finish an installation, which brings its mark.
        let store = place.open(options.clone())?;
        Ok(Self {
            store,
            marked: AtomicU64::new(place.marked()),
            place,
            options,
            accepting: AtomicBool::new(false),
            files: None,
            beyond: false,
        })
    }

    /// Files that belong to the store and are sent with its log, such as a delay scheduler's. To be said before the log is given to a
    /// member. The store must have been opened with the [`qmq_store::Options::retention_hold`] that they let go of.
    ///
    /// # Errors
    /// [`LogError::Busy`], [`LogError::Failed`] if they cannot be used.
    pub fn with_files(
        mut self,
        files: Arc<dyn PrimaryFiles + Send + Sync>,
    ) -> Result<Self, LogError> {
        self.files = Some(files);
        self.forget_beyond()?;
        Ok(self)
    }

    /// The log may have lost its end, and gets another one: not before the files know.
    fn forget_beyond(&mut self) -> Result<(), LogError> {
        self.beyond = true;
        if let Some(files) = &self.files {
            let is_all = files.forget_beyond(&self.store).map_err(|error| {
                let what = format!("files beside the log, which know more than it has: {error}");
                match error.kind() {
                    io::ErrorKind::WouldBlock => LogError::Busy { what },
                    _ => LogError::Failed { what },
                }
            })?;
            if !is_all && self.incomplete_until() == 0 {
                self.mark_incomplete(1)?;
            }
        }
        self.beyond = false;
        Ok(())
    }

    /// As [`Self::forget_beyond`]; what is in use now is tried again before the next append.
    fn forget_beyond_soon(&mut self) -> Result<(), LogError> {
        match self.forget_beyond() {
            Err(LogError::Busy { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// The store at the moment.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether appends may be taken: asked by whoever appends, as long as the store itself has no such switch.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }

    fn install_anew(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let snapshot = qmq_store::Snapshot::from_bytes(snapshot.bytes.clone())?;
        let (promised, options) = (self.promised(), self.options.clone());
        let old = self.store.clone();
        self.store = self.place.install(&snapshot, promised, old, options)?;
        Ok(())
    }
}

fn told(error: Error) -> LogError {
    match error {
        Error::Replication(error) => match error {
            ReplicaError::Gap { offset, end } => LogError::NotTheEnd { offset, end },
            ReplicaError::Differs { offset } | ReplicaError::Refused { offset, .. } => {
                LogError::BadBytes { offset }
            }
            ReplicaError::NotAUnit { offset, .. } => LogError::NotABoundary { offset },
            ReplicaError::Retired { offset, start } => LogError::Retired { offset, start },
            ReplicaError::BeyondEnd { offset, end } => LogError::BeyondEnd { offset, end },
            ReplicaError::Damaged { offset, len } => LogError::Damaged {
                from: offset,
                to: offset + len,
            },
            ReplicaError::CutTooDeep { offset } => LogError::CutTooDeep { offset },
            ReplicaError::BadSnapshot { .. } => LogError::BadBytes { offset: 0 },
            error => LogError::Failed {
                what: error.to_string(),
            },
        },
        error @ Error::DiskFull { .. } => LogError::NoRoom {
            what: error.to_string(),
        },
        error => LogError::Failed {
            what: error.to_string(),
        },
    }
}

impl Log for StoreLog {
    fn id(&self) -> u128 {
        self.store.stats().store_id
    }

    fn start(&self) -> u64 {
        self.store.stats().start_offset
    }

    fn written(&self) -> u64 {
        self.store.watermarks().written
    }

    fn synced(&self) -> u64 {
        self.store.watermarks().synced
    }

    fn epochs(&self) -> Vec<Epoch> {
        (self.store.epochs().into_iter())
            .map(|epoch| Epoch {
                number: epoch.number,
                start: epoch.start,
            })
            .collect()
    }

    fn state_ahead(&self) -> u64 {
        self.store.state_ahead()
    }

    fn read(&self, offset: u64, max: usize) -> Result<Bytes, LogError> {
        self.store
            .raw(offset, max)
            .map(|raw| raw.bytes)
            .map_err(told)
    }

    fn digest(&self, from: u64, to: u64) -> Result<u64, LogError> {
        self.store.digest(from, to).map(u64::from).map_err(told)
    }

    fn verify(&self, from: u64, to: u64) -> Result<(), LogError> {
        match self.store.first_bad(from, to).map_err(told)? {
            Some(bad) => Err(LogError::Damaged {
                from: bad.start,
                to: bad.end,
            }),
            None => Ok(()),
        }
    }

    fn replace(&self, offset: u64, bytes: &[u8]) -> Result<(), LogError> {
        self.store
            .replace_raw(offset, bytes)
            .map(drop)
            .map_err(told)
    }

    fn promised(&self) -> u64 {
        self.store.promised()
    }

    fn promise(&self, epoch: u64) -> Result<(), LogError> {
        self.store.promise(epoch).map_err(told)
    }

    fn files(&self) -> Option<&dyn PrimaryFiles> {
        let files = self.files.as_deref()?;
        Some(files)
    }

    fn incomplete_until(&self) -> u64 {
        self.marked.load(Ordering::Acquire)
    }

    fn mark_incomplete(&self, until: u64) -> Result<(), LogError> {
        let marked = self.place.mark(until);
        marked.map_err(|error| LogError::Failed {
            what: format!("writing the mark of an incomplete log: {error}"),
        })?;
        self.marked.store(until, Ordering::Release);
        Ok(())
    }
}

impl MasterLog for StoreLog {
    fn begin_epoch(&self, epoch: u64) -> Result<u64, LogError> {
        let start = self.store.promote(epoch).map_err(told)?;
        self.store.advance_replicated(0);
        self.accepting.store(true, Ordering::Release);
        Ok(self.store.raw(start, 1).map_err(told)?.end())
    }

    fn advance_replicated(&self, end: u64) {
        self.store.advance_replicated(end);
    }

    fn accept(&self, accepting: bool) {
        self.accepting.store(accepting, Ordering::Release);
    }

    fn too_few_in_sync(&self, too_few: bool) {
        self.store.too_few_in_sync(too_few);
    }

    fn keep_from(&self, offset: u64) {
        self.store.keep_from(offset);
    }

    fn demote(&self) {
        self.accepting.store(false, Ordering::Release);
        self.store.keep_from(u64::MAX);
        // If the folder could not be told, the store refuses appends all the same.
        let _ = self.store.demote();
    }

    fn snapshot(&self) -> Result<Snapshot, LogError> {
        let snapshot = self.store.snapshot().map_err(told)?;
        Ok(Snapshot {
            base: snapshot.offset(),
            bytes: snapshot.as_bytes().clone(),
        })
    }
}

impl SlaveLog for StoreLog {
    fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, LogError> {
        if self.beyond {
            self.forget_beyond()?;
        }
        self.store.append_raw(offset, bytes).map_err(told)
    }

    fn sync(&mut self) -> Result<u64, LogError> {
        self.store.sync().map_err(told)?;
        Ok(self.synced())
    }

    fn cut(&mut self, offset: u64) -> Result<(), LogError> {
        if offset <= self.start() {
            // Nothing of the log would be left; an older checkpoint may begin in what retention has taken.
            return Err(LogError::CutTooDeep { offset });
        }
        let (store, _) = self.store.cut(offset).map_err(told)?;
        self.store = store;
        self.forget_beyond_soon()
    }

    fn install(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        if let Some(files) = &self.files {
            files.hold_all();
        }
        self.install_anew(snapshot).map_err(told)?;
        self.forget_beyond_soon()
    }
}
