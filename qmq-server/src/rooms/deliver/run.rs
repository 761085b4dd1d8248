//! The queue in which groups stand for their turns, and the times at which some enter it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::flow::Flow;

#[derive(Default)]
pub(super) struct RunQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Groups that read what is new.
    new: VecDeque<Arc<Flow>>,
    /// Groups that read what is old.
    behind: VecDeque<Arc<Flow>>,
    /// Whose turn among those who take both it is next.
    behind_next: bool,
    timers: BinaryHeap<Reverse<Timer>>,
    stopped: bool,
}

struct Timer {
    at: Instant,
    flow: Weak<Flow>,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl RunQueue {
    /// A group stands at the end of the queue.
    pub(super) fn push(&self, flow: Arc<Flow>) {
        let mut state = self.state.lock();
        if state.stopped {
            return;
        }
        let behind = flow.is_behind();
        if behind {
            state.behind.push_back(flow);
        } else {
            state.new.push_back(flow);
        }
        drop(state);
        // A thread that serves only what is new must not swallow the call for one that is not.
        if behind {
            self.changed.notify_all();
        } else {
            self.changed.notify_one();
        }
    }

    /// A group enters the queue at a time.
    pub(super) fn at(&self, at: Instant, flow: &Arc<Flow>) {
        let mut state = self.state.lock();
        let first = state
            .timers
            .peek()
            .is_none_or(|Reverse(timer)| at < timer.at);
        state.timers.push(Reverse(Timer {
            at,
            flow: Arc::downgrade(flow),
        }));
        drop(state);
        if first {
            self.changed.notify_one();
        }
    }

    /// The next group whose turn it is; waits for one. `None`: no more.
    pub(super) fn next(&self, only_new: bool) -> Option<Arc<Flow>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let next_timer = state.timers.peek().map(|Reverse(timer)| timer.at);
            if next_timer.is_some_and(|at| at <= Instant::now()) {
                let due = state
                    .timers
                    .pop()
                    .and_then(|Reverse(timer)| timer.flow.upgrade());
                if let Some(flow) = due {
                    drop(state);
                    flow.enqueue();
                    state = self.state.lock();
                }
                continue;
            }
            let take_behind = !only_new && (state.behind_next || state.new.is_empty());
            if !only_new {
                state.behind_next = !state.behind_next;
            }
            let next = match take_behind {
                true => state.behind.pop_front().or_else(|| state.new.pop_front()),
                false => state.new.pop_front(),
            };
            if let Some(flow) = next {
                return Some(flow);
            }
            if !only_new && !state.behind.is_empty() {
                continue;
            }
            match next_timer {
                Some(at) => {
                    self.changed.wait_until(&mut state, at);
                }
                None => self.changed.wait(&mut state),
            }
        }
    }

    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.new.clear();
        state.behind.clear();
        state.timers.clear();
        self.changed.notify_all();
    }
}
