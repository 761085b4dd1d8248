//! The records that every engine is given.

/// Records in the pool, and in a batch.
pub const RECORDS: usize = 1_000;

/// A pool of equal-sized records that no compressor can shrink, the same in every process.
pub struct Records(Vec<Vec<u8>>);

impl Records {
    pub fn new(record_bytes: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        Self(
            (0..RECORDS)
                .map(|_| (0..record_bytes).map(|_| byte()).collect())
                .collect(),
        )
    }

    /// The record of a slot; slots wrap around.
    pub fn get(&self, slot: usize) -> &[u8] {
        &self.0[slot % RECORDS]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}
