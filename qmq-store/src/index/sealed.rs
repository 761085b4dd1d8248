//! The index of one sealed segment: an immutable file, sorted by subject.
//!
//! ```text
//!  0 [u8;8] "QMQ-IDX\n"    8 u32 version      12 u32 crc of bytes 16..80
//! 16 u64 base             24 u64 end          (of the segment)
//! 32 u32 subjects         36 u32 entries
//! 40 u64 first_time_ms    48 u64 last_time_ms
//! 56 u128 store id        72 u64 zero
//! 80 (subjects + 1) rows of 16 bytes: u64 first sequence, u32 first entry, u32 check
//!    entries of 12 bytes: u32 position, u32 tag fingerprint, u32 check
//! ```
//!
//! A row stands for the subject whose number is its place; the last row only ends the one before. There is a row for every subject known when
//! the segment was sealed, also for those without a message in it, so that the segment that holds a sequence is found by bisection.

use std::io;
use std::sync::{Arc, OnceLock};

use super::active::{Entry, HOLE, Run};
use crate::disk::{MappedFile, Region};
use crate::le::{u32_at, u64_at};

/// Version of the index format.
pub(crate) const INDEX_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"QMQ-IDX\n";
pub(crate) const HEADER_LEN: usize = 80;
const ROW_LEN: usize = 16;
const ENTRY_LEN: usize = 12;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexHeader {
    pub(crate) store_id: u128,
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) subjects: u32,
    pub(crate) entries: u32,
    pub(crate) first_time_ms: u64,
    pub(crate) last_time_ms: u64,
}

/// The index file does not say what it should: it must be rebuilt from its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexDamaged;

/// Mixes 96 bits into 32, with different results for neighbouring inputs: guards against flipped bits, not against intent.
#[inline]
fn mix(a: u64, b: u64) -> u32 {
    let mut hash = (a ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 29) ^ b).wrapping_mul(0x94D0_49BB_1331_11EB);
    (hash >> 32) as u32
}

impl IndexHeader {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&INDEX_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.base.to_le_bytes());
        out[24..32].copy_from_slice(&self.end.to_le_bytes());
        out[32..36].copy_from_slice(&self.subjects.to_le_bytes());
        out[36..40].copy_from_slice(&self.entries.to_le_bytes());
        out[40..48].copy_from_slice(&self.first_time_ms.to_le_bytes());
        out[48..56].copy_from_slice(&self.last_time_ms.to_le_bytes());
        out[56..72].copy_from_slice(&self.store_id.to_le_bytes());
        let crc = crc32fast::hash(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, IndexDamaged> {
        let fixed = bytes.get(..HEADER_LEN).ok_or(IndexDamaged)?;
        if fixed[..8] != MAGIC
            || u32_at(fixed, 8) != INDEX_VERSION
            || crc32fast::hash(&fixed[16..]) != u32_at(fixed, 12)
        {
            return Err(IndexDamaged);
        }
        Ok(Self {
            store_id: u128::from(u64_at(fixed, 56)) | (u128::from(u64_at(fixed, 64)) << 64),
            base: u64_at(fixed, 16),
            end: u64_at(fixed, 24),
            subjects: u32_at(fixed, 32),
            entries: u32_at(fixed, 36),
            first_time_ms: u64_at(fixed, 40),
            last_time_ms: u64_at(fixed, 48),
        })
    }

    fn file_len(&self) -> usize {
        HEADER_LEN + (self.subjects as usize + 1) * ROW_LEN + self.entries as usize * ENTRY_LEN
    }
}

/// The header of an index of the store `from` for its copy in the store `to`; `None` if these bytes are none.
pub(crate) fn handed_over(head: &[u8], from: u128, to: u128) -> Option<[u8; HEADER_LEN]> {
    let header = IndexHeader::decode(head).ok()?;
    let copied = IndexHeader {
        store_id: to,
        ..header
    };
    (header.store_id == from).then(|| copied.encode())
}

/// Builds an index file in memory, subject by subject in the order of their numbers.
pub(crate) struct IndexBuilder {
    store_id: u128,
    base: u64,
    rows: Vec<u8>,
    entries: Vec<u8>,
    subjects: u32,
    count: u32,
}

impl IndexBuilder {
    pub(crate) fn new(store_id: u128, base: u64, subjects: usize) -> Self {
        Self {
            store_id,
            base,
            rows: Vec::with_capacity((subjects + 1) * ROW_LEN),
            entries: Vec::new(),
            subjects: 0,
            count: 0,
        }
    }

    /// The next subject: it had reached `first` when the segment began, and has `run` in it.
    pub(crate) fn subject(&mut self, first: u64, run: Option<&Run>) {
        self.row(run.map_or(first, |run| run.first));
        self.subjects += 1;
        for entry in run.iter().flat_map(|run| &run.entries) {
            self.entries
                .extend_from_slice(&entry.position.to_le_bytes());
            self.entries
                .extend_from_slice(&entry.tag_fingerprint.to_le_bytes());
            let check = entry_check(self.base, self.count, *entry);
            self.entries.extend_from_slice(&check.to_le_bytes());
            self.count += 1;
        }
    }

    fn row(&mut self, first: u64) {
        self.rows.extend_from_slice(&first.to_le_bytes());
        self.rows.extend_from_slice(&self.count.to_le_bytes());
        let check = row_check(self.base, self.subjects, first, self.count);
        self.rows.extend_from_slice(&check.to_le_bytes());
    }

    /// The bytes of the file.
    pub(crate) fn finish(mut self, end: u64, first_time_ms: u64, last_time_ms: u64) -> Vec<u8> {
        self.row(0);
        let header = IndexHeader {
            store_id: self.store_id,
            base: self.base,
            end,
            subjects: self.subjects,
            entries: self.count,
            first_time_ms,
            last_time_ms,
        };
        let mut out = Vec::with_capacity(header.file_len());
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&self.rows);
        out.extend_from_slice(&self.entries);
        out
    }
}

fn row_check(base: u64, subject: u32, first: u64, start: u32) -> u32 {
    mix(base ^ (u64::from(subject) << 32) ^ u64::from(start), first)
}

#[inline]
fn entry_check(base: u64, number: u32, entry: Entry) -> u32 {
    mix(
        u64::from(entry.position) | (u64::from(entry.tag_fingerprint) << 32),
        base ^ (u64::from(number) << 16),
    )
}

/// An index file, opened. Rows and entries are verified as they are read.
#[derive(Debug)]
pub(crate) struct SealedIndex {
    file: MappedFile,
    base: u64,
    end: u64,
    /// Read and checked at the first use, so that an open does not touch the index of every segment.
    header: OnceLock<IndexHeader>,
}

/// A subject's share of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Sequence of its first message here; where it stood if it has none.
    pub(crate) first: u64,
    /// Number of its messages here.
    pub(crate) count: u32,
    start: u32,
}

impl Share {
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

impl SealedIndex {
    /// Opens the index in `file` and checks that it is the one of the segment `base..end`.
    pub(crate) fn open(file: MappedFile, base: u64, end: u64) -> Result<Self, IndexDamaged> {
        let index = Self::expected(file, base, end);
        let region = index.region().map_err(|_| IndexDamaged)?;
        index.header(&region)?;
        Ok(index)
    }

    /// The index that should be in `file`; what is there is checked when it is used.
    pub(crate) fn expected(file: MappedFile, base: u64, end: u64) -> Self {
        Self {
            file,
            base,
            end,
            header: OnceLock::new(),
        }
    }

    fn header(&self, region: &Region) -> Result<&IndexHeader, IndexDamaged> {
        if let Some(header) = self.header.get() {
            return Ok(header);
        }
        let header = IndexHeader::decode(region.bytes(0, HEADER_LEN).ok_or(IndexDamaged)?)?;
        if header.store_id != self.file.store_id()
            || header.base != self.base
            || header.end != self.end
            || header.file_len() != region.len()
        {
            return Err(IndexDamaged);
        }
        Ok(self.header.get_or_init(|| header))
    }

    pub(crate) fn region(&self) -> io::Result<Arc<Region>> {
        self.file.region()
    }

    fn row(&self, region: &Region, subject: u32) -> Result<(u64, u32), IndexDamaged> {
        let at = HEADER_LEN + subject as usize * ROW_LEN;
        let row = region.bytes(at as u64, ROW_LEN).ok_or(IndexDamaged)?;
        let (first, start) = (u64_at(row, 0), u32_at(row, 8));
        if u32_at(row, 12) != row_check(self.base, subject, first, start) {
            return Err(IndexDamaged);
        }
        Ok((first, start))
    }

    /// A subject's share; `None` if the subject came after this segment.
    pub(crate) fn share(
        &self,
        region: &Region,
        subject: u32,
    ) -> Result<Option<Share>, IndexDamaged> {
        if subject >= self.header(region)?.subjects {
            return Ok(None);
        }
        let (first, start) = self.row(region, subject)?;
        let (_, end) = self.row(region, subject + 1)?;
        let count = end.checked_sub(start).ok_or(IndexDamaged)?;
        Ok(Some(Share {
            first,
            count,
            start,
        }))
    }

    /// Calls `each` with the entries of `share` from sequence `from` on, until it answers `false`.
    pub(crate) fn entries(
        &self,
        region: &Region,
        share: Share,
        from: u64,
        mut each: impl FnMut(u64, Entry) -> bool,
    ) -> Result<(), IndexDamaged> {
        let skip = u32::try_from(from.saturating_sub(share.first))
            .unwrap_or(u32::MAX)
            .min(share.count);
        let first_entry = share.start + skip;
        let at = HEADER_LEN
            + (self.header(region)?.subjects as usize + 1) * ROW_LEN
            + first_entry as usize * ENTRY_LEN;
        let len = (share.count - skip) as usize * ENTRY_LEN;
        let bytes = region.bytes(at as u64, len).ok_or(IndexDamaged)?;
        let numbered = (first_entry..).zip(bytes.chunks_exact(ENTRY_LEN));
        for (sequence, (number, unit)) in (share.first + u64::from(skip)..).zip(numbered) {
            let entry = Entry {
                position: u32_at(unit, 0),
                tag_fingerprint: u32_at(unit, 4),
            };
            if u32_at(unit, 8) != entry_check(self.base, number, entry) {
                return Err(IndexDamaged);
            }
            if !each(sequence, entry) {
                break;
            }
        }
        Ok(())
    }

    /// Verifies every row and entry, and that positions lie within the segment.
    pub(crate) fn verify(&self) -> Result<(), IndexDamaged> {
        let region = self.region().map_err(|_| IndexDamaged)?;
        let header = self.header(&region)?;
        let positions = (header.end - header.base) / 8;
        for subject in 0..header.subjects {
            let Some(share) = self.share(&region, subject)? else {
                continue;
            };
            let mut inside = true;
            self.entries(&region, share, share.first, |_, entry| {
                inside &= entry.position == HOLE || u64::from(entry.position) < positions;
                inside
            })?;
            if !inside {
                return Err(IndexDamaged);
            }
        }
        self.row(&region, header.subjects).map(|_| ())
    }
}
