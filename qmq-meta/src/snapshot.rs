//! The snapshot file: what was known last, for the time in which the database is away.
//!
//! ```text
//! {"magic":"qmq-meta-snapshot","version":1,"bytes":LENGTH,"crc32":CRC-32 of the content}   one line
//! {"everything":{...},"temporary":{...}}                                                    LENGTH bytes
//! ```
//!
//! Beside it lies `FILE.at`, a decimal number: the greatest time that was answered.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::database::Everything;

const MAGIC: &str = "qmq-meta-snapshot";
const VERSION: u32 = 1;
/// A number has no more.
const NUMBER_BYTES_MAX: u64 = 32;
/// A longer file is none of ours: 40,000 subjects take 10 MB.
const BYTES_MAX: u64 = 1 << 30;

/// What a snapshot has.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) everything: Everything,
    /// Routes that the database does not have yet.
    pub(crate) temporary: BTreeMap<String, Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    magic: String,
    version: u32,
    bytes: u64,
    crc32: u32,
}

/// Why a snapshot is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("there is none")]
    None,
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it is damaged ({0}); it is not used, not even in part")]
    Damaged(String),
    #[error("it is of version {0} and this program knows version {VERSION}; it is not used")]
    Version(u32),
}

/// Writes a snapshot in the place of the one that was there, all or nothing.
pub(crate) fn write(path: &Path, content: &Content) -> io::Result<()> {
    let body = serde_json::to_vec(content)?;
    let head = Head {
        magic: MAGIC.to_owned(),
        version: VERSION,
        bytes: body.len() as u64,
        crc32: crc32fast::hash(&body),
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&body);
    replace(path, &bytes)
}

/// Writes the greatest time that was answered.
pub(crate) fn write_stamp(path: &Path, stamp: u64) -> io::Result<()> {
    replace(&beside(path, ".at"), stamp.to_string().as_bytes())
}

/// Reads a snapshot and the greatest time that was answered.
pub(crate) fn read(path: &Path) -> Result<(Content, u64), SnapshotError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SnapshotError::None,
        _ => SnapshotError::Unreadable(error),
    })?;
    file.take(BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(SnapshotError::Unreadable)?;
    let content = decode(&bytes)?;
    let stamp = stamp_beside(path).unwrap_or(0);
    let stamp = content.everything.at.max(stamp);
    Ok((content, stamp))
}

/// The number in `FILE.at`, if it is one: no more is read of the file than a number has.
fn stamp_beside(path: &Path) -> Option<u64> {
    let mut text = String::new();
    let file = File::open(beside(path, ".at")).ok()?;
    file.take(NUMBER_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn decode(bytes: &[u8]) -> Result<Content, SnapshotError> {
    let damaged = |what: &str| SnapshotError::Damaged(what.to_owned());
    let end = (bytes.iter().position(|byte| *byte == b'\n'))
        .ok_or_else(|| damaged("it has no first line"))?;
    let (line, rest) = bytes.split_at(end);
    let head: Head =
        serde_json::from_slice(line).map_err(|_| damaged("its first line is not ours"))?;
    if head.magic != MAGIC {
        return Err(damaged("its first line is not ours"));
    }
    if head.version != VERSION {
        return Err(SnapshotError::Version(head.version));
    }
    let body = &rest[1..];
    if body.len() as u64 != head.bytes {
        return Err(SnapshotError::Damaged(format!(
            "{} bytes of {}",
            body.len(),
            head.bytes
        )));
    }
    if crc32fast::hash(body) != head.crc32 {
        return Err(damaged("its checksum is wrong"));
    }
    serde_json::from_slice(body).map_err(|error| SnapshotError::Damaged(error.to_string()))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Only its owner reads it, whatever the mode of one that was left half written.
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn every_cut_and_every_flipped_byte_of_a_snapshot_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let mut content = Content::default();
        content.everything.at = 7;
        content
            .temporary
            .insert("order.changed".to_owned(), vec!["g1".to_owned()]);
        write(&path, &content).unwrap();
        write_stamp(&path, 9).unwrap();
        assert_eq!(read(&path).unwrap(), (content, 9));
        for file in [path.clone(), beside(&path, ".at")] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(decode(&flipped).is_err(), "flipped at {at}");
        }
    }
}
