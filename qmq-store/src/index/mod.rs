//! Subject and sequence -> place in the log.
//!
//! Derived data: rebuilt from the log when damaged. The index of the active segment is in memory; a sealed segment has an immutable
//! file, so retiring is unlinking a pair, and memory does not grow with messages.

pub(crate) mod active;
pub(crate) mod catalog;
pub(crate) mod sealed;
pub(crate) mod tags;
