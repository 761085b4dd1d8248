//! What `turns` is made of. The models of `tests/concurrency_models.rs` put their own in this place.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
pub(super) use std::thread::yield_now;
pub(super) use std::time::Instant;

use rustix::thread::futex;

/// A word to sleep on until it changes.
#[derive(Debug, Default)]
pub(super) struct WaitWord(AtomicU32);

impl WaitWord {
    #[inline]
    pub(super) fn load(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    #[inline]
    pub(super) fn bump(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Sleeps if the word is still `seen`, until `wake` or a signal.
    pub(super) fn wait(&self, seen: u32) {
        let _ = futex::wait(&self.0, futex::Flags::PRIVATE, seen, None);
    }

    /// Wakes all who sleep.
    pub(super) fn wake(&self) {
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX as u32);
    }
}
