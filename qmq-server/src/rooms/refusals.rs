//! What the store's errors are on the wire.

use qmq_store::Error;
use qmq_wire::Code;

/// The code for an error of the store.
#[must_use]
pub fn code(error: &Error) -> Code {
    match error {
        Error::Name(_) | Error::Message(_) | Error::EmptyBatch => Code::BadMessage,
        Error::BodyTooLarge { .. } | Error::BatchTooLarge { .. } | Error::RecordTooLarge { .. } => {
            Code::TooLarge
        }
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
