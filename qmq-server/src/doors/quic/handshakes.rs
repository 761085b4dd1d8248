//! Connections that have not come as far as HELLO.
//!
//! A datagram whose sender is invented begins a handshake that nobody ends. So only a few may begin without a proof that somebody is at the address:
//! with more under way, each is asked to come again with a token that is sent there, and nothing is kept of it.

use std::sync::Arc;

use quinn::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Under way at a time. Of more, the first datagram is overlooked; it comes again in a second.
const MAX: usize = 1024;
/// Under way when the next one is asked for a proof of its address, and of the connections that may be open one in so many, if that is less.
const UNPROVEN_MAX: usize = 64;
const UNPROVEN_SHARE: usize = 4;

/// See the module.
pub(super) struct Handshakes {
    free: Arc<Semaphore>,
    max: usize,
    unproven_max: usize,
}

/// One that is under way, until it is dropped.
pub(super) type Handshake = OwnedSemaphorePermit;

impl Handshakes {
    pub(super) fn new(connections_max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(MAX)),
            max: MAX,
            unproven_max: (connections_max / UNPROVEN_SHARE).min(UNPROVEN_MAX),
        }
    }

    /// Whether a connection may go on now. `None`: it has what it needs to come again.
    pub(super) fn begin(&self, incoming: Incoming) -> Option<(Incoming, Handshake)> {
        let under_way = self.max - self.free.available_permits();
        if under_way >= self.unproven_max && !incoming.remote_address_validated() {
            // Whoever may not be asked again has no proof, and never will.
            if let Err(refused) = incoming.retry() {
                refused.into_incoming().ignore();
            }
            return None;
        }
        match Arc::clone(&self.free).try_acquire_owned() {
            Ok(handshake) => Some((incoming, handshake)),
            Err(_) => {
                incoming.ignore();
                None
            }
        }
    }
}
