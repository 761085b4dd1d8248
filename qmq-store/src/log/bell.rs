//! Housekeeping's bell: rung when there is a segment to seal or a spare to prepare.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_one();
    }

    /// Sleeps until it is rung, or until `interval` is over.
    pub(crate) fn wait(&self, interval: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.changed.wait_for(&mut rung, interval);
        }
        *rung = false;
    }
}
