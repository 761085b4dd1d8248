//! Reads the segments that are not sealed, and tells for each stretch whether it is good, damaged, or the torn tail that ends the log.

use std::io;
use std::sync::Arc;

use super::{Recovery, Replay};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::keep::damage::{Damage, DamageKind};
use crate::keep::files::{SegmentBytes, read_segment};
use crate::log::record::{Header, Kind};
use crate::log::scan::{Found, Scan};
use crate::log::segment::{Segment, log_name};

impl Recovery<'_> {
    /// Replays the segments from `first` on, which are not sealed, and returns the end of the log.
    pub(super) fn replay(&mut self, first: usize) -> Result<u64, OpenError> {
        let mut end = self.segments[..first]
            .last()
            .and_then(|segment| segment.end())
            .unwrap_or(self.start());
        for at in first..self.segments.len() {
            let segment = Arc::clone(&self.segments[at]);
            if segment.base > end {
                // What lies between is not there. That it was never synced is the usual reason.
                if self.is_tail(at, end) {
                    self.cut(at, end)?;
                    return Ok(end);
                }
                let (name, len) = (log_name(end), segment.base - end);
                let lost = Damage::new(DamageKind::Segment, name, end, len);
                self.report.damages.push(lost);
            }
            let until = segment.end().unwrap_or(u64::MAX).min(self.extent.until);
            let (bytes, unreadable) = read_segment_or_nothing(self.disk, &segment, until)?;
            self.note_unreadable(&segment, &unreadable)?;
            let (reached, cut) = self.replay_segment(at, &segment, &bytes)?;
            end = reached;
            if cut {
                self.cut(at, end)?;
                return Ok(end);
            }
        }
        let synced = self.synced.min(self.extent.until);
        if end < synced {
            self.lose(end, synced);
        }
        Ok(end.max(synced))
    }

    /// Where the log begins, if nothing of it is sealed.
    fn start(&self) -> u64 {
        let first = self.segments.first().map_or(0, |segment| segment.base);
        if self.older && first > self.summary.start && first <= self.summary.replay_from {
            first
        } else {
            self.summary.start
        }
    }

    /// The log goes on where it is known to have been synced to: what lies between is a finished segment that is damaged, like any other, and its
    /// offsets are nobody else's.
    fn lose(&mut self, end: u64, synced: u64) {
        if self
            .segments
            .last()
            .is_none_or(|segment| segment.end().is_some())
        {
            self.segments.push(Arc::new(Segment::new(end, self.maps)));
        }
        if let Some(last) = self.segments.last() {
            last.set_end(synced);
            let name = last.data().name();
            let lost = Damage::new(DamageKind::LostTail, name, end, synced - end);
            self.report.damages.push(lost);
        }
        self.lost_tail = true;
    }

    /// A good record says how far its writer had synced.
    fn note_synced(&mut self, header: &Header) {
        if self.extent.own {
            self.synced = self.synced.max(header.synced_end);
        }
    }

    fn note_unreadable(
        &mut self,
        segment: &Segment,
        unreadable: &[(u64, u64)],
    ) -> Result<(), OpenError> {
        for &(offset, len) in unreadable {
            if offset >= self.synced {
                // It may be good data that is not known to be synced: cutting it here would be a guess.
                return Err(OpenError::Io {
                    doing: format!("reading {} at offset {offset}", segment.data().name()),
                    source: Arc::new(io::Error::other(
                        "the disk does not give the end of the log back; repair the disk and open again",
                    )),
                });
            }
            self.report.damages.push(Damage::new(
                DamageKind::Unreadable,
                segment.data().name(),
                offset,
                len,
            ));
        }
        Ok(())
    }

    /// Replays one segment. Returns where the log goes on, and whether it ends there.
    fn replay_segment(
        &mut self,
        at: usize,
        segment: &Arc<Segment>,
        bytes: &[u8],
    ) -> Result<(u64, bool), OpenError> {
        let name = segment.data().name().to_owned();
        let catalog = std::mem::take(&mut self.catalog);
        let names = std::mem::take(&mut self.names);
        let mut replay = Replay::new(&catalog, &names, self.summary.replay_from);
        let mut touched = Vec::new();
        let mut scan = Scan::new(bytes, segment.base);
        let mut end = segment.base;
        let mut cut = false;
        while let Some(found) = scan.next() {
            let bad = match &found {
                // Left from before a cut, where new records did not reach: it never revives.
                Found::Record { record, .. } if record.header.incarnation < self.incarnation => (
                    record.header.offset,
                    Damage::new(
                        DamageKind::Records,
                        &name,
                        record.header.offset,
                        record.header.record_len(),
                    ),
                ),
                Found::Record { record, batch_ok } => {
                    self.incarnation = record.header.incarnation;
                    self.note_synced(&record.header);
                    if *batch_ok {
                        if replay.after_damage.is_none() && !self.report.damages.is_empty() {
                            replay.after_damage = Some(Arc::new(self.segments.clone()));
                        }
                        if let Err(_reason) = replay.apply(segment, record, &mut touched) {
                            let damage = Damage::new(
                                DamageKind::Records,
                                &name,
                                record.header.offset,
                                record.header.record_len(),
                            );
                            self.report
                                .damages
                                .push(damage.of_message(record.subject, record.header.sequence));
                        }
                        end = scan.offset();
                        continue;
                    }
                    (
                        record.header.offset,
                        Damage::new(
                            DamageKind::Batch,
                            &name,
                            record.header.offset,
                            record.header.frame_len(),
                        ),
                    )
                }
                Found::BadBody { header, subject } => {
                    (header.offset, Damage::of_body(&name, header, subject))
                }
                Found::Garbage { offset, len } => (
                    *offset,
                    Damage::new(DamageKind::Records, &name, *offset, *len),
                ),
                // The usual end of the log: nothing follows that could know better.
                Found::Zeros { .. } if segment.end().is_none() => break,
                Found::Zeros { offset } => {
                    let len = segment.end().unwrap_or(*offset) - offset;
                    (
                        *offset,
                        Damage::new(DamageKind::Records, &name, *offset, len),
                    )
                }
            };
            let (offset, damage) = bad;
            if self.is_tail(at, offset) {
                self.note_cut(at, offset, bytes);
                end = offset;
                cut = true;
                break;
            }
            self.report.damages.push(damage);
            if let Found::BadBody { header, subject } = &found {
                replay.note_time(segment, header);
                self.note_synced(header);
                if header.kind == Kind::Message {
                    let _ = replay.message(segment, header, subject, &mut touched);
                }
            }
            end = match found {
                Found::Zeros { .. } => segment.end().unwrap_or(end),
                _ => scan.offset(),
            };
        }
        if let Some(segment_end) = segment
            .end()
            .filter(|&segment_end| !cut && end < segment_end)
        {
            // The file ends before the next segment begins: one between them is missing, or it was cut short.
            cut = self.is_tail(at, end);
            if !cut {
                let lost = Damage::new(DamageKind::Segment, &name, end, segment_end - end);
                self.report.damages.push(lost);
                end = segment_end;
            }
        }
        self.report.replayed_bytes += end - segment.base;
        self.report.replayed_records += replay.records;
        self.last_time_ms = self.last_time_ms.max(replay.last_time_ms);
        drop(replay);
        self.catalog = catalog;
        self.names = names;
        self.touched.insert(segment.base, touched);
        Ok((end, cut))
    }
}

pub(super) fn read_segment_or_nothing(
    disk: &dyn Disk,
    segment: &Segment,
    until: u64,
) -> Result<SegmentBytes, OpenError> {
    match read_segment(disk, segment, until) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), Vec::new())),
        outcome => outcome.map_err(OpenError::io(format!("reading {}", segment.data().name()))),
    }
}
