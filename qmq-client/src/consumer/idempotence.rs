//! Handling a message once, though it comes twice.

#[cfg(feature = "idempotence-sql")]
pub(super) mod sql;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use parking_lot::Mutex;

/// What an [`Idempotence`] answers, perhaps after asking a database.
pub type Known<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// What is known of a message when a listener would handle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has begun with it: whoever asked has now, and says later how it went.
    New,
    /// Somebody has begun with it, and has not said how it went: it is at work, or has died.
    Begun {
        /// When to ask again.
        again_after: Duration,
    },
    /// It is handled.
    Done,
}

/// Remembers what has been handled. A listener asks before it handles a message, by its id, or by its place if it has none, and says how it went.
pub trait Idempotence: Send + Sync {
    /// How things stand with the key; if it is new, it has begun from then on. After an error the message is not handled, and comes again; the
    /// listener says [`Idempotence::failed`], since the key may have been noted nevertheless: rather twice than never.
    fn begin<'a>(&'a self, key: &'a str) -> Known<'a, Standing>;

    /// Handling succeeded. After an error the listener tries again a few times, and then acknowledges the message all the same.
    fn done<'a>(&'a self, key: &'a str) -> Known<'a, ()>;

    /// Handling failed: the key is new again. After an error the listener tries again a few times, since the message would be put off until the
    /// beginning is forgotten.
    fn failed<'a>(&'a self, key: &'a str) -> Known<'a, ()>;
}

/// Remembers the most recent keys in memory, so many and no more. A new process has forgotten all.
#[derive(Debug)]
pub struct Recent {
    keys_max: usize,
    seen: Mutex<Seen>,
}

/// When to ask again for a message that another handler of this process has.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Seen {
    turn: u64,
    /// Turn in which it was used last, and whether it is done.
    by_key: HashMap<String, (u64, bool)>,
    by_turn: BTreeMap<u64, String>,
}

impl Seen {
    /// What was known of a key, which is known now, and the one used last.
    fn note(&mut self, key: &str, done: bool) -> Option<bool> {
        self.turn += 1;
        let before = self.by_key.remove(key);
        if let Some((turn, _)) = &before {
            self.by_turn.remove(turn);
        }
        let known = before.map(|(_, done)| done);
        let now = (self.turn, done || known == Some(true));
        self.by_key.insert(key.to_owned(), now);
        self.by_turn.insert(self.turn, key.to_owned());
        known
    }
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

    fn note(&self, key: &str, done: bool) -> Standing {
        let seen = &mut *self.seen.lock();
        let known = seen.note(key, done);
        if seen.by_key.len() > self.keys_max
            && let Some((_, oldest)) = seen.by_turn.pop_first()
        {
            seen.by_key.remove(&oldest);
        }
        match known {
            None => Standing::New,
            Some(false) => Standing::Begun {
                again_after: ASK_AGAIN,
            },
            Some(true) => Standing::Done,
        }
    }

    fn forget(&self, key: &str) {
        let seen = &mut *self.seen.lock();
        if let Some((turn, _)) = seen.by_key.remove(key) {
            seen.by_turn.remove(&turn);
        }
    }
}

impl Idempotence for Recent {
    fn begin<'a>(&'a self, key: &'a str) -> Known<'a, Standing> {
        Box::pin(ready(Ok(self.note(key, false))))
    }

    fn done<'a>(&'a self, key: &'a str) -> Known<'a, ()> {
        self.note(key, true);
        Box::pin(ready(Ok(())))
    }

    fn failed<'a>(&'a self, key: &'a str) -> Known<'a, ()> {
        self.forget(key);
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Standing = Standing::Begun {
        again_after: ASK_AGAIN,
    };

    #[test]
    fn a_key_is_new_once_and_again_after_a_failure() {
        let recent = Recent::new(10);
        assert_eq!(recent.note("a", false), Standing::New);
        assert_eq!(recent.note("a", false), BEGUN);
        recent.forget("a");
        assert_eq!(recent.note("a", false), Standing::New);
        recent.note("a", true);
        assert_eq!(recent.note("a", false), Standing::Done);
    }

    #[test]
    fn the_oldest_key_is_forgotten_when_there_are_too_many() {
        let recent = Recent::new(2);
        for key in ["a", "b"] {
            assert_eq!(recent.note(key, true), Standing::New);
        }
        assert_eq!(recent.note("a", false), Standing::Done, "used again");
        assert_eq!(recent.note("c", true), Standing::New);
        assert_eq!(recent.note("a", false), Standing::Done);
        assert_eq!(recent.note("b", false), Standing::New, "it was the oldest");
        assert_eq!(recent.seen.lock().by_turn.len(), 2);
    }
}
