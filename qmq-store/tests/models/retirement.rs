//! Retirement against readers: `keep/retention.rs` (`retire`, `remove`, `free_retired`), `disk/maps.rs` and `disk/mapped.rs`, one segment.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Mutex, RwLock};
use loom::thread;

use super::check;

const CONTENT: u64 = 7;

/// A file, and its `flock`.
struct File {
    content: AtomicU64,
    shared: Mutex<u32>,
}

/// A mapping. It holds the shared lock.
struct Region {
    file: Arc<File>,
}

impl Region {
    fn byte(&self) -> u64 {
        self.file.content.load(Ordering::Relaxed)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        *self.file.shared.lock().unwrap() -= 1;
    }
}

struct World {
    /// The log's list of segments: whether the segment is in it.
    listed: RwLock<bool>,
    /// The folder: the file's name.
    name: Mutex<Option<Arc<File>>>,
    /// The mapping that is kept.
    slot: Mutex<Option<Arc<Region>>>,
}

enum Read {
    /// Not in the list any more.
    Retired,
    /// It was in the list; its name was gone when it was to be mapped.
    Gone,
    Region(Arc<Region>),
}

/// Held exclusively by the one who gives the blocks back.
const EXCLUSIVE: u32 = u32::MAX;

impl World {
    fn new(mapped: bool) -> Self {
        let file = Arc::new(File {
            content: AtomicU64::new(CONTENT),
            shared: Mutex::new(0),
        });
        let world = Self {
            listed: RwLock::new(true),
            name: Mutex::new(Some(file)),
            slot: Mutex::new(None),
        };
        if mapped {
            drop(world.region());
        }
        world
    }

    fn region(&self) -> Option<Arc<Region>> {
        if let Some(region) = &*self.slot.lock().unwrap() {
            return Some(Arc::clone(region));
        }
        let file = self.name.lock().unwrap().clone()?;
        {
            let mut shared = file.shared.lock().unwrap();
            if *shared == EXCLUSIVE {
                return None;
            }
            *shared += 1;
        }
        let mapped = Arc::new(Region { file });
        // Asked after the lock was taken: from now on the blocks stay, but they may have gone before.
        self.name.lock().unwrap().as_ref()?;
        let mut slot = self.slot.lock().unwrap();
        Some(Arc::clone(slot.get_or_insert(mapped)))
    }

    fn read(&self) -> Read {
        if !*self.listed.read().unwrap() {
            return Read::Retired;
        }
        self.region().map_or(Read::Gone, Read::Region)
    }

    fn forget(&self) {
        let region = self.slot.lock().unwrap().take();
        drop(region);
    }

    /// Takes the segment out of the list, then its name, and returns the file for `free`.
    fn retire(&self) -> Arc<File> {
        *self.listed.write().unwrap() = false;
        let file = self.name.lock().unwrap().clone().unwrap();
        self.forget();
        *self.name.lock().unwrap() = None;
        file
    }
}

/// Gives the blocks back, if nobody has the file mapped.
fn free(file: &File) -> bool {
    {
        let mut shared = file.shared.lock().unwrap();
        if *shared > 0 {
            return false;
        }
        *shared = EXCLUSIVE;
    }
    file.content.store(0, Ordering::Relaxed);
    true
}

/// Whoever gets a mapping has the bytes, and keeps them.
fn reader_against_retirement(mapped: bool) {
    check(3, move || {
        let world = Arc::new(World::new(mapped));
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let Read::Region(region) = world.read() else {
                    return;
                };
                assert_eq!(region.byte(), CONTENT, "mapped after the blocks were gone");
                thread::yield_now();
                assert_eq!(region.byte(), CONTENT, "taken from a reader");
            })
        };
        let file = world.retire();
        free(&file);
        assert!(
            matches!(world.read(), Read::Retired),
            "found what is retired"
        );
        reader.join().unwrap();
        // A mapping that a late reader left behind goes with the cache.
        world.forget();
        assert!(*file.shared.lock().unwrap() == EXCLUSIVE || free(&file));
    });
}

#[test]
fn a_reader_that_holds_a_mapping_keeps_its_bytes() {
    reader_against_retirement(true);
}

#[test]
fn a_reader_that_maps_late_finds_the_bytes_or_nothing() {
    reader_against_retirement(false);
}
