//! Where the store of a member lives, and what is kept beside it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use qmq_store::{Error, OpenError, Options, Store};

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

/// A folder, and what stands beside it: `<folder>.new` while a snapshot is installed, `<folder>.old-<n>` what was there before.
#[derive(Debug)]
pub(crate) struct InFolder(pub(crate) PathBuf);

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
