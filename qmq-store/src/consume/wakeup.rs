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

/// Those who wait for messages of one subject.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    // Boxed, since few of many subjects have waiters at a time.
    #[expect(clippy::box_collection, reason = "16 bytes a subject")]
    entered: Option<Box<Vec<(Place, Waker)>>>,
}

/// Tells one who waits from the others, also from one with the same waker.
type Place = Arc<()>;

impl Waiters {
    /// Returns the waker that had this place.
    fn enter(&mut self, place: &Place, waker: Waker) -> Option<Waker> {
        let entered = self.entered.get_or_insert_default();
        if let Some((_, before)) = entered.iter_mut().find(|(at, _)| Arc::ptr_eq(at, place)) {
            return Some(std::mem::replace(before, waker));
        }
        entered.push((Arc::clone(place), waker));
        None
    }

    fn leave(&mut self, place: &Place) -> Option<Waker> {
        let entered = self.entered.as_mut()?;
        let at = entered.iter().position(|(at, _)| Arc::ptr_eq(at, place))?;
        let (_, waker) = entered.swap_remove(at);
        if entered.is_empty() {
            self.entered = None;
        }
        Some(waker)
    }

    fn take(&mut self) -> Vec<(Place, Waker)> {
        self.entered
            .take()
            .map(|entered| *entered)
            .unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entered.as_ref().map_or(0, |entered| entered.len())
    }
}

/// The place of one who waits for messages, with one waker at a time. Dropping it gives the place up, so a future that polls
/// ([`Store::poll_pull`](crate::Store::poll_pull)) keeps it as long as itself.
#[derive(Debug, Default)]
pub struct Waiting {
    at: Option<(Arc<Subject>, Place)>,
}

impl Waiting {
    /// Enters a waker in place of the one before. The caller looks for messages again afterwards.
    pub(crate) fn enter(&mut self, subject: &Arc<Subject>, waker: &Waker) {
        if matches!(&self.at, Some((at, _)) if !Arc::ptr_eq(at, subject)) {
            self.leave();
        }
        let (_, place) = self
            .at
            .get_or_insert_with(|| (Arc::clone(subject), Place::default()));
        let waker = waker.clone();
        // Dropped where no lock is held: the last of its kind may take a whole task along, and what that waits with.
        let _before = {
            let mut consumption = subject.consumption.lock();
            subject.has_waiters.store(true, Ordering::SeqCst);
            consumption.waiters.enter(place, waker)
        };
        fence(Ordering::SeqCst);
    }

    /// Waits no more.
    pub(crate) fn leave(&mut self) {
        if let Some((subject, place)) = self.at.take() {
            let _waker = subject.consumption.lock().waiters.leave(&place);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave();
    }
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
    let entered = {
        let mut consumption = subject.consumption.lock();
        subject.has_waiters.store(false, Ordering::SeqCst);
        consumption.waiters.take()
    };
    for (_, waker) in entered {
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
