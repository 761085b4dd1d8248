//! Pulling when there is nothing yet: with a thread that waits, or with a waker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::wakeup::ThreadWaker;
use super::{Batch, Consumption, Group, PullRequest, Waiting};
use crate::error::Error;
use crate::store::Store;

/// Answer to [`Store::poll_pull`].
#[derive(Debug)]
pub enum PollPull {
    /// Messages.
    Ready(Batch),
    /// None yet: the waker is entered. It is not woken for messages that become due again by time; the earliest such time is here.
    Pending {
        /// When the next refused message becomes due, in ms since the Unix epoch.
        next_due_ms: Option<u64>,
    },
}

/// Parks this thread until it is woken. `false`: the deadline came first.
pub(crate) fn park_until(thread: &ThreadWaker, deadline: Instant) -> bool {
    while !thread.woken.load(Ordering::SeqCst) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::park_timeout(left);
    }
    true
}

impl Store {
    /// As [`Store::pull`], and waits up to `timeout` for the first message.
    ///
    /// # Errors
    /// As [`Store::pull`]; [`Error::TooManyUnacked`] only when the time is up, if no more than refused messages is in the way.
    pub fn pull_wait(&self, request: &PullRequest, timeout: Duration) -> Result<Batch, Error> {
        let thread = ThreadWaker::current();
        let waker = Waker::from(Arc::clone(&thread));
        let deadline = Instant::now() + timeout;
        let mut waiting = Waiting::default();
        loop {
            thread.woken.store(false, Ordering::SeqCst);
            let next_due_ms = match self.poll_pull(request, &waker, &mut waiting)? {
                PollPull::Ready(batch) => return Ok(batch),
                PollPull::Pending { next_due_ms } => next_due_ms,
            };
            let now_ms = self.inner.options.clock.now_ms();
            let due =
                next_due_ms.map(|due| Duration::from_millis(due.saturating_sub(now_ms).max(1)));
            let wake_at = due.map_or(deadline, |due| deadline.min(Instant::now() + due));
            park_until(&thread, wake_at);
            if Instant::now() >= deadline {
                return self.inner.pull(request);
            }
        }
    }

    /// As [`Store::pull`]; if there is nothing, `waker` is woken once when there may be, unless `waiting` is dropped or polled with another
    /// waker before. For async shells and selectors: no thread waits.
    ///
    /// # Errors
    /// As [`Store::pull`].
    pub fn poll_pull(
        &self,
        request: &PullRequest,
        waker: &Waker,
        waiting: &mut Waiting,
    ) -> Result<PollPull, Error> {
        if let Some(batch) = self.pull_any(request)? {
            waiting.leave();
            return Ok(PollPull::Ready(batch));
        }
        let subject = self.inner.catalog.known(&request.subject)?;
        waiting.enter(&subject, waker);
        let cursor = |consumption: &Consumption| {
            let at = consumption.find(&request.group, &request.consumer);
            at.map_or(0, |at| consumption.groups[at].cursor)
        };
        let before = cursor(&subject.consumption.lock());
        // What came between the first look and the entry is seen now.
        if let Some(batch) = self.pull_any(request)? {
            waiting.leave();
            return Ok(PollPull::Ready(batch));
        }
        let consumption = subject.consumption.lock();
        let looked = cursor(&consumption).saturating_sub(before);
        let group = consumption
            .find(&request.group, &request.consumer)
            .map(|at| &consumption.groups[at]);
        let next_due_ms = group.and_then(Group::next_due);
        drop(consumption);
        if looked >= self.inner.options.scan_max as u64 {
            // It ended where one look ends that finds nothing, and not where the messages do.
            waker.wake_by_ref();
        }
        Ok(PollPull::Pending { next_due_ms })
    }

    /// What need not be waited for: messages, or none where none were asked for. Where only refused messages are in the way, there will be
    /// some in time.
    fn pull_any(&self, request: &PullRequest) -> Result<Option<Batch>, Error> {
        match self.inner.pull(request) {
            Err(Error::TooManyUnacked { unacked, max, .. }) if unacked < max => Ok(None),
            pulled => Ok(Some(pulled?).filter(|batch| !batch.is_empty() || request.max == 0)),
        }
    }
}
