//! Whether a store takes appends of its own, or follows a master's log byte for byte.

use std::sync::atomic::Ordering;

use super::Log;
use crate::error::Error;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Takes appends.
    Master = 0,
    /// Takes nothing: it was a master, and its folder does not say yet that it is one no more.
    Leaving = 1,
    /// Takes what a master wrote.
    Replica = 2,
}

impl Log {
    #[inline]
    pub(crate) fn role(&self) -> Role {
        match self.role.load(Ordering::Acquire) {
            0 => Role::Master,
            1 => Role::Leaving,
            _ => Role::Replica,
        }
    }

    /// Changes the role. When it returns, no append of the role before is under way.
    pub(crate) fn set_role(&self, role: Role) {
        let _writer = self.writer.lock();
        self.role.store(role as u8, Ordering::Release);
    }

    /// For who is about to append. Certain only under the append lock.
    #[inline]
    pub(crate) fn check_master(&self) -> Result<(), Error> {
        if self.role() == Role::Master {
            Ok(())
        } else {
            Err(Error::Replica)
        }
    }

    /// For who is about to take what a master wrote.
    pub(crate) fn check_replica(&self) -> Result<(), Error> {
        if self.role() == Role::Replica {
            Ok(())
        } else {
            Err(Error::NotReplica)
        }
    }
}
