//! The index entry: 32 bytes that stand for a scheduled message.

/// Bytes of an encoded [`Entry`].
pub(crate) const ENTRY_LEN: usize = 32;

/// Where a message stands among all that are pending: by due time, and among equal ones by arrival. Slots of a bucket are numbered as
/// messages arrive, and equal due times are of one bucket.
///
/// Packed, or an entry would take 40 bytes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, packed(4))]
pub(crate) struct Key {
    /// In ms since 1970 UTC.
    pub(crate) due_ms: u64,
    /// Number within the bucket of the due time.
    pub(crate) slot: u32,
}

impl Key {
    pub(crate) const MAX: Self = Self {
        due_ms: u64::MAX,
        slot: u32::MAX,
    };
}

/// Whether a message lies where it was scheduled, or has been rescheduled to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Scheduled,
    Rescheduled,
}

/// One scheduled message, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// Of the record in the log that put it here.
    pub(crate) sequence: u64,
    /// Number of the message's subject.
    pub(crate) subject: u32,
    pub(crate) body_len: u32,
    pub(crate) origin: Origin,
}

impl Entry {
    pub(crate) fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.key.due_ms.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.key.slot.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.subject.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[28] = u8::from(self.origin == Origin::Rescheduled);
        bytes
    }

    /// The key of an encoded entry.
    pub(crate) fn key_of(bytes: &[u8; ENTRY_LEN]) -> Key {
        let due_ms = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let slot = bytes[16..].first_chunk();
        let slot = slot.map_or(0, |b| u32::from_le_bytes(*b));
        Key { due_ms, slot }
    }

    /// `None`: not an entry.
    pub(crate) fn decode(bytes: &[u8; ENTRY_LEN]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(*bytes[at..].first_chunk()?));
        let half = |at: usize| Some(u32::from_le_bytes(*bytes[at..].first_chunk()?));
        let origin = match bytes[28..] {
            [0, 0, 0, 0] => Origin::Scheduled,
            [1, 0, 0, 0] => Origin::Rescheduled,
            _ => return None,
        };
        Some(Self {
            key: Key {
                due_ms: word(0)?,
                slot: half(16)?,
            },
            sequence: word(8)?,
            subject: half(20)?,
            body_len: half(24)?,
            origin,
        })
    }
}

const _: () = assert!(size_of::<Entry>() == ENTRY_LEN);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_decoded_encodes_to_the_same(bytes: [u8; 28], flag in 0_u8..3) {
            let mut whole = [0; ENTRY_LEN];
            whole[..28].copy_from_slice(&bytes);
            whole[28] = flag;
            match Entry::decode(&whole) {
                Some(entry) => prop_assert_eq!(entry.encode(), whole),
                None => prop_assert_eq!(flag, 2),
            }
        }
    }
}
