//! Folders: fresh ones to work in, existing ones to look at, and what they take on disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::failure::Failure;

/// A folder that a command fills: the caller's and kept, or a temporary one that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl WorkFolder {
    /// The caller's folder, which must be absent or empty, or else a fresh temporary one.
    pub(crate) fn prepare(wanted: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = wanted else {
            let temporary = tempfile::Builder::new()
                .prefix("qmq-")
                .tempdir()
                .map_err(|e| {
                    Failure::of(
                        "cannot make a temporary folder",
                        &e,
                        "give a folder with --dir",
                    )
                })?;
            return Ok(Self {
                path: temporary.path().to_owned(),
                temporary: Some(temporary),
            });
        };
        let failed = |e: io::Error| {
            Failure::of(
                format_args!("cannot use the folder {}", path.display()),
                &e,
                "give a folder that you may write to with --dir",
            )
        };
        fs::create_dir_all(path).map_err(failed)?;
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(Failure::new(
                format!("the folder {} is not empty", path.display()),
                "give an empty or new one with --dir, or leave --dir out for a temporary one",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            temporary: None,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it will be removed in the end.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

/// Refuses a folder that does not exist, for commands that only look.
pub(crate) fn existing(dir: &Path) -> Result<&Path, Failure> {
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(Failure::new(
        format!("there is no folder {}", dir.display()),
        "give the folder of a store with --dir; `qmq store append` makes a new one",
    ))
}

/// What the files below a folder take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskUse {
    /// Sum of the lengths.
    pub(crate) length: u64,
    /// Sum of the allocated blocks in bytes.
    pub(crate) allocated: u64,
    /// Number of files.
    pub(crate) files: u64,
}

impl DiskUse {
    /// Adds up a folder and its subfolders. A file that vanishes meanwhile counts nothing.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let mut sum = Self::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if metadata.is_dir() {
                let inner = Self::of(&entry.path())?;
                sum.length += inner.length;
                sum.allocated += inner.allocated;
                sum.files += inner.files;
            } else {
                sum.length += metadata.len();
                sum.allocated += metadata.blocks() * 512;
                sum.files += 1;
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        assert!(!WorkFolder::prepare(Some(&new)).unwrap().is_temporary());
        fs::write(new.join("x"), b"1234").unwrap();
        assert!(WorkFolder::prepare(Some(&new)).is_err());
        assert_eq!(DiskUse::of(dir.path()).unwrap().length, 4);
    }

    #[test]
    fn a_temporary_folder_goes_away() {
        let folder = WorkFolder::prepare(None).unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
