//! The scheduler's thread: it writes runs and checkpoints, so that those who schedule need not.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::scheduler::Inner;

/// How often it looks around when nobody rings.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long it leaves be what has failed.
const BACK_OFF: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Calls {
    is_rung: bool,
    is_over: bool,
}

/// Calls the thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    calls: Mutex<Calls>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.change(|calls| calls.is_rung = true);
    }

    fn change(&self, change: impl FnOnce(&mut Calls)) {
        change(&mut self.calls.lock());
        self.changed.notify_one();
    }

    /// Waits until there is something to do. `false`: it is over.
    fn wait(&self, at_most: Duration) -> bool {
        let mut calls = self.calls.lock();
        self.changed.wait_while_for(
            &mut calls,
            |calls| !calls.is_rung && !calls.is_over,
            at_most,
        );
        calls.is_rung = false;
        !calls.is_over
    }
}

/// The thread, until it is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(inner: &Arc<Inner>) -> io::Result<Self> {
        let of_thread = Arc::clone(inner);
        let thread = std::thread::Builder::new()
            .name("qmq-spill".into())
            .spawn(move || keep(&of_thread))?;
        Ok(Self {
            inner: Arc::clone(inner),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.inner.bell.change(|calls| calls.is_over = true);
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, and that has been printed.
            let _ = thread.join();
        }
    }
}

fn keep(inner: &Inner) {
    while inner.bell.wait(INTERVAL) {
        // What fails is tried again, and stops those who schedule when the stage is twice as full.
        if inner.maintain().is_err() {
            std::thread::sleep(BACK_OFF);
        }
    }
}
