//! Files of one folder, read through memory mappings: the production disk, and the only `unsafe` of the crate.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, SeekFrom};

use super::{Access, Disk, DiskFile, FileEntry, LOCK_FILE};

const PAGE: usize = 4096;

/// Zeros are written in pieces of this size.
const ZEROS_LEN: usize = 1 << 20;

/// A stretch of memory that holds a file's bytes: a shared mapping, or heap memory on a simulated disk.
///
/// Readers and the one writer share it without locks. What keeps that sound is the publish protocol: the writer stores only
/// into bytes that no reader has been told of, and a published byte never changes while the region lives.
pub struct Region {
    ptr: *mut u8,
    len: usize,
    read_ahead: AtomicU8,
    /// Keeps the memory alive.
    owner: Owner,
}

/// What the system may read besides what is asked for, as far as it has been told.
mod read_ahead {
    pub(super) const UNTOLD: u8 = 0;
    pub(super) const LIMITED: u8 = 1;
    pub(super) const ALL: u8 = 2;
}

enum Owner {
    Mapping { map: MmapRaw },
    Heap { memory: *mut [u8] },
}

// SAFETY: the pointer is to memory that `owner` keeps alive and that may be read from any thread; writes go through
// `store`, whose callers keep to one writer and to unpublished bytes.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Self::Heap { memory } = *self {
            // SAFETY: `memory` came from `Box::into_raw` in `Region::heap` and is released only here.
            drop(unsafe { Box::from_raw(memory) });
        }
    }
}

impl Region {
    fn mapping(map: MmapRaw) -> Self {
        Self {
            ptr: map.as_mut_ptr(),
            len: map.len(),
            read_ahead: AtomicU8::new(read_ahead::UNTOLD),
            owner: Owner::Mapping { map },
        }
    }

    /// Zeroed heap memory, for simulated disks.
    #[must_use]
    pub fn heap(len: usize) -> Self {
        let memory = Box::into_raw(vec![0; len].into_boxed_slice());
        Self {
            ptr: memory.cast(),
            len,
            read_ahead: AtomicU8::new(read_ahead::UNTOLD),
            owner: Owner::Heap { memory },
        }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes at `offset..offset + len`, or `None` beyond the end. The caller asks only for published bytes.
    #[must_use]
    pub fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(len)?;
        if end > self.len {
            return None;
        }
        // SAFETY: in bounds; published bytes are initialised and never change while the region lives (see the type).
        Some(unsafe { std::slice::from_raw_parts(self.ptr.add(start), len) })
    }

    /// From `offset` on nothing has been written yet, so nothing is to be read ahead there: the system would fill pages, with zeros, for as far
    /// as it reads ahead (8 MiB: 20 ms), while whoever touched the first of them waits. Only the first call counts. A hint.
    pub fn read_ahead_until(&self, offset: u64) {
        if self.told(read_ahead::UNTOLD, read_ahead::LIMITED) {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len);
            self.advise(memmap2::Advice::Random, start);
        }
    }

    /// All has been written: undoes [`Region::read_ahead_until`]. A hint.
    pub fn read_ahead_everywhere(&self) {
        if self.told(read_ahead::LIMITED, read_ahead::ALL) {
            self.advise(memmap2::Advice::Normal, 0);
        }
    }

    fn told(&self, before: u8, now: u8) -> bool {
        self.read_ahead.load(Ordering::Relaxed) == before
            && self.read_ahead.swap(now, Ordering::Relaxed) == before
    }

    fn advise(&self, advice: memmap2::Advice, from: usize) {
        if let Owner::Mapping { map } = &self.owner {
            let from = from / PAGE * PAGE;
            let _ = map.advise_range(advice, from, self.len - from);
        }
    }

    /// Prepares the pages of `offset..offset + len` for being stored into, so that the store itself does not wait for them. They count as
    /// dirty afterwards. A hint: failures show nowhere but in speed.
    pub fn prepare(&self, offset: u64, len: usize) {
        if let Owner::Mapping { map } = &self.owner {
            let start = (offset as usize).min(self.len) / PAGE * PAGE;
            let end = (offset as usize).saturating_add(len).min(self.len);
            let _ = map.advise_range(memmap2::Advice::PopulateWrite, start, end - start);
        }
    }

    /// Copies `bytes` to `offset`. One thread at a time, and never into published bytes.
    ///
    /// # Panics
    /// If the range is outside of the region: a bug of the caller, which reserved the room before.
    pub fn store(&self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        assert!(
            start
                .checked_add(bytes.len())
                .is_some_and(|end| end <= self.len),
            "store outside of the reserved region"
        );
        // SAFETY: in bounds (checked above); the source is a live slice, and no reader looks at these bytes before they are
        // published (contract of the type), so the copy races with nothing.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.ptr.add(start), bytes.len());
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A folder on a real file system.
#[derive(Debug)]
pub struct MappedDisk {
    folder: PathBuf,
}

impl MappedDisk {
    /// Uses `folder`, creating it (and its parents) if `create` is set.
    pub fn open(folder: impl AsRef<Path>, create: bool) -> io::Result<Self> {
        let folder = folder.as_ref().to_owned();
        if create && !folder.exists() {
            let new = folder
                .ancestors()
                .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists());
            let new: Vec<_> = new.map(Path::to_owned).collect();
            fs::create_dir_all(&folder)?;
            for parent in new.iter().filter_map(|created| created.parent()) {
                let here = parent.as_os_str().is_empty();
                File::open(if here { Path::new(".") } else { parent })?.sync_all()?;
            }
        }
        if !fs::metadata(&folder)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"));
        }
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Opens what must be a regular file: a link is not followed, and a pipe or a device is not waited for.
    fn open_file(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        let not_a_file = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = options
            .custom_flags(flags.bits().cast_signed())
            .open(self.path(name));
        let file = opened.map_err(|error| match rustix::io::Errno::from_io_error(&error) {
            Some(rustix::io::Errno::LOOP | rustix::io::Errno::ISDIR | rustix::io::Errno::NXIO) => {
                not_a_file()
            }
            _ => error,
        })?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(not_a_file())
        }
    }
}

impl Disk for MappedDisk {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(FileEntry {
                    name,
                    len: metadata.len(),
                });
            }
        }
        Ok(entries)
    }

    fn others(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        if len > 0
            && let Err(error) = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len)
        {
            drop(file);
            fs::remove_file(&path)?;
            return Err(error.into());
        }
        Ok(Arc::new(MappedFile {
            file,
            writable: true,
        }))
    }

    fn write_zeros(&self, name: &str) -> io::Result<()> {
        let file = self.open_file(name, OpenOptions::new().write(true))?;
        let zeros = vec![0; ZEROS_LEN];
        let len = file.metadata()?.len();
        for at in (0..len).step_by(ZEROS_LEN) {
            let piece = (len - at).min(ZEROS_LEN as u64);
            file.write_all_at(&zeros[..piece as usize], at)?;
            // Piece by piece, so that the syncs of others never wait long.
            file.sync_data()?;
        }
        Ok(())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let writable = access == Access::Write;
        let file = self.open_file(name, OpenOptions::new().read(true).write(writable))?;
        if !writable {
            // Held as long as the file is open or mapped: see `unshared`. Some file systems have no locks; then the writer takes
            // the file for unshared, and the last unmapping gives the blocks back all the same.
            let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
            let being_freed = locked == Err(rustix::io::Errno::WOULDBLOCK);
            if being_freed || file.metadata()?.nlink() == 0 {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        Ok(Arc::new(MappedFile { file, writable }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        // The folder itself, since a file can be removed and made anew; the file too, for file systems that lock no folders.
        let folder = File::open(&self.folder)?;
        let held = rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive);
        if held == Err(rustix::io::Errno::WOULDBLOCK) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let file = self.open_file(
            LOCK_FILE,
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false),
        )?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(Locked([folder, file])))
    }

    fn describe(&self) -> String {
        self.folder.display().to_string()
    }
}

/// What is locked. Unlocked in so many words: a child that is just being forked has the descriptors too.
struct Locked([File; 2]);

impl Drop for Locked {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
        }
    }
}

#[derive(Debug)]
struct MappedFile {
    file: File,
    writable: bool,
}

impl DiskFile for MappedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn data_end(&self) -> io::Result<u64> {
        let mut end = 0;
        loop {
            // Blocks that are allocated and never written are holes to these calls.
            match rustix::fs::seek(&self.file, SeekFrom::Data(end)) {
                Ok(data) => end = rustix::fs::seek(&self.file, SeekFrom::Hole(data))?,
                Err(rustix::io::Errno::NXIO) => return Ok(end),
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => return self.len(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn write_pieces_at(&self, mut pieces: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        // Linux's IOV_MAX.
        const MOST_PIECES: usize = 1024;
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            let some = &pieces[..pieces.len().min(MOST_PIECES)];
            match rustix::io::pwritev(&self.file, some, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut pieces, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, offset, len)?)
    }

    fn unshared(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
            return Ok(());
        };
        let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        // SAFETY: a call on an open descriptor that touches no memory of this process.
        let outcome = unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, len, flags) };
        if outcome == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Not on this file system, or not in this sandbox: the sync does all of it.
            Some(libc::ENOSYS | libc::EINVAL | libc::EPERM | libc::ESPIPE | libc::EOPNOTSUPP) => {
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn map(&self) -> io::Result<Arc<Region>> {
        let len = usize::try_from(self.len()?).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Arc::new(Region::heap(0)));
        }
        let mut options = MmapOptions::new();
        options.len(len);
        let map = if self.writable {
            options.map_raw(&self.file)?
        } else {
            options.map_raw_read_only(&self.file)?
        };
        Ok(Arc::new(Region::mapping(map)))
    }

    fn store(&self, region: &Region, offset: u64, bytes: &[u8]) {
        region.store(offset, bytes);
    }
}
