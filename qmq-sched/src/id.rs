//! The name of a scheduled message.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::entry::Key;

const OFFSET_BITS: u32 = 27;
const GENERATION_BITS: u32 = 21;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// Names a scheduled message for as long as the scheduler knows it, also after a reschedule. 16 opaque bytes; as text, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DelayId {
    /// The bucket in the upper half, the slot in the lower.
    place: u64,
    /// Due time within the bucket (27 bits), the store's generation (21 bits), and a tag of the store (16 bits).
    rest: u64,
}

/// What an id says, of a store that makes such ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) key: Key,
    pub(crate) generation: u32,
}

impl DelayId {
    /// `generation` is the store's incarnation: a message whose record a crash took, and the one that gets its place, differ in it.
    pub(crate) fn new(store_id: u128, bucket_ms: u64, parts: Parts) -> Self {
        let bucket = parts.key.due_ms / bucket_ms;
        let offset = parts.key.due_ms % bucket_ms;
        Self {
            place: (bucket << 32) | u64::from(parts.key.slot),
            rest: (offset << (64 - OFFSET_BITS))
                | ((u64::from(parts.generation) & GENERATION_MASK) << 16)
                | u64::from(store_tag(store_id)),
        }
    }

    /// `None`: an id of another store, or none at all.
    pub(crate) fn parts(self, store_id: u128, bucket_ms: u64) -> Option<Parts> {
        let (bucket, offset) = (self.place >> 32, self.rest >> (64 - OFFSET_BITS));
        if self.rest as u16 != store_tag(store_id) || offset >= bucket_ms {
            return None;
        }
        Some(Parts {
            key: Key {
                due_ms: bucket * bucket_ms + offset,
                slot: self.place as u32,
            },
            generation: ((self.rest >> 16) & GENERATION_MASK) as u32,
        })
    }

    /// The 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.place) << 64 | u128::from(self.rest)).to_be_bytes()
    }

    /// The id of these 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let word = u128::from_be_bytes(bytes);
        Self {
            place: (word >> 64) as u64,
            rest: word as u64,
        }
    }
}

/// Whether an id's generation is this incarnation.
pub(crate) fn is_generation(generation: u32, incarnation: u32) -> bool {
    u64::from(generation) == u64::from(incarnation) & GENERATION_MASK
}

fn store_tag(store_id: u128) -> u16 {
    (0..8).fold(0, |tag, word| tag ^ (store_id >> (word * 16)) as u16)
}

impl fmt::Display for DelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.place, self.rest)
    }
}

/// A text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a delay id: 32 hexadecimal digits, as `schedule` printed them")]
pub struct ParseIdError {
    text: String,
}

impl FromStr for DelayId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let word = digits
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten();
        word.map(|word| Self::from_bytes(word.to_be_bytes()))
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(64).collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_says_what_it_was_made_of(due_ms in 0_u64..1 << 45, slot: u32, generation in 0_u32..1 << 21, store: u128, scale in 1_u64..=1_440) {
            let (bucket_ms, key) = (scale * 60_000, Key { due_ms, slot });
            prop_assume!(due_ms / bucket_ms <= u64::from(u32::MAX));
            let id = DelayId::new(store, bucket_ms, Parts { key, generation });
            prop_assert_eq!(id.parts(store, bucket_ms), Some(Parts { key, generation }));
            prop_assert_eq!(id.to_string().parse::<DelayId>().unwrap(), id);
            prop_assert_eq!(DelayId::from_bytes(id.to_bytes()), id);
            prop_assert_eq!(id.parts(store ^ 1, bucket_ms), None);
        }

        #[test]
        fn other_text_is_no_id(text in "\\PC{0,40}") {
            let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            prop_assert_eq!(text.parse::<DelayId>().is_ok(), is_id);
        }
    }
}
