//! What replication asks of a store, without any I/O of its own: a master gives raw bytes of its log, a replica takes them in at the same offsets.
//!
//! A replica's log has the same byte at every offset as its master's. Where its segments begin is its own affair: ranges are handed over in
//! whole commit units (a record, or a batch with its records), and a segment ends between two of them.

mod compare;
pub(crate) mod cutting;
mod digest;
mod epoch;
mod error;
mod files;
pub(crate) mod lost;
pub(crate) mod promise;
mod ranges;
mod raw;
mod repair;
mod role;
mod snapshot;
mod take;
mod unit;

pub use error::ReplicaError;
pub use files::{PRIMARY_NAME_BYTES_MAX, PrimaryFile, PrimaryFiles, PrimarySet};
pub use lost::LostTail;
pub use raw::RawRange;
pub use snapshot::Snapshot;
