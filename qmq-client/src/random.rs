//! Random numbers for names and pauses; nothing secret depends on them.

use std::hash::{BuildHasher, RandomState};

/// A number that no other process has drawn.
pub(crate) fn u128() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_le_bytes(bytes),
        // The standard library has its own seeds for hashing.
        Err(_) => u128::from(seed()) << 64 | u128::from(seed()),
    }
}

/// A number that no other process has drawn.
pub(crate) fn u64() -> u64 {
    u128() as u64
}

fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
