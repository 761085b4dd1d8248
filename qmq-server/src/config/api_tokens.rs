//! `valid-api-tokens.properties`: the tokens of those who manage a cluster over HTTP.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest as _, Sha256};

use super::lines::{Lines, Odd};
use super::properties::Entry;

/// Most bytes of a token.
const TOKEN_BYTES_MAX: usize = 4096;

/// Tokens with what they are for: `TOKEN=DESCRIPTION`, one a line. Tokens are never shown; only their hashes are kept.
#[derive(Default)]
pub struct ApiTokens {
    /// SHA-256 of a token, to its line and what it is for.
    descriptions: HashMap<[u8; 32], (usize, String)>,
}

impl fmt::Debug for ApiTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokens")
            .field("descriptions", &self.descriptions())
            .finish()
    }
}

impl ApiTokens {
    /// What the token is for, if it is one of them. It is hashed and the hash looked up, so that the time taken says nothing about
    /// the tokens of others.
    #[must_use]
    pub fn contains(&self, token: &str) -> Option<String> {
        let found = self.descriptions.get(&hash(token));
        found.map(|(_, description)| description.clone())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.descriptions.len()
    }

    /// Whether there is none, so that nothing can be managed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.descriptions.is_empty()
    }

    /// What they are for, in the order of the file.
    #[must_use]
    pub fn descriptions(&self) -> Vec<&str> {
        let mut all: Vec<_> = self.descriptions.values().collect();
        all.sort();
        all.into_iter().map(|(_, text)| text.as_str()).collect()
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Lines for ApiTokens {
    fn take(&mut self, entry: Entry) -> Result<(), Odd> {
        if entry.key.starts_with('<') {
            let what = "a placeholder of the documentation is no token; put your own there, TOKEN=DESCRIPTION";
            return Err(Odd::Warning(what.to_owned()));
        }
        if entry.key.is_empty() || entry.key.len() > TOKEN_BYTES_MAX {
            let what = format!(
                "in front of = must be a token of 1 to {TOKEN_BYTES_MAX} bytes, behind it what it is for"
            );
            return Err(Odd::Problem(what));
        }
        let row = (entry.line, entry.value.trim().to_owned());
        match self.descriptions.insert(hash(&entry.key), row) {
            Some((earlier, _)) => Err(Odd::Warning(format!(
                "the same token as on line {earlier}; this description counts"
            ))),
            None => Ok(()),
        }
    }

    fn changes_since(&self, old: &Self) -> Vec<String> {
        let absent = |other: &Self, hash: &[u8; 32]| !other.descriptions.contains_key(hash);
        let added = self.descriptions.keys().filter(|hash| absent(old, hash));
        let removed = old.descriptions.keys().filter(|hash| absent(self, hash));
        let (added, removed) = (added.count(), removed.count());
        match (added, removed) {
            (0, 0) => Vec::new(),
            _ => vec![format!(
                "tokens for management have changed: {added} new, {removed} gone, {} now, {} before",
                self.len(),
                old.len()
            )],
        }
    }
}
