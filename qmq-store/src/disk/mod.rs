//! What the engine asks of a disk, and nothing more.
//!
//! Production runs on [`MappedDisk`] (files of one folder, read through memory mappings); tests run on the
//! simulated disk, which keeps after a crash only what a real one may keep. The assumptions that the engine makes:
//!
//! * a 512-byte sector is written whole or not at all;
//! * after [`DiskFile::sync`] returns `Ok`, the bytes and the length of the file survive a loss of power;
//! * after [`Disk::sync_names`] returns `Ok`, all names created, renamed or removed before it are as they were then;
//! * before that, each sector, each length and each name may hold any value that it has had since the last sync.

mod mapped;
mod maps;
#[cfg(feature = "simulation")]
mod simulated;

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

pub use mapped::{MappedDisk, Region};
pub(crate) use maps::{MappedFile, Maps};
#[cfg(feature = "simulation")]
pub use simulated::{CrashImage, SimulatedDisk, SimulatedFaults};

/// Name of the file whose lock says that the folder is in use.
pub(crate) const LOCK_FILE: &str = "lock";

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only; works on a read-only mount.
    Read,
    /// Reads, writes and syncs.
    Write,
}

/// A name in the folder, with the length of its file in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// File name without a folder.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
}

/// One folder of files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// All regular files of the folder, in any order.
    fn list(&self) -> io::Result<Vec<FileEntry>>;

    /// Names of all else in the folder: folders, links, devices. The store never touches them.
    fn others(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Creates a file of `len` zero bytes whose blocks are allocated, so that storing into it never fails for
    /// want of space. Fails with `AlreadyExists` if the name is taken and with `StorageFull` if there is no room,
    /// in which case no file is left behind.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Writes zeros over an existing file that nobody else uses, and syncs them: a block's first write costs the sync that covers it more, and a
    /// part of a page that is in memory need not be read first. A hint: a disk may do nothing.
    fn write_zeros(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    /// Opens an existing regular file. Anything else under its name is refused at once: a link is not followed, a pipe not waited for.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Open handles and regions of the file stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable (an fsync of the folder).
    fn sync_names(&self) -> io::Result<()>;

    /// Bytes that new files could still take.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Takes the folder's exclusive lock until the guard is dropped; `WouldBlock` if another process or handle
    /// holds it.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;

    /// The folder's name for people.
    fn describe(&self) -> String;
}

/// One file of a [`Disk`].
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Where the file's data ends: what follows up to its length is allocated at most, and reads as zero. The length itself, where
    /// the file system does not tell.
    fn data_end(&self) -> io::Result<u64> {
        self.len()
    }

    /// Fills `buf` from `offset`, by a call; an I/O error is an error value. `UnexpectedEof` beyond the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, by a call, extending the file if needed. After an error any part of `buf` may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// As [`DiskFile::write_at`], of what lies in several pieces, one behind the other. Without a way of its own a file writes a copy.
    fn write_pieces_at(&self, pieces: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let whole: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.iter().copied())
            .collect();
        self.write_at(&whole, offset)
    }

    /// Sets the length; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Gives the blocks of `offset..offset + len` back; they read as zero afterwards. The length stays.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Whether nobody has the file open for reading, in this process or another: its blocks may go. Only asked of a file opened with
    /// [`Access::Write`].
    fn unshared(&self) -> io::Result<bool>;

    /// Writes `offset..offset + len` back to the disk and waits for it, which makes nothing durable by itself: it leaves little for a
    /// [`DiskFile::sync`] that follows. A failure is one of that sync. A disk without such a way does nothing.
    fn write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// Makes the bytes and the length durable (fdatasync).
    fn sync(&self) -> io::Result<()>;

    /// The whole file as memory. Both ways of writing are seen through it at once. Its length is the file's
    /// length at the time of the call.
    fn map(&self) -> io::Result<Arc<Region>>;

    /// Stores `bytes` at `offset` through memory. `region` must come from this file's [`DiskFile::map`]; only one
    /// thread stores at a time, and never into bytes that have been published to readers.
    fn store(&self, region: &Region, offset: u64, bytes: &[u8]);
}
