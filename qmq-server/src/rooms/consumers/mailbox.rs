//! What waits for a room's thread, in the order in which it came.
//!
//! Three ways in, so that nobody waits who must not, nothing is lost that must not be, and what waits is bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// What can wait.
pub(super) trait Weighs {
    /// Memory that it takes while it waits, in bytes.
    fn bytes(&self) -> usize;
}

/// See the module. A clone is the same.
pub(in crate::rooms) struct Mailbox<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        let inner = Arc::clone(&self.inner);
        Self { inner }
    }
}

struct Inner<T> {
    state: Mutex<State<T>>,
    came: Condvar,
    left: Condvar,
    jobs_max: usize,
    bytes_max: usize,
}

struct State<T> {
    jobs: VecDeque<T>,
    bytes: usize,
    closed: bool,
}

#[expect(
    private_bounds,
    reason = "what weighs is this room's; others only send"
)]
impl<T: Weighs> Mailbox<T> {
    /// With room for so many jobs, and for so many bytes of them.
    pub(super) fn new(jobs_max: usize, bytes_max: usize) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            bytes: 0,
            closed: false,
        };
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                came: Condvar::new(),
                left: Condvar::new(),
                jobs_max,
                bytes_max,
            }),
        }
    }

    /// A request: given back if there is no room, or nobody is there.
    pub(super) fn ask(&self, job: T) -> Result<(), T> {
        let mut state = self.inner.state.lock();
        if state.closed || self.inner.is_full(&state) {
            return Err(job);
        }
        self.inner.put(&mut state, job);
        Ok(())
    }

    /// What must not be lost, by a thread that may wait for room. Never the room's own.
    pub(in crate::rooms) fn wait_and_tell(&self, job: T) {
        let mut state = self.inner.state.lock();
        while !state.closed && self.inner.is_full(&state) {
            self.inner.left.wait(&mut state);
        }
        if state.closed {
            return;
        }
        self.inner.put(&mut state, job);
    }

    /// What must not be lost, by whoever must not wait. Room or not: so this is for what has a bound of its own, as one word of goodbye for each that
    /// was let in.
    pub(super) fn tell(&self, job: T) {
        let mut state = self.inner.state.lock();
        if state.closed {
            return;
        }
        self.inner.put(&mut state, job);
    }

    /// The next one. `None`: none came by then.
    pub(super) fn next_until(&self, until: Instant) -> Option<T> {
        let mut state = self.inner.state.lock();
        while state.jobs.is_empty() {
            if self.inner.came.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        let was_full = self.inner.is_full(&state);
        let job = state.jobs.pop_front()?;
        state.bytes -= job.bytes();
        if was_full && !self.inner.is_full(&state) {
            self.inner.left.notify_all();
        }
        Some(job)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.inner.state.lock().jobs.len()
    }

    /// How many requests may.
    pub(super) fn jobs_max(&self) -> usize {
        self.inner.jobs_max
    }

    /// Nobody is there any more: what waits is dropped, and so is what comes.
    pub(super) fn close(&self) {
        let mut state = self.inner.state.lock();
        state.closed = true;
        state.bytes = 0;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.inner.left.notify_all();
        drop(jobs);
    }
}

impl<T: Weighs> Inner<T> {
    fn is_full(&self, state: &State<T>) -> bool {
        state.jobs.len() >= self.jobs_max || state.bytes >= self.bytes_max
    }

    fn put(&self, state: &mut State<T>, job: T) {
        state.bytes += job.bytes();
        state.jobs.push_back(job);
        self.came.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    impl Weighs for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    fn take(mailbox: &Mailbox<usize>) -> Option<usize> {
        mailbox.next_until(Instant::now())
    }

    #[test]
    fn requests_are_refused_by_their_number_and_by_their_bytes() {
        let mailbox = Mailbox::new(2, 100);
        assert_eq!(mailbox.ask(1), Ok(()));
        assert_eq!(mailbox.ask(2), Ok(()));
        assert_eq!(mailbox.ask(3), Err(3));
        assert_eq!(take(&mailbox), Some(1));
        assert_eq!(mailbox.ask(200), Ok(()));
        assert_eq!(take(&mailbox), Some(2));
        assert_eq!(mailbox.ask(4), Err(4), "200 bytes wait");
        assert_eq!(take(&mailbox), Some(200));
        assert_eq!(mailbox.ask(5), Ok(()));
    }

    #[test]
    fn what_must_not_be_lost_is_told_in_order_though_there_is_no_room() {
        let mailbox = Mailbox::new(1, 100);
        assert_eq!(mailbox.ask(1), Ok(()));
        mailbox.tell(2);
        mailbox.tell(3);
        assert_eq!(mailbox.ask(4), Err(4));
        let all: Vec<usize> = std::iter::from_fn(|| take(&mailbox)).collect();
        assert_eq!(all, [1, 2, 3]);
    }

    #[test]
    fn whoever_may_wait_comes_in_when_there_is_room_or_nobody_is_there() {
        let mailbox = Mailbox::new(1, 100);
        mailbox.tell(1);
        let waits = |job| {
            let mailbox = mailbox.clone();
            std::thread::spawn(move || mailbox.wait_and_tell(job))
        };
        let two = waits(2);
        assert_eq!(take(&mailbox), Some(1));
        let soon = Instant::now() + Duration::from_secs(10);
        assert_eq!(mailbox.next_until(soon), Some(2));
        two.join().unwrap();
        mailbox.tell(3);
        let four = waits(4);
        mailbox.close();
        four.join().unwrap();
        assert_eq!(take(&mailbox), None);
        assert_eq!(mailbox.ask(5), Err(5));
    }
}
