//! `consume/wakeup.rs` itself, with appenders and waiters around it as in `Store::append` and `Tail::next_timeout`, but without a timeout,
//! which would hide what is lost.

use std::sync::Arc;
use std::task::Waker;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::check;
use super::wakeup::{self, ThreadWaker, Waiting};
use crate::index::active::Subject;

#[derive(Default)]
struct World {
    written: AtomicU64,
    subject: Arc<Subject>,
}

impl World {
    fn append(&self) {
        let written = self.written.load(Ordering::Relaxed);
        self.written.store(written + 1, Ordering::Release);
        wakeup::notify(&self.subject);
    }

    fn wait_for(&self, messages: u64) {
        let thread = ThreadWaker::current();
        let waker = Waker::from(Arc::clone(&thread));
        let mut waiting = Waiting::default();
        while self.written.load(Ordering::Acquire) < messages {
            thread.woken.store(false, Ordering::SeqCst);
            waiting.enter(&self.subject, &waker);
            if self.written.load(Ordering::Acquire) >= messages {
                return;
            }
            while !thread.woken.load(Ordering::SeqCst) {
                thread::park();
            }
        }
    }
}

fn run(waiters: usize, appends: u64, preemptions: usize) {
    check(preemptions, move || {
        let world = Arc::new(World::default());
        let threads: Vec<_> = (0..waiters)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || world.wait_for(appends))
            })
            .collect();
        for _ in 0..appends {
            world.append();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_waiter_is_woken_by_the_message_it_waits_for() {
    run(1, 1, 5);
}

#[test]
fn a_waiter_that_was_woken_too_early_is_woken_again() {
    run(1, 2, 3);
}

#[test]
fn all_waiters_are_woken() {
    run(2, 1, 3);
}

#[test]
fn a_waiter_that_enters_while_another_is_woken_is_woken_by_the_next_message() {
    run(2, 2, 2);
}

#[test]
fn a_waiter_that_gives_up_takes_no_other_along() {
    check(3, || {
        let world = Arc::new(World::default());
        let threads = [
            thread::spawn({
                let world = Arc::clone(&world);
                move || world.wait_for(1)
            }),
            thread::spawn({
                let world = Arc::clone(&world);
                move || {
                    let waker = Waker::from(ThreadWaker::current());
                    Waiting::default().enter(&world.subject, &waker);
                }
            }),
        ];
        world.append();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
