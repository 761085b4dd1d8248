//! The folder that is measured: what lies under it, and how it is warmed and emptied.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

use crate::mode::Mode;

/// A scratch folder that goes away with this value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder inside `parent`, by default the usual place for the mode.
    pub fn new(parent: Option<&Path>, mode: Mode) -> Result<Self> {
        let parent = match parent {
            Some(parent) => parent.to_owned(),
            None if mode.is_synced() => env::current_dir()?,
            None => PathBuf::from("/dev/shm"),
        };
        let dir = parent.join(format!("qmq-peers-{}", process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self(dir.canonicalize()?))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// "memory-backed (tmpfs)", "ext4", or another file system's name.
pub fn kind(path: &Path) -> Result<String> {
    let magic = rustix::fs::statfs(path)?.f_type;
    Ok(match magic {
        0x0102_1994 => "memory-backed (tmpfs)".to_owned(),
        0xEF53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683E => "btrfs".to_owned(),
        0x794C_7630 => "overlayfs".to_owned(),
        other => format!("file system {other:#x}"),
    })
}

/// Makes the machine hand out the memory that a round will use: in a virtual machine the first
/// touch of a page is far dearer than later ones, and memory that lay free for seconds may have
/// gone back to the host.
pub fn warm(path: &Path, bytes: u64) -> Result<()> {
    const CHUNK_BYTES: u64 = 1 << 20;
    let chunk = vec![1_u8; CHUNK_BYTES as usize];
    let warm = path.join("warm");
    let mut file = File::create(&warm)?;
    for _ in 0..bytes.div_ceil(CHUNK_BYTES) {
        file.write_all(&chunk)?;
    }
    drop(file);
    fs::remove_file(warm)?;
    Ok(())
}
