//! One file of the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::disk::{DiskFile, MappedFile, Maps, Region};
use crate::index::sealed::SealedIndex;
use crate::le::{header_crc, u32_at, u64_at, u128_at};

/// Bytes before the first record of a segment file.
pub(crate) const SEGMENT_HEADER_LEN: u64 = 64;
/// Version of the segment format.
pub(crate) const SEGMENT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"QMQ-LOG\n";
const LOG_PREFIX: &str = "log-";
const INDEX_PREFIX: &str = "index-";

/// The header of a segment file.
///
/// ```text
///  0 [u8;8] "QMQ-LOG\n"   8 u32 version   12 u32 crc of bytes 8..12 and 16..64
/// 16 u64 base offset     24 u128 store id   40 .. 64 zero
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) base: u64,
    pub(crate) store_id: u128,
}

/// Why a segment header was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderProblem {
    Damaged,
    Newer(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN as usize] {
        let mut out = [0; SEGMENT_HEADER_LEN as usize];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.base.to_le_bytes());
        out[24..40].copy_from_slice(&self.store_id.to_le_bytes());
        let crc = header_crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_LEN as usize]) -> Result<Self, HeaderProblem> {
        if bytes[..8] != MAGIC || header_crc(bytes) != u32_at(bytes, 12) {
            return Err(HeaderProblem::Damaged);
        }
        match u32_at(bytes, 8) {
            ..=SEGMENT_VERSION => Ok(Self {
                base: u64_at(bytes, 16),
                store_id: u128_at(bytes, 24),
            }),
            newer => Err(HeaderProblem::Newer(newer)),
        }
    }

    /// Whether this is the good header of a segment of another store than `store_id`.
    pub(crate) fn is_foreign(bytes: &[u8; SEGMENT_HEADER_LEN as usize], store_id: u128) -> bool {
        Self::decode(bytes).is_ok_and(|header| header.store_id != store_id)
    }
}

/// A segment of the log, active or sealed.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    /// End offset in the log; `u64::MAX` while the segment is active.
    end: AtomicU64,
    /// While the segment is active: everything before this offset is whole records.
    published: AtomicU64,
    /// Record time of the first and of the last record.
    pub(crate) first_time_ms: AtomicU64,
    pub(crate) last_time_ms: AtomicU64,
    data: MappedFile,
    /// The header has been looked at and is not another store's.
    ours: AtomicBool,
    index_file: MappedFile,
    /// `None` while the entries are in memory.
    index: RwLock<Option<Arc<SealedIndex>>>,
}

impl Segment {
    pub(crate) fn new(base: u64, maps: &Arc<Maps>) -> Self {
        Self {
            base,
            end: AtomicU64::new(u64::MAX),
            published: AtomicU64::new(base),
            first_time_ms: AtomicU64::new(0),
            last_time_ms: AtomicU64::new(0),
            data: maps.file(&log_name(base)),
            ours: AtomicBool::new(false),
            index_file: maps.file(&index_name(base)),
            index: RwLock::new(None),
        }
    }

    pub(crate) fn end(&self) -> Option<u64> {
        match self.end.load(Ordering::Acquire) {
            u64::MAX => None,
            end => Some(end),
        }
    }

    /// The segment takes no more records.
    pub(crate) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Records up to here are whole, and about to become visible.
    #[inline]
    pub(crate) fn publish(&self, end: u64) {
        self.published.store(end, Ordering::Release);
    }

    /// Where reads through a mapping must end: sealing cuts the file, and a mapping from before reaches beyond.
    #[inline]
    pub(crate) fn published_end(&self) -> u64 {
        self.end()
            .unwrap_or_else(|| self.published.load(Ordering::Acquire))
    }

    /// Record times of the first and the last record.
    pub(crate) fn set_times(&self, first_ms: u64, last_ms: u64) {
        self.first_time_ms.store(first_ms, Ordering::Relaxed);
        self.last_time_ms.store(last_ms, Ordering::Relaxed);
    }

    /// A record of this time has been appended.
    #[inline]
    pub(crate) fn note_time(&self, time_ms: u64) {
        if self.first_time_ms.load(Ordering::Relaxed) == 0 {
            self.first_time_ms.store(time_ms, Ordering::Relaxed);
        }
        self.last_time_ms.store(time_ms, Ordering::Relaxed);
    }

    /// Where an offset of the log stands in the file.
    pub(crate) fn position(&self, offset: u64) -> u64 {
        SEGMENT_HEADER_LEN + (offset - self.base)
    }

    pub(crate) fn region(&self) -> io::Result<Arc<Region>> {
        let region = self.data.region()?;
        if !self.ours.load(Ordering::Relaxed) {
            let head = region.bytes(0, SEGMENT_HEADER_LEN as usize);
            let head = head.and_then(|head| head.try_into().ok());
            if head.is_some_and(|head| SegmentHeader::is_foreign(head, self.data.store_id())) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it belongs to another store",
                ));
            }
            self.ours.store(true, Ordering::Relaxed);
        }
        match self.end() {
            None => region.read_ahead_until(self.position(self.published_end())),
            Some(_) => region.read_ahead_everywhere(),
        }
        Ok(region)
    }

    pub(crate) fn data(&self) -> &MappedFile {
        &self.data
    }

    pub(crate) fn index_file(&self) -> &MappedFile {
        &self.index_file
    }

    pub(crate) fn sealed(&self) -> Option<Arc<SealedIndex>> {
        self.index.read().clone()
    }

    pub(crate) fn set_sealed(&self, index: Option<Arc<SealedIndex>>) {
        *self.index.write() = index;
    }

    /// Unmaps both files, but for readers that hold them.
    pub(crate) fn forget(&self) {
        self.data.forget();
        self.index_file.forget();
    }
}

/// What the writer holds of the active segment.
#[derive(Debug)]
pub(crate) struct ActiveFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) region: Arc<Region>,
}

/// Name of the segment file that starts at `base`.
pub(crate) fn log_name(base: u64) -> String {
    format!("{LOG_PREFIX}{base:020}")
}

/// Name of the index file of the segment that starts at `base`.
pub(crate) fn index_name(base: u64) -> String {
    format!("{INDEX_PREFIX}{base:020}")
}

/// The base offset in a segment's file name.
pub(crate) fn log_base(name: &str) -> Option<u64> {
    numbered(name, LOG_PREFIX)
}

/// The base offset in an index's file name.
pub(crate) fn index_base(name: &str) -> Option<u64> {
    numbered(name, INDEX_PREFIX)
}

/// The number in a file name `prefix` + 20 digits.
pub(crate) fn numbered(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}
