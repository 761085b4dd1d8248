//! A run: an immutable file of index entries in due order, in blocks that are checked before they are believed.
//!
//! ```text
//! header  4,096 bytes: magic, version, checksum, store id, count, first and last due time, ms of a bucket, count of ranges, zeros
//! blocks  4,096 bytes each: checksum, count, 24 zero bytes, up to 127 entries
//! fences  16 bytes each, one a block: due time and slot of its first entry
//! ranges  12 bytes each: see [`ranges`]
//! 8 bytes with the checksum of fences and ranges
//! ```

mod ranges;
mod walk;
mod write;

use std::io;
use std::sync::Arc;

use qmq_store::disk::{Access, Disk, Region};

pub(crate) use self::ranges::RANGE_LEN;
use self::ranges::Ranges;
pub(crate) use self::walk::Merge;
pub(crate) use self::write::write;
use crate::entry::{ENTRY_LEN, Entry, Key};

const MAGIC: [u8; 8] = *b"QMQ-RUN\n";
const VERSION: u32 = 1;
pub(crate) const HEADER_LEN: usize = 4_096;
pub(crate) const FENCE_LEN: usize = 16;
pub(crate) const TAIL_CRC_LEN: usize = 8;
pub(crate) const BLOCK_LEN: usize = 4_096;
const BLOCK_HEADER_LEN: usize = 32;
/// Entries of a full block.
pub(crate) const BLOCK_ENTRIES: usize = (BLOCK_LEN - BLOCK_HEADER_LEN) / ENTRY_LEN;

/// A run is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DamagedRun {
    pub(crate) number: u64,
    pub(crate) what: &'static str,
}

impl std::fmt::Display for DamagedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", run_name(self.number), self.what)
    }
}

pub(crate) fn run_name(number: u64) -> String {
    format!("run-{number:020}")
}

/// Numbers of the runs that there are files of.
pub(crate) fn numbers(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let number = |name: &str| {
        let digits = name.strip_prefix("run-")?;
        (digits.len() == 20).then(|| digits.parse().ok()).flatten()
    };
    let files = disk.list()?;
    Ok(files.iter().filter_map(|file| number(&file.name)).collect())
}

/// An open run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) number: u64,
    region: Arc<Region>,
    pub(crate) count: u64,
    pub(crate) first_due_ms: u64,
    pub(crate) last_due_ms: u64,
    bucket_ms: u64,
    ranges: usize,
}

/// Bytes of a run of so many blocks and ranges.
fn file_len(blocks: u64, ranges: u64) -> u64 {
    (HEADER_LEN + TAIL_CRC_LEN) as u64
        + blocks * (BLOCK_LEN + FENCE_LEN) as u64
        + ranges * RANGE_LEN as u64
}

fn header_crc(header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..12]);
    crc.update(&header[16..HEADER_LEN]);
    crc.finalize()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn fence_key(fence: &[u8; FENCE_LEN]) -> Key {
    Key {
        due_ms: u64_at(fence, 0),
        slot: u64_at(fence, 8) as u32,
    }
}

/// What is behind the blocks of a run.
struct Tail<'a> {
    /// Fences and ranges.
    checked: &'a [u8],
    fences: &'a [[u8; FENCE_LEN]],
    ranges: &'a [[u8; RANGE_LEN]],
    crc: u64,
}

impl Run {
    /// Opens a run and reads its header: nothing else. `Ok(Err(_))`: it is not what was written.
    pub(crate) fn open(
        disk: &dyn Disk,
        number: u64,
        store_id: u128,
    ) -> io::Result<Result<Self, DamagedRun>> {
        let damaged = |what| Ok(Err(DamagedRun { number, what }));
        let file = match disk.open(&run_name(number), Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return damaged("its file is missing");
            }
            file => file?,
        };
        let len = file.len()?;
        let mut header = [0; HEADER_LEN];
        if len < HEADER_LEN as u64 {
            return damaged("its header is cut");
        }
        file.read_at(&mut header, 0)?;
        if header[..8] != MAGIC
            || u32_at(&header, 8) != VERSION
            || u32_at(&header, 12) != header_crc(&header)
            || header[16..32] != store_id.to_le_bytes()
        {
            return damaged("its header is damaged");
        }
        let (count, bucket_ms, ranges) = (
            u64_at(&header, 32),
            u64_at(&header, 56),
            u64_at(&header, 64),
        );
        // No file is as long as 2^63 bytes, so more entries than that are refused before they are multiplied.
        let blocks = count.div_ceil(BLOCK_ENTRIES as u64);
        if count > len || ranges > len || file_len(blocks, ranges) != len || bucket_ms == 0 {
            return damaged("its length is not that of its entries");
        }
        Ok(Ok(Self {
            number,
            region: file.map()?,
            count,
            first_due_ms: u64_at(&header, 40),
            last_due_ms: u64_at(&header, 48),
            bucket_ms,
            ranges: ranges as usize,
        }))
    }

    fn damaged(&self, what: &'static str) -> DamagedRun {
        DamagedRun {
            number: self.number,
            what,
        }
    }

    fn blocks(&self) -> usize {
        (self.count as usize).div_ceil(BLOCK_ENTRIES)
    }

    /// What is behind the blocks, unchecked.
    fn tail(&self) -> Result<Tail<'_>, DamagedRun> {
        let (fences, ranges) = (self.blocks() * FENCE_LEN, self.ranges * RANGE_LEN);
        let start = HEADER_LEN + self.blocks() * BLOCK_LEN;
        let whole = self
            .region
            .bytes(start as u64, fences + ranges + TAIL_CRC_LEN);
        let whole = whole.ok_or_else(|| self.damaged("its fences are cut"))?;
        let (checked, crc) = whole.split_at(fences + ranges);
        let (fences, ranges) = checked.split_at(fences);
        Ok(Tail {
            checked,
            fences: fences.as_chunks().0,
            ranges: ranges.as_chunks().0,
            crc: u64_at(crc, 0),
        })
    }

    /// The bytes of a block, unchecked.
    fn block_bytes(&self, number: usize) -> Result<&[u8], DamagedRun> {
        let start = HEADER_LEN + number * BLOCK_LEN;
        let bytes = self.region.bytes(start as u64, BLOCK_LEN);
        bytes.ok_or_else(|| self.damaged("a block is cut"))
    }

    /// How many entries a block has.
    fn entries_of(&self, number: usize) -> usize {
        (self.count as usize - number * BLOCK_ENTRIES).min(BLOCK_ENTRIES)
    }

    /// The entries of a block.
    pub(crate) fn block(&self, number: usize) -> Result<Vec<Entry>, DamagedRun> {
        let (bytes, expected) = (self.block_bytes(number)?, self.entries_of(number));
        if u32_at(bytes, 0) != crc32fast::hash(&bytes[4..]) || u32_at(bytes, 4) as usize != expected
        {
            return Err(self.damaged("a block is damaged"));
        }
        let (entries, _) = bytes[BLOCK_HEADER_LEN..].as_chunks::<ENTRY_LEN>();
        entries[..expected]
            .iter()
            .map(|bytes| Entry::decode(bytes).ok_or_else(|| self.damaged("an entry is none")))
            .collect()
    }

    /// The entry with this key, checked if there is one. That there is none is not: see [`Self::find_checked`].
    pub(crate) fn find(&self, key: Key) -> Result<Option<Entry>, DamagedRun> {
        let due_ms = key.due_ms;
        if !(self.first_due_ms..=self.last_due_ms).contains(&due_ms) {
            return Ok(None);
        }
        let tail = self.tail()?;
        if !ranges::may_have(tail.ranges, self.bucket_ms, key) {
            return Ok(None);
        }
        let after = tail.fences.partition_point(|fence| fence_key(fence) <= key);
        let Some(number) = after.checked_sub(1) else {
            return Ok(None);
        };
        let (entries, _) = self.block_bytes(number)?[BLOCK_HEADER_LEN..].as_chunks::<ENTRY_LEN>();
        let entries = &entries[..self.entries_of(number)];
        let Ok(at) = entries.binary_search_by_key(&key, Entry::key_of) else {
            return Ok(None);
        };
        Ok(self.block(number)?.get(at).copied())
    }

    /// As [`Self::find`]; everything that the answer hangs on is checked.
    pub(crate) fn find_checked(self: &Arc<Self>, key: Key) -> Result<Option<Entry>, DamagedRun> {
        Ok(self.from(key)?.peek()?.filter(|entry| entry.key == key))
    }

    /// Reads everything.
    pub(crate) fn verify(&self) -> Result<(), DamagedRun> {
        let tail = self.tail()?;
        if tail.crc != u64::from(crc32fast::hash(tail.checked)) {
            return Err(self.damaged("its fences are damaged"));
        }
        let (mut last, mut ranges) = (None, Ranges::new(self.bucket_ms));
        for (number, fence) in tail.fences.iter().enumerate() {
            let block = self.block(number)?;
            let first = block.first().map(|entry| entry.key);
            if first != Some(fence_key(fence)) {
                return Err(self.damaged("a fence does not fit its block"));
            }
            for entry in block {
                if last >= Some(entry.key) {
                    return Err(self.damaged("its entries are not in order"));
                }
                last = Some(entry.key);
                ranges.add(entry.key);
            }
        }
        let first_due_ms = tail
            .fences
            .first()
            .map_or(0, |fence| fence_key(fence).due_ms);
        let last_due_ms = last.map_or(0, |key: Key| key.due_ms);
        if (first_due_ms, last_due_ms) != (self.first_due_ms, self.last_due_ms) {
            return Err(self.damaged("its header does not fit its entries"));
        }
        let mut expected = Vec::new();
        ranges.encode(&mut expected);
        if expected != tail.ranges.as_flattened() {
            return Err(self.damaged("its ranges do not fit its entries"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;
    use qmq_store::disk::SimulatedDisk;

    use super::*;
    use crate::entry::Origin;

    fn entry(due_ms: u64, slot: u32) -> Entry {
        Entry {
            key: Key { due_ms, slot },
            sequence: due_ms + u64::from(slot),
            subject: 3,
            body_len: 9,
            origin: Origin::Scheduled,
        }
    }

    fn written(disk: &SimulatedDisk, entries: &[Entry]) -> Arc<Run> {
        let all = entries.iter().copied().map(Ok::<_, io::Error>);
        write(disk, 7, 42, 10, entries.len() as u64 + 200, all).unwrap();
        Arc::new(Run::open(disk, 7, 42).unwrap().unwrap())
    }

    proptest! {
        #[test]
        fn a_run_gives_back_what_was_written_from_any_key(dues in prop::collection::vec(0_u64..50, 0..600), from in 0_u64..60) {
            let mut entries: Vec<_> = dues.iter().enumerate().map(|(slot, &due)| entry(due, slot as u32)).collect();
            entries.sort_unstable();
            let run = written(&SimulatedDisk::new(), &entries);
            run.verify().unwrap();
            let mut cursor = run.from(Key { due_ms: from, slot: 0 }).unwrap();
            let mut found = Vec::new();
            while let Some(one) = cursor.next().unwrap() {
                found.push(one);
            }
            let expected: Vec<_> = entries.iter().copied().filter(|one| one.key.due_ms >= from).collect();
            prop_assert_eq!(found, expected);
            for one in &entries {
                prop_assert_eq!(run.find(one.key).unwrap(), Some(*one));
                let other = Key { slot: one.key.slot + 1_000, ..one.key };
                prop_assert_eq!(run.find(other).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_reported() {
        let disk = SimulatedDisk::new();
        let entries: Vec<_> = (0..300).map(|n| entry(n / 3, n as u32)).collect();
        let run = written(&disk, &entries);
        run.verify().unwrap();
        let len = disk
            .open(&run_name(7), Access::Read)
            .unwrap()
            .len()
            .unwrap();
        drop(run);
        for at in 0..len {
            disk.flip_bit(&run_name(7), at, (at % 8) as u8).unwrap();
            let opened = Run::open(&disk, 7, 42).unwrap();
            let outcome = opened.and_then(|run| run.verify());
            assert!(outcome.is_err(), "byte {at}");
            disk.flip_bit(&run_name(7), at, (at % 8) as u8).unwrap();
        }
    }

    /// Fences are not checked as a whole before they are used: that would read all of them.
    #[test]
    fn a_flipped_fence_leads_nobody_astray() {
        let disk = SimulatedDisk::new();
        let entries: Vec<_> = (0..2_000).map(|n| entry(n / 3, n as u32)).collect();
        let run = written(&disk, &entries);
        let fences = HEADER_LEN as u64 + (run.blocks() * BLOCK_LEN) as u64;
        for at in (0..(run.blocks() * FENCE_LEN) as u64).step_by(3) {
            disk.flip_bit(&run_name(7), fences + at, (at % 8) as u8)
                .unwrap();
            for wanted in entries.iter().step_by(31) {
                if let Ok(found) = run.find_checked(wanted.key) {
                    assert_eq!(found, Some(*wanted), "byte {at} of the fences");
                }
                let found = run.find(wanted.key).unwrap();
                assert!(
                    found.is_none_or(|one| one == *wanted),
                    "byte {at} of the fences"
                );
            }
            disk.flip_bit(&run_name(7), fences + at, (at % 8) as u8)
                .unwrap();
        }
    }

    #[test]
    fn zeros_are_not_a_run() {
        let disk = SimulatedDisk::new();
        disk.create(&run_name(7), 4_096).unwrap();
        assert!(Run::open(&disk, 7, 0).unwrap().is_err());
        assert!(Run::open(&disk, 8, 0).unwrap().is_err(), "missing");
    }
}
