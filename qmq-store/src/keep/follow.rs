//! Reading a store that another process writes.
//!
//! A follower writes nothing, so it works on a read-only mount. It reads up to the end that the writer published last, whose checksum it checks, and keeps its
//! own index of what is not sealed. It learns of new messages when it looks: with [`ReadOnlyStore::wait`] at most
//! [`FOLLOW_INTERVAL`] after the writer has published them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::files::is_foreign;
use super::folder::check_folder;
use super::identity::Identity;
use super::recovery::{Extent, OpenReport, Replay, recover};
use super::stats::{SubjectStats, subject_stats};
use super::verify::{VerifyReport, verify_checkpoints, verify_segments};
use crate::consume::Names;
use crate::disk::{Access, Disk, MappedDisk, Maps};
use crate::error::{Error, OpenError};
use crate::index::catalog::{Catalog, DamagedIndex};
use crate::index::sealed::SealedIndex;
use crate::log::published::{self, PUBLISHED_FILE};
use crate::log::scan::{Found, Scan};
use crate::log::segment::{Segment, log_base};
use crate::options::Options;
use crate::read::{Source, bounds, find_by_id, read, sequence_at};
use crate::records::Records;
use crate::store::Store;

/// How often a waiting follower looks for a new end: its latency behind the writer.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(2);
/// A checkpoint or segment may go while a follower opens; then it starts over, so often at most.
const OPEN_TRIES: usize = 5;

/// A store opened for reading, beside the process that writes it, or after it.
#[derive(Debug)]
pub struct ReadOnlyStore {
    pub(crate) disk: Arc<dyn Disk>,
    maps: Arc<Maps>,
    pub(crate) catalog: Catalog,
    names: Names,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    end: AtomicU64,
    incarnation: u32,
    report: OpenReport,
    /// One refresh at a time.
    refreshing: Mutex<()>,
}

impl Store {
    /// Opens the store in `path` for reading only, whether or not another process has it open.
    ///
    /// # Errors
    /// [`OpenError::NoStore`]; as [`Store::open`] otherwise.
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: &Options,
    ) -> Result<ReadOnlyStore, OpenError> {
        let path = path.as_ref();
        let disk = MappedDisk::open(path, false)
            .map_err(OpenError::io(format!("opening {}", path.display())))?;
        Self::open_read_only_on(Arc::new(disk), options)
    }

    /// As [`Store::open_read_only`], on any [`Disk`].
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the store takes the disk over"
    )]
    pub fn open_read_only_on(
        disk: Arc<dyn Disk>,
        options: &Options,
    ) -> Result<ReadOnlyStore, OpenError> {
        options.check()?;
        let mut tries = 1;
        loop {
            match ReadOnlyStore::open(&disk, options) {
                Err(OpenError::Io { .. }) if tries < OPEN_TRIES => tries += 1,
                outcome => return outcome,
            }
            std::thread::sleep(FOLLOW_INTERVAL);
        }
    }
}

impl ReadOnlyStore {
    fn open(disk: &Arc<dyn Disk>, options: &Options) -> Result<Self, OpenError> {
        check_folder(&**disk)?;
        let identity = Identity::read(&**disk)?.ok_or_else(|| OpenError::NoStore {
            folder: disk.describe(),
        })?;
        let published = published::read(&**disk, identity.store_id)
            .map_err(OpenError::unreadable(PUBLISHED_FILE))?
            .filter(|end| end.incarnation >= identity.incarnation);
        // An identity from before what is published is an older one that was put back, or a writer has opened the store meanwhile.
        let older =
            published.is_some_and(|end| identity.clean_end.is_some_and(|clean| clean < end.synced));
        let clean_end = identity.clean_end.filter(|_| !older);
        let until = clean_end.or(published.map(|end| end.written));
        let extent = Extent {
            known_synced: clean_end.unwrap_or(0),
            until: until.unwrap_or(u64::MAX),
            writable: false,
            own: !identity.replica,
            cut: false,
        };
        let maps = Maps::new(
            Arc::clone(disk),
            identity.store_id,
            options.mapped_files_max,
        );
        let recovered = recover(&**disk, &maps, identity.store_id, extent)?;
        let mut report = recovered.report;
        report.clean = clean_end == Some(recovered.end);
        report.incarnation = identity.incarnation;
        Ok(Self {
            disk: Arc::clone(disk),
            maps,
            catalog: recovered.catalog,
            names: recovered.names,
            segments: RwLock::new(Arc::new(recovered.segments)),
            end: AtomicU64::new(recovered.end),
            incarnation: published.map_or(identity.incarnation, |end| end.incarnation),
            report,
            refreshing: Mutex::new(()),
        })
    }

    /// What the open found.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// Offset up to which this follower has read.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Takes in what the writer has published since. `false`: nothing new.
    ///
    /// # Errors
    /// [`Error::WriterRestarted`] if the writer's log was cut since, [`Error::FellBehind`] if what comes next has been retired: open again.
    /// [`Error::Io`].
    pub fn refresh(&self) -> Result<bool, Error> {
        let _one = self.refreshing.lock();
        let doing = "following the writer";
        let published = published::read(&*self.disk, self.maps.store_id())
            .map_err(Error::io(format!("reading {PUBLISHED_FILE}")))?;
        let Some(published) = published else {
            return Ok(false);
        };
        let end = self.end_offset();
        if published.incarnation != self.incarnation || published.written < end {
            return Err(Error::WriterRestarted {
                current: published.incarnation,
            });
        }
        if published.written == end {
            return Ok(false);
        }
        if !self.list_segments().map_err(Error::io(doing))? {
            return Err(Error::FellBehind { end_offset: end });
        }
        let segments = self.list();
        for segment in segments
            .iter()
            .filter(|segment| segment.end().is_none_or(|end_here| end_here > end))
        {
            let until = segment
                .end()
                .unwrap_or(published.written)
                .min(published.written);
            self.take_in(segment, until).map_err(Error::io(doing))?;
        }
        for segment in segments.iter().filter(|segment| segment.sealed().is_none()) {
            self.adopt_index(segment);
        }
        Ok(self.end_offset() > end)
    }

    /// Notes segments that came, the ends of those that are finished, and those that were retired. `false`: what comes next was retired
    /// before this follower has read it.
    fn list_segments(&self) -> io::Result<bool> {
        let mut bases: Vec<u64> = self
            .disk
            .list()?
            .iter()
            .filter_map(|file| log_base(&file.name))
            .collect();
        bases.sort_unstable();
        let old = self.list();
        if bases
            .first()
            .is_some_and(|&first| first > self.end_offset())
        {
            return Ok(false);
        }
        for gone in old
            .iter()
            .filter(|segment| bases.binary_search(&segment.base).is_err())
        {
            // Retired. While it is mapped its blocks cannot go back to the disk.
            gone.forget();
            for subject in self.catalog.all() {
                subject.index.lock().drop_run(gone.base);
            }
        }
        let mut list = Vec::with_capacity(bases.len());
        for (at, &base) in bases.iter().enumerate() {
            let known = old.binary_search_by_key(&base, |segment| segment.base);
            let segment = match known {
                Ok(known) => Arc::clone(&old[known]),
                // An old file that its retired segment left behind.
                Err(_) if old.first().is_some_and(|first| base < first.base) => continue,
                Err(_) => Arc::new(Segment::new(base, &self.maps)),
            };
            if let Some(&next) = bases.get(at + 1) {
                segment.set_end(next);
            }
            list.push(segment);
        }
        *self.segments.write() = Arc::new(list);
        Ok(true)
    }

    /// Reads the records of a segment from where this follower stands, up to `until`.
    fn take_in(&self, segment: &Arc<Segment>, until: u64) -> io::Result<()> {
        let from = self.end_offset().max(segment.base);
        if until <= from {
            return Ok(());
        }
        let name = segment.data().name();
        if is_foreign(&*self.disk, name, self.maps.store_id())? {
            let foreign = io::Error::other(format!("{name} belongs to another store"));
            return Err(foreign);
        }
        let file = self.disk.open(name, Access::Read)?;
        if file.len()? < segment.position(until) {
            // Before memory is taken for it.
            let short = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(short, format!("{name} is too short")));
        }
        let mut bytes = vec![0; (until - from) as usize];
        file.read_at(&mut bytes, segment.position(from))?;
        let mut replay = Replay::new(&self.catalog, &self.names, 0);
        let mut touched = Vec::new();
        let mut scan = Scan::new(&bytes, from);
        while let Some(found) = scan.next() {
            match found {
                Found::Record { record, .. } => {
                    // What cannot be applied is damage, and is met again by whoever reads it.
                    let _ = replay.apply(segment, &record, &mut touched);
                }
                Found::BadBody { header, subject } => {
                    let _ = replay.message(segment, &header, subject, &mut touched);
                }
                Found::Garbage { .. } | Found::Zeros { .. } => {}
            }
        }
        self.end.store(until, Ordering::Release);
        Ok(())
    }

    /// Once the writer has sealed a segment, its file takes the place of what is in memory.
    fn adopt_index(&self, segment: &Arc<Segment>) {
        let Some(end) = segment.end().filter(|&end| end <= self.end_offset()) else {
            return;
        };
        let earlier_sealed = self
            .list()
            .iter()
            .take_while(|other| other.base < segment.base)
            .all(|other| other.sealed().is_some());
        if segment.sealed().is_some() || !earlier_sealed {
            return;
        }
        if let Ok(index) = SealedIndex::open(segment.index_file().clone(), segment.base, end) {
            segment.set_sealed(Some(Arc::new(index)));
            for subject in self.catalog.all() {
                subject.index.lock().drop_run(segment.base);
            }
        }
    }

    /// Waits up to `timeout` until the writer has published something new, and takes it in. `false`: nothing came.
    ///
    /// # Errors
    /// As [`ReadOnlyStore::refresh`].
    pub fn wait(&self, timeout: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.refresh()? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(FOLLOW_INTERVAL.min(left));
        }
    }

    /// Names of all subjects, in the order of their first message.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        self.catalog.names()
    }

    /// As [`Store::read`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read(&self, subject: &str, from: u64, max: usize) -> Result<Records, Error> {
        read(self, &self.catalog.known(subject)?, from, max)
    }

    /// As [`Store::sequence_at_time`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn sequence_at_time(&self, subject: &str, time_ms: u64) -> Result<u64, Error> {
        sequence_at(self, &self.catalog.known(subject)?, time_ms)
    }

    /// As [`Store::find_by_id`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn find_by_id(
        &self,
        subject: &str,
        id: &str,
        among_last: u64,
    ) -> Result<Option<u64>, Error> {
        find_by_id(self, &self.catalog.known(subject)?, id, among_last)
    }

    /// As [`Store::subject_stats`], as far as this follower has read.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn subject_stats(&self, subject: &str) -> Result<SubjectStats, Error> {
        subject_stats(self, &*self.catalog.known(subject)?)
    }

    /// First and next sequence of a subject.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn bounds(&self, subject: &str) -> Result<(u64, u64), Error> {
        bounds(self, &*self.catalog.known(subject)?)
    }

    /// As [`Store::verify`], up to where this follower has read.
    ///
    /// # Errors
    /// As [`Store::verify`].
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, Error> {
        let doing = "verifying the log";
        let mut report = verify_segments(
            &*self.disk,
            &self.catalog,
            &self.list(),
            self.end_offset(),
            progress,
        )
        .map_err(Error::io(doing))?;
        verify_checkpoints(&*self.disk, self.maps.store_id(), &mut report)
            .map_err(Error::io(doing))?;
        Ok(report)
    }
}

impl Source for ReadOnlyStore {
    fn list(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.segments.read())
    }

    fn visible_end(&self) -> u64 {
        self.end_offset()
    }

    fn mend(&self, damaged: &DamagedIndex) -> Result<(), Error> {
        damaged.check_readable()?;
        let name = damaged.0.index_file().name();
        Err(Error::io(format!(
            "{name} is damaged, and only a writer can rebuild it"
        ))(io::ErrorKind::InvalidData.into()))
    }
}
