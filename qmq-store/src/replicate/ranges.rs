//! Where in the segments an offset of the log stands, and what is there.

use std::io;
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
        let mut found = Ok(());
        self.scan_around(offset, &mut |at, len| {
            if at < offset && offset < at + len {
                found = Err(at);
            }
        })?;
        Ok(found)
    }

    /// How far the damage at `offset` goes.
    pub(super) fn damage_at(&self, offset: u64) -> Result<u64, Error> {
        let mut damaged = 0;
        self.scan_around(offset, &mut |at, len| {
            if at <= offset {
                damaged = (at + len).saturating_sub(offset);
            }
        })?;
        Ok(damaged)
    }

    /// Shows offset and length of each unit of the segment that `offset` is in, up to there, and of each stretch that is none.
    fn scan_around(&self, offset: u64, each: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let Some(segment) = self.segment_at(offset)? else {
            return Ok(());
        };
        let end = segment.end().unwrap_or(self.log.commit.written());
        let name = segment.data().name();
        let bytes = match read_records(&*self.log.disk, segment.base, end) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(Error::io(format!("reading {name}")))?.0,
        };
        let mut scan = Scan::new(&bytes, segment.base);
        // Where a stretch that is no unit began.
        let mut bad = None;
        let mut next = segment.base;
        while let Some(found) = scan.next() {
            let (at, len, is_unit) = match found {
                Found::Record { record, .. } => {
                    let header = record.header;
                    // The records of a batch whose header is gone belong to the damage.
                    (header.offset, header.frame_len(), !header.in_batch)
                }
                Found::BadBody { header, .. } => {
                    (header.offset, header.frame_len(), !header.in_batch)
                }
                Found::Garbage { offset, len } => (offset, len, false),
                Found::Zeros { offset } => (offset, end - offset, false),
            };
            let until = (at + len).min(end);
            if at < next {
                // The records of a batch are passed over with it; damage may reach beyond.
                if until > next && !is_unit {
                    bad.get_or_insert(next);
                    next = until;
                }
                continue;
            }
            if is_unit {
                if let Some(begins) = bad.take() {
                    each(begins, at - begins);
                }
                if at > offset {
                    return Ok(());
                }
                each(at, until - at);
            } else {
                bad.get_or_insert(at);
            }
            next = until;
        }
        if let Some(begins) = bad.or((next < end).then_some(next)) {
            each(begins, end - begins);
        }
        Ok(())
    }
}
