//! What can go wrong, and what to do about it.

use std::io;
use std::sync::Arc;

use qmq_message::{MessageError, NameError};

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

/// Why an operation on an open store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A subject, group or consumer name breaks a rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A message attribute breaks a rule.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The body is larger than `Options::body_bytes_max`.
    #[error("body of {bytes} bytes; the limit is {max} (Options::body_bytes_max)")]
    BodyTooLarge {
        /// Length of the body.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The batch is larger than `Options::batch_bytes_max`.
    #[error(
        "batch of {bytes} bytes on disk; the limit is {max} (Options::batch_bytes_max); split it"
    )]
    BatchTooLarge {
        /// Length of the batch on disk.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A segment cannot take the record: an action that names very many messages, or a message from before `Options::segment_bytes` was lowered.
    #[error(
        "record of {bytes} bytes; a segment takes {max} (Options::segment_bytes); settle or pull fewer messages at a time, or open the store with larger segments"
    )]
    RecordTooLarge {
        /// Length of the record on disk.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A batch without messages.
    #[error("a batch needs at least one message")]
    EmptyBatch,
    /// There are as many subjects as `Options::subjects_max` allows.
    #[error("{max} subjects exist already (Options::subjects_max); {subject:?} was not created")]
    TooManySubjects {
        /// The subject refused.
        subject: String,
        /// The limit.
        max: u32,
    },
    /// The subject has as many groups as `Options::groups_max` allows.
    #[error(
        "{subject:?} has {max} groups already (Options::groups_max); drop some with Store::drop_group"
    )]
    TooManyGroups {
        /// The subject.
        subject: String,
        /// The limit.
        max: u32,
    },
    /// The disk is full. Reads go on; appends are taken again once there is room.
    #[error("the disk is full; free some space or shorten the retention: {what} refused")]
    DiskFull {
        /// What was refused.
        what: &'static str,
    },
    /// An earlier write or sync failed, so nothing more is accepted. Reads go on.
    #[error(
        "the store takes no more writes since one failed ({cause}); check the disk, then reopen the store"
    )]
    Poisoned {
        /// The first failure.
        cause: Arc<io::Error>,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// No message has ever been appended to the subject.
    #[error("no subject {subject:?} in this store")]
    UnknownSubject {
        /// The subject asked for.
        subject: String,
    },
    /// The group has never pulled from the subject.
    #[error("no group {group:?} on subject {subject:?}; a group is created by its first pull")]
    UnknownGroup {
        /// The subject.
        subject: String,
        /// The group asked for.
        group: String,
    },
    /// The group pulls with another tag filter.
    #[error(
        "group {group:?} on {subject:?} has another tag filter; all members of a group pull with the same one"
    )]
    FilterMismatch {
        /// The subject.
        subject: String,
        /// The group.
        group: String,
    },
    /// The group is a broadcast group and the request is not, or the other way round.
    #[error(
        "group {group:?} on {subject:?} exists with broadcast = {broadcast}; pull the same way or choose another name"
    )]
    KindMismatch {
        /// The subject.
        subject: String,
        /// The group.
        group: String,
        /// What the existing group is.
        broadcast: bool,
    },
    /// The batch was pulled before the log was reopened after a crash; its acks could settle other messages.
    #[error("pulled under incarnation {given}, the store is at {current}; pull again")]
    StaleIncarnation {
        /// Incarnation of the batch.
        given: u32,
        /// Incarnation of the store.
        current: u32,
    },
    /// The group has as many messages that are not settled as `Options::unacked_max` allows.
    #[error(
        "group {group:?} on {subject:?} has {unacked} unacknowledged messages and {waiting} that were refused, the limit is {max} (Options::unacked_max); ack or expire some, or pull again when the refused ones are due"
    )]
    TooManyUnacked {
        /// The subject.
        subject: String,
        /// The group.
        group: String,
        /// Unacknowledged now.
        unacked: u64,
        /// Refused or left behind, and not handed out again yet.
        waiting: u64,
        /// The limit.
        max: u64,
    },
    /// The consumer does not hold that pull sequence (any more).
    #[error(
        "consumer {consumer:?} does not hold pull sequence {pull_sequence}; it was settled or reassigned"
    )]
    NotHeld {
        /// The consumer.
        consumer: String,
        /// The pull sequence.
        pull_sequence: u64,
    },
    /// The message cannot be read back.
    #[error(
        "message {sequence} of {subject:?} at offset {offset} is damaged; `qmq store verify` says how far it goes"
    )]
    Damaged {
        /// The subject.
        subject: String,
        /// The sequence.
        sequence: u64,
        /// Offset of its record in the log.
        offset: u64,
    },
    /// A wait for an offset that nothing has been appended up to.
    #[error(
        "offset {end_offset} is beyond the end of the log ({written}); wait for the end_offset that an append returned"
    )]
    BeyondEnd {
        /// Offset waited for.
        end_offset: u64,
        /// End of the log.
        written: u64,
    },
    /// Replicated durability was asked of a store that nothing replicates.
    #[error("nothing replicates this store; ask for Buffered or Synced, or attach a replicator")]
    NotReplicated,
    /// The wait ended before what was waited for.
    #[error("timed out")]
    TimedOut,
    /// The writer of a store followed read-only has restarted with a shorter log.
    #[error("the writer restarted (incarnation {current}); open the follower again")]
    WriterRestarted {
        /// The writer's incarnation now.
        current: u32,
    },
    /// The writer has retired what a follower had not read yet.
    #[error(
        "the writer has retired what follows offset {end_offset}; open the follower again, and refresh it more often"
    )]
    FellBehind {
        /// Where the follower stood.
        end_offset: u64,
    },
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A store could not be opened (a backup being checked, for example).
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, and to which file.
        doing: String,
        /// The cause.
        source: Arc<io::Error>,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io {
            doing,
            source: Arc::new(source),
        }
    }
}

/// Whether an I/O error says that the medium does not give the bytes back; not who may read them, or how many files may be open.
pub(crate) fn is_of_the_medium(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_the_medium = [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::BADMSG];
    let code = error.raw_os_error();
    of_the_medium
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
        || error.kind() == io::ErrorKind::UnexpectedEof
}

/// The error with the name of the file that it is about.
pub(crate) fn named(error: &io::Error, file: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{file}: {error}"))
}

/// Whether an I/O error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
