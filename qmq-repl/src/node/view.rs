//! What can be asked of a member.

use std::time::Duration;

use super::{Node, Part, Role};
use crate::event::NotAccepting;
use crate::lag::SlaveLag;
use crate::log::{MasterLog, SlaveLog};
use crate::options::Peer;
use crate::slave::MasterMarks;

impl<L: MasterLog + SlaveLog> Node<L> {
    /// Whether an append may be taken, at any durability. The log is told too ([`MasterLog::accept`]); with a lease this is exact at every
    /// moment.
    ///
    /// # Errors
    /// Why not.
    pub fn may_accept(&self, now: Duration) -> Result<(), NotAccepting> {
        match &self.part {
            Part::Master(master) => master.may_accept(&self.core, now),
            _ => Err(NotAccepting::NotMaster),
        }
    }

    /// Slaves do not keep up: appends that wait for them are to be refused.
    #[must_use]
    pub fn too_few_in_sync(&self) -> bool {
        matches!(&self.part, Part::Master(master) if master.is_too_few())
    }

    /// What this member is.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.part {
            Part::Slave(_) => Role::Slave,
            Part::Candidate(_) => Role::Candidate,
            Part::Master(_) => Role::Master,
        }
    }

    /// Its epoch, if it is master.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        match &self.part {
            Part::Master(master) => Some(master.epoch),
            _ => None,
        }
    }

    /// End of what enough slaves have; `None` if this is no master.
    #[must_use]
    pub fn replicated(&self) -> Option<u64> {
        match &self.part {
            Part::Master(master) => Some(master.replicated()),
            _ => None,
        }
    }

    /// How far each slave is, if this is the master.
    pub fn lag(&mut self, now: Duration) -> Vec<SlaveLag> {
        self.at(now);
        match &self.part {
            Part::Master(master) => master.lag(&self.core),
            _ => Vec::new(),
        }
    }

    /// How far the master is, if this slave follows one.
    #[must_use]
    pub fn master_marks(&self) -> Option<MasterMarks> {
        match &self.part {
            Part::Slave(slave) => slave.marks(),
            _ => None,
        }
    }

    /// Whom this slave follows or asks.
    #[must_use]
    pub fn master(&self) -> Option<Peer> {
        match &self.part {
            Part::Slave(slave) => slave.master(),
            _ => None,
        }
    }

    /// From here on the master's log is kept for its slaves; never more than `hold_bytes_max`. `None` if this is no master. The log is told with each
    /// heartbeat ([`MasterLog::keep_from`]).
    #[must_use]
    pub fn retention_hold(&self) -> Option<u64> {
        match &self.part {
            Part::Master(master) => Some(master.hold(&self.core)),
            _ => None,
        }
    }
}
