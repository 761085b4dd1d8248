//! What the store's errors are on the wire, and how often requests were refused for what.

use std::sync::atomic::{AtomicU64, Ordering};

use qmq_store::Error;
use qmq_wire::Code;

/// The code for an error of the store.
#[must_use]
pub fn code(error: &Error) -> Code {
    match error {
        Error::Name(_) | Error::Message(_) | Error::EmptyBatch => Code::BadMessage,
        Error::BodyTooLarge { .. }
        | Error::BatchTooLarge { .. }
        | Error::RecordTooLarge { .. }
        | Error::NoteTooLong { .. } => Code::TooLarge,
        Error::TooManySubjects { .. } | Error::TooManyGroups { .. } => Code::TooMany,
        Error::DiskFull { .. } => Code::DiskFull,
        Error::Poisoned { .. } => Code::StoreFailed,
        Error::Closed => Code::Draining,
        Error::UnknownSubject { .. } => Code::UnknownSubject,
        Error::UnknownGroup { .. } => Code::UnknownGroup,
        Error::FilterMismatch { .. } => Code::FilterMismatch,
        Error::KindMismatch { .. } => Code::KindMismatch,
        Error::StaleIncarnation { .. } => Code::StaleIncarnation,
        Error::TooManyUnacked { .. } => Code::TooManyUnacked,
        Error::NotReplicated => Code::NotReplicated,
        Error::TooFewInSync => Code::TooFewInSync,
        Error::Replica | Error::Demoted => Code::NotMaster,
        _ => Code::Internal,
    }
}

/// Refusals since the start, by code.
#[derive(Debug)]
pub struct Refusals {
    /// One for each of [`Code::ALL`], and one for codes that are not among them.
    counts: Box<[AtomicU64]>,
}

impl Default for Refusals {
    fn default() -> Self {
        let counts = (0..=Code::ALL.len()).map(|_| AtomicU64::new(0));
        Self {
            counts: counts.collect(),
        }
    }
}

impl Refusals {
    /// One more.
    pub fn add(&self, code: Code) {
        let known = Code::ALL.iter().position(|known| *known == code);
        if let Some(count) = self.counts.get(known.unwrap_or(Code::ALL.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were for each code; `None` for those of no known code.
    pub fn iter(&self) -> impl Iterator<Item = (Option<Code>, u64)> {
        let codes = Code::ALL.iter().copied().map(Some).chain([None]);
        codes.zip(
            self.counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed)),
        )
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }
}
