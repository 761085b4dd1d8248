//! Handling a message once, though it comes twice.

#[cfg(feature = "idempotence-sql")]
pub(super) mod sql;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::future::{Future, ready};
use std::pin::Pin;

use parking_lot::Mutex;

/// What an [`Idempotence`] answers, perhaps after asking a database.
pub type Known<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Remembers what has been handled. A listener asks before it handles a message, by its id, or by its place if it has none.
pub trait Idempotence: Send + Sync {
    /// Whether the key is seen for the first time; it counts as seen from then on. After an error the message is not handled, and comes again; the
    /// listener says [`Idempotence::failed`], since the key may have been noted nevertheless: rather twice than never.
    fn first<'a>(&'a self, key: &'a str) -> Known<'a, bool>;

    /// Handling failed: the key counts as not seen. After an error the listener tries again a few times, since the message would be taken for handled.
    fn failed<'a>(&'a self, key: &'a str) -> Known<'a, ()>;
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

    fn note(&self, key: &str) -> bool {
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

    fn forget(&self, key: &str) {
        let seen = &mut *self.seen.lock();
        if let Some(turn) = seen.by_key.remove(key) {
            seen.by_turn.remove(&turn);
        }
    }
}

impl Idempotence for Recent {
    fn first<'a>(&'a self, key: &'a str) -> Known<'a, bool> {
        Box::pin(ready(Ok(self.note(key))))
    }

    fn failed<'a>(&'a self, key: &'a str) -> Known<'a, ()> {
        self.forget(key);
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_first_once_and_again_after_a_failure() {
        let recent = Recent::new(10);
        assert!(recent.note("a"));
        assert!(!recent.note("a"));
        recent.forget("a");
        assert!(recent.note("a"));
    }

    #[test]
    fn the_oldest_key_is_forgotten_when_there_are_too_many() {
        let recent = Recent::new(2);
        assert!(recent.note("a") && recent.note("b"));
        assert!(!recent.note("a"), "used again, so b is older now");
        assert!(recent.note("c"));
        assert!(!recent.note("a"));
        assert!(recent.note("b"));
        assert_eq!(recent.seen.lock().by_turn.len(), 2);
    }
}
