//! The engine's concurrent protocols, in all their interleavings and memory orders (loom): append, publish and read; group commit and its
//! callbacks; the wake-up of those who wait; sealing and retirement against readers.
//!
//! A model that finds a lost wake-up says "deadlock".

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "loom's threads take what its models share"
)]
#![allow(
    clippy::semicolon_if_nothing_returned,
    reason = "models are closures of one call"
)]

mod models;

/// What `wakeup` uses of the index.
mod index {
    pub(crate) mod active {
        use loom::sync::atomic::AtomicBool;
        use loom::sync::{Mutex, MutexGuard};

        use crate::models::wakeup::Waiters;

        #[derive(Debug, Default)]
        pub(crate) struct Consumption {
            pub(crate) waiters: Waiters,
        }

        /// A mutex that is not poisoned, as the engine's are.
        #[derive(Debug, Default)]
        pub(crate) struct Lock<T>(Mutex<T>);

        impl<T> Lock<T> {
            pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
                self.0.lock().unwrap()
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Subject {
            pub(crate) consumption: Lock<Consumption>,
            pub(crate) has_waiters: AtomicBool,
        }
    }
}
