//! The log: one append-only sequence of records for all subjects, in segments.

mod ahead;
pub(crate) mod commit;
pub(crate) mod published;
pub(crate) mod record;
pub(crate) mod scan;
pub(crate) mod segment;
mod turns;
pub(crate) mod writer;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::clock::Clock;
use crate::disk::{Access, Disk, DiskFile, Maps};
use crate::error::{Error, is_full};
use crate::options::Options;
use commit::Commit;
use segment::{ActiveFile, SEGMENT_HEADER_LEN, Segment, log_name};
use writer::Writer;

/// Files of the reserve, which serves only actions, checkpoints and retention.
pub(crate) const RESERVE_FILES: [&str; 2] = ["reserve-0", "reserve-1"];
/// The next segment, prepared ahead.
pub(crate) const SPARE_FILE: &str = "spare";

/// Segments with bytes that are not synced, and whether names are.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    names: bool,
    files: Vec<(Arc<Segment>, Arc<dyn DiskFile>)>,
}

/// A finished segment whose index is still in memory.
#[derive(Debug)]
pub(crate) struct SealJob {
    pub(crate) segment: Arc<Segment>,
    /// Open for writing, to cut it to its length.
    pub(crate) file: Arc<dyn DiskFile>,
    /// Numbers of the subjects that have messages in it.
    pub(crate) touched: Vec<u32>,
    /// Subjects known when it was finished.
    pub(crate) subjects: u32,
}

/// The next segment's file.
#[derive(Debug, Default)]
struct Spare {
    ready: bool,
    /// Its blocks are written, not only allocated.
    written: bool,
    /// The log's end and its syncs when the last spare was taken.
    taken_end: u64,
    taken_syncs: u64,
}

/// So many syncs since the last spare was taken, with fewer bytes to each than the second number, make it worth writing zeros into the next. With
/// more bytes to a sync the zeros cost the disk more than they save.
const MANY_SYNCS: u64 = 100;
const FEW_BYTES_A_SYNC: u64 = 16 << 10;

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
    /// Rung when there is a segment to seal or a spare to prepare.
    housekeeping: (Mutex<bool>, Condvar),
}

/// What recovery found, and the log starts from.
pub(crate) struct LogStart {
    pub(crate) store_id: u128,
    pub(crate) incarnation: u32,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) end: u64,
    pub(crate) last_time_ms: u64,
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
        dirty.files.push((Arc::clone(&segment), Arc::clone(&file)));
        let limit = segment.base + (region.len() as u64 - SEGMENT_HEADER_LEN);
        let writer = Writer {
            segment,
            active: ActiveFile { file, region },
            end: start.end,
            limit,
            last_time_ms: start.last_time_ms,
            on_reserve: false,
            closed: false,
            touched: start.touched,
            subjects: start.subjects,
            scratch: Vec::new(),
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
            spare: Mutex::new(Spare {
                taken_end: start.end,
                ..Spare::default()
            }),
            syncs: AtomicU64::new(0),
            reserve: Mutex::new(Vec::new()),
            housekeeping: (Mutex::new(false), Condvar::new()),
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

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.segments.read())
    }

    /// Where the log begins: everything before has been retired.
    pub(crate) fn start_offset(&self) -> u64 {
        self.segments
            .read()
            .first()
            .map_or(0, |segment| segment.base)
    }

    /// Takes the oldest segments below `floor` out of the log and returns them.
    pub(crate) fn retire_below(&self, floor: u64) -> Vec<Arc<Segment>> {
        let mut segments = self.segments.write();
        let keep = segments
            .iter()
            .position(|segment| segment.end().is_none_or(|end| end > floor));
        let mut list = Vec::clone(&segments);
        let retired = list.drain(..keep.unwrap_or(0)).collect();
        *segments = Arc::new(list);
        retired
    }

    /// Segments that could not be retired after all.
    pub(crate) fn take_back(&self, mut retired: Vec<Arc<Segment>>) {
        let mut segments = self.segments.write();
        retired.extend(segments.iter().cloned());
        *segments = Arc::new(retired);
    }

    /// Finished segments whose index is still in memory.
    #[inline]
    pub(crate) fn unsealed(&self) -> usize {
        self.unsealed.load(Ordering::Relaxed)
    }

    /// The oldest finished segment that waits for its index file.
    pub(crate) fn next_to_seal(&self) -> Option<SealJob> {
        self.sealing.lock().pop_front()
    }

    pub(crate) fn seal_failed(&self, job: SealJob) {
        self.sealing.lock().push_front(job);
    }

    pub(crate) fn sealed_one(&self) {
        self.unsealed.fetch_sub(1, Ordering::Relaxed);
    }

    fn finished(&self, job: SealJob) {
        self.unsealed.fetch_add(1, Ordering::Relaxed);
        self.sealing.lock().push_back(job);
    }

    pub(crate) fn last_time_ms(&self) -> u64 {
        self.writer.lock().last_time_ms
    }

    /// The end that is written, after whoever is appending has finished.
    pub(crate) fn settled_end(&self) -> u64 {
        self.writer.lock().end
    }

    // ---- syncing

    /// Syncs everything written by now and returns the offset covered.
    fn sync_once(&self) -> io::Result<u64> {
        let covered = self.commit.written();
        let (names, files) = {
            let mut dirty = self.dirty.lock();
            (std::mem::take(&mut dirty.names), dirty.below(covered))
        };
        for file in &files {
            file.sync()?;
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if names {
            self.disk.sync_names()?;
        }
        let active = self
            .segments
            .read()
            .last()
            .map_or(0, |segment| segment.base);
        // A finished segment that is synced to its end leaves the list, and with it goes its descriptor.
        self.dirty.lock().files.retain(|(segment, _)| {
            segment.base >= active || segment.end().is_none_or(|end| end > covered)
        });
        Ok(covered)
    }

    /// Makes all names durable. A failure poisons the log: it may have taken the name of a segment with it, and no later sync would tell.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names().inspect_err(|error| {
            self.commit
                .poison(io::Error::new(error.kind(), error.to_string()));
        })
    }

    /// Returns once the log is synced up to `end`.
    pub(crate) fn sync_to(&self, end: u64) -> Result<(), Error> {
        self.commit.sync_to(end, &|| self.sync_once())
    }

    // ---- space

    /// A segment's file under the name `name`: the spare if it is ready, else a new one.
    fn new_segment_file(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.take_spare() {
            let file = self.disk.open(SPARE_FILE, Access::Write)?;
            self.disk.rename(SPARE_FILE, name)?;
            return Ok(file);
        }
        self.disk
            .create(name, SEGMENT_HEADER_LEN + self.segment_bytes)
    }

    fn take_spare(&self) -> bool {
        let mut spare = self.spare.lock();
        let ready = spare.ready;
        *spare = Spare {
            taken_end: self.commit.written(),
            taken_syncs: self.syncs.load(Ordering::Relaxed),
            ..Spare::default()
        };
        ready
    }

    /// Prepares the next segment's file, so that the writer does not wait for it. Only housekeeping calls this, one thread at a time.
    pub(crate) fn prepare_spare(&self) -> io::Result<()> {
        let (was_ready, write_zeros) = {
            let mut spare = self.spare.lock();
            let syncs = self.syncs.load(Ordering::Relaxed) - spare.taken_syncs;
            let bytes = self.commit.written().saturating_sub(spare.taken_end);
            let synced_often = syncs >= MANY_SYNCS && bytes < syncs * FEW_BYTES_A_SYNC;
            if spare.ready && (spare.written || !synced_often) {
                return Ok(());
            }
            // Not to be taken meanwhile: a writer that needs a segment now creates one.
            (std::mem::take(&mut spare.ready), synced_often)
        };
        if !was_ready {
            let len = SEGMENT_HEADER_LEN + self.segment_bytes;
            match self.disk.create(SPARE_FILE, len) {
                Ok(_) => {}
                Err(error) if is_full(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if write_zeros {
            let _ = self.disk.write_zeros(SPARE_FILE);
        }
        let mut spare = self.spare.lock();
        spare.ready = true;
        spare.written = write_zeros;
        Ok(())
    }

    /// The store closes: a spare is only ahead of its time.
    pub(crate) fn remove_spare(&self) -> io::Result<()> {
        if self.take_spare() {
            self.disk.remove(SPARE_FILE)?;
        }
        Ok(())
    }

    /// Takes over the reserve that a clean close left.
    pub(crate) fn adopt_reserve(&self, clean: bool) -> io::Result<()> {
        if clean {
            let mut reserve = self.reserve.lock();
            let files = self.disk.list()?;
            reserve.extend(
                RESERVE_FILES
                    .into_iter()
                    .filter(|name| files.iter().any(|file| file.name == **name)),
            );
        }
        Ok(())
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
    pub(crate) fn finish_active(&self) -> Result<(), Error> {
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
        Ok(())
    }

    /// Creates what is missing of the reserve. `false`: there is no room for it now.
    pub(crate) fn fill_reserve(&self) -> io::Result<bool> {
        let mut reserve = self.reserve.lock();
        for name in RESERVE_FILES {
            if reserve.contains(&name) {
                continue;
            }
            match self
                .disk
                .create(name, SEGMENT_HEADER_LEN + self.segment_bytes)
            {
                Ok(_) => reserve.push(name),
                Err(error) if is_full(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        drop(reserve);
        self.writer.lock().on_reserve = false;
        Ok(true)
    }

    /// Turns a file of the reserve into the segment `name`.
    fn take_reserve(&self, name: &str) -> Result<Option<Arc<dyn DiskFile>>, Error> {
        let Some(reserved) = self.reserve.lock().pop() else {
            return Ok(None);
        };
        let taken = self
            .disk
            .open(reserved, Access::Write)
            .and_then(|file| self.disk.rename(reserved, name).map(|()| file));
        taken.map(Some).map_err(|error| self.commit.poison(error))
    }

    /// Gives one file of the reserve back to the disk, for a checkpoint or an index. `false`: nothing left.
    pub(crate) fn release_reserve(&self) -> io::Result<bool> {
        let Some(reserved) = self.reserve.lock().pop() else {
            return Ok(false);
        };
        self.disk.remove(reserved)?;
        Ok(true)
    }

    /// Runs `write`; when the disk is full, gives it the reserve's room, one file after the other.
    pub(crate) fn with_reserve<T>(
        &self,
        mut write: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if is_full(&error) => {
                    if !self.release_reserve()? {
                        return Err(error);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    // ---- housekeeping's bell

    pub(crate) fn ask_housekeeping(&self) {
        *self.housekeeping.0.lock() = true;
        self.housekeeping.1.notify_one();
    }

    /// Sleeps until asked, or until `interval` is over.
    pub(crate) fn housekeeping_wait(&self, interval: std::time::Duration) {
        let mut asked = self.housekeeping.0.lock();
        if !*asked {
            self.housekeeping.1.wait_for(&mut asked, interval);
        }
        *asked = false;
    }
}
