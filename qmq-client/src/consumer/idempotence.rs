//! Handling a message once, though it comes twice.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

/// Remembers what has been handled. A listener asks before it handles a message, by its id, or by its place if it has none.
pub trait Idempotence: Send + Sync {
    /// Whether the key is seen for the first time; it counts as seen from then on.
    fn first(&self, key: &str) -> bool;

    /// Handling failed: the key counts as not seen.
    fn failed(&self, key: &str);
}

/// Remembers the most recent keys in memory, so many and no more. A new process has forgotten all.
#[derive(Debug)]
pub struct Recent {
    keys_max: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    turn: u64,
    by_key: HashMap<String, u64>,
    by_turn: BTreeMap<u64, String>,
}

impl Recent {
    /// Remembers up to `keys_max` keys, at least one.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self {
            keys_max: keys_max.max(1),
            seen: Mutex::default(),
        }
    }
}

impl Idempotence for Recent {
    fn first(&self, key: &str) -> bool {
        let seen = &mut *self.seen.lock();
        seen.turn += 1;
        let before = seen.by_key.insert(key.to_owned(), seen.turn);
        if let Some(before) = before {
            seen.by_turn.remove(&before);
        }
        seen.by_turn.insert(seen.turn, key.to_owned());
        if seen.by_key.len() > self.keys_max
            && let Some((_, oldest)) = seen.by_turn.pop_first()
        {
            seen.by_key.remove(&oldest);
        }
        before.is_none()
    }

    fn failed(&self, key: &str) {
        let seen = &mut *self.seen.lock();
        if let Some(turn) = seen.by_key.remove(key) {
            seen.by_turn.remove(&turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_first_once_and_again_after_a_failure() {
        let recent = Recent::new(10);
        assert!(recent.first("a"));
        assert!(!recent.first("a"));
        recent.failed("a");
        assert!(recent.first("a"));
    }

    #[test]
    fn the_oldest_key_is_forgotten_when_there_are_too_many() {
        let recent = Recent::new(2);
        assert!(recent.first("a") && recent.first("b"));
        assert!(!recent.first("a"), "used again, so b is older now");
        assert!(recent.first("c"));
        assert!(!recent.first("a"));
        assert!(recent.first("b"));
        assert_eq!(recent.seen.lock().by_turn.len(), 2);
    }
}
