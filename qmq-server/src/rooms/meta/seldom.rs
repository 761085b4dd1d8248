//! What is said of a node again and again, and written to the log seldom.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Of one node at most once in so long.
const AGAIN: Duration = Duration::from_secs(60);
/// Nodes that are remembered; beyond, what is said of others waits until there is room.
const NODES_MAX: usize = 1_000;

/// When something was last said of which node.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<HashMap<(String, u16), Instant>>);

impl Seldom {
    /// Whether it is to be said now; if so, not again for a minute.
    pub(super) fn is_due(&self, hostname: &str, port: u16, now: Instant) -> bool {
        let mut told = self.0.lock();
        let key = (hostname.to_owned(), port);
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < AGAIN;
        if told.get(&key).is_some_and(is_recent) {
            return false;
        }
        if told.len() >= NODES_MAX {
            told.retain(|_, at| is_recent(at));
        }
        if told.len() >= NODES_MAX && !told.contains_key(&key) {
            return false;
        }
        told.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_node_it_is_said_once_a_minute() {
        let seldom = Seldom::default();
        let begun = Instant::now();
        assert!(seldom.is_due("h", 1, begun));
        assert!(seldom.is_due("h", 2, begun));
        assert!(!seldom.is_due("h", 1, begun + AGAIN / 2));
        assert!(seldom.is_due("h", 1, begun + AGAIN));
        for port in 0..2_000 {
            seldom.is_due("crowd", port, begun);
        }
        assert!(seldom.0.lock().len() <= NODES_MAX);
        assert!(seldom.is_due("later", 1, begun + AGAIN));
    }
}
