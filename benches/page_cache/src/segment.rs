//! One file, allocated and opened as a layout says.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::ReadWriteFlags;

use crate::cell::{Advised, Allocation, Layout, Method};
use crate::mapping::{Advisor, Stores, map};

/// Bytes of one write of zeros, and what `O_DIRECT` wants memory aligned to.
const ZEROS_BYTES: usize = 1 << 20;
const ALIGNMENT: usize = 4096;

pub(crate) struct Segment {
    pub(crate) file: Arc<File>,
    pub(crate) advisor: Option<Arc<Advisor>>,
    stores: Option<Stores>,
    method: Method,
}

impl Segment {
    /// Makes a new file in the folder.
    pub(crate) fn create(dir: &Path, number: u64, layout: &Layout) -> io::Result<Self> {
        let path = dir.join(format!("segment-{number}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        allocate(&path, &file, layout)?;
        let (mut stores, mut advisor) = (None, None);
        if layout.method == Method::Map {
            let (writer, watcher) = map(&file, layout.populate)?;
            match layout.advised {
                Advised::Nothing => {}
                Advised::Sequential => watcher.sequential()?,
                Advised::HugePages => watcher.huge_pages()?,
            }
            (stores, advisor) = (Some(writer), Some(Arc::new(watcher)));
        }
        Ok(Self {
            file: Arc::new(file),
            advisor,
            stores,
            method: layout.method,
        })
    }

    /// Writes bytes by the layout's method.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(stores) = &mut self.stores {
            stores.store(offset as usize, bytes);
            return Ok(());
        }
        if self.method == Method::Pwrite {
            return self.file.write_all_at(bytes, offset);
        }
        let slices = [IoSlice::new(bytes)];
        let written = rustix::io::pwritev2(&self.file, &slices, offset, ReadWriteFlags::DSYNC)?;
        if written == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Syncs what was written, unless the method has done so.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.method == Method::PwriteDsync {
            Ok(())
        } else {
            self.file.sync_data()
        }
    }
}

fn allocate(path: &Path, file: &File, layout: &Layout) -> io::Result<()> {
    if layout.allocation == Allocation::Sparse {
        return file.set_len(layout.segment_bytes);
    }
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, layout.segment_bytes)?;
    match layout.allocation {
        Allocation::Sparse | Allocation::Fallocate => Ok(()),
        Allocation::ZeroCalls => write_zeros(file, layout.segment_bytes),
        Allocation::ZeroDirect => {
            let flags = OFlags::DIRECT.bits() as i32;
            let direct = OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(path)?;
            write_zeros(&direct, layout.segment_bytes)
        }
    }?;
    file.sync_all()
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let memory = vec![0_u8; ZEROS_BYTES + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let zeros = &memory[start..start + ZEROS_BYTES];
    for offset in (0..bytes).step_by(ZEROS_BYTES) {
        file.write_all_at(zeros, offset)?;
    }
    Ok(())
}
