//! The log of a [`Store`], as replication asks for it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use qmq_store::{Error, OpenError, Options, PrimaryFiles, ReplicaError, Store};

use crate::log::{Epoch, Log, LogError, MasterLog, SlaveLog, Snapshot};

/// Beside the files of the store: up to where the log has to come before it counts as complete, u64 little-endian and its CRC-32.
const INCOMPLETE_FILE: &str = "incomplete";

/// Where a store lives, and what is kept beside it.
pub trait Place: Send + Sync + std::fmt::Debug {
    /// Opens the store there as a replica.
    ///
    /// # Errors
    /// As [`Store::open_replica`].
    fn open(&self, options: Options) -> Result<Store, OpenError>;
    /// What [`Place::mark`] has kept, or 0.
    fn marked(&self) -> u64;
    /// Keeps a number, durably.
    ///
    /// # Errors
    /// If it could not be kept.
    fn mark(&self, until: u64) -> io::Result<()>;
    /// Puts a replica that begins with the snapshot, and has promised this epoch, in the place of the old one, which is set aside. All
    /// or nothing, and durable when it returns. What was marked stays.
    ///
    /// # Errors
    /// As [`Store::install_replica`].
    fn install(
        &self,
        snapshot: &qmq_store::Snapshot,
        promised: u64,
        old: Store,
        options: Options,
    ) -> Result<Store, Error>;
}

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

/// A folder, and what stands beside it: `<folder>.new` while a snapshot is installed, `<folder>.old-<n>` what was there before.
#[derive(Debug)]
struct InFolder(PathBuf);

impl Place for InFolder {
    fn open(&self, options: Options) -> Result<Store, OpenError> {
        let new = beside(&self.0, "new");
        if !self.0.exists() && new.exists() {
            // The old one had been set aside already. If this fails, the open says what is missing.
            let _ = fs::rename(&new, &self.0);
        }
        Store::open_replica(&self.0, options)
    }

    fn marked(&self) -> u64 {
        read_mark(&self.0)
    }

    fn mark(&self, until: u64) -> io::Result<()> {
        write_mark(&self.0, until)
    }

    fn install(
        &self,
        snapshot: &qmq_store::Snapshot,
        promised: u64,
        old: Store,
        options: Options,
    ) -> Result<Store, Error> {
        let marked = self.marked();
        let new = beside(&self.0, "new");
        let failed = |doing: &str, error: io::Error| Error::Io {
            doing: doing.to_owned(),
            source: error.into(),
        };
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("removing an unfinished replica", error));
            }
            _ => {}
        }
        let store = Store::install_replica(&new, snapshot, options.clone())?;
        store.promise(promised)?;
        write_mark(&new, marked).map_err(|error| failed("writing the mark", error))?;
        store.close()?;
        let never_used = old.watermarks().written == 0;
        old.close()?;
        // The old log is set aside whole; whoever is sure that it is not needed removes it.
        let aside = (1..)
            .map(|n| beside(&self.0, &format!("old-{n}")))
            .find(|old| !old.exists())
            .unwrap_or_default();
        fs::rename(&self.0, &aside).map_err(|error| failed("setting the log aside", error))?;
        fs::rename(&new, &self.0).map_err(|error| failed("renaming the replica", error))?;
        if let Some(parent) = self.0.parent() {
            let parent = File::open(parent).and_then(|parent| parent.sync_all());
            parent.map_err(|error| failed("syncing the folder", error))?;
        }
        if never_used {
            // An empty store, and nothing was ever cut from it. Whether it goes does not matter.
            let _ = fs::remove_dir_all(&aside);
        }
        Ok(Store::open_replica(&self.0, options)?)
    }
}

fn beside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(what);
    folder.with_file_name(name)
}

fn write_mark(folder: &Path, until: u64) -> io::Result<()> {
    let (tmp, name) = (folder.join("incomplete.tmp"), folder.join(INCOMPLETE_FILE));
    let mut bytes = until.to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let mut file = File::create(&tmp)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(tmp, name)?;
    File::open(folder)?.sync_all()
}

/// A mark that is damaged, or cannot be read, counts as "never complete": the member asks for another's log, and does not vouch.
fn read_mark(folder: &Path) -> u64 {
    let bytes = match fs::read(folder.join(INCOMPLETE_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return 0,
        read => read.unwrap_or_default(),
    };
    match bytes.split_first_chunk::<8>() {
        Some((until, crc)) if crc == crc32fast::hash(until).to_le_bytes().as_slice() => {
            u64::from_le_bytes(*until)
        }
        _ => u64::MAX,
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
            what: format!("writing {INCOMPLETE_FILE}: {error}"),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_mark_is_kept_and_one_that_cannot_be_read_never_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(INCOMPLETE_FILE);
        assert_eq!(read_mark(folder.path()), 0);
        write_mark(folder.path(), 700).unwrap();
        assert_eq!(read_mark(folder.path()), 700);
        let mut bytes = fs::read(&file).unwrap();
        bytes[1] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(read_mark(folder.path()), u64::MAX);
        fs::write(&file, []).unwrap();
        assert_eq!(read_mark(folder.path()), u64::MAX);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(read_mark(folder.path()), u64::MAX);
    }
}
