//! A disk in memory that keeps after a crash only what a real one may keep.
//!
//! Since the last sync that covered it, each 512-byte sector, each length and each name keeps every version that it
//! has had. [`SimulatedDisk::crash`] makes a new disk that holds one version of each, chosen by a seed. Nothing here
//! reads a clock or a source of randomness: the same calls and the same seeds give the same disks, so that a failure
//! can be run again.
//!
//! What the simulated disk grants, as file systems do, is small:
//!
//! * a sector of [`DiskFile::write_at`] is written whole or not at all. A sector of [`DiskFile::store`] may also hold
//!   a beginning of the stored bytes, since memory is written back while a copy into it is still running;
//! * a rename that is not durable yet may be undone, or leave the file under both of its names, but a file that had
//!   a durable name and was only renamed since is there under one of its names at least.
//!
//! Errors of the machine's memory itself (a fault at a read through a region) cannot be played; [`SimulatedDisk::flip_bit`]
//! and [`SimulatedFaults::read_error`] stand in for media that go bad.

mod content;
mod crash;
mod faults;
mod history;
mod inode;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, Disk, DiskFile, FileEntry, Region};
use state::State;

pub use crash::CrashImage;
pub use faults::SimulatedFaults;

/// Bytes of a disk for which no capacity was asked: more than any test fills, and far from overflowing a sum.
const ROOMY: u64 = 1 << 50;

/// A folder of files in memory, with crashes and faults on demand. A clone is the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// An empty disk with room for anything.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(ROOMY)
    }

    /// An empty disk for `bytes` bytes of file content. A file takes its length, less the whole blocks of 4096 bytes
    /// that were punched; names and syncs take nothing. Removing a file frees its bytes at once, even if handles are
    /// still open.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        Self::from_state(State::new(bytes))
    }

    fn from_state(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Changes the capacity, in bytes. Files that are there stay, even if they take more.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = bytes;
    }

    /// Chooses the torn shapes of stores and short writes that follow; the default is 0.
    pub fn set_seed(&self, seed: u64) {
        self.state.lock().seed = seed;
    }

    /// The disk as a loss of power may leave it: a new disk whose content is all durable, with the capacity of this
    /// one, no lock, no faults and no operations counted. The seed chooses the kind of image and all within it.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        Self::from_state(crash::crash(&self.state.lock(), None, seed))
    }

    /// Like [`SimulatedDisk::crash`], with the kind of image given; the seed chooses within it.
    #[must_use]
    pub fn crash_as(&self, image: CrashImage, seed: u64) -> Self {
        Self::from_state(crash::crash(&self.state.lock(), Some(image), seed))
    }

    /// The disk as the death of the process leaves it: a new disk that holds all that was written, of which what was
    /// not synced can still be lost in a later crash. The lock is free; faults, counted operations and a planned loss
    /// of power are gone; handles and regions of the old disk do not reach the new one.
    #[must_use]
    pub fn process_killed(&self) -> Self {
        Self::from_state(self.state.lock().survivor())
    }

    /// Sets faults, or reads them back.
    pub fn faults<T>(&self, change: impl FnOnce(&mut SimulatedFaults) -> T) -> T {
        change(&mut self.state.lock().faults)
    }

    /// Flips bit `bit` (0 to 7, 0 the lowest) of the byte at `offset` in the file of this name: in the file, in every
    /// version of it that a crash may bring back, and in the regions of it that are mapped. No other thread may be
    /// reading that byte through a region meanwhile.
    ///
    /// # Errors
    /// `NotFound` without such a file, `InvalidInput` if the bit is above 7 or the offset is not in the file.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.find(name)?;
        state.inode_mut(inode).flip_bit(offset, bit)
    }

    /// Changes made so far: calls of create, store, write_at, set_len, punch, rename, remove, sync and sync_names,
    /// those that failed included, those after a loss of power not.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Cuts the power once [`SimulatedDisk::operations`] has reached `operations`, counted since this disk was made.
    /// Later changes fail and leave the files as they are; `store`, which cannot fail, still writes to the mapped
    /// regions, whose memory belongs to the process, but no longer to the file. Reads go on working, so that a workload
    /// can run to its end before the test looks at [`SimulatedDisk::crash`]. `u64::MAX` is never.
    pub fn power_off_after(&self, operations: u64) {
        self.state.lock().power_off_after = operations;
    }

    fn handle(&self, state: &mut State, inode: u64, writable: bool) -> Arc<dyn DiskFile> {
        state.inode_mut(inode).handles += 1;
        Arc::new(SimulatedFile {
            state: Arc::clone(&self.state),
            inode,
            writable,
        })
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").finish_non_exhaustive()
    }
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        Ok(self.state.lock().list())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.begin()?;
        let inode = state.create(name, len)?;
        Ok(self.handle(&mut state, inode, true))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let inode = state.find(name)?;
        Ok(self.handle(&mut state, inode, access == Access::Write))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.sync_names()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state.lock().free_bytes())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state.lock();
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(LockGuard {
            state: Arc::clone(&self.state),
        }))
    }

    fn describe(&self) -> String {
        "simulated disk".to_owned()
    }
}

struct LockGuard {
    state: Arc<Mutex<State>>,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.state.lock().locked = false;
    }
}

/// A handle of a file; the file lives on under it when its name is removed.
struct SimulatedFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    writable: bool,
}

impl SimulatedFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the file was opened for reading only",
        ))
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.state.lock().inode_mut(self.inode).handles -= 1;
    }
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedFile")
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().inode(self.inode).len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock();
        state.check_readable(self.inode, offset, buf.len() as u64)?;
        state.inode(self.inode).read(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.state.lock();
        state.begin()?;
        state.write_at(self.inode, buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.state.lock();
        state.begin()?;
        state.set_len(self.inode, len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.state.lock();
        state.begin()?;
        state.punch(self.inode, offset, len);
        Ok(())
    }

    fn unshared(&self) -> io::Result<bool> {
        Ok(!self.state.lock().inode_mut(self.inode).is_mapped())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.sync(self.inode)
    }

    fn map(&self) -> io::Result<Arc<Region>> {
        self.state.lock().inode_mut(self.inode).map()
    }

    /// # Panics
    /// Where real memory would fault: if the region is not of this file, the file was opened for reading, or the
    /// range is not within both the region and the file.
    fn store(&self, region: &Region, offset: u64, bytes: &[u8]) {
        assert!(
            self.writable,
            "store through a file that was opened for reading only"
        );
        self.state.lock().store(self.inode, region, offset, bytes);
    }
}
