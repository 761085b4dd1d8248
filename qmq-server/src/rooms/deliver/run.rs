//! The queue in which groups stand for their turns, and the times at which some enter it.

use std::collections::{BTreeMap, VecDeque};
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
    /// At most one of each group: by its time, and the group's address.
    timers: BTreeMap<(Instant, usize), Weak<Flow>>,
    stopped: bool,
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

    /// A group enters the queue at a time, unless it does so before: the turn that follows asks again for what it then waits for.
    pub(super) fn at(&self, at: Instant, flow: &Arc<Flow>) {
        let mut state = self.state.lock();
        let mut timer = flow.timer.lock();
        if timer.is_some_and(|earlier| earlier <= at) || state.stopped {
            return;
        }
        let address = Arc::as_ptr(flow).addr();
        if let Some(later) = timer.replace(at) {
            state.timers.remove(&(later, address));
        }
        drop(timer);
        state.timers.insert((at, address), Arc::downgrade(flow));
        let is_first = state.timers.keys().next() == Some(&(at, address));
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// A group that is being dropped had a timer.
    pub(super) fn forget(&self, at: Instant, flow: &Flow) {
        let address = std::ptr::from_ref(flow).addr();
        self.state.lock().timers.remove(&(at, address));
    }

    /// The next group whose turn it is; waits for one. `None`: no more.
    pub(super) fn next(&self, only_new: bool) -> Option<Arc<Flow>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let first_timer = state.timers.first_entry();
            let next_timer = first_timer.as_ref().map(|first| first.key().0);
            if let Some(first) = first_timer.filter(|first| first.key().0 <= Instant::now()) {
                let flow = first.remove().upgrade();
                if let Some(flow) = &flow {
                    *flow.timer.lock() = None;
                }
                // Its last owner may be this one: then it goes with the lock free.
                drop(state);
                if let Some(flow) = flow {
                    flow.enqueue();
                }
                state = self.state.lock();
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
        // A group that goes with them forgets its timer here: not with the lock held.
        let left = (
            std::mem::take(&mut state.new),
            std::mem::take(&mut state.behind),
        );
        state.timers.clear();
        self.changed.notify_all();
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_group_has_one_timer_the_earliest_it_asked_for() {
        let key = ("order".into(), "g".into(), None);
        let (queue, flow) = (RunQueue::default(), Flow::new(key, &Weak::new()));
        let now = Instant::now();
        for seconds in [60, 600, 30, 45, 30, 600] {
            queue.at(now + Duration::from_secs(seconds), &flow);
        }
        let times: Vec<Instant> = queue
            .state
            .lock()
            .timers
            .keys()
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(times, [now + Duration::from_secs(30)]);
    }
}
