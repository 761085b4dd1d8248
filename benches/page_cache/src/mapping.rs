//! A mapped file, written through one handle and advised about through another. The only `unsafe`
//! of this program.

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

/// The handle that stores: there is one for each mapping, and it cannot be cloned.
pub(crate) struct Stores(Arc<MmapRaw>);

/// The handle that tells the kernel what is going to be needed.
pub(crate) struct Advisor(Arc<MmapRaw>);

/// Maps a whole file, which must be this process's own and must not shrink while it is mapped.
pub(crate) fn map(file: &File, populate: bool) -> io::Result<(Stores, Advisor)> {
    let mut options = MmapOptions::new();
    if populate {
        options.populate();
    }
    let map = Arc::new(options.map_raw(file)?);
    Ok((Stores(Arc::clone(&map)), Advisor(map)))
}

impl Stores {
    /// Copies bytes into the mapping.
    pub(crate) fn store(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.0.len() && bytes.len() <= self.0.len() - offset);
        // SAFETY: the range lies inside the mapping, as just asserted. This handle is the only one
        // that reads or writes mapped bytes, and `&mut self` admits one store at a time. The files
        // are made by this process in a folder of its own and never shortened.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.0.as_mut_ptr().add(offset),
                bytes.len(),
            );
        }
    }
}

impl Advisor {
    pub(crate) fn sequential(&self) -> io::Result<()> {
        self.0.advise(Advice::Sequential)
    }

    pub(crate) fn huge_pages(&self) -> io::Result<()> {
        self.0.advise(Advice::HugePage)
    }

    /// Takes pages out of this process's page table. The file keeps them.
    pub(crate) fn drop_range(&self, offset: usize, bytes: usize) -> io::Result<()> {
        // SAFETY: the mapping is shared and backed by a file, so dropped pages come back with the
        // same bytes, also under a store that happens meanwhile; nobody holds a reference to them.
        unsafe {
            self.0
                .unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes)
        }
    }
}
