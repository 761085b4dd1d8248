//! The messages scheduled last, so that a repeat gets the first answer.

use std::collections::{HashMap, VecDeque};

use qmq_sched::DelayId;

/// As many of the newest as it may hold, of all producers together; in memory alone.
#[derive(Debug)]
pub(super) struct Repeats {
    ids: HashMap<(u128, u64), DelayId>,
    in_order: VecDeque<(u128, u64)>,
    max: usize,
}

impl Repeats {
    pub(super) fn new(max: usize) -> Self {
        Self {
            ids: HashMap::new(),
            in_order: VecDeque::new(),
            max,
        }
    }

    /// The id that this number of a producer got.
    pub(super) fn id(&self, producer: u128, number: u64) -> Option<DelayId> {
        self.ids.get(&(producer, number)).copied()
    }

    /// A number was scheduled. Producer 0 has no numbers.
    pub(super) fn note(&mut self, producer: u128, number: u64, id: DelayId) {
        if producer == 0 || self.max == 0 {
            return;
        }
        if self.ids.insert((producer, number), id).is_none() {
            self.in_order.push_back((producer, number));
        }
        while self.in_order.len() > self.max {
            if let Some(oldest) = self.in_order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
    }
}
