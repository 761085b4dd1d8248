//! What does not fit when logs are compared and copied.

/// Bytes, epochs or offsets that do not fit this log. Nothing has been changed, unless the variant says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// Bytes for another place than the end of the log.
    #[error("bytes for offset {offset}, and the log ends at {end}; give those from {end} on")]
    Gap {
        /// Offset of the bytes given.
        offset: u64,
        /// End of the log.
        end: u64,
    },
    /// The log has other bytes there: the histories of the two stores have parted at or before this.
    #[error(
        "the log has other bytes at offset {offset}; find where the two logs part, and cut this one there (Store::cut)"
    )]
    Differs {
        /// The first byte that differs.
        offset: u64,
    },
    /// Bytes given are not what a master writes there.
    #[error("the bytes given for offset {offset} are refused: {reason}; fetch them again")]
    Refused {
        /// Offset of the record that does not fit.
        offset: u64,
        /// What does not fit.
        reason: &'static str,
    },
    /// No commit unit begins there.
    #[error("offset {offset} is inside of a record or a batch, which begins at {begins}")]
    NotAUnit {
        /// Offset asked for.
        offset: u64,
        /// Where what it is inside of begins.
        begins: u64,
    },
    /// Retention has taken it.
    #[error("offset {offset} has been retired, the log begins at {start}; join with a snapshot")]
    Retired {
        /// Offset asked for.
        offset: u64,
        /// First offset kept.
        start: u64,
    },
    /// The log does not reach that far.
    #[error("offset {offset} is beyond the end of the log ({end})")]
    BeyondEnd {
        /// Offset asked for.
        offset: u64,
        /// End of the log.
        end: u64,
    },
    /// The log is damaged there.
    #[error(
        "{len} bytes at offset {offset} of the log are damaged; fetch them from another store that has them (Store::replace_raw)"
    )]
    Damaged {
        /// Where the damage begins.
        offset: u64,
        /// How far it goes, in bytes.
        len: u64,
    },
    /// The replica was made from a snapshot, and its log has not come as far as that yet.
    #[error(
        "the log ends at {end}, and the snapshot that this replica was made from is as of {needed}; fetch what lies between first"
    )]
    NotCaughtUp {
        /// End of the log.
        end: u64,
        /// Where it must reach.
        needed: u64,
    },
    /// The log cannot be cut there: its beginning has been retired, and no checkpoint is old enough to say how subjects and groups stood.
    #[error(
        "the state as of offset {offset} is not known any more; make the replica anew from a snapshot of its master (Store::install_replica)"
    )]
    CutTooDeep {
        /// Where the log was to be cut.
        offset: u64,
    },
    /// Bytes that are no snapshot.
    #[error("the snapshot is refused: {reason}; fetch it again")]
    BadSnapshot {
        /// What does not fit.
        reason: &'static str,
    },
    /// An epoch that has passed.
    #[error(
        "epoch {given} has passed, the log is in epoch {current}; ask the authority for a new one"
    )]
    EpochPassed {
        /// The epoch given.
        given: u64,
        /// The log's last one.
        current: u64,
    },
    /// A higher epoch has been promised.
    #[error(
        "epoch {given} comes too late, epoch {promised} has been promised; ask the authority for a new one"
    )]
    EpochPromised {
        /// The epoch given.
        given: u64,
        /// The highest promised.
        promised: u64,
    },
}
