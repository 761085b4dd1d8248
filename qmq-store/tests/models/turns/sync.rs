//! The model's stand-ins for `src/log/turns/sync.rs`.

use std::ops::Sub;
use std::time::Duration;

pub(super) use std::sync::atomic::Ordering;

pub(super) use crate::models::strong::{AtomicBool, AtomicU32};
use loom::sync::{Condvar, Mutex};
pub(super) use loom::thread::yield_now;

/// Time has always run out: a leader that gathers looks once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant;

impl Instant {
    pub(super) fn now() -> Self {
        Self
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, _: Self) -> Duration {
        Duration::MAX
    }
}

/// A futex: the kernel compares the word and puts to sleep under a lock that `wake` takes too. Here changes of the word take it as well, so
/// the model is about interleavings; the engine's word is sequentially consistent, as is the count of sleepers. There are no wake-ups
/// out of nothing, which could hide one that is lost.
#[derive(Debug, Default)]
pub(super) struct WaitWord {
    word: Mutex<u32>,
    woken: Condvar,
}

impl WaitWord {
    pub(super) fn load(&self) -> u32 {
        *self.word.lock().unwrap()
    }

    pub(super) fn bump(&self) {
        *self.word.lock().unwrap() += 1;
    }

    pub(super) fn wait(&self, seen: u32) {
        let word = self.word.lock().unwrap();
        if *word == seen {
            drop(self.woken.wait(word).unwrap());
        }
    }

    pub(super) fn wake(&self) {
        let _word = self.word.lock().unwrap();
        self.woken.notify_all();
    }
}
