//! Reads everything back and compares it with its checksums: records, batches, indexes, checkpoints.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint;
use super::damage::{Damage, DamageKind};
use super::files::{is_foreign, read_segment};
use crate::consume::{Action, Names};
use crate::disk::Disk;
use crate::error::{Error, is_of_the_medium, named};
use crate::index::catalog::Catalog;
use crate::index::sealed::SealedIndex;
use crate::log::record::{Header, Kind};
use crate::log::scan::{Found, Scan};
use crate::log::segment::Segment;
use crate::store::{Inner, Store};

/// What a verification read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments read.
    pub segments: u64,
    /// Bytes of log read.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
    /// Messages among them.
    pub messages: u64,
    /// Notes among them: see [`Store::submit_noted`].
    pub notes: u64,
    /// Everything that was not as it should be.
    pub damages: Vec<Damage>,
}

/// Verifies the segments of a log, whose newest may still be written: it is read up to `until`.
pub(crate) fn verify_segments(
    disk: &dyn Disk,
    catalog: &Catalog,
    segments: &[Arc<Segment>],
    until: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<VerifyReport> {
    let start = segments.first().map_or(until, |segment| segment.base);
    let mut report = VerifyReport::default();
    for segment in segments {
        let end = segment.end().unwrap_or(until).min(until);
        if end < segment.base {
            break;
        }
        verify_segment(disk, catalog, segment, end, &mut report)
            .map_err(|error| named(&error, segment.data().name()))?;
        progress(end - start, until - start);
    }
    Ok(report)
}

fn verify_segment(
    disk: &dyn Disk,
    catalog: &Catalog,
    segment: &Segment,
    end: u64,
    report: &mut VerifyReport,
) -> io::Result<()> {
    let name = segment.data().name();
    if is_foreign(disk, name, segment.data().store_id())? {
        let foreign = Damage::new(DamageKind::Foreign, name, segment.base, end - segment.base);
        report.damages.push(foreign);
        return Ok(());
    }
    let (bytes, unreadable) = match read_segment(disk, segment, end) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), Vec::new()),
        outcome => outcome?,
    };
    for (offset, len) in unreadable {
        report
            .damages
            .push(Damage::new(DamageKind::Unreadable, name, offset, len));
    }
    if (bytes.len() as u64) < end - segment.base {
        let there = bytes.len() as u64;
        report.damages.push(Damage::new(
            DamageKind::Segment,
            name,
            segment.base + there,
            end - segment.base - there,
        ));
    }
    report.segments += 1;
    report.bytes += bytes.len() as u64;
    let index = segment.sealed();
    let mut indexed = index.as_ref().is_none_or(|index| index.verify().is_ok());
    let mut scan = Scan::new(&bytes, segment.base);
    while let Some(found) = scan.next() {
        match found {
            Found::Record { record, batch_ok } => {
                let header = &record.header;
                report.records += 1;
                report.notes += u64::from(!record.note.is_empty());
                if !batch_ok {
                    report.damages.push(Damage::new(
                        DamageKind::Batch,
                        name,
                        header.offset,
                        header.frame_len(),
                    ));
                }
                match header.kind {
                    Kind::Message => {
                        report.messages += 1;
                        indexed &= index.as_ref().is_none_or(|index| {
                            is_indexed(index, catalog, segment, header, record.subject)
                        });
                    }
                    Kind::Action if Action::decode(record.body).is_err() => {
                        report.damages.push(Damage::new(
                            DamageKind::ActionBody,
                            name,
                            header.offset,
                            header.record_len(),
                        ));
                    }
                    Kind::Action | Kind::Batch | Kind::Epoch => {}
                }
            }
            Found::BadBody { header, subject } => {
                report.records += 1;
                report.damages.push(Damage::of_body(name, &header, subject));
            }
            Found::Garbage { offset, len } => {
                report
                    .damages
                    .push(Damage::new(DamageKind::Records, name, offset, len));
            }
            Found::Zeros { offset } => {
                report
                    .damages
                    .push(Damage::new(DamageKind::Records, name, offset, end - offset));
            }
        }
    }
    if !indexed {
        report.damages.push(Damage::new(
            DamageKind::Index,
            segment.index_file().name(),
            0,
            0,
        ));
    }
    Ok(())
}

/// Whether the index leads from a message's subject and sequence to its place, and filters by its tags.
fn is_indexed(
    index: &SealedIndex,
    catalog: &Catalog,
    segment: &Segment,
    header: &Header,
    subject: &str,
) -> bool {
    let Some(subject) = catalog.get(subject) else {
        return false;
    };
    let Ok(region) = index.region() else {
        return false;
    };
    let Ok(Some(share)) = index.share(&region, subject.id) else {
        return false;
    };
    if header.sequence < share.first || header.sequence >= share.end() {
        return false;
    }
    let mut right = false;
    let walked = index.entries(&region, share, header.sequence, |_, entry| {
        right = segment.base + u64::from(entry.position) * 8 == header.offset
            && entry.tag_fingerprint == header.tag_fingerprint;
        false
    });
    walked.is_ok() && right
}

/// Verifies the checkpoints of a folder.
pub(crate) fn verify_checkpoints(
    disk: &dyn Disk,
    store_id: u128,
    report: &mut VerifyReport,
) -> io::Result<()> {
    for name in checkpoint::names(disk)? {
        let kind = match checkpoint::read(disk, &name, store_id, &Names::default()) {
            Ok(checkpoint::Found::Good(..)) => continue,
            Ok(checkpoint::Found::Damaged) => DamageKind::Checkpoint,
            Ok(checkpoint::Found::Foreign) => DamageKind::Foreign,
            // A live store may have replaced it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if is_of_the_medium(&error) => DamageKind::Unreadable,
            Err(error) => return Err(named(&error, &name)),
        };
        report.damages.push(Damage::new(kind, name, 0, 0));
    }
    Ok(())
}

/// How fast [`Store::scrub`] may read.
struct Pace {
    started: Instant,
    bytes_per_second: u64,
}

/// A pause is cut into pieces of this, to see soon that the store closes.
const PAUSE_PIECE: Duration = Duration::from_millis(20);

impl Pace {
    /// Sleeps until `done` bytes are not too many.
    fn keep(&self, inner: &Inner, done: u64) -> Result<(), Error> {
        let due = Duration::from_secs_f64(done as f64 / self.bytes_per_second.max(1) as f64);
        loop {
            inner.check_open()?;
            let left = due.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(PAUSE_PIECE));
        }
    }
}

impl Inner {
    fn verify(
        &self,
        pace: Option<&Pace>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifyReport, Error> {
        self.check_open()?;
        let doing = "verifying the log";
        let (start, until) = (self.log.start_offset(), self.log.commit.written());
        let mut report = VerifyReport::default();
        let mut next = start;
        loop {
            // A segment is held while it is read, and not while a pause is made.
            let held = self.hold_retention();
            let segments = self.segments();
            let at = segments.partition_point(|segment| segment.base < next);
            let Some(segment) = segments.get(at).filter(|segment| segment.base < until) else {
                break;
            };
            let end = segment.end().unwrap_or(until).min(until);
            verify_segment(&*self.log.disk, &self.catalog, segment, end, &mut report)
                .map_err(Error::io(format!("{doing}: {}", segment.data().name())))?;
            drop(held);
            next = segment.base + 1;
            if let Some(pace) = pace {
                pace.keep(self, report.bytes)?;
            }
            progress(end.saturating_sub(start), until - start);
        }
        verify_checkpoints(&*self.log.disk, self.log.store_id, &mut report)
            .map_err(Error::io(doing))?;
        Ok(report)
    }
}

impl Store {
    /// Reads everything back and compares it with its checksums, while the store works. `progress` is told bytes done and bytes in all.
    /// Nothing is retired meanwhile.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Io`] if the folder itself cannot be read. Damage is not an error but in the report.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, Error> {
        let _held = self.inner.hold_retention();
        self.inner.verify(None, progress)
    }

    /// As [`Store::verify`], segment by segment at no more than `bytes_per_second` of log on average, so that it may run all the time beside the
    /// work. Retention goes on between the segments; what it takes is not read. A close ends it.
    ///
    /// # Errors
    /// As [`Store::verify`].
    pub fn scrub(
        &self,
        bytes_per_second: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifyReport, Error> {
        let pace = Pace {
            started: Instant::now(),
            bytes_per_second,
        };
        self.inner.verify(Some(&pace), progress)
    }
}
