//! One file an engine.

pub mod raw;

#[cfg(feature = "commitlog")]
pub mod commitlog;
#[cfg(feature = "fjall")]
pub mod fjall;
#[cfg(feature = "okaywal")]
pub mod okaywal;
#[cfg(feature = "qmq")]
pub mod qmq;
#[cfg(feature = "raft-engine")]
pub mod raft_engine;
#[cfg(feature = "redb")]
pub mod redb;
#[cfg(feature = "walrus")]
pub mod walrus;
