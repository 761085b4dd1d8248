//! Why a store could not be opened.

use std::io;
use std::sync::Arc;

use crate::options::OptionsError;

/// Why a store could not be opened. Nothing in the folder has been changed, but for an empty file `lock`, unless the variant says so. What an open
/// changes before it fails takes no record that was known to be synced, and the next open goes on from there.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Another process, or another handle of this one, has the store open for writing.
    #[error("{folder} is open for writing elsewhere; close it there, or use Store::open_read_only")]
    Locked {
        /// The folder.
        folder: String,
    },
    /// The folder holds files, but no store.
    #[error(
        "{folder} holds other files (such as {found:?}) and no qmq store; give an empty folder or a store's"
    )]
    NotAStore {
        /// The folder.
        folder: String,
        /// One of the files found.
        found: String,
    },
    /// What has the name of a store's file is a link, a folder, a pipe or a device.
    #[error(
        "{file} in {folder} is no regular file; put the file itself there, links are not followed"
    )]
    NotAFile {
        /// The folder.
        folder: String,
        /// The name.
        file: String,
    },
    /// A backup was interrupted, and some of it is missing.
    #[error("{folder} holds an unfinished backup; remove the folder and make the backup again")]
    UnfinishedBackup {
        /// The folder.
        folder: String,
    },
    /// The store follows a master. Opened for appends, its log would part from the master's.
    #[error(
        "{folder} holds a replica; open it with Store::open_replica, and make it a master with Store::promote"
    )]
    Replica {
        /// The folder.
        folder: String,
    },
    /// The file that says which epoch was promised is damaged.
    #[error(
        "{file} is damaged, and with it the epoch that was promised to a master; once no master of an older epoch is running, remove it"
    )]
    DamagedPromise {
        /// The file.
        file: String,
    },
    /// There is nothing to open read-only.
    #[error("{folder} holds no store; open it for writing once to create one")]
    NoStore {
        /// The folder.
        folder: String,
    },
    /// A file was written by a newer version of this crate.
    #[error(
        "{file} has format version {found}, and this program reads up to {known}; use a newer qmq"
    )]
    NewerVersion {
        /// The file.
        file: String,
        /// Version found in the file.
        found: u32,
        /// Highest version this program knows.
        known: u32,
    },
    /// The identity file is damaged. It is small and written once for each open, so this needs a person.
    #[error("{file} is damaged ({reason}); run `qmq store repair` on the folder")]
    DamagedIdentity {
        /// The file.
        file: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// The folder, or the file system it is on, takes no writes from this process. If only some were refused, see [`OpenError::Io`].
    #[error("the folder cannot be written ({folder}); open it with Store::open_read_only")]
    NotWritable {
        /// The folder.
        folder: String,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The disk has no room for what an open store needs. The store is marked as open by then, under a raised incarnation if it had not been
    /// closed in order, and some of its files are created; an open with more room takes them over.
    #[error(
        "{folder} has no room: {needed} bytes are reserved at open, for a segment and two more that keep acks working on a full disk; free some space, or ask for smaller segments (Options::segment_bytes, --segment-bytes)"
    )]
    NoRoom {
        /// The folder.
        folder: String,
        /// Bytes that open reserves.
        needed: u64,
    },
    /// A file that is there does not give its bytes. It may be good, so nothing is done without it.
    #[error(
        "{file} cannot be read ({source}); mend that, or move the file away to go on without it"
    )]
    Unreadable {
        /// The file.
        file: String,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The operating system refused. By then a torn tail may have been cut, files that belong to no log removed and indexes rebuilt; the
    /// store may be marked as open, under a raised incarnation if it had not been closed in order, and files be created.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, and to which file.
        doing: String,
        /// The cause.
        source: Arc<io::Error>,
    },
}

impl OpenError {
    /// As [`OpenError::Io`] for a file that is gone: who was replacing it may be about to be done.
    pub(crate) fn unreadable(file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        |source| match source.kind() {
            io::ErrorKind::NotFound => Self::io(format!("reading {file}"))(source),
            _ => Self::Unreadable {
                file,
                source: Arc::new(source),
            },
        }
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io {
            doing,
            source: Arc::new(source),
        }
    }
}
