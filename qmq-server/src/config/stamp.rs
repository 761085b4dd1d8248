//! Whether a file has changed since it was read.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What a file looked like when it was read. Two equal stamps mean that it was not written or replaced in between, as far as
/// modification time, length and inode tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    seconds: i64,
    nanoseconds: i64,
    len: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of the file at `path`, symbolic links followed; `None` if there is none.
    ///
    /// # Errors
    /// What the system says, unless it is that there is no such file.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self {
                seconds: metadata.mtime(),
                nanoseconds: metadata.mtime_nsec(),
                len: metadata.len(),
                inode: metadata.ino(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// What the system says; [`io::ErrorKind::FileTooLarge`] for a longer one.
pub fn read_limited(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(bytes_max.saturating_add(1));
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("more than {bytes_max} bytes, which no file of this kind needs");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_length_and_with_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(Stamp::of(&path).unwrap(), None);
        fs::write(&path, "1").unwrap();
        let first = Stamp::of(&path).unwrap();
        assert_eq!(first, Stamp::of(&path).unwrap());
        fs::write(&path, "22").unwrap();
        let second = Stamp::of(&path).unwrap();
        assert_ne!(first, second);
        let other = folder.path().join("other");
        fs::write(&other, "33").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(second, Stamp::of(&path).unwrap());
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        let error = read_limited(&path, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
