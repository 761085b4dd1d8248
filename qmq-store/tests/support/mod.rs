//! What the test files share: a store on a simulated disk with a clock that stands still, and short ways to use it.

#![allow(
    dead_code,
    unused_imports,
    reason = "compiled into each test file, none of which uses all of it"
)]

mod files;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};

pub(crate) use files::{contents, everything, files, files_in};
use qmq_store::disk::SimulatedDisk;
use qmq_store::{
    Appended, Background, Batch, Durability, ManualClock, Message, Options, PollPull, PullRequest,
    Records, Store, Waiting,
};

/// Where the clocks of the tests start.
pub(crate) const NOON: u64 = 1_700_000_000_000;

/// A store, the disk under it and the clock beside it.
pub(crate) struct House {
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) options: Options,
    /// `None` only between two opens.
    open: Option<Store>,
}

impl House {
    /// With segments of 64 KiB and no threads.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::on(SimulatedDisk::new(), change)
    }

    pub(crate) fn on(disk: SimulatedDisk, change: impl FnOnce(&mut Options)) -> Self {
        let clock = Arc::new(ManualClock::at(NOON));
        let mut options = small_options();
        options.clock = Arc::clone(&clock) as Arc<_>;
        change(&mut options);
        let store = Store::open_on(Arc::new(disk.clone()), options.clone()).unwrap();
        Self {
            disk,
            clock,
            options,
            open: Some(store),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.open.as_ref().unwrap()
    }

    /// Closes in order and opens again.
    pub(crate) fn restart(&mut self) {
        self.open.take().unwrap().close().unwrap();
        self.open_again();
    }

    /// The process dies, and another one opens the store.
    pub(crate) fn kill(&mut self) {
        let left = self.disk.process_killed();
        self.open = None;
        self.disk = left;
        self.open_again();
    }

    /// The power goes, and the seed chooses what of the unsynced data is left.
    pub(crate) fn lose_power(&mut self, seed: u64) {
        let left = self.disk.crash(seed);
        self.open = None;
        self.disk = left;
        self.open_again();
    }

    pub(crate) fn open_again(&mut self) {
        let opened = Store::open_on(Arc::new(self.disk.clone()), self.options.clone());
        self.open = Some(opened.unwrap());
    }

    /// Appends one message, buffered.
    pub(crate) fn send(&self, subject: &str, body: impl Into<Vec<u8>>) -> Appended {
        self.send_message(&Message::new(subject, body.into()))
    }

    pub(crate) fn send_message(&self, message: &Message) -> Appended {
        self.store()
            .append_with(message, Durability::Buffered)
            .unwrap()
    }

    /// Appends messages whose bodies are the numbers of the range.
    pub(crate) fn send_numbers(&self, subject: &str, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.send(subject, number.to_string());
        }
    }

    /// Appends so many messages of 1 KiB.
    pub(crate) fn send_kilobytes(&self, subject: &str, count: u64) {
        for _ in 0..count {
            self.send(subject, vec![b'k'; 1024]);
        }
    }

    pub(crate) fn pull(&self, consumer: &str, max: usize) -> Batch {
        self.store().pull(&request(consumer).max(max)).unwrap()
    }

    /// Acknowledges these pull sequences of a consumer, and returns how many that settled.
    pub(crate) fn ack(
        &self,
        batch: &Batch,
        pull_sequences: &[std::ops::RangeInclusive<u64>],
    ) -> u64 {
        self.store()
            .ack_ranges(batch.member(), pull_sequences, Durability::Buffered)
            .unwrap()
            .acked
    }

    /// All that a new consumer of group "g" on "s" can get now, without acknowledging it.
    pub(crate) fn rest(&self, consumer: &str) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            let batch = self.pull(consumer, 10_000);
            if batch.is_empty() {
                return all;
            }
            all.extend(sequences(&batch));
        }
    }
}

/// Segments of 64 KiB, no threads, a clock that stands still.
pub(crate) fn small_options() -> Options {
    Options {
        background: Background::Manual,
        clock: Arc::new(ManualClock::at(NOON)),
        identity_seed: Some(1),
        ..Options::with_segment_bytes(64 << 10)
    }
}

/// A pull of group "g" on subject "s".
pub(crate) fn request(consumer: &str) -> PullRequest {
    PullRequest::new("s", "g", consumer)
}

pub(crate) fn sequences(records: &Records) -> Vec<u64> {
    records.iter().map(|one| one.sequence()).collect()
}

pub(crate) fn pull_sequences(records: &Records) -> Vec<u64> {
    records.iter().map(|one| one.pull_sequence()).collect()
}

pub(crate) fn attempts(records: &Records) -> Vec<u32> {
    records.iter().map(|one| one.attempt()).collect()
}

pub(crate) fn bodies(records: &Records) -> Vec<String> {
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    records
        .iter()
        .map(|one| text(one.message().unwrap().body()))
        .collect()
}

impl House {
    /// Polls for a consumer of group "g" on "s"; `None` if it waits now.
    pub(crate) fn poll(
        &self,
        consumer: &str,
        waker: &Waker,
        waiting: &mut Waiting,
    ) -> Option<Batch> {
        let polled = self.store().poll_pull(&request(consumer), waker, waiting);
        match polled.unwrap() {
            PollPull::Ready(batch) => Some(batch),
            PollPull::Pending { .. } => None,
        }
    }
}

/// Counts how often it was woken.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicU64);

impl Bell {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (Arc::clone(&bell), Waker::from(bell))
    }

    pub(crate) fn rung(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
