//! The log of a store that is only looked at: what comparing it with another one asks.

use std::ops::Range;
use std::sync::Arc;

use super::ReplicaError;
use super::digest::digest_of;
use crate::error::Error;
use crate::keep::follow::ReadOnlyStore;
use crate::log::epochs::Epoch;
use crate::read::Source;

impl ReadOnlyStore {
    /// What there is of the log, as offsets.
    #[must_use]
    pub fn log_range(&self) -> Range<u64> {
        let end = self.end_offset();
        let start = self.list().first().map_or(end, |segment| segment.base);
        start.min(end)..end
    }

    /// All epochs of the log, as [`crate::Store::epochs`] gives them.
    #[must_use]
    pub fn epochs(&self) -> Vec<Epoch> {
        self.catalog.epochs.all()
    }

    /// As [`crate::Store::digest`]. A writer beside may retire the bytes meanwhile.
    ///
    /// # Errors
    /// As [`crate::Store::digest`]; what was retired meanwhile is [`ReplicaError::Damaged`].
    pub fn digest(&self, from: u64, to: u64) -> Result<u32, Error> {
        let Range { start, end } = self.log_range();
        if from < start {
            let offset = from;
            return Err(ReplicaError::Retired { offset, start }.into());
        }
        if to > end {
            return Err(ReplicaError::BeyondEnd { offset: to, end }.into());
        }
        let segments = self.list();
        digest_of(&*self.disk, from, to, &|offset| {
            let at = segments.partition_point(|segment| segment.base <= offset);
            Ok(at.checked_sub(1).map(|at| Arc::clone(&segments[at])))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::{Background, Durability, Message, Options, Store};

    #[test]
    fn a_store_that_is_looked_at_has_the_digests_of_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            background: Background::Manual,
            ..Options::with_segment_bytes(64 << 10)
        };
        let store = Store::open(folder.path(), options.clone()).unwrap();
        store.begin_epoch(7).unwrap();
        for n in 0..500 {
            let message = Message::new("s", format!("{n} {}", "x".repeat(500)));
            store.append_with(&message, Durability::Buffered).unwrap();
        }
        let seen = Store::open_read_only(folder.path(), &options).unwrap();
        let end = store.watermarks().written;
        assert_eq!(seen.log_range(), 0..end);
        assert_eq!(seen.epochs(), store.epochs());
        for (from, to) in [(0, end), (1, end - 1), (70_000, 200_001), (5, 5)] {
            assert_eq!(
                seen.digest(from, to).unwrap(),
                store.digest(from, to).unwrap()
            );
        }
        assert!(seen.digest(0, end + 1).is_err());
    }
}
