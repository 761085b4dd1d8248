//! Messages on their way out: borrowed from the log, verified, never copied.

mod payload;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
pub use payload::Payload;
use qmq_message::{Attributes, Message};

use crate::disk::Region;
use crate::index::active::{Entry, HOLE, Subject};
use crate::log::record::{Header, Kind, Record};
use crate::log::segment::{SEGMENT_HEADER_LEN, Segment};

/// A message that cannot be read back. It keeps its place: it is neither skipped nor does it stop those behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its subject.
    pub subject: Arc<str>,
    /// Position in its subject.
    pub sequence: u64,
    /// Offset of its record in the log, if that is still known.
    pub offset: Option<u64>,
    /// Why its file cannot be read, if it cannot: the message may be good.
    pub cause: Option<Arc<str>>,
}

impl std::error::Error for Damaged {}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject, sequence, ..
        } = self;
        match (&self.cause, self.offset) {
            (Some(cause), _) => write!(
                f,
                "message {sequence} of {subject:?} cannot be read: {cause}"
            ),
            (None, Some(offset)) => write!(
                f,
                "message {sequence} of {subject:?} is damaged: its record at offset {offset} of the log is not what was written"
            ),
            (None, None) => write!(
                f,
                "message {sequence} of {subject:?} is lost: its record is not in the log any more"
            ),
        }
    }
}

/// Published bytes of a region, which they keep mapped.
pub(crate) fn pinned(region: &Arc<Region>, start: u64, len: usize) -> Bytes {
    struct Pinned {
        region: Arc<Region>,
        start: u64,
        len: usize,
    }
    impl AsRef<[u8]> for Pinned {
        fn as_ref(&self) -> &[u8] {
            self.region.bytes(self.start, self.len).unwrap_or_default()
        }
    }
    let region = Arc::clone(region);
    Bytes::from_owner(Pinned { region, start, len })
}

#[derive(Clone, Copy, Debug)]
struct Item {
    sequence: u64,
    pull_sequence: u64,
    /// Offset in the log; `u64::MAX` if unknown.
    offset: u64,
    region: u32,
    attempt: u32,
    header: Option<Header>,
}

#[derive(Debug)]
struct Piece {
    base: u64,
    /// What is published of the segment, as an offset: see [`Segment::published_end`].
    end: u64,
    region: Arc<Region>,
}

/// Messages of one subject, in order. Holding it keeps their bytes mapped, also when retention has retired them meanwhile.
#[derive(Debug)]
pub struct Records {
    subject: Arc<str>,
    pieces: Vec<Piece>,
    items: Vec<Item>,
    /// Segments whose files could not be read, by their bases.
    unreadable: Vec<(u64, Arc<str>)>,
}

impl Records {
    pub(crate) fn new(subject: &Subject) -> Self {
        Self {
            subject: Arc::clone(&subject.name),
            pieces: Vec::new(),
            items: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Number of messages, damaged ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The messages, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Delivered<'_>> + ExactSizeIterator {
        self.items.iter().map(|item| Delivered {
            records: self,
            item,
        })
    }

    /// Sequence after the last message here.
    pub(crate) fn next_sequence(&self) -> Option<u64> {
        self.items.last().map(|item| item.sequence + 1)
    }

    /// Looks at the record of an entry: its header, verified, if it is the one that the entry means.
    pub(crate) fn peek(&mut self, segment: &Arc<Segment>, sequence: u64, entry: Entry) -> Peeked {
        let mut peeked = Peeked {
            region: u32::MAX,
            offset: u64::MAX,
            header: None,
        };
        if entry.position == HOLE {
            return peeked;
        }
        peeked.offset = segment.base + u64::from(entry.position) * 8;
        if self
            .pieces
            .last()
            .is_none_or(|piece| piece.base != segment.base)
        {
            match segment.region() {
                Ok(region) => self.pieces.push(Piece {
                    base: segment.base,
                    end: segment.base,
                    region,
                }),
                Err(error) => {
                    self.cannot_read(segment, &error);
                    return peeked;
                }
            }
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.end = segment.published_end();
        }
        peeked.region = (self.pieces.len() - 1) as u32;
        let Some(bytes) = self.bytes_at(peeked.region, peeked.offset) else {
            return peeked;
        };
        peeked.header = Header::decode(bytes, peeked.offset).filter(|header| {
            header.kind == Kind::Message
                && header.sequence == sequence
                && header.subject(bytes) == Some(self.subject.as_bytes())
        });
        peeked
    }

    /// A file that is gone is damage like any other.
    #[cold]
    fn cannot_read(&mut self, segment: &Segment, error: &io::Error) {
        let known = self.unreadable.last();
        if error.kind() != io::ErrorKind::NotFound
            && known.is_none_or(|(base, _)| *base != segment.base)
        {
            let cause = format!("{}: {error}", segment.data().name());
            self.unreadable.push((segment.base, cause.into()));
        }
    }

    fn bytes_at(&self, region: u32, offset: u64) -> Option<&[u8]> {
        let piece = self.pieces.get(region as usize)?;
        let rest = piece.end.checked_sub(offset)?;
        let at = SEGMENT_HEADER_LEN + (offset - piece.base);
        let mapped = (piece.region.len() as u64).checked_sub(at)?;
        piece.region.bytes(at, rest.min(mapped) as usize)
    }

    /// The record of something peeked at; its body is not verified.
    pub(crate) fn record(&self, peeked: &Peeked) -> Option<Record<'_>> {
        Record::assemble(self.bytes_at(peeked.region, peeked.offset)?, peeked.header?)
    }

    pub(crate) fn push(&mut self, sequence: u64, pull_sequence: u64, attempt: u32, peeked: Peeked) {
        let Peeked {
            region,
            offset,
            header,
        } = peeked;
        self.items.push(Item {
            sequence,
            pull_sequence,
            offset,
            region,
            attempt,
            header,
        });
    }

    /// Gives the items pull sequences: consecutive, from `first` on.
    pub(crate) fn number(&mut self, first: u64) {
        for (item, pull_sequence) in self.items.iter_mut().zip(first..) {
            item.pull_sequence = pull_sequence;
        }
    }

    /// Verifies all bodies; what does not fit its checksum becomes damaged.
    pub(crate) fn verify_bodies(&mut self) {
        for at in 0..self.items.len() {
            let item = self.items[at];
            let Some(header) = item.header else { continue };
            let good = self
                .bytes_at(item.region, item.offset)
                .and_then(|bytes| Record::assemble(bytes, header))
                .is_some_and(|record| crc32fast::hash(record.body) == header.body_crc);
            if !good {
                self.items[at].header = None;
            }
        }
    }

    /// Consecutive pull sequences, as inclusive ranges.
    pub(crate) fn pull_ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for item in &self.items {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == item.pull_sequence => *last = item.pull_sequence,
                _ => ranges.push((item.pull_sequence, item.pull_sequence)),
            }
        }
        ranges
    }
}

/// What `Records::peek` saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peeked {
    region: u32,
    pub(crate) offset: u64,
    pub(crate) header: Option<Header>,
}

impl Peeked {
    /// Bytes of its attributes and body.
    pub(crate) fn payload_len(&self) -> u64 {
        self.header.map_or(0, |header| header.payload_len())
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Delivered<'a>;
    type IntoIter = Box<dyn Iterator<Item = Delivered<'a>> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

/// One message of [`Records`].
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    records: &'a Records,
    item: &'a Item,
}

impl<'a> Delivered<'a> {
    /// Position in its subject, from 0.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.item.sequence
    }

    /// Number under which its consumer got it; acks name these. 0 when it was read without a group.
    #[must_use]
    pub fn pull_sequence(&self) -> u64 {
        self.item.pull_sequence
    }

    /// Offset of its record in the log, if that is known.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        Some(self.item.offset).filter(|&offset| offset != u64::MAX)
    }

    /// How often it was handed out before and came back; 0 the first time.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.item.attempt
    }

    /// The message.
    ///
    /// # Errors
    /// [`Damaged`] if its record does not fit its checksums.
    pub fn message(&self) -> Result<MessageView<'a>, Damaged> {
        self.view().ok_or_else(|| self.damaged())
    }

    fn view(&self) -> Option<MessageView<'a>> {
        let bytes = self.records.bytes_at(self.item.region, self.item.offset)?;
        let record = Record::assemble(bytes, self.item.header?)?;
        let region = &self.records.pieces[self.item.region as usize].region;
        Some(MessageView { record, region })
    }

    #[cold]
    fn damaged(&self) -> Damaged {
        let Item {
            sequence,
            offset,
            region,
            ..
        } = *self.item;
        // Its segment is the last that begins before it.
        let unreadable = self.records.unreadable.iter();
        let cause = unreadable
            .filter(|(base, _)| region == u32::MAX && offset != u64::MAX && *base <= offset)
            .max_by_key(|(base, _)| *base);
        Damaged {
            subject: Arc::clone(&self.records.subject),
            sequence,
            offset: Some(offset).filter(|&offset| offset != u64::MAX),
            cause: cause.map(|(_, cause)| Arc::clone(cause)),
        }
    }
}

/// A message in the log: borrowed, verified.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    record: Record<'a>,
    region: &'a Arc<Region>,
}

impl<'a> MessageView<'a> {
    /// All its attributes. Each of the accessors below takes them apart anew.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        // Written by this crate and covered by the header's checksum.
        Attributes::decode(self.record.attributes).unwrap_or_default()
    }

    /// Its subject.
    #[must_use]
    pub fn subject(&self) -> &'a str {
        self.record.subject
    }

    /// Position in its subject, from 0.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.record.header.sequence
    }

    /// Offset of its record in the log.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.record.header.offset
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.record.body
    }

    /// The body as bytes that outlive the batch, without a copy. They keep their segment mapped.
    #[must_use]
    pub fn body_bytes(&self) -> Bytes {
        let whole = self.region.bytes(0, self.region.len()).unwrap_or_default();
        let start = self.record.body.as_ptr() as usize - whole.as_ptr() as usize;
        pinned(self.region, start as u64, self.record.body.len())
    }

    /// Its id, if it was given one.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        self.attributes().id()
    }

    /// Its tags.
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.attributes().tags()
    }

    /// Its properties, key and value.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.attributes().properties()
    }

    /// The value of a property, if it has one of that key.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&'a str> {
        self.attributes().property(key)
    }

    /// When it was appended, in ms since the Unix epoch; never less than that of the message before.
    #[must_use]
    pub fn record_time_ms(&self) -> u64 {
        self.record.header.time_ms
    }

    /// When its producer made it, if it said so, in ms since the Unix epoch.
    #[must_use]
    pub fn create_time_ms(&self) -> Option<u64> {
        self.attributes().create_time_ms()
    }

    /// When it is due, if it is a delayed message, in ms since the Unix epoch.
    #[must_use]
    pub fn due_time_ms(&self) -> Option<u64> {
        self.attributes().due_time_ms()
    }

    /// Its order key, if it has one.
    #[must_use]
    pub fn order_key(&self) -> Option<&'a [u8]> {
        self.attributes().order_key()
    }

    /// A copy that stands for itself.
    #[must_use]
    pub fn to_message(&self) -> Message {
        let body = Bytes::copy_from_slice(self.body());
        self.attributes().to_message(self.subject(), body)
    }

    pub(crate) fn raw_attributes(&self) -> &'a [u8] {
        self.record.attributes
    }

    pub(crate) fn tag_fingerprint(&self) -> u32 {
        self.record.header.tag_fingerprint
    }
}
