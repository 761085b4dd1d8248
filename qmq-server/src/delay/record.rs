//! What is settled and not recorded: messages that brokers have, and dead letters' messages, while the log takes no record of it.
//!
//! None of them is sent again while this process lives; after a restart all of them are.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use qmq_sched::{DelayId, Error, Scheduler};

use super::dispatch::Counters;
use super::lanes::pause;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unrecorded {
    /// Brokers have them.
    arrived: Vec<DelayId>,
    /// There are dead letters of them.
    dead: Vec<DelayId>,
    failures: u32,
    /// Before that it is not tried again.
    retry_at: Option<Instant>,
}

impl Unrecorded {
    pub(super) fn arrived(&mut self, ids: impl IntoIterator<Item = DelayId>) {
        self.arrived.extend(ids);
    }

    pub(super) fn dead(&mut self, ids: impl IntoIterator<Item = DelayId>) {
        self.dead.extend(ids);
    }

    pub(super) fn len(&self) -> usize {
        self.arrived.len() + self.dead.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When it is tried again; `None`: nothing has failed.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Records all, unless that has failed a moment ago.
    ///
    /// # Errors
    /// Of the log. What could not be recorded stays here.
    pub(super) fn record(
        &mut self,
        scheduler: &Scheduler,
        counters: &Counters,
        back_off: (Duration, Duration),
    ) -> Result<(), Error> {
        let now = Instant::now();
        if self.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        let lists = [
            (&mut self.arrived, &counters.dispatched),
            (&mut self.dead, &counters.dead),
        ];
        for (ids, counter) in lists {
            if ids.is_empty() {
                continue;
            }
            if let Err(error) = scheduler.dispatched(ids) {
                self.failures += 1;
                self.retry_at = Some(now + pause(back_off, self.failures));
                return Err(error);
            }
            counter.fetch_add(ids.len() as u64, Ordering::Relaxed);
            ids.clear();
        }
        (self.failures, self.retry_at) = (0, None);
        Ok(())
    }
}
