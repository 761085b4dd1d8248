//! A clock that can hold up whoever reads it: so a store is as slow as a test wants.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use qmq_store::{Clock, SystemClock};

use super::wire_client::until;

#[derive(Debug)]
pub(crate) struct Gate {
    clock: SystemClock,
    closed: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicU64,
}

impl Gate {
    pub(crate) fn new(clock: SystemClock) -> Self {
        Self {
            clock,
            closed: Mutex::new(false),
            changed: Condvar::new(),
            waiting: AtomicU64::new(0),
        }
    }

    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.changed.notify_all();
    }

    pub(crate) async fn somebody_waits(&self) {
        until("somebody at the gate", || {
            self.waiting.load(Ordering::SeqCst) > 0
        })
        .await;
    }
}

impl Clock for Gate {
    fn now_ms(&self) -> u64 {
        let mut closed = self.closed.lock().unwrap();
        if *closed {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            // A test that fails must not hang in the drop of its broker.
            let limit = super::wire_client::LIMIT;
            closed = self
                .changed
                .wait_timeout_while(closed, limit, |closed| *closed)
                .unwrap()
                .0;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(closed);
        self.clock.now_ms()
    }
}
