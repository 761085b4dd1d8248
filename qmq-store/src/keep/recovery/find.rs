//! What the folder holds: the newest good checkpoint, the segments, the indexes of the sealed ones, and files that belong to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::Recovery;
use crate::disk::{Access, FileEntry};
use crate::error::OpenError;
use crate::index::sealed::SealedIndex;
use crate::keep::checkpoint::{self, SubjectState, Summary};
use crate::keep::damage::{Damage, DamageKind};
use crate::keep::files::{discard, is_foreign, set_aside};
use crate::keep::rebuild::rebuild;
use crate::log::segment::{
    HeaderProblem, SEGMENT_HEADER_LEN, SEGMENT_VERSION, Segment, SegmentHeader, index_base,
    log_base, log_name,
};

impl Recovery<'_> {
    pub(super) fn load_checkpoint(&mut self) -> Result<(), OpenError> {
        let names = checkpoint::names(self.disk).map_err(OpenError::io("listing the folder"))?;
        for name in names.iter().rev() {
            let found = checkpoint::read(self.disk, name, self.store_id, &self.names)
                .map_err(OpenError::unreadable(name))?;
            let kind = match found {
                checkpoint::Found::Good(summary, subjects) => {
                    self.adopt(summary, subjects);
                    return Ok(());
                }
                checkpoint::Found::Damaged => DamageKind::Checkpoint,
                checkpoint::Found::Foreign => DamageKind::Foreign,
            };
            self.report.damages.push(Damage::new(kind, name, 0, 0));
        }
        Ok(())
    }

    fn adopt(&mut self, summary: Summary, subjects: Vec<SubjectState>) {
        self.catalog.reserve(subjects.len());
        for state in subjects {
            let subject = self.catalog.create(&state.name, state.next);
            let mut consumption = subject.consumption.lock();
            consumption.pull_floor = state.pull_floor;
            consumption.groups = state.groups;
        }
        if self.extent.until == self.extent.known_synced && self.extent.until < summary.synced_end {
            // The clean end is an older one that was put back.
            self.extent.until = u64::MAX;
        }
        self.synced = self.synced.max(summary.synced_end);
        self.last_time_ms = summary.last_time_ms;
        self.catalog.epochs.adopt(summary.epochs.clone());
        self.catalog.state_end = summary.state_end.into();
        self.summary = summary;
    }

    /// Lists the segments and checks their names, headers and lengths against each other and the checkpoint.
    pub(super) fn find_segments(&mut self) -> Result<(), OpenError> {
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
        for base in files.keys().copied().collect::<Vec<_>>() {
            if !sealed.contains_key(&base) && self.disown(base, files[&base].len)? {
                files.remove(&base);
            }
        }
        let bases: BTreeSet<u64> = files
            .keys()
            .chain(sealed.keys())
            .copied()
            .filter(|&base| base < self.extent.until || base == 0)
            .collect();
        let mut bases: Vec<u64> = bases.into_iter().collect();
        self.older = !self.report.damages.is_empty() || self.extent.cut;
        if self.older {
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
                self.check_header(base)?;
            } else if next.is_none() {
                // Created and never synced, and so as if it had not been; or lost, which the replay tells.
                break;
            }
            self.segments.push(Arc::new(segment));
        }
        Ok(())
    }

    /// Reports a segment of another store, and gives its name free for one of ours.
    fn disown(&mut self, base: u64, len: u64) -> Result<bool, OpenError> {
        let name = log_name(base);
        let reading = || OpenError::io(format!("reading {name}"));
        if !is_foreign(self.disk, &name, self.store_id).map_err(reading())? {
            return Ok(false);
        }
        if self.extent.writable {
            set_aside(self.disk, &name)
                .and_then(|()| self.disk.sync_names())
                .map_err(OpenError::io(format!("setting {name} aside")))?;
        }
        let records = len - SEGMENT_HEADER_LEN;
        let foreign = Damage::new(DamageKind::Foreign, name, base, records);
        self.report.damages.push(foreign);
        Ok(true)
    }

    fn check_header(&mut self, base: u64) -> Result<(), OpenError> {
        let name = log_name(base);
        let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
        let read = self
            .disk
            .open(&name, Access::Read)
            .and_then(|file| file.read_at(&mut bytes, 0));
        read.map_err(OpenError::io(format!("reading {name}")))?;
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.base == base => {}
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
    pub(super) fn open_sealed(&self) -> (usize, Vec<usize>) {
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

    pub(super) fn rebuild(&mut self, at: usize) -> Result<(), OpenError> {
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
        rebuild(self.disk, &self.catalog, &self.segments, at)
            .map_err(OpenError::io(format!("rebuilding {name}")))?;
        self.report.rebuilt_indexes += 1;
        Ok(())
    }

    /// Removes the files of segments that are not part of the log: retired ones whose names a crash brought back, and those that were created
    /// and never synced.
    pub(super) fn remove_strangers(&self) -> Result<(), OpenError> {
        if !self.extent.writable {
            return Ok(());
        }
        let bases: BTreeSet<u64> = self.segments.iter().map(|segment| segment.base).collect();
        let listed = self
            .disk
            .list()
            .map_err(OpenError::io("listing the folder"))?;
        let strangers: Vec<FileEntry> = listed
            .into_iter()
            .filter(|file| {
                log_base(&file.name)
                    .or_else(|| index_base(&file.name))
                    .is_some_and(|base| !bases.contains(&base))
            })
            .collect();
        if strangers.is_empty() {
            return Ok(());
        }
        // The checkpoint that does not count on them may have a name that is not durable yet: it must not go back alone.
        self.sync_names()?;
        for file in strangers {
            discard(self.disk, &file.name, self.store_id)
                .map_err(OpenError::io(format!("removing {}", file.name)))?;
        }
        self.sync_names()
    }

    pub(super) fn sync_names(&self) -> Result<(), OpenError> {
        self.disk
            .sync_names()
            .map_err(OpenError::io("syncing the folder"))
    }
}
