//! How much of the door's limits is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::Whole;

/// See the module. A clone is the same.
#[derive(Clone, Debug)]
pub struct Load {
    pub(super) produce: Whole,
    pub(super) outgoing: Arc<AtomicU64>,
    connections_max: usize,
}

impl Load {
    pub(super) fn new(produce_bytes: u64, connections_max: usize) -> Self {
        Self {
            produce: Whole::new(produce_bytes),
            outgoing: Arc::default(),
            connections_max,
        }
    }

    /// Bytes of requests that are not in the log yet, and how many there may be.
    #[must_use]
    pub fn produce_bytes(&self) -> (u64, u64) {
        self.produce.used()
    }

    /// Bytes of answers and deliveries that wait for their connections.
    #[must_use]
    pub fn outgoing_bytes(&self) -> u64 {
        self.outgoing.load(Ordering::Relaxed)
    }

    /// Most connections at a time.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        self.connections_max
    }
}
