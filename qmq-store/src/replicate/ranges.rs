//! Where in the segments an offset of the log stands, and what is there.

use std::sync::Arc;

use super::ReplicaError;
use crate::error::Error;
use crate::keep::files::read_records;
use crate::log::scan::{Found, Scan};
use crate::log::segment::Segment;
use crate::store::Inner;

impl Inner {
    /// The segment that `offset` is in, or would be; `None` at the end of the log.
    pub(super) fn segment_at(&self, offset: u64) -> Result<Option<Arc<Segment>>, Error> {
        let written = self.log.commit.written();
        let segments = self.segments();
        let start = segments.first().map_or(written, |segment| segment.base);
        if offset < start {
            return Err(ReplicaError::Retired { offset, start }.into());
        }
        if offset > written {
            return Err(ReplicaError::BeyondEnd {
                offset,
                end: written,
            }
            .into());
        }
        if offset == written {
            return Ok(None);
        }
        let at = segments.partition_point(|segment| segment.base <= offset);
        Ok(at.checked_sub(1).map(|at| Arc::clone(&segments[at])))
    }

    /// Whether a unit begins at `offset`, or a stretch that is none; the log is read by calls. Otherwise where that begins which it is inside of.
    pub(super) fn unit_begins(&self, offset: u64) -> Result<Result<(), u64>, Error> {
        let Some(segment) = self.segment_at(offset)? else {
            return Ok(Ok(()));
        };
        let mut found = Ok(());
        self.scan_segment(&segment, &mut |at, len| {
            if at < offset && offset < at + len {
                found = Err(at);
            }
            at + len <= offset
        })?;
        Ok(found)
    }

    /// How far the damage at `offset` goes.
    pub(super) fn damage_at(&self, offset: u64) -> Result<u64, Error> {
        let Some(segment) = self.segment_at(offset)? else {
            return Ok(0);
        };
        let mut damaged = 0;
        self.scan_segment(&segment, &mut |at, len| {
            if at <= offset {
                damaged = (at + len).saturating_sub(offset);
            }
            at + len <= offset
        })?;
        Ok(damaged)
    }

    /// Shows offset and length of each unit of a segment, and of each stretch that is none, until `each` says no.
    fn scan_segment(
        &self,
        segment: &Segment,
        each: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), Error> {
        let end = segment.end().unwrap_or(self.log.commit.written());
        let name = segment.data().name();
        let (bytes, _) = read_records(&*self.log.disk, segment.base, end)
            .map_err(Error::io(format!("reading {name}")))?;
        let mut scan = Scan::new(&bytes, segment.base);
        let mut next = segment.base;
        while let Some(found) = scan.next() {
            let (at, len) = match found {
                Found::Record { record, batch_ok } => {
                    let header = record.header;
                    // The records of a good batch are passed over with it.
                    let whole = if batch_ok {
                        header.frame_len()
                    } else {
                        header.record_len()
                    };
                    (header.offset, whole)
                }
                Found::BadBody { header, .. } => (header.offset, header.record_len()),
                Found::Garbage { offset, len } => (offset, len),
                Found::Zeros { offset } => (offset, end - offset),
            };
            if at < next {
                continue;
            }
            next = at + len;
            if !each(at, len) {
                break;
            }
        }
        Ok(())
    }
}
