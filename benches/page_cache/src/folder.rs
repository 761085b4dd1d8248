//! The folder that is measured.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, ensure};

use crate::cell::MIB;

const FREE_BYTES_MIN: u64 = 4096 * MIB;

/// A scratch folder that goes away with this value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new folder inside `parent`, which must have room: storing into a mapping of a full disk
    /// would end the process.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let room = rustix::fs::statvfs(parent)
            .with_context(|| format!("looking at {}", parent.display()))?;
        let free_bytes = room.f_bavail * room.f_frsize;
        ensure!(
            free_bytes >= FREE_BYTES_MIN,
            "{} has {} MiB free; {} MiB are needed",
            parent.display(),
            free_bytes / MIB,
            FREE_BYTES_MIN / MIB
        );
        let dir = parent.join(format!("qmq-page-cache-{}", process::id()));
        fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the machine hand out the memory that is going to be used: in a virtual machine the
    /// first touch of a page is far dearer than later ones, and memory that lay free for seconds
    /// may have gone back to the host.
    pub(crate) fn warm(&self, bytes: u64) -> Result<()> {
        let chunk = vec![1; MIB as usize];
        let mut file = File::create(self.0.join("warm"))?;
        for _ in 0..bytes / MIB {
            file.write_all(&chunk)?;
        }
        self.empty()
    }

    /// Removes all files.
    pub(crate) fn empty(&self) -> Result<()> {
        for entry in fs::read_dir(&self.0)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// "memory-backed (tmpfs)", "ext4", or another file system's name.
pub(crate) fn kind(path: &Path) -> Result<String> {
    Ok(match rustix::fs::statfs(path)?.f_type {
        0x0102_1994 => "memory-backed (tmpfs)".to_owned(),
        0xEF53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683E => "btrfs".to_owned(),
        0x794C_7630 => "overlayfs".to_owned(),
        other => format!("file system {other:#x}"),
    })
}
