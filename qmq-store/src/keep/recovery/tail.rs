//! The torn tail: whether something bad is it, and the cut that takes it off.

use std::io;
use std::sync::Arc;

use super::Recovery;
use super::replay::read_segment_or_nothing;
use crate::error::OpenError;
use crate::keep::files::discard;
use crate::log::record::Record;
use crate::log::scan::{Found, Scan};
use crate::log::segment::Segment;

impl Recovery<'_> {
    /// Whether what is bad at `offset` may be the torn tail, because nothing says that it was ever synced.
    pub(super) fn is_tail(&mut self, at: usize, offset: u64) -> bool {
        if offset >= self.synced {
            self.search_higher_synced(at, offset);
        }
        offset >= self.synced
    }

    /// Looks, once, whether any later record says that the log was synced beyond `offset`.
    fn search_higher_synced(&mut self, at: usize, offset: u64) {
        if self.searched || !self.extent.own {
            return;
        }
        self.searched = true;
        for segment in &self.segments[at..] {
            let until = segment.end().unwrap_or(u64::MAX).min(self.extent.until);
            let Ok((bytes, _)) = read_segment_or_nothing(self.disk, segment, until) else {
                continue;
            };
            let skip = offset.saturating_sub(segment.base).min(bytes.len() as u64);
            let mut scan = Scan::new(&bytes[skip as usize..], segment.base + skip);
            while let Some(found) = scan.next() {
                if let Found::Record {
                    record: Record { header, .. },
                    ..
                }
                | Found::BadBody { header, .. } = found
                    && header.incarnation >= self.incarnation
                {
                    self.synced = self.synced.max(header.synced_end);
                }
            }
        }
    }

    /// Counts what is about to be cut from this segment.
    pub(super) fn note_cut(&mut self, at: usize, offset: u64, bytes: &[u8]) {
        let base = self.segments[at].base;
        let tail = &bytes[(offset - base) as usize..];
        let used = tail.len() - tail.iter().rev().take_while(|&&byte| byte == 0).count();
        self.report.cut_bytes += used as u64;
        let mut scan = Scan::new(tail, offset);
        while let Some(found) = scan.next() {
            if let Found::Record { batch_ok: true, .. } = found {
                self.report.whole_records_cut += 1;
            }
        }
    }

    /// Ends the log at `end`, in the segment `at`: later segments go, and this one is open-ended again; `make_durable` zeroes what follows.
    pub(super) fn cut(&mut self, at: usize, end: u64) -> Result<(), OpenError> {
        let base = self.segments[at].base;
        let keep = if end > base || (at == 0 && end == base) {
            at + 1
        } else {
            at
        };
        let mut removed: Vec<Arc<Segment>> = self.segments.drain(keep..).collect();
        removed.reverse();
        for segment in removed {
            segment.forget();
            self.touched.remove(&segment.base);
            if !self.extent.writable {
                continue;
            }
            let name = segment.data().name();
            let gone = discard(self.disk, name, self.store_id);
            if let Err(error) = gone.or_else(ignore_missing) {
                return Err(OpenError::io(format!("removing {name}"))(error));
            }
        }
        if self.extent.writable {
            self.sync_names()?;
        }
        if let Some(last) = self.segments.last() {
            // Open-ended again: records follow here.
            if last.sealed().is_none() {
                last.set_end(u64::MAX);
            }
        }
        Ok(())
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}
