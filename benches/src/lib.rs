//! What the benches share.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use criterion::Criterion;
use memmap2::{MmapMut, MmapOptions};
use qmq_store::{Background, Options, Store};

/// A folder that is removed in the end: in `QMQ_BENCH_DIR`, or among the system's temporary files.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// A new one.
    ///
    /// # Panics
    /// If it cannot be created.
    #[must_use]
    pub fn new() -> Self {
        let folder = match std::env::var_os("QMQ_BENCH_DIR") {
            Some(parent) => tempfile::tempdir_in(parent),
            None => tempfile::tempdir(),
        };
        Self(folder.expect("a folder for the bench"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Options of all benches: the defaults, without room for a cold disk's retention to begin.
#[must_use]
pub fn options() -> Options {
    Options {
        background: Background::Threads,
        unacked_max: 10_000_000,
        ..Options::default()
    }
}

/// Opens a store.
///
/// # Panics
/// If it does not open.
#[must_use]
pub fn open(folder: &Folder) -> Store {
    match Store::open(folder.path(), options()) {
        Ok(store) => store,
        Err(error) => panic!("the store does not open: {error}"),
    }
}

/// Short measurements: all benches together take minutes, not hours.
#[must_use]
pub fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

/// Bytes of a [`MappedFile`].
const FILE_BYTES: usize = 64 << 20;

/// A preallocated file, mapped: the raw limit of what the store does.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    map: MmapMut,
    end: usize,
}

impl MappedFile {
    /// A new one in `folder`; one that is there already is replaced.
    ///
    /// # Panics
    /// If the disk does not let it.
    #[must_use]
    pub fn create(folder: &Folder) -> Self {
        Self::try_create(&folder.path().join("raw")).unwrap_or_else(|error| panic!("raw: {error}"))
    }

    fn try_create(path: &Path) -> std::io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, FILE_BYTES as u64)?;
        // SAFETY: the file is new, in a folder of this process alone, and keeps its length.
        let map = unsafe { MmapOptions::new().len(FILE_BYTES).map_mut(&file)? };
        Ok(Self { file, map, end: 0 })
    }

    /// Bytes that fit.
    #[must_use]
    pub fn room(&self) -> usize {
        FILE_BYTES - self.end
    }

    /// Copies `bytes` to the end; begins anew where there is no room.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.end = 0;
        }
        self.map[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Writes `bytes` to the end by a call, and syncs.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn write_synced(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.end = 0;
        }
        let written = self.file.write_all_at(bytes, self.end as u64);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            panic!("raw: {error}");
        }
        self.end += bytes.len();
    }

    /// The checksum of what has been pushed, in frames of `frame` bytes.
    #[must_use]
    pub fn checksum(&self, frame: usize) -> u32 {
        self.map[..self.end]
            .chunks(frame)
            .fold(0, |sum, frame| sum ^ crc32fast::hash(frame))
    }
}
