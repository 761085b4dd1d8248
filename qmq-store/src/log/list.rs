//! The list of segments: which the log is made of, and which wait for their index file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use super::segment::Segment;
use crate::disk::DiskFile;

/// A finished segment whose index is still in memory.
#[derive(Debug)]
pub(crate) struct SealJob {
    pub(crate) segment: Arc<Segment>,
    /// Open for writing, to cut it to its length.
    pub(crate) file: Arc<dyn DiskFile>,
    /// Numbers of the subjects that have messages in it.
    pub(crate) touched: Vec<u32>,
    /// Subjects known when it was finished.
    pub(crate) subjects: u32,
}

impl Log {
    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.segments.read())
    }

    /// Where the log begins: everything before has been retired.
    pub(crate) fn start_offset(&self) -> u64 {
        self.segments
            .read()
            .first()
            .map_or(0, |segment| segment.base)
    }

    /// Takes the oldest segments below `floor` out of the log and returns them.
    pub(crate) fn retire_below(&self, floor: u64) -> Vec<Arc<Segment>> {
        let mut segments = self.segments.write();
        let keep = segments
            .iter()
            .position(|segment| segment.end().is_none_or(|end| end > floor));
        let mut list = Vec::clone(&segments);
        let retired = list.drain(..keep.unwrap_or(0)).collect();
        *segments = Arc::new(list);
        retired
    }

    /// Segments that could not be retired after all.
    pub(crate) fn take_back(&self, mut retired: Vec<Arc<Segment>>) {
        let mut segments = self.segments.write();
        retired.extend(segments.iter().cloned());
        *segments = Arc::new(retired);
    }

    /// Finished segments whose index is still in memory.
    #[inline]
    pub(crate) fn unsealed(&self) -> usize {
        self.unsealed.load(Ordering::Relaxed)
    }

    /// The oldest finished segment that waits for its index file.
    pub(crate) fn next_to_seal(&self) -> Option<SealJob> {
        self.sealing.lock().pop_front()
    }

    pub(crate) fn seal_failed(&self, job: SealJob) {
        self.sealing.lock().push_front(job);
    }

    pub(crate) fn sealed_one(&self) {
        self.unsealed.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn finished(&self, job: SealJob) {
        self.unsealed.fetch_add(1, Ordering::Relaxed);
        self.sealing.lock().push_back(job);
    }
}
