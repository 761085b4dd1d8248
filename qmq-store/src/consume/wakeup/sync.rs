//! What `wakeup` is made of. The models of `tests/concurrency_models.rs` put their own in this place.

pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
pub(super) use std::thread::{Thread, current};
