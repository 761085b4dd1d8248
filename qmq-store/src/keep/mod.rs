//! Housekeeping: checkpoints, recovery, sealing, retention, verification, repair, backup, statistics.

pub(crate) mod backup;
pub(crate) mod checkpoint;
pub(crate) mod damage;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod follow;
pub(crate) mod housekeeper;
pub(crate) mod identity;
pub(crate) mod opening;
pub(crate) mod rebuild;
pub(crate) mod recovery;
pub(crate) mod retention;
pub(crate) mod seal;
pub(crate) mod stats;
pub(crate) mod verify;
