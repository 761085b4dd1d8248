//! Files written whole or not at all.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner alone: mode 0600.
    Owner,
    /// Everyone: mode 0644.
    Everyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// Writes the file at `path`, replacing another one. After a crash at any instruction there is the old file or the whole new one; after a
/// return there is the new one, also after a loss of power.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    write(path, bytes, readers, |file| {
        file.persist(path).map_err(|error| error.error)
    })
}

/// As [`write_atomic`], but an existing file stays as it is and is the error [`io::ErrorKind::AlreadyExists`].
pub(crate) fn write_new(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    write(path, bytes, readers, |file| {
        file.persist_noclobber(path).map_err(|error| error.error)
    })
}

fn write(
    path: &Path,
    bytes: &[u8],
    readers: Readers,
    keep: impl FnOnce(tempfile::NamedTempFile) -> io::Result<File>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // A temporary file is made with mode 0600, so that a key is never readable by others, not even for a moment.
    let mut file = tempfile::Builder::new()
        .prefix(".qmq-")
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    let permissions = Permissions::from_mode(readers.mode());
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    keep(file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (text, readers, mode) in [
            ("1", Readers::Everyone, 0o644),
            ("22", Readers::Owner, 0o600),
        ] {
            write_atomic(&path, text.as_bytes(), readers).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                mode
            );
        }
        let error = write_new(&path, b"3", Readers::Owner).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "22");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
