//! Memory for lines that are read and not yet appended.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Gives out bytes up to a limit; whoever asks for more waits.
#[derive(Debug)]
pub(super) struct Room {
    bytes_max: usize,
    taken: Mutex<usize>,
    given_back: Condvar,
}

/// Bytes taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Room {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            taken: Mutex::new(0),
            given_back: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `bytes`. What is larger than the whole room gets all of it.
    pub(super) fn take(&self, bytes: usize) -> Taken<'_> {
        let bytes = bytes.min(self.bytes_max);
        let full = |taken: &mut usize| *taken + bytes > self.bytes_max;
        let waited = self.given_back.wait_while(self.lock(), full);
        *waited.unwrap_or_else(PoisonError::into_inner) += bytes;
        Taken { room: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.room.lock() -= self.bytes;
        self.room.given_back.notify_one();
    }
}
