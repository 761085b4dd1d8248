//! What the tests of crashes and faults share: a seeded workload, and an oracle that knows what each promise allows afterwards.
#![allow(dead_code, reason = "each test file takes its part")]

pub(crate) mod check;
pub(crate) mod damaged;
#[allow(clippy::unwrap_used, reason = "a test that fails should stop")]
#[path = "../support/files.rs"]
pub(crate) mod files;
pub(crate) mod model;
pub(crate) mod rng;
mod settling;
pub(crate) mod taking;
pub(crate) mod workload;

use std::sync::Arc;

use qmq_store::disk::SimulatedDisk;
use qmq_store::{Background, ManualClock, Options, Store};

/// Bytes of a segment: the least that the options allow.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;

/// Options of a small store that does nothing by itself, and the clock that it reads.
pub(crate) fn small_options() -> (Options, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let options = Options {
        background: Background::Manual,
        clock: Arc::<ManualClock>::clone(&clock),
        identity_seed: Some(7),
        flush_bytes: 64 << 10,
        ..Options::with_segment_bytes(SEGMENT_BYTES)
    };
    (options, clock)
}

/// Opens a store on a disk that is not used otherwise.
pub(crate) fn open(disk: &SimulatedDisk, options: &Options) -> Result<Store, qmq_store::OpenError> {
    Store::open_on(Arc::new(disk.clone()), options.clone())
}

/// A number from the environment, or the default.
pub(crate) fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")),
        Err(_) => default,
    }
}
