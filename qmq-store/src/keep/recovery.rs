//! Open: from the newest good checkpoint, through the records after it, to a log that can be written.
//!
//! What is known to be synced (from the checkpoint, a clean close, and the `synced_end` of every good record) separates damage from a torn tail: a bad
//! record below it is kept and reported, and the rest is served; the first bad record above it ends the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use qmq_message::TagFilter;

use super::checkpoint::{self, SubjectState, Summary};
use super::damage::{Damage, DamageKind};
use super::seal::{SegmentBytes, read_segment, rebuild_index, write_index};
use crate::consume::{Action, Names};
use crate::disk::{Access, Disk, FileEntry, Maps};
use crate::error::{OpenError, is_full};
use crate::index::active::{Entry, Subject};
use crate::index::catalog::{Catalog, floor, walk};
use crate::index::sealed::SealedIndex;
use crate::index::tags::FingerprintFilter;
use crate::log::record::{Attributes, Header, Kind, Record};
use crate::log::scan::{Found, Scan, first_nonzero};
use crate::log::segment::{
    HeaderProblem, SEGMENT_HEADER_LEN, SEGMENT_VERSION, Segment, SegmentHeader, index_base,
    log_base, log_name,
};
use crate::records::Records;

/// What an open found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// The store had been closed in order.
    pub clean: bool,
    /// Bytes of log read and verified.
    pub replayed_bytes: u64,
    /// Records among them.
    pub replayed_records: u64,
    /// Bytes cut from the end, from the first bad record that was not known to be synced to the last byte that was not zero.
    pub cut_bytes: u64,
    /// Whole records among the bytes cut: they were written and never synced.
    pub whole_records_cut: u64,
    /// Damage found in what was read.
    pub damages: Vec<Damage>,
    /// Indexes that had to be rebuilt.
    pub rebuilt_indexes: u64,
    /// The store's incarnation from now on.
    pub incarnation: u32,
}

/// Everything that recovery hands over.
pub(crate) struct Recovered {
    pub(crate) catalog: Catalog,
    pub(crate) names: Names,
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Per segment that is not sealed, numbers of the subjects that have messages in it.
    pub(crate) touched: BTreeMap<u64, Vec<u32>>,
    pub(crate) end: u64,
    /// Up to here something says that the log was synced.
    pub(crate) synced: u64,
    pub(crate) last_time_ms: u64,
    pub(crate) report: OpenReport,
}

/// How far the log may be read: everything for a writer, the published end for a follower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) known_synced: u64,
    pub(crate) until: u64,
    pub(crate) writable: bool,
}

/// Applies records to a catalog, one after the other.
pub(crate) struct Replay<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) names: &'a Names,
    /// Actions that end at or below this are in the checkpoint.
    pub(crate) replay_from: u64,
    pub(crate) records: u64,
    pub(crate) last_time_ms: u64,
    /// All segments, once damage has been met: then a pull may be missing.
    after_damage: Option<Arc<Vec<Arc<Segment>>>>,
    /// The last subject met: records of one subject often follow each other.
    last: Option<Arc<Subject>>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(catalog: &'a Catalog, names: &'a Names, replay_from: u64) -> Self {
        Self {
            catalog,
            names,
            replay_from,
            records: 0,
            last_time_ms: 0,
            after_damage: None,
            last: None,
        }
    }

    fn subject(&mut self, name: &str) -> Arc<Subject> {
        if let Some(last) = self.last.as_ref().filter(|last| &*last.name == name) {
            return Arc::clone(last);
        }
        let subject = self
            .catalog
            .get(name)
            .unwrap_or_else(|| self.catalog.create(name, 0));
        self.last = Some(Arc::clone(&subject));
        subject
    }

    /// A good record, or a message with a good header: what is wrong with its body is found again when it is read.
    pub(crate) fn apply(
        &mut self,
        segment: &Segment,
        record: &Record<'_>,
        touched: &mut Vec<u32>,
    ) -> Result<(), &'static str> {
        let header = &record.header;
        self.records += 1;
        self.note_time(segment, header);
        match header.kind {
            Kind::Batch => Ok(()),
            Kind::Message => self.message(segment, header, record.subject, touched),
            Kind::Action => {
                let end = header.offset + header.record_len();
                let action =
                    Action::decode(record.body).map_err(|_| "an action that cannot be decoded")?;
                let subject = self.subject(record.subject);
                if end > self.replay_from {
                    self.return_gap(&subject, &action, end);
                    subject.consumption.lock().apply(&action, end, self.names);
                }
                Ok(())
            }
        }
    }

    /// What a pull handed out whose record is damaged was given to nobody that is still known: it goes to the group again.
    fn return_gap(&self, subject: &Subject, action: &Action<'_>, end: u64) {
        let (
            Some(segments),
            Action::Pull {
                group,
                consumer,
                cursor_before,
                ..
            },
        ) = (&self.after_damage, action)
        else {
            return;
        };
        let mut consumption = subject.consumption.lock();
        let Some(at) = consumption.find(group, consumer) else {
            return;
        };
        let group = &mut consumption.groups[at];
        let from = group.cursor().max(floor(subject, segments).unwrap_or(0));
        if group.applied() >= end || from >= *cursor_before {
            return;
        }
        let lost = match group.filter() {
            None => (from..*cursor_before).collect(),
            Some(filter) => matching(subject, segments, filter, from, *cursor_before),
        };
        group.take_back(&lost, *cursor_before);
    }

    pub(crate) fn message(
        &mut self,
        segment: &Segment,
        header: &Header,
        subject: &str,
        touched: &mut Vec<u32>,
    ) -> Result<(), &'static str> {
        let subject = self.subject(subject);
        let entry = Entry {
            position: ((header.offset - segment.base) / 8) as u32,
            tag_fingerprint: header.tag_fingerprint,
        };
        match subject
            .index
            .lock()
            .restore(segment.base, header.sequence, entry)
        {
            Some(true) => touched.push(subject.id),
            Some(false) => {}
            None => return Err("a sequence that was used before"),
        }
        Ok(())
    }

    pub(crate) fn note_time(&mut self, segment: &Segment, header: &Header) {
        self.last_time_ms = self.last_time_ms.max(header.time_ms);
        let first = segment.first_time_ms.load(Ordering::Relaxed);
        if first == 0 {
            segment
                .first_time_ms
                .store(header.time_ms, Ordering::Relaxed);
        }
        segment
            .last_time_ms
            .fetch_max(header.time_ms, Ordering::Relaxed);
    }
}

/// The messages in `from..until` that may pass a group's filter.
fn matching(
    subject: &Subject,
    segments: &Arc<Vec<Arc<Segment>>>,
    filter: &TagFilter,
    from: u64,
    until: u64,
) -> Vec<u64> {
    let fingerprints = FingerprintFilter::new(filter);
    let mut records = Records::new(subject);
    let mut found = Vec::new();
    let walked = walk(
        subject,
        &|| Arc::clone(segments),
        from,
        u64::MAX,
        |segment, sequence, entry| {
            if sequence >= until {
                return false;
            }
            if fingerprints.may_match(entry.tag_fingerprint) {
                let peeked = records.peek(segment, sequence, entry);
                let passes = records.record(&peeked).is_none_or(|record| {
                    Attributes::decode(record.attributes)
                        .is_none_or(|attributes| filter.matches(attributes.tags()))
                });
                if passes {
                    found.push(sequence);
                }
            }
            true
        },
    );
    match walked {
        Ok(()) => found,
        // Too many rather than too few.
        Err(_) => (from..until).collect(),
    }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    maps: &'a Arc<Maps>,
    extent: Extent,
    report: OpenReport,
    catalog: Catalog,
    names: Names,
    summary: Summary,
    segments: Vec<Arc<Segment>>,
    /// Segments that have an index file.
    index_files: BTreeSet<u64>,
    touched: BTreeMap<u64, Vec<u32>>,
    /// Highest synced end known.
    synced: u64,
    /// Of the last good record; it never goes back.
    incarnation: u32,
    /// A bad record has been met and the rest of the log has been searched for higher synced ends.
    searched: bool,
    last_time_ms: u64,
}

/// Recovers the state of the store on `disk`.
pub(crate) fn recover(
    disk: &dyn Disk,
    maps: &Arc<Maps>,
    store_id: u128,
    extent: Extent,
) -> Result<Recovered, OpenError> {
    let mut recovery = Recovery {
        disk,
        maps,
        extent,
        report: OpenReport::default(),
        catalog: Catalog::default(),
        names: Names::default(),
        summary: Summary::default(),
        segments: Vec::new(),
        index_files: BTreeSet::new(),
        touched: BTreeMap::new(),
        synced: extent.known_synced,
        incarnation: 0,
        searched: false,
        last_time_ms: 0,
    };
    recovery.load_checkpoint()?;
    recovery.find_segments(store_id)?;
    let (sealed, damaged) = recovery.open_sealed();
    let end = recovery.replay(sealed)?;
    // Only now is it known where the subjects stood when the segment behind the last sealed one began.
    for at in damaged {
        recovery.rebuild(at)?;
    }
    recovery.settle(end);
    recovery.remove_strangers()?;
    Ok(Recovered {
        catalog: recovery.catalog,
        names: recovery.names,
        segments: recovery.segments,
        touched: recovery.touched,
        end,
        synced: recovery.synced.min(end),
        last_time_ms: recovery.last_time_ms,
        report: recovery.report,
    })
}

impl Recovery<'_> {
    fn load_checkpoint(&mut self) -> Result<(), OpenError> {
        let names = checkpoint::names(self.disk).map_err(OpenError::io("listing the folder"))?;
        for name in names.iter().rev() {
            match checkpoint::read(self.disk, name, &self.names) {
                Ok(Some((summary, subjects))) => {
                    self.adopt(summary, subjects);
                    return Ok(());
                }
                Ok(None) | Err(_) => {
                    self.report
                        .damages
                        .push(Damage::new(DamageKind::Checkpoint, name, 0, 0));
                }
            }
        }
        Ok(())
    }

    fn adopt(&mut self, summary: Summary, subjects: Vec<SubjectState>) {
        self.catalog.reserve(subjects.len());
        for state in subjects {
            let subject = self.catalog.create(&state.name, state.next);
            subject.consumption.lock().groups = state.groups;
        }
        self.synced = self.synced.max(summary.synced_end);
        self.last_time_ms = summary.last_time_ms;
        self.summary = summary;
    }

    /// Lists the segments and checks their names, headers and lengths against each other and the checkpoint.
    fn find_segments(&mut self, store_id: u128) -> Result<(), OpenError> {
        let listed = self
            .disk
            .list()
            .map_err(OpenError::io("listing the folder"))?;
        self.index_files = listed
            .iter()
            .filter_map(|file| index_base(&file.name))
            .collect();
        let mut files: BTreeMap<u64, FileEntry> = listed
            .into_iter()
            .filter_map(|file| Some((log_base(&file.name)?, file)))
            .collect();
        // Segments below the start were retired; a crash may have left their files.
        let start = self.summary.start;
        files.retain(|&base, _| base >= start);
        let sealed: BTreeMap<u64, u64> = self
            .summary
            .sealed
            .iter()
            .map(|sealed| (sealed.base, sealed.end))
            .collect();
        let bases: BTreeSet<u64> = files
            .keys()
            .chain(sealed.keys())
            .copied()
            .filter(|&base| base < self.extent.until || base == 0)
            .collect();
        let mut bases: Vec<u64> = bases.into_iter().collect();
        if !self.report.damages.is_empty() {
            // A checkpoint older than the newest: what is missing at the front was retired after it.
            let retired = bases
                .iter()
                .take_while(|base| !files.contains_key(base))
                .count();
            if retired < bases.len() {
                bases.drain(..retired);
            }
        }
        for (at, &base) in bases.iter().enumerate() {
            let next = bases.get(at + 1).copied();
            let end = sealed.get(&base).copied().or(next);
            let segment = Segment::new(base, self.maps);
            if let Some(end) = end {
                segment.set_end(end);
            }
            let there = files.get(&base).map_or(0, |file| file.len);
            if let Some(end) = sealed.get(&base) {
                let needed = SEGMENT_HEADER_LEN + (end - base);
                if there < needed {
                    let kind = DamageKind::Segment;
                    let lost = Damage::new(kind, log_name(base), base + there, needed - there);
                    self.report.damages.push(lost);
                }
            } else if there >= SEGMENT_HEADER_LEN {
                self.check_header(base, store_id)?;
            } else if next.is_none() {
                // Created and never synced, and so as if it had not been; or lost, which the replay tells.
                break;
            }
            self.segments.push(Arc::new(segment));
        }
        Ok(())
    }

    fn check_header(&mut self, base: u64, store_id: u128) -> Result<(), OpenError> {
        let name = log_name(base);
        let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
        let read = self
            .disk
            .open(&name, Access::Read)
            .and_then(|file| file.read_at(&mut bytes, 0));
        read.map_err(OpenError::io(format!("reading {name}")))?;
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.base == base && header.store_id == store_id => {}
            Err(HeaderProblem::Newer(found)) => {
                return Err(OpenError::NewerVersion {
                    file: name,
                    found,
                    known: SEGMENT_VERSION,
                });
            }
            // Records carry their own offset, so a bad header costs nothing but this report.
            _ if base < self.synced => {
                self.report.damages.push(Damage::new(
                    DamageKind::SegmentHeader,
                    name,
                    0,
                    SEGMENT_HEADER_LEN,
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// Opens the indexes that the checkpoint counts on. Returns how many segments these are, and which indexes are to be rebuilt.
    fn open_sealed(&self) -> (usize, Vec<usize>) {
        let listed: BTreeMap<u64, _> = self
            .summary
            .sealed
            .iter()
            .map(|sealed| (sealed.base, sealed))
            .collect();
        let mut damaged = Vec::new();
        let mut count = 0;
        for segment in &self.segments {
            let Some((end, sealed)) = segment.end().zip(listed.get(&segment.base)) else {
                break;
            };
            segment.set_times(sealed.first_time_ms, sealed.last_time_ms);
            if self.index_files.contains(&segment.base) {
                let file = segment.index_file().clone();
                segment.set_sealed(Some(Arc::new(SealedIndex::expected(
                    file,
                    segment.base,
                    end,
                ))));
            } else {
                damaged.push(count);
            }
            count += 1;
        }
        (count, damaged)
    }

    fn rebuild(&mut self, at: usize) -> Result<(), OpenError> {
        let segment = &self.segments[at];
        let name = segment.index_file().name().to_owned();
        self.report
            .damages
            .push(Damage::new(DamageKind::Index, &name, 0, 0));
        if !self.extent.writable {
            return Err(OpenError::Io {
                doing: format!("{name} is damaged and a reader cannot rebuild it"),
                source: Arc::new(io::Error::from(io::ErrorKind::InvalidData)),
            });
        }
        let (before, after) = neighbours(&self.segments, at, &self.catalog);
        let bytes = rebuild_index(self.disk, &self.catalog, segment, &before, &after)
            .map_err(OpenError::io(format!("rebuilding {name}")))?;
        write_index(self.disk, segment.base, &bytes)
            .map_err(OpenError::io(format!("writing {name}")))?;
        segment.index_file().forget();
        let end = segment.end().unwrap_or(segment.base);
        let index =
            SealedIndex::open(segment.index_file().clone(), segment.base, end).map_err(|_| {
                OpenError::Io {
                    doing: format!("reading {name} back"),
                    source: Arc::new(io::Error::from(io::ErrorKind::InvalidData)),
                }
            })?;
        if let Ok((first, last)) = index.times() {
            segment.set_times(first, last);
        }
        segment.set_sealed(Some(Arc::new(index)));
        self.report.rebuilt_indexes += 1;
        Ok(())
    }

    /// Replays the segments from `first` on, which are not sealed, and returns the end of the log.
    fn replay(&mut self, first: usize) -> Result<u64, OpenError> {
        let mut end = self.segments[..first]
            .last()
            .and_then(|segment| segment.end())
            .unwrap_or(self.summary.start);
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
            let name = log_name(self.segments.last().map_or(end, |segment| segment.base));
            let lost = Damage::new(DamageKind::LostTail, name, end, synced - end);
            self.report.damages.push(lost);
        }
        Ok(end)
    }

    /// Whether what is bad at `offset` may be the torn tail, because nothing says that it was ever synced.
    fn is_tail(&mut self, at: usize, offset: u64) -> bool {
        if offset >= self.synced {
            self.search_higher_synced(at, offset);
        }
        offset >= self.synced
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
                    self.synced = self.synced.max(record.header.synced_end);
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
                    let kind = if header.kind == Kind::Message {
                        DamageKind::MessageBody
                    } else {
                        DamageKind::ActionBody
                    };
                    let damage = Damage::new(kind, &name, header.offset, header.record_len());
                    (
                        header.offset,
                        if header.kind == Kind::Message {
                            damage.of_message(subject, header.sequence)
                        } else {
                            damage
                        },
                    )
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
                self.synced = self.synced.max(header.synced_end);
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

    /// Looks, once, whether any later record says that the log was synced beyond `offset`.
    fn search_higher_synced(&mut self, at: usize, offset: u64) {
        if self.searched {
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
    fn note_cut(&mut self, at: usize, offset: u64, bytes: &[u8]) {
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
    fn cut(&mut self, at: usize, end: u64) -> Result<(), OpenError> {
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
            let gone = self.disk.remove(name);
            if let Err(error) = gone.or_else(ignore_missing) {
                return Err(OpenError::io(format!("removing {name}"))(error));
            }
        }
        if self.extent.writable {
            self.disk
                .sync_names()
                .map_err(OpenError::io("syncing the folder"))?;
        }
        if let Some(last) = self.segments.last() {
            // Open-ended again: records follow here.
            if last.sealed().is_none() {
                last.set_end(u64::MAX);
            }
        }
        Ok(())
    }

    /// Removes the files of segments that are not part of the log: retired ones whose names a crash brought back, and those that were created
    /// and never synced.
    fn remove_strangers(&self) -> Result<(), OpenError> {
        if !self.extent.writable {
            return Ok(());
        }
        let bases: BTreeSet<u64> = self.segments.iter().map(|segment| segment.base).collect();
        let listed = self
            .disk
            .list()
            .map_err(OpenError::io("listing the folder"))?;
        let strangers = listed.into_iter().filter(|file| {
            log_base(&file.name)
                .or_else(|| index_base(&file.name))
                .is_some_and(|base| !bases.contains(&base))
        });
        let mut removed = false;
        for file in strangers {
            self.disk
                .remove(&file.name)
                .map_err(OpenError::io(format!("removing {}", file.name)))?;
            removed = true;
        }
        if removed {
            self.disk
                .sync_names()
                .map_err(OpenError::io("syncing the folder"))?;
        }
        Ok(())
    }

    /// After the replay: holes where damage took messages, and nothing refers beyond the end.
    fn settle(&mut self, end: u64) {
        let lost = self.report.damages.iter().any(|damage| {
            matches!(
                damage.kind,
                DamageKind::Records
                    | DamageKind::Segment
                    | DamageKind::Unreadable
                    | DamageKind::LostTail
                    | DamageKind::Batch
            )
        });
        let last_base = self.segments.last().map_or(0, |segment| segment.base);
        let begins = self
            .segments
            .first()
            .is_none_or(|segment| segment.base == 0);
        for subject in self.catalog.all() {
            let mut index = subject.index.lock();
            if lost {
                let boundary = sealed_boundary(&self.segments, subject.id, begins);
                if let Some(boundary) = boundary {
                    index.prepend_holes(boundary);
                }
                let reached = index.runs().next_back().map(|run| run.end());
                let reached = reached.or(boundary).unwrap_or(0);
                if reached < index.next && end > last_base {
                    let next_was = index.next;
                    index.restore_lost(last_base, reached);
                    debug_assert_eq!(next_was, index.next);
                    self.touched.entry(last_base).or_default().push(subject.id);
                }
            }
            let next = index.next;
            drop(index);
            for group in &mut subject.consumption.lock().groups {
                group.clamp(next, end);
            }
        }
        for touched in self.touched.values_mut() {
            touched.sort_unstable();
            touched.dedup();
        }
    }
}

/// Where a subject stood at the end of the last sealed segment. Without one, all began at 0 if the log still `begins` where it was created.
fn sealed_boundary(segments: &[Arc<Segment>], subject: u32, begins: bool) -> Option<u64> {
    let Some(sealed) = segments.iter().rev().find_map(|segment| segment.sealed()) else {
        return begins.then_some(0);
    };
    let region = sealed.region().ok()?;
    let share = sealed.share(&region, subject).ok()?;
    // A subject that came later began at 0.
    Some(share.map_or(0, |share| share.end()))
}

type Bound<'a, T> = Box<dyn Fn(u32) -> T + 'a>;

/// Where each subject stood before and after the segment `at`, from its neighbours.
pub(crate) fn neighbours<'a>(
    segments: &'a [Arc<Segment>],
    at: usize,
    catalog: &'a Catalog,
) -> (Bound<'a, Option<u64>>, Bound<'a, u64>) {
    let share = |segment: &Arc<Segment>, id: u32| {
        let index = segment.sealed()?;
        let region = index.region().ok()?;
        index.share(&region, id).ok()?
    };
    let before = move |id| {
        let previous = at.checked_sub(1).map(|previous| &segments[previous])?;
        previous.sealed()?;
        Some(share(previous, id).map_or(0, |share| share.end()))
    };
    let after = move |id| match segments.get(at + 1).filter(|next| next.sealed().is_some()) {
        Some(next) => share(next, id).map_or(0, |share| share.first),
        None => catalog.by_id(id).map_or(0, |subject| {
            let index = subject.index.lock();
            segments
                .get(at + 1)
                .map_or(index.next, |next| index.reached_before(next.base))
        }),
    };
    (Box::new(before), Box::new(after))
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

fn read_segment_or_nothing(
    disk: &dyn Disk,
    segment: &Segment,
    until: u64,
) -> Result<SegmentBytes, OpenError> {
    match read_segment(disk, segment, until) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), Vec::new())),
        outcome => outcome.map_err(OpenError::io(format!("reading {}", segment.data().name()))),
    }
}

/// Zeroes what follows `end` in the active segment, and syncs all segments that were replayed: what was recovered from the page cache may not be
/// on the disk yet, and what was cut must not come back.
///
/// What nothing says to be synced is written again first. A sync that failed in the process before this one has left it in the page
/// cache, marked clean: a sync alone would report success and write nothing.
pub(crate) fn make_durable(
    disk: &dyn Disk,
    segments: &[Arc<Segment>],
    synced: u64,
    end: u64,
) -> io::Result<()> {
    for segment in segments.iter().filter(|segment| segment.sealed().is_none()) {
        let file = match disk.open(segment.data().name(), Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let until = segment.position(segment.end().unwrap_or(end));
        if synced > segment.base {
            write_again(&*file, segment.position(synced), until)?;
        } else {
            write_length_again(&*file)?;
            write_again(&*file, 0, until)?;
        }
        if segment.end().is_none() {
            zero_after(&*file, segment.position(end))?;
        }
        file.sync()?;
    }
    disk.sync_names()
}

/// Sets another length and the old one again, where there is room for that.
fn write_length_again(file: &dyn crate::disk::DiskFile) -> io::Result<()> {
    let len = file.len()?;
    match file.set_len(len + 1) {
        Err(error) if is_full(&error) => Ok(()),
        outcome => outcome.and_then(|()| file.set_len(len)),
    }
}

fn write_again(file: &dyn crate::disk::DiskFile, from: u64, until: u64) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let until = until.min(file.len()?);
    let mut piece = Vec::new();
    let mut at = from;
    while at < until {
        let take = PIECE.min(until - at);
        piece.resize(take as usize, 0);
        file.read_at(&mut piece, at)?;
        file.write_at(&piece, at)?;
        at += take;
    }
    Ok(())
}

fn zero_after(file: &dyn crate::disk::DiskFile, from: u64) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let len = file.data_end()?;
    let mut at = from;
    let mut piece = Vec::new();
    while at < len {
        let take = PIECE.min(len - at);
        piece.resize(take as usize, 0);
        file.read_at(&mut piece, at)?;
        if let Some(dirty) = first_nonzero(&piece) {
            piece.fill(0);
            file.write_at(&piece[dirty..], at + dirty as u64)?;
        }
        at += take;
    }
    Ok(())
}
