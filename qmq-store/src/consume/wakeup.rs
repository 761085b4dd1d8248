//! Waking those who wait for a message, without polling.
//!
//! A waiter is a `std::task::Waker`: an async task's own, or one that unparks a thread. The protocol, so that no wake-up is lost:
//!
//! * a waiter enters its waker, raises `has_waiters`, and only then looks once more for messages;
//! * an appender publishes, and only then looks at `has_waiters`.
//!
//! Both put a sequentially consistent fence between the two steps, so at least one of them sees the other.

mod sync;

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::index::active::Subject;
use sync::{AtomicBool, Ordering, Thread, current, fence};

/// Wakers of one subject.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    // Boxed, since few of many subjects have waiters at a time.
    #[expect(clippy::box_collection, reason = "16 bytes a subject")]
    wakers: Option<Box<Vec<Waker>>>,
}

impl Waiters {
    fn enter(&mut self, waker: &Waker) {
        let wakers = self.wakers.get_or_insert_default();
        if !wakers.iter().any(|entered| entered.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn leave(&mut self, waker: &Waker) {
        if let Some(wakers) = &mut self.wakers {
            wakers.retain(|entered| !entered.will_wake(waker));
            if wakers.is_empty() {
                self.wakers = None;
            }
        }
    }

    fn take(&mut self) -> Vec<Waker> {
        self.wakers.take().map(|wakers| *wakers).unwrap_or_default()
    }
}

/// Enters a waker. The caller looks for messages again afterwards.
pub(crate) fn enter(subject: &Subject, waker: &Waker) {
    {
        let mut consumption = subject.consumption.lock();
        consumption.waiters.enter(waker);
        subject.has_waiters.store(true, Ordering::SeqCst);
    }
    fence(Ordering::SeqCst);
}

/// Takes a waker out again whose owner waits no more.
pub(crate) fn leave(subject: &Subject, waker: &Waker) {
    subject.consumption.lock().waiters.leave(waker);
}

/// Wakes all who wait for a message of the subject. Called after publishing.
#[inline]
pub(crate) fn notify(subject: &Subject) {
    fence(Ordering::SeqCst);
    if subject.has_waiters.load(Ordering::Relaxed) {
        wake_all(subject);
    }
}

#[cold]
fn wake_all(subject: &Subject) {
    let wakers = {
        let mut consumption = subject.consumption.lock();
        subject.has_waiters.store(false, Ordering::SeqCst);
        consumption.waiters.take()
    };
    for waker in wakers {
        waker.wake();
    }
}

/// Wakes a thread that is parked.
#[derive(Debug)]
pub(crate) struct ThreadWaker {
    thread: Thread,
    pub(crate) woken: AtomicBool,
}

impl ThreadWaker {
    pub(crate) fn current() -> Arc<Self> {
        Arc::new(Self {
            thread: current(),
            woken: AtomicBool::new(false),
        })
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}
