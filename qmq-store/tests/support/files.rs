//! The files of a disk or a folder: their names, and what is in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qmq_store::disk::Disk;

/// Names and contents of all files of a disk.
pub(crate) fn contents(disk: &dyn Disk) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = disk
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| {
            let mut bytes = vec![0; entry.len as usize];
            let file = disk.open(&entry.name, qmq_store::disk::Access::Read);
            file.unwrap().read_at(&mut bytes, 0).unwrap();
            (entry.name, bytes)
        })
        .collect();
    files.sort();
    files
}

/// Names of the disk's files that begin so, in order.
pub(crate) fn files(disk: &dyn Disk, prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = disk
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// All files under a folder, with their bytes; folders and links too.
pub(crate) fn everything(folder: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            all.extend(everything(&path));
            all.insert(name, None);
        } else {
            all.insert(name, Some(std::fs::read(&path).unwrap()));
        }
    }
    all
}

/// The files in a folder whose names begin so, in order.
pub(crate) fn files_in(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(prefix)
        })
        .collect();
    found.sort();
    found
}
