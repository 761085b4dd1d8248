//! Files beside a store that nothing else has, such as a delay scheduler's: what replication has to send besides the log.

use std::fmt;
use std::io;

use bytes::Bytes;

use crate::store::Store;

/// Longest name of such a file, in bytes: ASCII letters, digits and `-`.
pub const PRIMARY_NAME_BYTES_MAX: usize = 64;

/// A file of a set. One that has been named never changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrimaryFile {
    /// Its name, see [`PRIMARY_NAME_BYTES_MAX`].
    pub name: String,
    /// Its length in bytes; none is empty.
    pub len: u64,
    /// Tells it from other files that had this name and length.
    pub tag: u32,
}

/// Files that together with the log from [`Self::hold`] on are all that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrimarySet {
    /// Another one whenever the set is another.
    pub version: u64,
    /// Of the log nothing before this offset is needed.
    pub hold: u64,
    /// The files say nothing of the log behind this offset.
    pub end: u64,
    /// All files. The one that names the others comes last.
    pub files: Vec<PrimaryFile>,
}

/// Gives such files out on a master, and takes them in on a replica.
pub trait PrimaryFiles: fmt::Debug {
    /// The version of the set as it is now. Asked for often.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn version(&self) -> io::Result<u64>;

    /// The latest set that says nothing of the log behind `until`: so much is on other members. `None` while there is none.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn latest(&self, until: u64) -> io::Result<Option<PrimarySet>>;

    /// Of the log nothing before this offset is held for these files any more.
    fn hold(&self) -> u64;

    /// The log begins anew, where another one begins: all of it is held.
    fn hold_all(&self);

    /// Bytes of a file. `None` if none with its name and length is there and goes so far.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn read(&self, file: &PrimaryFile, offset: u64, len: usize) -> io::Result<Option<Bytes>>;

    /// As [`Self::read`], of what has come of the file, if something has.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn read_coming(&self, file: &PrimaryFile, offset: u64, len: usize)
    -> io::Result<Option<Bytes>>;

    /// Keeps bytes of a file that comes, without naming it. Returns the offset to go on at: behind the bytes, or 0 if the file
    /// begins anew.
    ///
    /// # Errors
    /// If they cannot be kept, also because something else uses the files.
    fn put(&self, file: &PrimaryFile, offset: u64, bytes: &[u8]) -> io::Result<u64>;

    /// All files of the set, whose hold is not below [`Self::hold`], have come: names them, removes all others, durably, and lets go of the log before the set's hold. An
    /// interruption leaves the old set or the new one, or files that are complete without the one that names them.
    ///
    /// # Errors
    /// If it cannot be done, also because something else uses the files.
    fn take(&self, set: &PrimarySet) -> io::Result<()>;

    /// The log ends here at the moment and may get other records than it has had: forgets what is beyond. Says whether what is left, with the
    /// log, is all that there is.
    ///
    /// # Errors
    /// If it cannot be done, also because something else uses the files.
    fn forget_beyond(&self, store: &Store) -> io::Result<bool>;
}
