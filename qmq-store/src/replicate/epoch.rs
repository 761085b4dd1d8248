//! Epochs: a master's term begins with a record that says so.

use super::ReplicaError;
use crate::error::Error;
use crate::log::epochs::Epoch;
use crate::log::part::{Body, Part};
use crate::log::record::Kind;
use crate::log::writer::{How, Purpose};
use crate::store::{Inner, Store};

impl Store {
    /// Begins an epoch, durably; returns the offset where it begins. What is appended from then on is of this epoch.
    ///
    /// # Errors
    /// [`ReplicaError::EpochPassed`] unless it is greater than every earlier one; [`ReplicaError::EpochPromised`] if a greater one was
    /// promised; [`Error::Replica`], [`Error::DiskFull`], [`Error::Poisoned`].
    pub fn begin_epoch(&self, epoch: u64) -> Result<u64, Error> {
        self.inner.check_open()?;
        self.inner.log.check_master()?;
        let began = self.inner.begin_epoch(epoch, true);
        self.inner.tell_synced();
        began
    }

    /// All epochs of the log and where they begin, oldest first, also those whose records retention has taken. A log without any is of epoch 0.
    #[must_use]
    pub fn epochs(&self) -> Vec<Epoch> {
        self.inner.catalog.epochs.all()
    }
}

impl Inner {
    /// Whether an epoch may begin.
    pub(super) fn check_epoch(&self, given: u64) -> Result<(), Error> {
        let current = self.catalog.epochs.last();
        if given <= current {
            return Err(ReplicaError::EpochPassed { given, current }.into());
        }
        let promised = *self.promised.lock();
        if given < promised {
            return Err(ReplicaError::EpochPromised { given, promised }.into());
        }
        Ok(())
    }

    /// Who waits for a sync is told by the caller, when it holds no lock.
    pub(super) fn begin_epoch(&self, epoch: u64, as_master: bool) -> Result<u64, Error> {
        let part = Part {
            sequence: epoch,
            ..Part::new(Kind::Epoch, "", Body::one(&[]))
        };
        let len = part.record_len();
        let mut appender = if as_master {
            self.log.lock(len, Purpose::Action)?
        } else {
            self.log.lock_as_replicator(len, Purpose::Action)?
        };
        // Looked at under the lock: two may come at once.
        self.check_epoch(epoch)?;
        let start = appender.put(&part, How::Call)?;
        let _ = self.catalog.epochs.note(epoch, start);
        let end = appender.publish()?;
        self.log.sync_to(end)?;
        Ok(start)
    }
}
