//! A store that follows a master, a replica that becomes the master, and a master that becomes a replica.

use std::path::Path;
use std::sync::Arc;

use super::ReplicaError;
use crate::consume::wakeup;
use crate::disk::{Disk, MappedDisk};
use crate::error::{Error, OpenError};
use crate::keep::opening::{OpenAs, not_writable};
use crate::log::role::Role;
use crate::options::Options;
use crate::store::{Inner, Store};

/// Of an incarnation's 24 bits, so many count the opens within an epoch. So no two masters of different epochs have one incarnation, however
/// often each was opened: what was pulled from one settles nothing at the other.
const OPENS_BITS: u32 = 8;
/// Epochs below this have incarnations of their own; for those above it they only rise.
const EPOCHS: u64 = 1 << (24 - OPENS_BITS);

impl Store {
    /// Opens the store in the folder `path` to follow a master: it takes what [`Store::append_raw`] is given, serves reads, and refuses appends,
    /// pulls and acks with [`Error::Replica`]. A store that was a master may be opened so, and a new or empty folder, which becomes a replica of
    /// nothing yet: see [`Store::install_replica`] for one with the master's identity.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_replica(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        options.check()?;
        let path = path.as_ref();
        let disk = MappedDisk::open(path, true)
            .map_err(|error| not_writable(&path.display().to_string(), error))?;
        Self::open_replica_on(Arc::new(disk), options)
    }

    /// As [`Store::open_replica`], on any [`Disk`].
    ///
    /// # Errors
    /// As [`Store::open`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the store takes the disk over"
    )]
    pub fn open_replica_on(disk: Arc<dyn Disk>, options: Options) -> Result<Self, OpenError> {
        Self::open_as(&disk, options, OpenAs::Replica, None)
    }

    /// Whether the store follows a master, or is on its way there.
    #[must_use]
    pub fn is_replica(&self) -> bool {
        self.inner.log.role() != Role::Master
    }

    /// As of which end of the log the groups of a replica are that was made from a snapshot, and has not come there yet; 0 if it has. Until then it
    /// may only be given the log that the snapshot is of: actions before that end are in the groups already, and are passed over.
    #[must_use]
    pub fn state_ahead(&self) -> u64 {
        let inner = &self.inner;
        inner.catalog.state_beyond(inner.log.settled_end())
    }

    /// Makes a replica the master of `epoch`: the epoch is promised, everything is synced, the incarnation raised and the epoch begun, each durably
    /// before the next; then appends, pulls and acks are taken. Groups go on where they stood; what consumers hold is given to them again. Returns the
    /// offset where the epoch begins.
    ///
    /// # Errors
    /// [`Error::NotReplica`]; [`ReplicaError::NotCaughtUp`]; as [`Store::begin_epoch`] and [`Store::promise`]. The store is a replica still then; if the log ends with the new
    /// epoch already, it takes a greater one to try again.
    pub fn promote(&self, epoch: u64) -> Result<u64, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        let outcome = {
            let _step = inner.housekeeping.lock();
            let _taking = inner.log.taking.lock();
            inner.log.check_replica()?;
            inner.check_caught_up()?;
            inner.check_epoch(epoch)?;
            self.promise(epoch)?;
            inner.promote(epoch)
        };
        if outcome.is_ok() {
            inner.log.commit.end_replication(false);
        }
        inner.tell_synced();
        outcome
    }

    /// Makes a master a replica: appends, pulls and acks are refused from now on, all that the log has is synced, and the folder says durably what
    /// it is. Returns the end of the log. Nothing to do for a replica.
    ///
    /// An append under way either was refused with [`Error::Replica`], and nothing of it is in the log; or it is in the log, before the end
    /// that is returned. Who waits for slaves to have it is told [`Error::Demoted`].
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`]: appends are refused all the same, but the folder may say "master" still; try again.
    pub fn demote(&self) -> Result<u64, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        let outcome = {
            let _step = inner.housekeeping.lock();
            inner.demote()
        };
        inner.log.commit.end_replication(true);
        inner.tell_synced();
        for subject in inner.catalog.all() {
            wakeup::notify(&subject);
        }
        outcome
    }
}

impl Inner {
    /// Whether the log has reached what the groups were made from.
    pub(crate) fn check_caught_up(&self) -> Result<(), Error> {
        let end = self.log.settled_end();
        match self.catalog.state_beyond(end) {
            0 => Ok(()),
            needed => Err(ReplicaError::NotCaughtUp { end, needed }.into()),
        }
    }

    /// The caller holds housekeeping and what takes raw bytes.
    fn promote(&self, epoch: u64) -> Result<u64, Error> {
        let log = &self.log;
        log.sync_to(log.settled_end())?;
        let mut identity = self.identity();
        let of_epoch = u32::try_from(epoch.min(EPOCHS - 1) << OPENS_BITS).unwrap_or(u32::MAX);
        let (_, _, last) = log.last();
        identity.incarnation = (log.incarnation().max(last) + 1).max(of_epoch);
        let write = |identity: crate::keep::identity::Identity| {
            identity
                .write(&*log.disk)
                .map_err(Error::io("writing the identity"))
        };
        write(identity)?;
        log.set_incarnation(identity.incarnation);
        let start = self.begin_epoch(epoch, false)?;
        identity.replica = false;
        write(identity)?;
        let now = self.options.clock.now_ms();
        for subject in self.catalog.all() {
            for group in &mut subject.consumption.lock().groups {
                group.start_over(now);
                if group.unacked() > 0 {
                    self.busy.lock().insert(subject.id);
                }
            }
        }
        log.set_role(Role::Master);
        Ok(start)
    }

    fn demote(&self) -> Result<u64, Error> {
        let log = &self.log;
        if log.role() == Role::Replica {
            return Ok(log.settled_end());
        }
        log.set_role(Role::Leaving);
        let end = log.settled_end();
        log.sync_to(end)?;
        self.identity()
            .write(&*log.disk)
            .map_err(Error::io("writing the identity"))?;
        log.set_role(Role::Replica);
        Ok(end)
    }
}
