//! Prepares pages ahead of a fast writer.
//!
//! The first store into a page of a mapping costs a page fault, four times as much as the store itself. While a writer is fast, a thread takes these
//! faults for it, a little ahead. It stays little, since prepared pages are dirty and go to the disk with the next sync.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::disk::Region;

/// The writer asks again after so many bytes.
pub(super) const STEP: u64 = 1 << 20;
/// So far ahead of the writer pages are prepared.
const REACH: u64 = 4 << 20;
/// Bytes prepared by one call.
const PIECE: u64 = 128 << 10;
/// A writer that takes longer than this for a step can take its faults itself.
pub(super) const FAST_STEP_MS: u64 = 10;

#[derive(Debug, Default)]
struct State {
    /// Where the writer is.
    wanted: Option<(Arc<Region>, u64)>,
    stop: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    state: Mutex<State>,
    asked: Condvar,
}

impl Ahead {
    /// The writer has reached `position` of `region`.
    pub(super) fn ask(&self, region: &Arc<Region>, position: u64) {
        self.state.lock().wanted = Some((Arc::clone(region), position));
        self.asked.notify_one();
    }

    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        state.wanted = None;
        drop(state);
        self.asked.notify_one();
    }

    /// Prepares pages as they are asked for, until `stop`.
    pub(crate) fn run(&self) {
        let mut prepared: Option<(Arc<Region>, u64)> = None;
        loop {
            let (region, position) = {
                let mut state = self.state.lock();
                loop {
                    if state.stop {
                        return;
                    }
                    if let Some(wanted) = state.wanted.take() {
                        break wanted;
                    }
                    self.asked.wait(&mut state);
                }
            };
            let done = prepared
                .take()
                .filter(|(last, _)| Arc::ptr_eq(last, &region))
                .map_or(0, |(_, done)| done);
            let mut at = done.max(position);
            let until = position.saturating_add(REACH).min(region.len() as u64);
            while at < until && self.state.lock().wanted.is_none() {
                region.prepare(at, PIECE as usize);
                at += PIECE;
            }
            prepared = Some((region, at));
        }
    }
}
