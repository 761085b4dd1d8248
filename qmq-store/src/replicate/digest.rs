//! Whether two logs have the same bytes, and where one is damaged. All is read by calls, so that a bad medium is an error and no signal.

use std::ops::Range;
use std::sync::Arc;

use super::{ReplicaError, unit};
use crate::disk::{Access, Disk};
use crate::error::{Error, is_of_the_medium};
use crate::keep::files::read_records;
use crate::log::segment::Segment;
use crate::store::{Inner, Store};

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

impl Store {
    /// CRC-32 (IEEE) of the log's bytes from offset `from` to `to`, wherever in records these are. Two stores with the same one have the same bytes there, but
    /// for one case in four thousand million; with another one, halving finds the first byte that differs. Nothing is retired meanwhile.
    ///
    /// # Errors
    /// [`ReplicaError::Retired`], [`ReplicaError::BeyondEnd`]; [`ReplicaError::Damaged`] where the disk does not give the bytes; [`Error::Io`].
    pub fn digest(&self, from: u64, to: u64) -> Result<u32, Error> {
        self.inner.check_open()?;
        let _held = self.inner.hold_retention();
        self.inner.segment_at(to.max(from))?;
        let inner = &self.inner;
        digest_of(&*inner.log.disk, from, to, &|at| inner.segment_at(at))
    }

    /// The first damaged stretch of the log between `from` and `to`, if there is one: what [`Store::raw`] would not give. It begins and ends where
    /// units do, so it may begin before `from`. Nothing is retired meanwhile.
    ///
    /// # Errors
    /// [`ReplicaError::Retired`], [`ReplicaError::BeyondEnd`]; [`Error::Io`].
    pub fn first_bad(&self, from: u64, to: u64) -> Result<Option<Range<u64>>, Error> {
        self.inner.check_open()?;
        let _held = self.inner.hold_retention();
        self.inner.segment_at(to.max(from))?;
        let mut at = from;
        while at < to {
            let Some(segment) = self.inner.segment_at(at)? else {
                break;
            };
            let end = segment.end().unwrap_or(self.inner.log.commit.written());
            if let Some(bad) = self.inner.first_bad_in(segment.base, end, from)?
                && bad.start < to
            {
                return Ok(Some(bad));
            }
            at = end;
        }
        Ok(None)
    }
}

/// The digest of the bytes from `from` to `to`, as far as `segment_at` finds them.
pub(super) fn digest_of(
    disk: &dyn Disk,
    from: u64,
    to: u64,
    segment_at: &dyn Fn(u64) -> Result<Option<Arc<Segment>>, Error>,
) -> Result<u32, Error> {
    let mut crc = crc32fast::Hasher::new();
    let mut piece = Vec::new();
    let mut at = from;
    while at < to {
        let Some(segment) = segment_at(at)? else {
            break;
        };
        let end = segment.end().unwrap_or(to).min(to);
        if end <= at {
            // The file of what comes next is gone.
            return Err(damaged(at, to - at));
        }
        let name = segment.data().name();
        let file = disk.open(name, Access::Read);
        while at < end {
            let take = PIECE.min(end - at);
            piece.resize(take as usize, 0);
            let read = match &file {
                Ok(file) => file.read_at(&mut piece, segment.position(at)),
                Err(error) => Err(error.kind().into()),
            };
            read.map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => damaged(at, take),
                _ if is_of_the_medium(&error) => damaged(at, take),
                _ => Error::io(format!("reading {name}"))(error),
            })?;
            crc.update(&piece);
            at += take;
        }
    }
    Ok(crc.finalize())
}

fn damaged(offset: u64, len: u64) -> Error {
    ReplicaError::Damaged { offset, len }.into()
}

impl Inner {
    /// The first bad stretch of the segment from `base` to `end` that ends behind `from`.
    pub(super) fn first_bad_in(
        &self,
        base: u64,
        end: u64,
        from: u64,
    ) -> Result<Option<Range<u64>>, Error> {
        let bytes = match read_records(&*self.log.disk, base, end) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(Error::io("reading the log"))?.0,
        };
        let mut at = base;
        while at < end {
            let rest = bytes.get((at - base) as usize..).unwrap_or_default();
            if let Ok(Some(len)) = unit::check(rest, at, usize::MAX, &mut |_| Ok(())) {
                at += len as u64;
                continue;
            }
            let bad = at..at + self.damage_at(at)?.max(8);
            if bad.end > from {
                return Ok(Some(bad));
            }
            at = bad.end;
        }
        Ok(None)
    }
}
