//! A group on its way through the queue: who of it can take messages, and what it waits for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Wake, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use qmq_store::Waiting;

use super::share::OnItsWay;
use super::{FlowKey, Inner, Taker};

pub(super) struct Flow {
    key: FlowKey,
    room: Weak<Inner>,
    state: Mutex<State>,
    waker: OnceLock<Waker>,
    members: AtomicUsize,
    behind: AtomicBool,
    full: AtomicBool,
    pub(super) on_its_way: OnItsWay,
    /// When the queue's timer for it rings; the queue's lock guards it.
    pub(super) timer: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    standing: Standing,
    takers: VecDeque<Arc<Taker>>,
    /// No pull's wait is over before this.
    pulls_end: Option<Instant>,
    /// Given to the thread that has the turn.
    waiting: Option<Waiting>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// Nobody thinks of it.
    #[default]
    Parked,
    /// In the queue.
    Queued,
    /// A thread has it.
    Turning,
    /// A thread has it, and something has changed since it began.
    TurningAgain,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.rest();
        if let (Some(room), Some(at)) = (self.room.upgrade(), self.timer.get_mut().take()) {
            room.queue.forget(at, self);
        }
    }
}

/// What a thread takes for a turn.
pub(super) struct Turn {
    pub(super) taker: Arc<Taker>,
    pub(super) waiting: Waiting,
}

/// How a turn ended for its consumer.
#[derive(Clone, Copy)]
pub(super) enum Ended {
    /// It can take more: it stands behind the others.
    More,
    /// It takes no more for now.
    Enough,
    /// There was nothing for it: it stays first.
    Nothing,
}

struct Wakes(Weak<Flow>);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(flow) = self.0.upgrade() {
            flow.enqueue();
        }
    }
}

impl Flow {
    pub(super) fn new(key: FlowKey, room: &Weak<Inner>) -> Arc<Self> {
        Arc::new(Self {
            key,
            room: Weak::clone(room),
            state: Mutex::default(),
            waker: OnceLock::new(),
            members: AtomicUsize::new(0),
            // Until it is known to be near the end of the log.
            behind: AtomicBool::new(true),
            full: AtomicBool::new(false),
            on_its_way: OnItsWay::default(),
            timer: Mutex::default(),
        })
    }

    pub(super) fn waker(self: &Arc<Self>) -> &Waker {
        self.waker
            .get_or_init(|| Waker::from(Arc::new(Wakes(Arc::downgrade(self)))))
    }

    pub(super) fn count_in(&self) {
        self.members.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether nobody is left.
    pub(super) fn count_out(&self) -> bool {
        self.members.fetch_sub(1, Ordering::SeqCst) == 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.load(Ordering::SeqCst) == 0
    }

    /// Whether nobody is left and no thread has it: only then may another take its place, or the group would have two turns at a time.
    pub(super) fn is_over(&self) -> bool {
        self.is_empty() && self.state.lock().standing == Standing::Parked
    }

    pub(super) fn key(&self) -> &FlowKey {
        &self.key
    }

    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    pub(super) fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::Relaxed);
    }

    /// The group has too many messages that are not settled.
    pub(super) fn set_full(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    /// Whether it had, and has not been asked since.
    pub(super) fn was_full(&self) -> bool {
        self.full.swap(false, Ordering::SeqCst)
    }

    /// Something may have come for it.
    pub(super) fn enqueue(self: &Arc<Self>) {
        let mut state = self.state.lock();
        match state.standing {
            Standing::Parked => state.standing = Standing::Queued,
            Standing::Turning => {
                state.standing = Standing::TurningAgain;
                return;
            }
            Standing::Queued | Standing::TurningAgain => return,
        }
        drop(state);
        if let Some(room) = self.room.upgrade() {
            self.on_its_way.begin(&room.share);
            room.queue.push(Arc::clone(self));
        }
    }

    /// A consumer that can take messages stands in the group's own queue; one that has just come goes first, since what it holds already waits for it.
    pub(super) fn offer(self: &Arc<Self>, taker: &Arc<Taker>, outlet_bytes_max: usize) {
        if !taker.stand(outlet_bytes_max) {
            return;
        }
        {
            let mut state = self.state.lock();
            if taker.is_new() {
                state.takers.push_front(Arc::clone(taker));
            } else {
                state.takers.push_back(Arc::clone(taker));
            }
        }
        self.enqueue();
    }

    /// Begins a turn. `None`: nobody can take anything, and the group leaves the queue.
    pub(super) fn begin(&self) -> Option<Turn> {
        let mut state = self.state.lock();
        state.standing = Standing::Turning;
        while let Some(taker) = state.takers.pop_front() {
            if taker.is_closed() {
                continue;
            }
            let waiting = state.waiting.take().unwrap_or_default();
            return Some(Turn { taker, waiting });
        }
        state.standing = Standing::Parked;
        self.rest();
        // With nobody to take it, a publish need not wake anybody.
        let waiting = state.waiting.take();
        drop(state);
        drop(waiting);
        None
    }

    /// Ends a turn; the group stands in the queue again if there may be more.
    pub(super) fn end(self: &Arc<Self>, turn: Turn, ended: Ended) {
        let mut state = self.state.lock();
        state.waiting = Some(turn.waiting);
        let more = match ended {
            Ended::More => {
                state.takers.push_back(turn.taker);
                true
            }
            Ended::Enough => !state.takers.is_empty(),
            Ended::Nothing => {
                state.takers.push_front(turn.taker);
                // Who has just come, and was offered during this turn, must look for what it holds.
                let new = state.takers.iter().position(|taker| taker.is_new());
                let new = new.and_then(|at| state.takers.remove(at));
                let is_somebody_new = new.is_some();
                state.takers.extend(new);
                state.takers.rotate_right(usize::from(is_somebody_new));
                is_somebody_new
            }
        };
        let again = state.standing == Standing::TurningAgain;
        if !more && !again {
            state.standing = Standing::Parked;
            self.rest();
            return;
        }
        state.standing = Standing::Queued;
        drop(state);
        if let Some(room) = self.room.upgrade() {
            room.queue.push(Arc::clone(self));
        }
    }

    /// Gives a turn back that may not be taken yet; the group still has something to do.
    pub(super) fn hold_back(self: &Arc<Self>, turn: Turn) {
        let mut state = self.state.lock();
        state.waiting = Some(turn.waiting);
        state.takers.push_front(turn.taker);
        let again = state.standing == Standing::TurningAgain;
        state.standing = Standing::Parked;
        drop(state);
        if again {
            self.enqueue();
        }
    }

    /// A pull waits until then.
    pub(super) fn pull_ends(&self, at: Instant) {
        let mut state = self.state.lock();
        state.pulls_end = Some(state.pulls_end.map_or(at, |earlier| earlier.min(at)));
    }

    /// There is nothing for the group: pulls whose wait is over by `now` are answered by `answer`, which says whether its consumer can take more.
    /// Returns when the next one's is.
    pub(super) fn end_pulls(
        &self,
        now: Instant,
        mut answer: impl FnMut(&Taker) -> bool,
    ) -> Option<Instant> {
        let mut state = self.state.lock();
        if state.pulls_end.is_some_and(|at| at <= now) {
            state
                .takers
                .retain(|taker| taker.until().is_none_or(|until| until > now) || answer(taker));
            state.pulls_end = state.takers.iter().filter_map(|taker| taker.until()).min();
        }
        state.pulls_end
    }

    fn rest(&self) {
        if let Some(room) = self.room.upgrade() {
            self.on_its_way.rest(&room.share);
        }
    }

    /// So many bytes have arrived; if the group was held back for them, it goes on.
    pub(super) fn arrived(self: &Arc<Self>, bytes: u64) {
        if self.on_its_way.take(bytes) {
            self.enqueue();
        }
    }
}
