//! A damaged stretch of the log is put right with the bytes of another store that has it.

use std::sync::Arc;

use super::{ReplicaError, unit};
use crate::error::Error;
use crate::keep::files::{read_records, write_whole};
use crate::keep::recovery::Replay;
use crate::keep::{housekeeper, rebuild};
use crate::log::record::{Header, Kind, Record};
use crate::log::scan::{Found, Scan};
use crate::log::segment::{Segment, SegmentHeader};
use crate::store::{Inner, Store};

impl Store {
    /// Puts whole units in the place of a damaged stretch of this log, master's or replica's, durably; returns how many bytes were replaced. The segment
    /// is written anew beside the old one, which readers keep as long as they hold it, and its index is made anew. The active segment is ended first.
    ///
    /// Messages are there again at once. Of actions, those are made up for that no later action of their group has overtaken: what a damaged ack had
    /// settled may have been handed out again.
    ///
    /// # Errors
    /// [`ReplicaError::Refused`] if the bytes are no whole units of this place; [`ReplicaError::Differs`] if a record of this log that is sound is another, or
    /// would be cut; [`ReplicaError::Retired`], [`ReplicaError::BeyondEnd`]: nothing is changed. [`Error::DiskFull`], [`Error::Io`],
    /// [`Error::Poisoned`]: some segments may have been put right.
    pub fn replace_raw(&self, offset: u64, bytes: &[u8]) -> Result<u64, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        let outcome = {
            let _step = inner.housekeeping.lock();
            inner.replace(offset, bytes)
        };
        inner.tell_synced();
        outcome
    }
}

impl Inner {
    /// The caller holds the housekeeping lock.
    fn replace(&self, offset: u64, bytes: &[u8]) -> Result<u64, Error> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.segment_at(offset)?;
        self.segment_at(end)?;
        let mut headers = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let place = offset + at as u64;
            let mut each = |record: &Record<'_>| {
                headers.push(record.header);
                Ok(())
            };
            let unit = unit::check(&bytes[at..], place, usize::MAX, &mut each).map_err(|bad| {
                ReplicaError::Refused {
                    offset: bad.offset,
                    reason: bad.reason,
                }
            })?;
            at += unit.unwrap_or(bytes.len());
        }
        // Looked at in full before anything is changed.
        let mut bad = Vec::new();
        let mut from = offset;
        while from < end {
            let Some(segment) = self.segment_at(from)? else {
                break;
            };
            let until = segment.end().unwrap_or(end).min(end);
            let given = &bytes[(from - offset) as usize..(until - offset) as usize];
            if self.is_bad(&segment, from, given)? {
                bad.push((from, given));
            }
            from = until;
        }
        let mut replaced = 0;
        for (from, given) in bad {
            self.replace_in(from, given)?;
            replaced += given.len() as u64;
        }
        if replaced > 0 {
            self.make_up(&headers, offset, bytes);
        }
        Ok(replaced)
    }

    /// All bytes of a segment, as far as the disk gives them.
    fn segment_bytes(&self, segment: &Segment) -> Result<Vec<u8>, Error> {
        let end = segment.end().unwrap_or(self.log.commit.written());
        let mut bytes = match read_records(&*self.log.disk, segment.base, end) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => {
                let name = segment.data().name();
                read.map_err(Error::io(format!("reading {name}")))?.0
            }
        };
        bytes.resize((end - segment.base) as usize, 0);
        Ok(bytes)
    }

    /// Whether the segment has other bytes than these at `from`. An error if one of its sound records says that they do not belong there.
    fn is_bad(&self, segment: &Segment, from: u64, given: &[u8]) -> Result<bool, Error> {
        let bytes = self.segment_bytes(segment)?;
        let until = from + given.len() as u64;
        let at = |offset: u64| (offset - segment.base) as usize;
        if bytes[at(from)..at(until)] == *given {
            return Ok(false);
        }
        let mut scan = Scan::new(&bytes, segment.base);
        while let Some(found) = scan.next() {
            let (header, len) = match &found {
                Found::Record { record, .. } => (record.header, record.header.record_len()),
                // Its header is sound.
                Found::BadBody { header, .. } => (*header, u64::from(header.header_len)),
                Found::Garbage { .. } | Found::Zeros { .. } => continue,
            };
            let (start, end) = (header.offset, header.offset + len);
            if end <= from || start >= until {
                continue;
            }
            let inside = start >= from && end <= until;
            // Padding is in no checksum.
            let sound = match header.kind {
                Kind::Batch => usize::from(header.header_len),
                _ => (usize::from(header.header_len) + header.body_len as usize).min(len as usize),
            };
            let ours = &bytes[at(start)..at(start) + sound];
            if !inside || given[(start - from) as usize..][..sound] != *ours {
                return Err(ReplicaError::Differs { offset: start }.into());
            }
        }
        Ok(true)
    }

    fn replace_in(&self, from: u64, given: &[u8]) -> Result<(), Error> {
        let active = self.segment_at(from)?;
        if active.is_some_and(|segment| segment.end().is_none()) {
            self.log.end_active()?;
        }
        housekeeper::seal_all(self).map_err(Error::io("sealing a segment"))?;
        let segments = self.segments();
        let at = segments.partition_point(|segment| segment.base <= from);
        let Some(segment) = at.checked_sub(1).map(|at| Arc::clone(&segments[at])) else {
            return Ok(());
        };
        let mut bytes = self.segment_bytes(&segment)?;
        let place = (from - segment.base) as usize;
        bytes[place..place + given.len()].copy_from_slice(given);
        let header = SegmentHeader {
            base: segment.base,
            store_id: self.log.store_id,
        };
        bytes.splice(0..0, header.encode());
        let name = segment.data().name();
        self.log
            .with_reserve(|| {
                write_whole(&*self.log.disk, name, &bytes)?;
                self.log.sync_names()
            })
            .map_err(Error::io(format!("writing {name} anew")))?;
        segment.data().forget();
        let doing = format!("rebuilding {}", segment.index_file().name());
        rebuild::rebuild(&*self.log.disk, &self.catalog, &segments, at - 1)
            .map_err(Error::io(doing))
    }

    /// What the records would have changed, had they been good at the last open.
    fn make_up(&self, headers: &[Header], offset: u64, bytes: &[u8]) {
        let mut replay = Replay::new(&self.catalog, &self.names, 0);
        for header in headers {
            let record = Record::assemble(&bytes[(header.offset - offset) as usize..], *header);
            let Some(record) = record else { continue };
            if self.catalog.get(record.subject).is_none() {
                continue;
            }
            match header.kind {
                Kind::Message => {
                    let subject = replay.subject(record.subject);
                    let mut index = subject.index.lock();
                    index.next = index.next.max(header.sequence + 1);
                }
                Kind::Action => drop(replay.action(&record)),
                Kind::Epoch | Kind::Batch => {}
            }
        }
    }
}
