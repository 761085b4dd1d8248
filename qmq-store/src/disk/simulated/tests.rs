mod crashes;
mod faults;
mod files;

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::*;

const SEEDS: u64 = if cfg!(miri) { 120 } else { 400 };
const EIO: i32 = 5;

/// A disk with one durable file of `len` zero bytes, named `a`.
fn disk_with(len: u64) -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::new();
    let file = disk.create("a", len).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    (disk, file)
}

fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// The distinct answers of `look` over many crashes.
fn over_crashes<T: Ord>(disk: &SimulatedDisk, look: impl Fn(&SimulatedDisk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| look(&disk.crash(seed))).collect()
}

fn names(disk: &SimulatedDisk) -> Vec<String> {
    disk.list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect()
}

/// The first byte of each file by name, so that a test sees which file a name stands for.
fn named_marks(disk: &SimulatedDisk) -> Vec<(String, u8)> {
    names(disk)
        .into_iter()
        .map(|name| (name.clone(), content(disk, &name)[0]))
        .collect()
}

fn marked(disk: &SimulatedDisk, name: &str, mark: u8) -> Arc<dyn DiskFile> {
    let file = disk.create(name, 512).unwrap();
    file.write_at(&[mark; 512], 0).unwrap();
    file.sync().unwrap();
    file
}
