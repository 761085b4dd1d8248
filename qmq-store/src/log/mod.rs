//! The log: one append-only sequence of records for all subjects, in segments.

mod ahead;
mod bell;
pub(crate) mod commit;
mod dirty;
pub(crate) mod epochs;
mod gather;
mod list;
pub(crate) mod part;
pub(crate) mod published;
mod raw;
pub(crate) mod record;
mod reserve;
pub(crate) mod role;
pub(crate) mod scan;
pub(crate) mod segment;
mod spare;
mod turns;
pub(crate) mod writer;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

pub(crate) use list::SealJob;
use parking_lot::{Mutex, RwLock};
pub(crate) use reserve::RESERVE_FILES;
pub(crate) use spare::SPARE_FILE;

use crate::clock::Clock;
use crate::disk::{Access, Disk, Maps};
use crate::options::Options;
use bell::Bell;
use commit::Commit;
use dirty::Dirty;
use role::Role;
use segment::{ActiveFile, SEGMENT_HEADER_LEN, Segment, log_name};
use spare::Spare;
use writer::Writer;

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) maps: Arc<Maps>,
    pub(crate) store_id: u128,
    pub(crate) commit: Commit,
    pub(crate) ahead: ahead::Ahead,
    clock: Arc<dyn Clock>,
    segment_bytes: u64,
    incarnation: AtomicU32,
    writer: Mutex<Writer>,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    dirty: Mutex<Dirty>,
    sealing: Mutex<VecDeque<SealJob>>,
    unsealed: AtomicUsize,
    spare: Mutex<Spare>,
    /// Syncs of the log by now.
    syncs: AtomicU64,
    reserve: Mutex<Vec<&'static str>>,
    pub(crate) housekeeping: Bell,
    role: AtomicU8,
    /// Held while replicated bytes are written and their actions applied.
    pub(crate) taking: Mutex<()>,
}

/// What recovery found, and the log starts from.
pub(crate) struct LogStart {
    pub(crate) store_id: u128,
    pub(crate) incarnation: u32,
    pub(crate) role: Role,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) end: u64,
    pub(crate) last_time_ms: u64,
    pub(crate) last_incarnation: u32,
    pub(crate) touched: Vec<u32>,
    pub(crate) subjects: u32,
    pub(crate) sealing: Vec<SealJob>,
}

impl Log {
    /// Opens the log for writing where recovery left it. The last of `start.segments` is the active one, if it has no end; else a new
    /// one is created.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        maps: Arc<Maps>,
        options: &Options,
        start: LogStart,
    ) -> io::Result<Self> {
        let publisher = published::Publisher::open(&*disk, start.store_id)?;
        let mut segments = start.segments;
        let mut dirty = Dirty {
            names: true,
            files: Vec::new(),
        };
        let last_active = segments
            .last()
            .filter(|segment| segment.end().is_none())
            .cloned();
        let len = SEGMENT_HEADER_LEN + options.segment_bytes;
        let (segment, file) = match last_active {
            Some(segment) => {
                let mut file = disk.open(segment.data().name(), Access::Write)?;
                if start.end == segment.base && file.len()? < len {
                    // Cut short and empty: the next segment would need the same name.
                    disk.remove(segment.data().name())?;
                    file = disk.create(segment.data().name(), len)?;
                }
                // A crash may have kept the file and lost its header.
                let header = segment::SegmentHeader {
                    base: segment.base,
                    store_id: start.store_id,
                };
                let mut found = [0; SEGMENT_HEADER_LEN as usize];
                if file.read_at(&mut found, 0).is_err() || found != header.encode() {
                    file.write_at(&header.encode(), 0)?;
                }
                (segment, file)
            }
            None => {
                let segment = Arc::new(Segment::new(start.end, &maps));
                let file = disk.create(&log_name(start.end), len)?;
                let header = segment::SegmentHeader {
                    base: start.end,
                    store_id: start.store_id,
                };
                file.write_at(&header.encode(), 0)?;
                segments.push(Arc::clone(&segment));
                (segment, file)
            }
        };
        segment.publish(start.end);
        file.sync()?;
        disk.sync_names()?;
        dirty.names = false;
        let region = file.map()?;
        // The writer only stores.
        region.read_ahead_until(0);
        dirty.files.push((Arc::clone(&segment), Arc::clone(&file)));
        let limit = segment.base + (region.len() as u64 - SEGMENT_HEADER_LEN);
        let writer = Writer {
            segment,
            active: ActiveFile { file, region },
            end: start.end,
            limit,
            last_time_ms: start.last_time_ms,
            last_incarnation: start.last_incarnation,
            on_reserve: false,
            closed: false,
            touched: start.touched,
            subjects: start.subjects,
            gather: gather::Gather::default(),
            prepare_at: 0,
            step_started_ms: 0,
            publisher,
        };
        let log = Self {
            disk,
            maps,
            store_id: start.store_id,
            commit: Commit::default(),
            ahead: ahead::Ahead::default(),
            clock: Arc::clone(&options.clock),
            segment_bytes: options.segment_bytes,
            incarnation: AtomicU32::new(start.incarnation),
            writer: Mutex::new(writer),
            segments: RwLock::new(Arc::new(segments)),
            dirty: Mutex::new(dirty),
            unsealed: AtomicUsize::new(start.sealing.len()),
            sealing: Mutex::new(start.sealing.into()),
            spare: Mutex::new(Spare::none(start.end)),
            syncs: AtomicU64::new(0),
            reserve: Mutex::new(Vec::new()),
            housekeeping: Bell::default(),
            role: AtomicU8::new(start.role as u8),
            taking: Mutex::new(()),
        };
        log.commit.start_at(start.end);
        {
            let mut writer = log.writer.lock();
            let (end, incarnation) = (writer.end, start.incarnation);
            writer.publisher.publish(end, end, incarnation);
        }
        Ok(log)
    }

    #[inline]
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// Only while no append can be under way: before a master takes its first.
    pub(crate) fn set_incarnation(&self, incarnation: u32) {
        self.incarnation.store(incarnation, Ordering::Relaxed);
    }

    /// The end that is written, and record time and incarnation of the last record before it.
    pub(crate) fn last(&self) -> (u64, u64, u32) {
        let writer = self.writer.lock();
        (writer.end, writer.last_time_ms, writer.last_incarnation)
    }

    /// As [`Log::last`]. Everything before it is applied, or will be
    /// by somebody who holds the lock of the subject that it is about.
    pub(crate) fn settled(&self) -> (u64, u64, u32) {
        let _taken = self.taking.lock();
        self.last()
    }

    /// The end that is written, after whoever is appending has finished.
    pub(crate) fn settled_end(&self) -> u64 {
        self.writer.lock().end
    }

    /// Publishes what is synced by now. A master does so with each record; a replica's records say nothing of its own syncs.
    pub(crate) fn publish_synced(&self) {
        let mut writer = self.writer.lock();
        let (end, synced) = (writer.end, self.commit.synced());
        writer.publisher.publish(end, synced, self.incarnation());
    }

    /// Takes no more appends, from whoever is waiting for the append lock either. Returns the end of the log.
    pub(crate) fn close_for_appends(&self) -> u64 {
        let mut writer = self.writer.lock();
        writer.closed = true;
        writer.end
    }

    /// Bytes in the active segment.
    pub(crate) fn active_bytes(&self) -> u64 {
        let writer = self.writer.lock();
        writer.end - writer.segment.base
    }

    /// Ends the active segment where it is, at a close: the next open starts a new one. The log takes nothing afterwards.
    pub(crate) fn finish_active(&self) {
        let mut writer = self.writer.lock();
        let end = writer.end;
        writer.segment.set_end(end);
        writer.limit = end;
        let touched = std::mem::take(&mut writer.touched);
        self.finished(SealJob {
            segment: Arc::clone(&writer.segment),
            file: Arc::clone(&writer.active.file),
            touched,
            subjects: writer.subjects,
        });
    }
}
