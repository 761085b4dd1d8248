//! What can go wrong, and what to do about it.

mod open;

use std::io;
use std::sync::Arc;

use qmq_message::{MessageError, NameError};

use crate::options::OptionsError;
use crate::replicate::ReplicaError;
pub use open::OpenError;

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
    /// The note of a submission is longer than [`Store::NOTE_BYTES_MAX`](crate::Store::NOTE_BYTES_MAX).
    #[error("note of {bytes} bytes; the limit is {max}; submit fewer messages at a time")]
    NoteTooLong {
        /// Length of the note.
        bytes: usize,
        /// The limit.
        max: usize,
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
    /// The replicator says that too few slaves keep up. What was waited for is in the log, and may be replicated later.
    #[error(
        "too few slaves had it within slave.sync.timeout; it is in the log and may still be replicated: start slaves, look whether it is there before sending it again, or ask for Buffered or Synced"
    )]
    TooFewInSync,
    /// A store that follows a master was asked to append, or to hand out or settle messages. Nothing of it is in the log.
    #[error(
        "this store is a replica and takes no appends, pulls or acks of its own; go to its master, or make it one with Store::promote"
    )]
    Replica,
    /// The store was demoted before what was waited for had come to slaves. It is in this store's log, and stays there if the new master has
    /// it or this store is made master again; else [`Store::cut`](crate::Store::cut) takes it away, into a file.
    #[error(
        "the store was demoted before slaves had what was appended; ask the new master whether it is there before sending it again"
    )]
    Demoted,
    /// What only a replica does was asked of a master.
    #[error(
        "this store is a master, and only a replica takes another's bytes; demote it first, or open it with Store::open_replica"
    )]
    NotReplica,
    /// Bytes, epochs or offsets of replication that do not fit this log.
    #[error(transparent)]
    Replication(#[from] ReplicaError),
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
