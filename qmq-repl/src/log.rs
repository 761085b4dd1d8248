//! What replication asks of a log. `qmq-store` offers it; the tests have a log in memory.
//!
//! Offsets are bytes. A *unit* is what is written and read whole: a record, or a batch with all its records. Every end that these calls give
//! or take is the end of a unit, unless it says otherwise.

use bytes::Bytes;
use qmq_store::PrimaryFiles;
use thiserror::Error;

/// Where an epoch begins in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number. Grows along the log.
    pub number: u64,
    /// Offset of its record, the first unit of the epoch.
    pub start: u64,
}

/// State of everything before an offset: what a new slave begins with where the log itself is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The log that belongs to it begins here.
    pub base: u64,
    /// What [`SlaveLog::install`] takes. Replication does not look into it.
    pub bytes: Bytes,
}

/// What both roles ask.
pub trait Log {
    /// Which log it is: equal in all copies, and in no other log. Never 0.
    fn id(&self) -> u128;
    /// First offset that is still there.
    fn start(&self) -> u64;
    /// End of what is written.
    fn written(&self) -> u64;
    /// End of what survives a loss of power. Never beyond [`Log::written`].
    fn synced(&self) -> u64;
    /// The epochs of the log, the greatest last. The first one begins before [`Log::start`], unless the log has none from there: so that it is known
    /// of which epoch the last byte before the log is, also right after a snapshot was installed. Older ones may be there.
    fn epochs(&self) -> Vec<Epoch>;
    /// What a snapshot told is as of this end, and the log has not come there yet; 0 otherwise. Up to there [`Log::epochs`] has those of the log that the
    /// snapshot is of.
    fn state_ahead(&self) -> u64;
    /// Whole units from `offset` on: as many as fit into `max` bytes, and one at least, however long. Verified. Empty at [`Log::written`].
    ///
    /// # Errors
    /// [`LogError::Damaged`], [`LogError::Retired`], [`LogError::NotABoundary`], [`LogError::BeyondEnd`].
    fn read(&self, offset: u64, max: usize) -> Result<Bytes, LogError>;
    /// A checksum of the bytes from `from` to `to`, which need not be ends of units. Not verified: damage changes it.
    ///
    /// # Errors
    /// [`LogError::Retired`], [`LogError::BeyondEnd`]; [`LogError::Damaged`] if bytes cannot be read at all.
    fn digest(&self, from: u64, to: u64) -> Result<u64, LogError>;
    /// Verifies every unit that has a byte between `from` and `to`.
    ///
    /// # Errors
    /// [`LogError::Damaged`] names the first that is not good; others as in [`Log::digest`].
    fn verify(&self, from: u64, to: u64) -> Result<(), LogError>;
    /// Puts verified units in the place of damaged ones of the same length.
    ///
    /// # Errors
    /// If the bytes are not good units for this place.
    fn replace(&self, offset: u64, bytes: &[u8]) -> Result<(), LogError>;
    /// The greatest epoch promised; 0 before the first.
    fn promised(&self) -> u64;
    /// Promises never to follow an epoch below this one. Durable when it returns.
    ///
    /// # Errors
    /// If it could not be made durable.
    fn promise(&self, epoch: u64) -> Result<(), LogError>;
    /// Files that belong to the log and are sent with it, if there are any.
    fn files(&self) -> Option<&dyn PrimaryFiles> {
        None
    }
    /// What [`Log::mark_incomplete`] has kept; 0 for a log that is complete.
    fn incomplete_until(&self) -> u64;
    /// Keeps this number, durably: the log begins anew, and has what it once acknowledged only when it has come to here again. 0 when it has.
    ///
    /// # Errors
    /// If it could not be made durable.
    fn mark_incomplete(&self, until: u64) -> Result<(), LogError>;
}

/// What a master asks beyond that.
pub trait MasterLog: Log {
    /// Writes the epoch's record at the end of the log and opens the log for appends. Answers the end of that record. Who waits for the replicated watermark
    /// from then on waits for slaves, though none has come yet.
    ///
    /// # Errors
    /// If it could not be written.
    fn begin_epoch(&self, epoch: u64) -> Result<u64, LogError>;
    /// Slaves hold everything before `end`. The log's replicated watermark follows as far as the log is synced here too.
    fn advance_replicated(&self, end: u64);
    /// Lets appends in, or refuses them for a while: when a lease has run out, and while the role is handed over. When it returns, no
    /// refused append is under way.
    fn accept(&self, accepting: bool);
    /// Too few slaves keep up, or enough do again. While they do not, whoever waits for the replicated watermark is refused.
    fn too_few_in_sync(&self, too_few: bool);
    /// Slaves need the log from here on: its retention takes nothing at or behind. Said with each heartbeat; a demotion lets go.
    fn keep_from(&self, offset: u64);
    /// No master any more: refuses appends, and whoever waits for the replicated watermark. Keeps nothing for slaves.
    fn demote(&self);
    /// State of everything before its base, which is not before [`Log::start`]; no empty bytes. A slave that begins with it has of what stands before the base
    /// only what is in it: it should hold what is still wanted of that, or have its base at the start.
    ///
    /// # Errors
    /// If it cannot be read.
    fn snapshot(&self) -> Result<Snapshot, LogError>;
}

/// What a slave asks beyond that.
pub trait SlaveLog: Log {
    /// Appends whole units at `offset`, which is the end of the log, verified as they come. Answers the new end.
    ///
    /// # Errors
    /// If `offset` is another, or the bytes are not good units for it; then nothing is appended. [`LogError::NoRoom`]: a part may be.
    fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, LogError>;
    /// Syncs what is written. Answers the synced end.
    ///
    /// # Errors
    /// If the disk failed: then nothing more is acknowledged.
    fn sync(&mut self) -> Result<u64, LogError>;
    /// Moves what lies behind `offset` into a file of its own and ends there. Durable when it returns. Marks itself as incomplete if files beside the
    /// log were of what is gone.
    ///
    /// # Errors
    /// [`LogError::CutTooDeep`] if the state as of there is not known, and the log is as before; others if it could not be done.
    fn cut(&mut self, offset: u64) -> Result<(), LogError>;
    /// Replaces the whole log by the state of a snapshot, so that it starts and ends at the snapshot's base and is a copy of the same log. What was promised and marked
    /// stays. If [`SlaveLog::cut`] was refused just before, the old log is set aside whole. Durable when it returns.
    ///
    /// # Errors
    /// If the bytes are no snapshot, or could not be written; then the log is as before.
    fn install(&mut self, snapshot: &Snapshot) -> Result<(), LogError>;
}

/// What a log refuses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// Units are damaged.
    #[error("the log is damaged from offset {from} to {to}; another copy can heal it")]
    Damaged {
        /// Begin of the first damaged unit.
        from: u64,
        /// Begin of the next good one.
        to: u64,
    },
    /// The log starts later.
    #[error("offset {offset} is retired, the log starts at {start}; begin with a snapshot")]
    Retired {
        /// What was asked for.
        offset: u64,
        /// Where the log starts.
        start: u64,
    },
    /// No unit begins there.
    #[error("no record begins at offset {offset}; the asker's log is another one")]
    NotABoundary {
        /// What was asked for.
        offset: u64,
    },
    /// The log ends before.
    #[error("offset {offset} is beyond the end of the log, {end}")]
    BeyondEnd {
        /// What was asked for.
        offset: u64,
        /// Where the log ends.
        end: u64,
    },
    /// An append at another place than the end.
    #[error("an append at {offset}, and the log ends at {end}; agree on the common end again")]
    NotTheEnd {
        /// Where the bytes belong.
        offset: u64,
        /// Where the log ends.
        end: u64,
    },
    /// The log cannot be cut there.
    #[error("the state as of offset {offset} is not known any more; begin anew with a snapshot")]
    CutTooDeep {
        /// Where it was to be cut.
        offset: u64,
    },
    /// Bytes that are not good records for their place.
    #[error("the bytes for offset {offset} are no good records; they are fetched again")]
    BadBytes {
        /// Where they belong.
        offset: u64,
    },
    /// Something else uses files that belong to the log.
    #[error("{what}; it is tried again, close what uses them")]
    Busy {
        /// What, with its cause.
        what: String,
    },
    /// The disk is full. Nothing has failed: it is tried again.
    #[error("{what}")]
    NoRoom {
        /// What the log says.
        what: String,
    },
    /// The disk, or what stands before it, failed.
    #[error("{what}; nothing more is acknowledged until the log is opened anew")]
    Failed {
        /// What failed, with its cause.
        what: String,
    },
}
