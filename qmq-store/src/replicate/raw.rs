//! Bytes of the log as they are, for a replica.

use std::sync::Arc;

use bytes::Bytes;

use super::{ReplicaError, unit};
use crate::disk::Region;
use crate::error::Error;
use crate::log::segment::Segment;
use crate::records::pinned;
use crate::store::{Inner, Store};

/// Consecutive commit units of the log. The bytes are the log's own, not copied; they stay while they are held, also when retention takes the
/// segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRange {
    /// Offset of the first byte.
    pub offset: u64,
    /// Whole units, with their padding.
    pub bytes: Bytes,
}

impl RawRange {
    /// Offset behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl Store {
    /// Whole commit units from `offset` on, verified, of at most `max_bytes` together but one at least: those that are written, whether or not they
    /// are synced. Nothing at the end of the log. A range ends with its segment, so there may be more behind a short one.
    ///
    /// # Errors
    /// [`ReplicaError::NotAUnit`], [`ReplicaError::Retired`], [`ReplicaError::BeyondEnd`]; [`ReplicaError::Damaged`] if the first unit is damaged: a
    /// range ends before a damaged one. [`Error::Io`] if the file cannot be read.
    pub fn raw(&self, offset: u64, max_bytes: usize) -> Result<RawRange, Error> {
        self.inner.check_open()?;
        let Some(segment) = self.inner.segment_at(offset)? else {
            return Ok(RawRange {
                offset,
                bytes: Bytes::new(),
            });
        };
        let region = match segment.region() {
            Ok(region) => region,
            // It may have been retired meanwhile.
            Err(_) if self.inner.segment_at(offset).is_err() => {
                return self.raw(offset, max_bytes);
            }
            Err(error) => return self.inner.not_readable(&segment, offset, error),
        };
        let len = verified(&segment, &region, offset, max_bytes);
        if len == 0 {
            return Err(self.inner.nothing_at(offset)?.into());
        }
        Ok(RawRange {
            offset,
            bytes: pinned(&region, segment.position(offset), len),
        })
    }
}

/// Length of the good units from `offset` on.
fn verified(segment: &Segment, region: &Arc<Region>, offset: u64, max_bytes: usize) -> usize {
    let at = segment.position(offset);
    let until = segment.position(segment.published_end());
    let there = until.min(region.len() as u64).saturating_sub(at);
    let bytes = region.bytes(at, there as usize).unwrap_or_default();
    let mut len = 0;
    while len < bytes.len() {
        let room = if len == 0 {
            usize::MAX
        } else {
            max_bytes.saturating_sub(len)
        };
        match unit::check(&bytes[len..], offset + len as u64, room, &mut |_| Ok(())) {
            Ok(Some(unit)) => len += unit,
            Ok(None) | Err(_) => break,
        }
    }
    len
}

impl Inner {
    /// Why there is no good unit at `offset`.
    pub(super) fn nothing_at(&self, offset: u64) -> Result<ReplicaError, Error> {
        if let Err(begins) = self.unit_begins(offset)? {
            return Ok(ReplicaError::NotAUnit { offset, begins });
        }
        let len = self.damage_at(offset)?;
        Ok(ReplicaError::Damaged { offset, len })
    }

    /// A segment's file that is gone, or another store's, is damage like any other.
    fn not_readable<T>(
        &self,
        segment: &Segment,
        offset: u64,
        error: std::io::Error,
    ) -> Result<T, Error> {
        use std::io::ErrorKind::{InvalidData, NotFound};
        if !matches!(error.kind(), NotFound | InvalidData) {
            let doing = format!("reading {}", segment.data().name());
            return Err(Error::io(doing)(error));
        }
        let end = segment.end().unwrap_or(self.log.commit.written());
        let len = end - offset;
        Err(ReplicaError::Damaged { offset, len }.into())
    }
}
