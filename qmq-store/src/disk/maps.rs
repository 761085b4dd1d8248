//! A bounded number of mapped files: the least recently used are unmapped first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::{Access, Disk, Region};

/// Keeps at most `limit` files mapped. What a reader still holds stays mapped beyond that.
#[derive(Debug)]
pub(crate) struct Maps {
    disk: Arc<dyn Disk>,
    /// Whose files these are: headers must name it.
    store_id: u128,
    limit: usize,
    clock: AtomicU64,
    mapped: AtomicUsize,
    files: Mutex<Vec<Arc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    name: String,
    used: AtomicU64,
    region: Mutex<Option<Arc<Region>>>,
}

/// A file that is mapped when somebody asks for its bytes.
#[derive(Clone, Debug)]
pub(crate) struct MappedFile {
    maps: Arc<Maps>,
    slot: Arc<Slot>,
}

impl Maps {
    pub(crate) fn new(disk: Arc<dyn Disk>, store_id: u128, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            disk,
            store_id,
            limit,
            clock: AtomicU64::new(0),
            mapped: AtomicUsize::new(0),
            files: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn file(self: &Arc<Self>, name: &str) -> MappedFile {
        let slot = Slot {
            name: name.to_owned(),
            used: AtomicU64::new(0),
            region: Mutex::new(None),
        };
        MappedFile {
            maps: Arc::clone(self),
            slot: Arc::new(slot),
        }
    }

    /// The store whose files these are.
    pub(crate) fn store_id(&self) -> u128 {
        self.store_id
    }

    /// Files mapped at the moment.
    pub(crate) fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    fn make_room(&self) {
        let mut files = self.files.lock();
        while files.len() >= self.limit {
            let oldest = files
                .iter()
                .enumerate()
                .min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed))
                .map(|(at, _)| at);
            let Some(oldest) = oldest else { break };
            let slot = files.swap_remove(oldest);
            if slot.region.lock().take().is_some() {
                self.mapped.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl MappedFile {
    pub(crate) fn name(&self) -> &str {
        &self.slot.name
    }

    /// The store that the file should be of.
    pub(crate) fn store_id(&self) -> u128 {
        self.maps.store_id
    }

    /// The file's bytes; maps it if need be.
    pub(crate) fn region(&self) -> io::Result<Arc<Region>> {
        self.slot.used.store(
            self.maps.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        if let Some(region) = &*self.slot.region.lock() {
            return Ok(Arc::clone(region));
        }
        self.maps.make_room();
        let mapped = self.maps.disk.open(&self.slot.name, Access::Read)?.map()?;
        // The list first, as everywhere: what is mapped is in it.
        let mut files = self.maps.files.lock();
        let mut region = self.slot.region.lock();
        if let Some(region) = &*region {
            return Ok(Arc::clone(region));
        }
        *region = Some(Arc::clone(&mapped));
        self.maps.mapped.fetch_add(1, Ordering::Relaxed);
        files.push(Arc::clone(&self.slot));
        Ok(mapped)
    }

    /// Unmaps the file, but for readers that still hold it.
    pub(crate) fn forget(&self) {
        let mut files = self.maps.files.lock();
        files.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        if self.slot.region.lock().take().is_some() {
            self.maps.mapped.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
