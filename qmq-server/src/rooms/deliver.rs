//! Messages out: groups take turns, and each turn hands one consumer of its group what its credit allows.
//!
//! A group is what waits, not each of its consumers: one publish wakes one thread for one group, however many consumers it has. Groups with messages
//! stand in one queue, and a turn is at most [`DeliverOptions::turn_bytes`] of bodies, so groups share the broker evenly, whatever the numbers of their
//! consumers. Groups that read what is long written, and so perhaps from the disk, never keep all threads busy.

mod flow;
mod run;
mod share;
mod taker;
mod turn;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qmq_store::Store;

use super::Histogram;
use super::administer::Activity;
use super::consumers::{Job, Key, Mailbox};
use flow::Flow;
use run::RunQueue;
use share::Share;
pub(super) use taker::NotAsked;
pub use taker::Taker;

/// How the room works.
#[derive(Clone, Debug)]
pub struct DeliverOptions {
    /// Threads: 2 to 64. The last one serves only groups that read what is new.
    pub threads: usize,
    /// Bytes of bodies that a turn hands out at most, if one message is not larger: 4 KiB to 16 MiB.
    pub turn_bytes: u64,
    /// Messages that a turn hands out at most: 1 to 10,000.
    pub turn_messages: usize,
    /// Bytes that may wait in a consumer's outlet before it gets no more: 4 KiB to 1 GiB. With many consumers it is their share of half of
    /// `budget_bytes`, so that a turn may go beyond it.
    pub outlet_bytes_max: usize,
    /// Bytes that may wait in all outlets.
    pub budget_bytes: u64,
    /// A group whose messages lie further behind the end of the log than this is one that reads what is old, in bytes.
    pub behind_bytes: u64,
    /// Deliveries of a message before it goes to the dead-letter subject: dynamic.
    pub attempts_max: Arc<AtomicU32>,
}

impl Default for DeliverOptions {
    fn default() -> Self {
        Self {
            threads: 3,
            turn_bytes: 256 << 10,
            turn_messages: 1_000,
            outlet_bytes_max: 512 << 10,
            budget_bytes: 256 << 20,
            behind_bytes: 64 << 20,
            attempts_max: Arc::new(AtomicU32::new(32)),
        }
    }
}

/// What has come and gone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages handed out.
    pub delivered: AtomicU64,
    /// Bytes of their attributes and bodies.
    pub delivered_bytes: AtomicU64,
    /// Messages handed out again.
    pub redelivered: AtomicU64,
    /// Messages that went to a dead-letter subject.
    pub dead_lettered: AtomicU64,
    /// Turns taken.
    pub turns: AtomicU64,
    /// From the append of a message to its first delivery to a group.
    pub waited: Histogram,
}

/// The room. A clone is the same.
#[derive(Clone)]
pub struct Delivering {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Delivering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivering").finish_non_exhaustive()
    }
}

/// Subject, group, and of a broadcast group the consumer.
type FlowKey = (Arc<str>, Arc<str>, Option<Arc<str>>);

struct Inner {
    store: Store,
    options: DeliverOptions,
    activity: Arc<Activity>,
    counters: Counters,
    flows: Mutex<HashMap<FlowKey, Arc<Flow>>>,
    queue: RunQueue,
    share: Share,
    consumers: OnceLock<Mailbox<Job>>,
    takers: AtomicUsize,
    paused: AtomicBool,
}

impl Delivering {
    /// Starts the room's threads, which end with [`Delivering::stop`].
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        store: Store,
        options: DeliverOptions,
        activity: Arc<Activity>,
    ) -> std::io::Result<Self> {
        let threads = options.threads.max(2);
        let inner = Arc::new(Inner {
            store,
            options,
            activity,
            counters: Counters::default(),
            flows: Mutex::default(),
            queue: RunQueue::default(),
            share: Share::default(),
            consumers: OnceLock::new(),
            takers: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
        });
        for number in 0..threads {
            let worker = Arc::clone(&inner);
            let only_new = number == threads - 1;
            std::thread::Builder::new()
                .name(format!("qmq-deliver-{number}"))
                .spawn(move || worker.run(only_new))?;
        }
        Ok(Self { inner })
    }

    /// What has come and gone.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Bytes that may wait in all outlets.
    #[must_use]
    pub fn budget_bytes(&self) -> u64 {
        self.inner.options.budget_bytes
    }

    /// Groups that have consumers; of a broadcast group each consumer counts.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.inner.flows.lock().len()
    }

    /// An outlet that has so few bytes left can take more.
    #[must_use]
    pub fn outlet_low(&self) -> usize {
        self.inner.outlet_bytes_max() / 2
    }

    /// Hands out no more messages; pulls that wait are answered without any.
    pub fn pause(&self) {
        self.inner.paused.store(true, Ordering::SeqCst);
        let flows: Vec<_> = self.inner.flows.lock().values().cloned().collect();
        for flow in flows {
            flow.enqueue();
        }
    }

    /// Ends the threads; nothing is handed out any more.
    pub fn stop(&self) {
        self.inner.queue.stop();
        self.inner.flows.lock().clear();
    }

    /// The room of the consumers, which learns what is handed out.
    pub(super) fn tell(&self, consumers: Mailbox<Job>) {
        let _ = self.inner.consumers.set(consumers);
    }

    pub(super) fn jobs(&self) -> Option<Mailbox<Job>> {
        self.inner.consumers.get().cloned()
    }

    /// A consumer takes part in its group, from its first [`Delivering::offer`] on.
    pub(super) fn join(&self, taker: &Taker) {
        let flow = {
            let mut flows = self.inner.flows.lock();
            let flow = flows
                .entry(taker.flow_key())
                .or_insert_with(|| Flow::new(taker.flow_key(), &Arc::downgrade(&self.inner)));
            flow.count_in();
            self.inner.takers.fetch_add(1, Ordering::Relaxed);
            Arc::clone(flow)
        };
        taker.belongs_to(&flow);
    }

    /// A consumer may be able to take more.
    pub(super) fn offer(&self, taker: &Arc<Taker>) {
        if let Some(flow) = taker.flow() {
            flow.offer(taker, self.inner.outlet_bytes_max());
        }
    }

    /// A pull's wait ends then, whether or not there is anything.
    pub(super) fn remind(&self, taker: &Arc<Taker>, wait: Duration) {
        if let Some(flow) = taker.flow() {
            let until = Instant::now() + wait;
            flow.pull_ends(until);
            self.inner.queue.at(until, &flow);
        }
    }

    /// A consumer takes part no more. What it is being handed at the moment still comes.
    pub(super) fn withdraw(&self, taker: &Arc<Taker>) {
        if !taker.close() {
            return;
        }
        let Some(flow) = taker.flow() else {
            return;
        };
        self.inner.takers.fetch_sub(1, Ordering::Relaxed);
        if flow.count_out() {
            self.inner.let_go(&flow);
        }
    }

    /// Messages of a group were settled: if it had too many that were not, it may go on.
    pub(super) fn made_room(&self, of: &Key) {
        let shared = (Arc::clone(&of.subject), Arc::clone(&of.group), None);
        let full = {
            let flows = self.inner.flows.lock();
            let flow = flows.get(&shared).or_else(|| {
                let broadcast = (shared.0, shared.1, Some(Arc::clone(&of.consumer)));
                flows.get(&broadcast)
            });
            flow.filter(|flow| flow.was_full()).cloned()
        };
        if let Some(flow) = full {
            flow.enqueue();
        }
    }
}

impl Inner {
    /// Bytes that may wait in one outlet.
    fn outlet_bytes_max(&self) -> usize {
        let takers = self.takers.load(Ordering::Relaxed).max(1) as u64;
        let share = usize::try_from(self.options.budget_bytes / 2 / takers).unwrap_or(usize::MAX);
        share.clamp(1, self.options.outlet_bytes_max)
    }

    /// Forgets a group that nobody is left in, once its turn is over.
    fn let_go(&self, flow: &Arc<Flow>) {
        let mut flows = self.flows.lock();
        let is_it = flows
            .get(flow.key())
            .is_some_and(|known| Arc::ptr_eq(known, flow));
        // Somebody may have joined since.
        if is_it && flow.is_over() {
            flows.remove(flow.key());
        }
    }

    fn run(self: Arc<Self>, only_new: bool) {
        while let Some(flow) = self.queue.next(only_new) {
            self.turn(&flow);
            // Whoever was the last to go left it to the turn.
            if flow.is_empty() {
                self.let_go(&flow);
            }
            self.counters.turns.fetch_add(1, Ordering::Relaxed);
        }
    }
}
