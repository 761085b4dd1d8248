//! The model's stand-ins for `src/consume/wakeup/sync.rs`.

pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
pub(super) use loom::thread::{Thread, current};
