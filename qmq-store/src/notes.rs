//! Notes: what who submits messages has written with them, read back.

use std::io;
use std::sync::Arc;

use crate::disk::{Access, DiskFile};
use crate::error::Error;
use crate::keep::files::{is_foreign, read_around_bad_pages};
use crate::log::record::{ALIGN, Header, Kind, align};
use crate::log::segment::{SEGMENT_HEADER_LEN, Segment};
use crate::store::{Inner, Store};

/// A note, and the messages that it was submitted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted<'a> {
    /// The note.
    pub note: &'a [u8],
    /// Position of each message in its subject, in the order of the submission; of a damaged batch those before the damage.
    pub sequences: &'a [u64],
    /// What to wait for: see [`Store::wait`].
    pub end_offset: u64,
}

impl Store {
    /// Shows each note that begins at offset `from` of the log or behind it, in the order of the log, up to what is written now; `from` may be any
    /// offset. Bodies are passed over. The log is read by calls: what the disk does not give, or is damaged, has no note. Nothing is retired
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Io`] if a file cannot be read at all.
    pub fn notes(&self, from: u64, each: &mut dyn FnMut(&Noted<'_>)) -> Result<(), Error> {
        self.inner.check_open()?;
        let _held = self.inner.hold_retention();
        let until = self.inner.log.commit.written();
        for segment in self.inner.segments().iter() {
            let end = segment.end().unwrap_or(until).min(until);
            if from < end {
                let name = segment.data().name();
                self.inner
                    .notes_of(segment, from.max(segment.base)..end, each)
                    .map_err(Error::io(format!("reading {name}")))?;
            }
        }
        Ok(())
    }
}

impl Inner {
    fn notes_of(
        &self,
        segment: &Arc<Segment>,
        range: std::ops::Range<u64>,
        each: &mut dyn FnMut(&Noted<'_>),
    ) -> io::Result<()> {
        let (disk, name) = (&*self.log.disk, segment.data().name());
        if is_foreign(disk, name, self.log.store_id)? {
            return Ok(());
        }
        let file = match disk.open(name, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let there = segment.base + file.len()?.saturating_sub(SEGMENT_HEADER_LEN);
        let mut window = Window {
            file,
            base: segment.base,
            end: range.end.min(there),
            start: range.start,
            bytes: Vec::new(),
        };
        let mut at = align(range.start);
        while at < window.end {
            at += window.note_at(at, each).unwrap_or(ALIGN);
        }
        Ok(())
    }
}

/// Bytes that are read ahead.
const AHEAD: u64 = 512 << 10;
/// No header is longer.
const HEADER_MAX: u64 = 64 << 10;

/// Some bytes of a segment, from offset `start` of the log on.
struct Window {
    file: Arc<dyn DiskFile>,
    base: u64,
    /// Offset behind what is read.
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// What stands at `offset`: a whole header at least, unless the segment ends before.
    fn at(&mut self, offset: u64) -> &[u8] {
        let wanted = (offset + HEADER_MAX).min(self.end);
        if offset < self.start || wanted > self.start + self.bytes.len() as u64 {
            let len = AHEAD.min(self.end - offset);
            self.start = offset;
            self.bytes.clear();
            self.bytes.resize(len as usize, 0);
            let position = SEGMENT_HEADER_LEN + (offset - self.base);
            read_around_bad_pages(&*self.file, &mut self.bytes, position, &mut |_, _| {});
        }
        &self.bytes[(offset - self.start) as usize..]
    }

    fn header_at(&mut self, offset: u64) -> Option<Header> {
        if offset >= self.end {
            return None;
        }
        let header = Header::decode(self.at(offset), offset)?;
        (header.frame_len() <= self.end - offset).then_some(header)
    }

    /// Shows the note of the unit at `offset`, if it has one. Returns the unit's length; `None` if there is none.
    fn note_at(&mut self, offset: u64, each: &mut dyn FnMut(&Noted<'_>)) -> Option<u64> {
        let header = self.header_at(offset)?;
        // The records of a batch whose header is not here are passed over.
        if header.note_len > 0 && !header.in_batch {
            let note_at = header.attributes_at() - usize::from(header.note_len);
            let note = self
                .at(offset)
                .get(note_at..header.attributes_at())?
                .to_vec();
            let sequences = match header.kind {
                Kind::Batch => self.sequences_of(&header),
                Kind::Message => vec![header.sequence],
                Kind::Action | Kind::Epoch => Vec::new(),
            };
            each(&Noted {
                note: &note,
                sequences: &sequences,
                end_offset: offset + header.frame_len(),
            });
        }
        Some(header.frame_len())
    }

    /// Sequences of the messages of a batch, up to the first header that is damaged.
    fn sequences_of(&mut self, batch: &Header) -> Vec<u64> {
        let end = batch.offset + batch.frame_len();
        let mut sequences = Vec::new();
        let mut at = batch.offset + batch.record_len();
        while at < end {
            let Some(header) = self.header_at(at).filter(|header| header.in_batch) else {
                break;
            };
            if header.kind == Kind::Message {
                sequences.push(header.sequence);
            }
            at += header.record_len();
        }
        sequences
    }
}
