//! Walks the records of a stretch of log, past damage.

use super::record::{ALIGN, Header, Kind, Record};

/// What a scan meets.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A good record. The header of a batch comes first, then its records; `batch_ok` says whether the batch's checksum fits them.
    Record { record: Record<'a>, batch_ok: bool },
    /// A record with a good header and a bad body: its place and length are known.
    BadBody { header: Header, subject: &'a str },
    /// Bytes that are no record, up to the next good header.
    Garbage { offset: u64, len: u64 },
    /// Zeros up to the end of the stretch.
    Zeros { offset: u64 },
}

/// Scans `bytes`, which stand at `base` in the log.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    base: u64,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(bytes: &'a [u8], base: u64) -> Self {
        Self { bytes, base, at: 0 }
    }

    /// Offset in the log of what comes next.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    fn header_at(&self, at: usize) -> Option<Header> {
        let header = Header::decode(self.bytes.get(at..)?, self.base + at as u64)?;
        (header.record_len() <= (self.bytes.len() - at) as u64).then_some(header)
    }

    /// Whether all records of the batch whose header is `batch` are there and fit its checksum.
    fn batch_fits(&self, at: usize, batch: &Header) -> bool {
        let Some(end) = usize::try_from(batch.frame_len())
            .ok()
            .and_then(|len| at.checked_add(len))
        else {
            return false;
        };
        if end > self.bytes.len() {
            return false;
        }
        let mut crc = crc32fast::Hasher::new();
        let mut inner = at + batch.record_len() as usize;
        for _ in 0..batch.sequence {
            let Some(header) = self.header_at(inner).filter(|header| header.in_batch) else {
                return false;
            };
            let Some(record) = Record::assemble(&self.bytes[inner..], header) else {
                return false;
            };
            if crc32fast::hash(record.body) != header.body_crc {
                return false;
            }
            crc.update(&header.header_crc.to_le_bytes());
            crc.update(&header.body_crc.to_le_bytes());
            inner += header.record_len() as usize;
        }
        inner == end && crc.finalize() == batch.body_crc
    }

    /// The next thing found; `None` at the end of the stretch.
    pub(crate) fn next(&mut self) -> Option<Found<'a>> {
        let offset = self.offset();
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        if rest.is_empty() {
            return None;
        }
        let Some(header) = self.header_at(self.at) else {
            return Some(self.skip_garbage(offset));
        };
        let batch_ok = header.kind != Kind::Batch || self.batch_fits(self.at, &header);
        self.at += header.record_len() as usize;
        let record = Record::assemble(rest, header);
        Some(match record {
            Some(record)
                if header.kind == Kind::Batch
                    || crc32fast::hash(record.body) == header.body_crc =>
            {
                Found::Record { record, batch_ok }
            }
            other => Found::BadBody {
                header,
                subject: other.map_or("", |record| record.subject),
            },
        })
    }

    fn skip_garbage(&mut self, offset: u64) -> Found<'a> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let Some(dirty) = first_nonzero(rest) else {
            self.at = self.bytes.len();
            return Found::Zeros { offset };
        };
        // The first non-zero byte may belong to the header that starts up to eight bytes before it.
        let mut at = (start + dirty) / ALIGN as usize * ALIGN as usize;
        at = at.max(start + ALIGN as usize);
        while at < self.bytes.len() && self.header_at(at).is_none() {
            at += ALIGN as usize;
        }
        self.at = at.min(self.bytes.len());
        Found::Garbage {
            offset,
            len: (self.at - start) as u64,
        }
    }
}

/// Place of the first byte that is not zero. Looks at whole pages first, which the compiler turns into wide compares.
pub(crate) fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    const PAGE: usize = 4096;
    bytes.chunks(PAGE).enumerate().find_map(|(page, chunk)| {
        if chunk.iter().fold(0, |all, byte| all | byte) == 0 {
            return None;
        }
        chunk
            .iter()
            .position(|&byte| byte != 0)
            .map(|at| page * PAGE + at)
    })
}
