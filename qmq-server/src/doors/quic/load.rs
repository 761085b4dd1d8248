//! How much of the door's limits is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::BUDGET_UNIT;

/// See the module. A clone is the same.
#[derive(Clone, Debug)]
pub struct Load {
    pub(super) produce: Arc<Semaphore>,
    produce_permits: usize,
    pub(super) outgoing: Arc<AtomicU64>,
    connections_max: usize,
}

impl Load {
    pub(super) fn new(produce_permits: usize, connections_max: usize) -> Self {
        Self {
            produce: Arc::new(Semaphore::new(produce_permits)),
            produce_permits,
            outgoing: Arc::default(),
            connections_max,
        }
    }

    /// Bytes of requests that are not in the log yet, and how many there may be.
    #[must_use]
    pub fn produce_bytes(&self) -> (u64, u64) {
        let bytes = |permits: usize| permits as u64 * BUDGET_UNIT;
        let free = self.produce.available_permits();
        (
            bytes(self.produce_permits.saturating_sub(free)),
            bytes(self.produce_permits),
        )
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
