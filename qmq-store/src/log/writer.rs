//! The one place where records are put into the log.

use std::io;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::gather::Gather;
use super::part::Part;
use super::record::{HEADER_LEN, Header, Kind, align};
use super::segment::{ActiveFile, Segment, SegmentHeader, log_name};
use super::{Log, SealJob, ahead};
use crate::error::{Error, is_full};

/// What a record is for: the reserve on a full disk serves only actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Message,
    Action,
}

/// How bytes reach the file.
///
/// Stores into the mapping are the fastest for buffered data; one call is the fastest when a sync follows at once. The two are
/// coherent: both go through the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Store,
    Call,
}

/// The writer's own state, behind the append lock.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) segment: Arc<Segment>,
    pub(super) active: ActiveFile,
    /// End of what is put. Beyond `written` only while the lock is held.
    pub(super) end: u64,
    /// Where the active segment's blocks end.
    pub(super) limit: u64,
    pub(super) last_time_ms: u64,
    /// Of the last record.
    pub(super) last_incarnation: u32,
    /// The active segment is one of the reserve's: no messages.
    pub(super) on_reserve: bool,
    /// The store closes: what came later would be behind the end that the close has noted.
    pub(super) closed: bool,
    /// Subjects with a message in the active segment.
    pub(super) touched: Vec<u32>,
    /// Subjects known.
    pub(super) subjects: u32,
    pub(super) gather: Gather,
    /// Offset from which on pages ahead are asked for again, and when the last step began.
    pub(super) prepare_at: u64,
    pub(super) step_started_ms: u64,
    pub(super) publisher: super::published::Publisher,
}

/// A batch of at least so many bytes is written by one call, which makes no page faults. Measured on ext4 and tmpfs.
const CALL_WORTH: usize = 8 << 10;

/// A batch that is being gathered.
#[derive(Debug)]
pub(crate) struct BatchMark {
    start: u64,
    /// Of its own header, with padding.
    header_len: usize,
    note_len: usize,
    count: u64,
    /// Both checksums of each record, one after the other.
    checksums: Vec<u8>,
}

/// Bytes that a batch takes besides its records and its note.
pub(crate) const BATCH_OVERHEAD: u64 = HEADER_LEN as u64;

/// Bytes that a batch with this note takes besides its records.
pub(crate) fn batch_overhead(note: &[u8]) -> u64 {
    align((HEADER_LEN + note.len()) as u64)
}

/// The append lock, held, with room in the active segment.
#[derive(Debug)]
pub(crate) struct Appender<'a> {
    pub(super) log: &'a Log,
    pub(super) writer: MutexGuard<'a, Writer>,
    /// Of the records that are put.
    pub(super) time_ms: u64,
    pub(super) incarnation: u32,
    batch: Option<BatchMark>,
}

impl Log {
    /// Takes the append lock and makes sure that `len` bytes fit into the active segment.
    #[inline]
    pub(crate) fn lock(&self, len: u64, purpose: Purpose) -> Result<Appender<'_>, Error> {
        let writer = self.writer.lock();
        // Under the lock, so that a demotion knows when the last append is through.
        self.check_master()?;
        self.make_room(writer, len, purpose)
    }

    /// As [`Log::lock`], for who replicates, or begins an epoch: whether or not this is a master.
    pub(crate) fn lock_as_replicator(
        &self,
        len: u64,
        purpose: Purpose,
    ) -> Result<Appender<'_>, Error> {
        self.make_room(self.writer.lock(), len, purpose)
    }

    #[inline]
    fn make_room<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        len: u64,
        purpose: Purpose,
    ) -> Result<Appender<'a>, Error> {
        self.commit.check()?;
        if writer.closed {
            return Err(Error::Closed);
        }
        if writer.end + len > writer.limit {
            self.rotate(&mut writer, len, purpose)?;
        }
        if writer.on_reserve && purpose == Purpose::Message {
            return Err(Error::DiskFull { what: "message" });
        }
        let time_ms = self.clock.now_ms().max(writer.last_time_ms);
        Ok(Appender {
            log: self,
            writer,
            time_ms,
            incarnation: self.incarnation(),
            batch: None,
        })
    }

    #[cold]
    pub(super) fn rotate(
        &self,
        writer: &mut Writer,
        len: u64,
        purpose: Purpose,
    ) -> Result<(), Error> {
        if len > self.segment_bytes && self.check_master().is_ok() {
            return Err(Error::RecordTooLarge {
                bytes: len,
                max: self.segment_bytes,
            });
        }
        let base = writer.end;
        let name = log_name(base);
        let (file, on_reserve) = match self.new_segment_file(&name, len) {
            Ok(file) => (file, false),
            Err(error) if is_full(&error) && purpose == Purpose::Action => (
                self.take_reserve(&name)?
                    .ok_or(Error::DiskFull { what: "action" })?,
                true,
            ),
            Err(error) if is_full(&error) => return Err(Error::DiskFull { what: "message" }),
            Err(error) => return Err(Error::io(format!("creating {name}"))(error)),
        };
        let active = self
            .start_segment(file, base)
            .map_err(|error| self.commit.poison(error))?;
        let file_len = active.region.len() as u64;
        let finished = std::mem::replace(
            &mut writer.segment,
            Arc::new(Segment::new(base, &self.maps)),
        );
        let old = std::mem::replace(&mut writer.active, active);
        finished.set_end(base);
        writer.limit = base + (file_len - super::segment::SEGMENT_HEADER_LEN);
        writer.on_reserve = on_reserve;
        let touched = std::mem::take(&mut writer.touched);
        self.finished(SealJob {
            segment: finished,
            file: old.file,
            touched,
            subjects: writer.subjects,
        });
        {
            let mut dirty = self.dirty.lock();
            dirty.names = true;
            dirty
                .files
                .push((Arc::clone(&writer.segment), Arc::clone(&writer.active.file)));
        }
        let mut segments = self.segments.write();
        let mut list = Vec::clone(&segments);
        list.push(Arc::clone(&writer.segment));
        *segments = Arc::new(list);
        drop(segments);
        self.housekeeping.ring();
        Ok(())
    }

    /// Asks for pages ahead, if the writer is fast enough to be worth it.
    #[cold]
    fn prepare_ahead(&self, writer: &mut Writer, time_ms: u64) {
        // Prepared pages are dirty: where syncs follow closely, each would carry them all to the disk.
        let fast = time_ms.saturating_sub(writer.step_started_ms) <= ahead::FAST_STEP_MS
            && self.commit.last_covered() >= ahead::STEP / 2;
        writer.step_started_ms = time_ms;
        writer.prepare_at = writer.end + ahead::STEP;
        if fast {
            self.ahead
                .ask(&writer.active.region, writer.segment.position(writer.end));
        }
    }

    pub(super) fn start_segment(
        &self,
        file: Arc<dyn crate::disk::DiskFile>,
        base: u64,
    ) -> io::Result<ActiveFile> {
        let header = SegmentHeader {
            base,
            store_id: self.store_id,
        };
        // By a call: the first touch of a mapping of blocks that were never written may fill pages for as far as the system reads ahead (8 MiB: 10 ms).
        file.write_at(&header.encode(), 0)?;
        let region = file.map()?;
        // The writer only stores.
        region.read_ahead_until(0);
        Ok(ActiveFile { file, region })
    }
}

impl Appender<'_> {
    /// Base offset of the active segment.
    pub(crate) fn segment(&self) -> u64 {
        self.writer.segment.base
    }

    /// A subject has its first message in the active segment.
    pub(crate) fn touched(&mut self, subject: u32) {
        self.writer.touched.push(subject);
    }

    /// A subject has been created.
    pub(crate) fn subject_created(&mut self) {
        self.writer.subjects += 1;
    }

    /// Starts a commit unit of several records. They become visible, and survive, together.
    pub(crate) fn begin_batch(&mut self, note: &[u8]) {
        let writer = &mut *self.writer;
        let header_len = batch_overhead(note) as usize;
        let mark = BatchMark {
            start: writer.end,
            header_len,
            note_len: note.len(),
            count: 0,
            checksums: Vec::new(),
        };
        self.batch = Some(mark);
        writer.gather.clear();
        writer.gather.pad(HEADER_LEN);
        writer.gather.add(|out| out.extend_from_slice(note));
        writer.gather.pad(header_len);
        writer.end += header_len as u64;
    }

    /// Offset of the batch that is being gathered; where the next record goes if there is none.
    pub(crate) fn batch_start(&self) -> u64 {
        self.batch
            .as_ref()
            .map_or(self.writer.end, |batch| batch.start)
    }

    /// Puts one record and returns its offset. Nobody sees it before `publish`. The records of a batch are gathered, and reach the file with
    /// its header, in one piece.
    #[inline]
    pub(crate) fn put(&mut self, part: &Part<'_>, how: How) -> Result<u64, Error> {
        let writer = &mut *self.writer;
        let offset = writer.end;
        let header_len = part.header_len();
        let header = Header {
            kind: part.kind,
            in_batch: self.batch.is_some(),
            offset,
            synced_end: self.log.commit.synced(),
            sequence: part.sequence,
            time_ms: self.time_ms,
            incarnation: self.incarnation,
            body_len: part.body.len() as u32,
            body_crc: part.body_crc,
            header_len: header_len as u16,
            subject_len: part.subject.len() as u16,
            tag_fingerprint: part.tag_fingerprint,
            note_len: part.note.len() as u16,
            header_crc: 0,
        };
        let end = offset + align((header_len + part.body.len()) as u64);
        let gather = &mut writer.gather;
        if self.batch.is_none() {
            gather.clear();
        }
        let parts = [part.subject.as_bytes(), part.note, part.attributes];
        let header_crc = gather.add(|out| header.encode(parts, out));
        if let Some(batch) = &mut self.batch {
            gather.add_body(&part.body);
            gather.pad((end - batch.start) as usize);
            batch.count += 1;
            batch.checksums.extend_from_slice(&header_crc.to_le_bytes());
            batch
                .checksums
                .extend_from_slice(&part.body_crc.to_le_bytes());
        } else {
            let mut at = writer.segment.position(offset);
            match how {
                How::Store => {
                    gather.store(&writer.active, at);
                    at += header_len as u64;
                    let ActiveFile { file, region } = &writer.active;
                    for piece in part.body.pieces() {
                        file.store(region, at, piece);
                        at += piece.len() as u64;
                    }
                    if end >= writer.prepare_at {
                        self.log.prepare_ahead(writer, self.time_ms);
                    }
                }
                How::Call => {
                    gather.add_body(&part.body);
                    if let Err(error) = gather.write(&writer.active, at) {
                        return Err(self.log.commit.poison(error));
                    }
                }
            }
        }
        self.writer.end = end;
        Ok(offset)
    }

    /// Writes the batch that has been gathered, if there is one.
    fn finish_batch(&mut self) -> Result<(), Error> {
        let Some(batch) = self.batch.take() else {
            return Ok(());
        };
        let writer = &mut *self.writer;
        let header = Header {
            kind: Kind::Batch,
            in_batch: false,
            offset: batch.start,
            synced_end: self.log.commit.synced(),
            sequence: batch.count,
            time_ms: self.time_ms,
            incarnation: self.incarnation,
            body_len: (writer.end - batch.start) as u32 - batch.header_len as u32,
            body_crc: crc32fast::hash(&batch.checksums),
            header_len: (HEADER_LEN + batch.note_len) as u16,
            subject_len: 0,
            tag_fingerprint: 0,
            note_len: batch.note_len as u16,
            header_crc: 0,
        };
        let head = writer.gather.head(HEADER_LEN + batch.note_len);
        let mut encoded = Vec::with_capacity(head.len());
        header.encode([&[], &head[HEADER_LEN..], &[]], &mut encoded);
        head.copy_from_slice(&encoded);
        let at = writer.segment.position(batch.start);
        if writer.gather.len() >= CALL_WORTH {
            if let Err(error) = writer.gather.write(&writer.active, at) {
                return Err(self.log.commit.poison(error));
            }
        } else {
            writer.gather.store(&writer.active, at);
        }
        Ok(())
    }

    /// Makes what has been put visible, and returns the end of the log.
    #[inline]
    pub(crate) fn publish(mut self) -> Result<u64, Error> {
        self.finish_batch()?;
        let writer = &mut *self.writer;
        let end = writer.end;
        writer.last_time_ms = self.time_ms;
        writer.last_incarnation = self.incarnation;
        writer.segment.note_time(self.time_ms);
        writer.segment.publish(end);
        self.log.commit.publish_written(end);
        writer
            .publisher
            .publish(end, self.log.commit.synced(), self.log.incarnation());
        Ok(end)
    }
}
