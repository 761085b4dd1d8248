//! What can go wrong.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::options::OptionsError;

/// A call failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The due time is later than allowed.
    #[error(
        "due at {due_ms} ms since 1970, and at {now_ms} ms at most {max_delay_ms} ms of delay are allowed (Options::max_delay); choose an earlier time, or raise the limit"
    )]
    TooFar {
        /// The due time, in ms since 1970 UTC.
        due_ms: u64,
        /// The clock, in ms since 1970 UTC.
        now_ms: u64,
        /// The longest delay, in ms.
        max_delay_ms: u64,
    },
    /// A message of a new subject, and there are as many as allowed.
    #[error("there are {max} subjects already (Options::subjects_max); raise the limit")]
    TooManySubjects {
        /// The limit.
        max: usize,
    },
    /// As many pending messages have been rescheduled as allowed.
    #[error(
        "{max} pending messages have been rescheduled (Options::rescheduled_max); cancel this one and schedule it anew, or raise the limit"
    )]
    TooManyRescheduled {
        /// The limit.
        max: usize,
    },
    /// A bucket holds as many messages as it can number.
    #[error(
        "the bucket of {due_ms} ms since 1970 has {max} messages already; use a smaller segment_scale_minute in a new folder"
    )]
    BucketFull {
        /// The due time, in ms since 1970 UTC.
        due_ms: u64,
        /// The limit.
        max: u32,
    },
    /// The subject or an attribute breaks a rule.
    #[error(transparent)]
    Message(Arc<dyn std::error::Error + Send + Sync>),
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The folder's data has been written with another scale.
    #[error(
        "segment.scale.minute is {found} in this folder and {asked} was asked for; it is fixed once data exists: open it with {found}"
    )]
    OtherScale {
        /// Minutes that the data has.
        found: u32,
        /// Minutes that were asked for.
        asked: u32,
    },
    /// Retention could take what is pending.
    #[error(
        "the store has no hold on its retention, which could take what is pending; open it with Options::retention_hold set"
    )]
    NoHold,
    /// The index belongs to another store.
    #[error(
        "the index in {folder} was made for another store; give it the store that it was made for, or an empty folder"
    )]
    OtherStore {
        /// The folder of the index.
        folder: String,
    },
    /// The index has bodies of records that the log has not got yet.
    #[error(
        "the log ends before record {log_end} of the scheduler, and the index in {folder} has bodies of records up to {index_end}: the log is an older copy; put back the log that belongs to the index, or an index as old as the log"
    )]
    LogBehind {
        /// The folder of the index.
        folder: String,
        /// Sequence of the log's next record.
        log_end: u64,
        /// Records before this one may be in the index.
        index_end: u64,
    },
    /// Somebody else has written to the scheduler's subject, so what is in memory is not what the log says.
    #[error(
        "record {sequence} of the subject %SCHEDULE is the scheduler's, and {expected} was to be the next: somebody else writes to it; see to it that nobody does, and open the scheduler anew"
    )]
    ForeignRecord {
        /// The sequence that its record should have got.
        expected: u64,
        /// The one that it got.
        sequence: u64,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] qmq_store::Error),
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Its answer.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io {
            doing,
            source: Arc::new(source),
        }
    }

    /// For `map_err`: a rule of messages was broken.
    pub(crate) fn message(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Message(Arc::new(error))
    }
}
