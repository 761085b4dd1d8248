//! A run: an immutable file of index entries in due order, in blocks that are checked before they are believed.
//!
//! ```text
//! header  4,096 bytes: magic, version, checksum, store id, count, first and last due time, zeros
//! blocks  4,096 bytes each: checksum, count, 24 zero bytes, up to 127 entries
//! fences  16 bytes each, one a block: due time and slot of its first entry; then 8 bytes with their checksum
//! ```

use std::io;
use std::sync::Arc;

use qmq_store::disk::{Access, Disk, DiskFile, Region};

use crate::entry::{ENTRY_LEN, Entry, Key};

const MAGIC: [u8; 8] = *b"QMQ-RUN\n";
const VERSION: u32 = 1;
pub(crate) const HEADER_LEN: usize = 4_096;
pub(crate) const FENCE_LEN: usize = 16;
pub(crate) const FENCES_CRC_LEN: usize = 8;
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
}

/// Writes a run of at most `most` entries, which come in order, and gives it its name. Memory does not grow with it, but for 16 bytes a block.
/// The name becomes durable with the disk's next sync of names.
pub(crate) fn write<E: From<io::Error>>(
    disk: &dyn Disk,
    number: u64,
    store_id: u128,
    most: u64,
    entries: impl Iterator<Item = Result<Entry, E>>,
) -> Result<u64, E> {
    let name = run_name(number);
    let temporary = format!("{name}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = disk.create(&temporary, file_len(most.div_ceil(BLOCK_ENTRIES as u64)))?;
    match write_into(&*file, store_id, entries) {
        Ok(count) => {
            disk.rename(&temporary, &name)?;
            Ok(count)
        }
        Err(error) => {
            // What is left behind would only take room; the next open removes it as well.
            let _ = disk.remove(&temporary);
            Err(error)
        }
    }
}

fn write_into<E: From<io::Error>>(
    file: &dyn DiskFile,
    store_id: u128,
    entries: impl Iterator<Item = Result<Entry, E>>,
) -> Result<u64, E> {
    const PIECE: usize = 256 * BLOCK_LEN;
    let (mut out, mut at) = (Vec::with_capacity(PIECE), HEADER_LEN as u64);
    let mut fences = Vec::new();
    let (mut count, mut first_due_ms, mut last_due_ms) = (0_u64, 0, 0);
    let mut in_block = 0;
    for entry in entries {
        let entry = entry?;
        if in_block == 0 {
            fences.extend_from_slice(&entry.key.due_ms.to_le_bytes());
            fences.extend_from_slice(&u64::from(entry.key.slot).to_le_bytes());
            out.resize(out.len() + BLOCK_HEADER_LEN, 0);
        }
        if count == 0 {
            first_due_ms = entry.key.due_ms;
        }
        last_due_ms = entry.key.due_ms;
        out.extend_from_slice(&entry.encode());
        (count, in_block) = (count + 1, in_block + 1);
        if in_block == BLOCK_ENTRIES {
            end_block(&mut out, in_block);
            in_block = 0;
            if out.len() >= PIECE {
                file.write_at(&out, at)?;
                at += out.len() as u64;
                out.clear();
            }
        }
    }
    if in_block > 0 {
        end_block(&mut out, in_block);
    }
    let crc = crc32fast::hash(&fences);
    out.append(&mut fences);
    out.extend_from_slice(&u64::from(crc).to_le_bytes());
    file.write_at(&out, at)?;
    file.set_len(at + out.len() as u64)?;
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&store_id.to_le_bytes());
    for word in [count, first_due_ms, last_due_ms] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header.resize(HEADER_LEN, 0);
    let crc = header_crc(&header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    file.write_at(&header, 0)?;
    file.sync()?;
    Ok(count)
}

/// Fills the block up whose entries end `out`, and its header.
fn end_block(out: &mut Vec<u8>, entries: usize) {
    let start = out.len() - BLOCK_HEADER_LEN - entries * ENTRY_LEN;
    out[start + 4..start + 8].copy_from_slice(&(entries as u32).to_le_bytes());
    out.resize(start + BLOCK_LEN, 0);
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Bytes of a run of so many blocks.
fn file_len(blocks: u64) -> u64 {
    (HEADER_LEN + FENCES_CRC_LEN) as u64 + blocks * (BLOCK_LEN + FENCE_LEN) as u64
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
        let count = u64_at(&header, 32);
        // No file is as long as 2^63 bytes, so more entries than that are refused before they are multiplied.
        let blocks = count.div_ceil(BLOCK_ENTRIES as u64);
        if count > len || file_len(blocks) != len {
            return damaged("its length is not that of its entries");
        }
        Ok(Ok(Self {
            number,
            region: file.map()?,
            count,
            first_due_ms: u64_at(&header, 40),
            last_due_ms: u64_at(&header, 48),
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

    /// Keys of the first entries of the blocks, unchecked, and their checksum.
    fn fences(&self) -> Result<(&[[u8; FENCE_LEN]], u64), DamagedRun> {
        let len = self.blocks() * FENCE_LEN;
        let start = HEADER_LEN + self.blocks() * BLOCK_LEN;
        let whole = self.region.bytes(start as u64, len + FENCES_CRC_LEN);
        let whole = whole.ok_or_else(|| self.damaged("its fences are cut"))?;
        let (fences, crc) = whole.split_at(len);
        Ok((fences.as_chunks().0, u64_at(crc, 0)))
    }

    /// The entries of a block.
    pub(crate) fn block(&self, number: usize) -> Result<Vec<Entry>, DamagedRun> {
        let start = HEADER_LEN + number * BLOCK_LEN;
        let bytes = self.region.bytes(start as u64, BLOCK_LEN);
        let bytes = bytes.ok_or_else(|| self.damaged("a block is cut"))?;
        let expected = (self.count as usize - number * BLOCK_ENTRIES).min(BLOCK_ENTRIES);
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

    /// All entries from `key` on, block by block.
    pub(crate) fn from(self: &Arc<Self>, key: Key) -> Result<Cursor, DamagedRun> {
        let mut cursor = Cursor {
            run: Arc::clone(self),
            next_block: 0,
            block: Vec::new().into_iter(),
        };
        if self.count == 0 || key.due_ms > self.last_due_ms {
            cursor.next_block = self.blocks();
            return Ok(cursor);
        }
        let (fences, _) = self.fences()?;
        let after = fences.partition_point(|fence| fence_key(fence) <= key);
        cursor.next_block = after.saturating_sub(1);
        // Where fences lead is checked by the blocks on both sides, which have checksums.
        let first_key = |block: usize| Ok(self.block(block)?.first().map(|entry| entry.key));
        if cursor.next_block > 0 && first_key(cursor.next_block)? > Some(key)
            || after < fences.len() && first_key(after)? <= Some(key)
        {
            return Err(self.damaged("its fences are damaged"));
        }
        while let Some(entry) = cursor.peek()? {
            if entry.key >= key {
                break;
            }
            cursor.block.next();
        }
        Ok(cursor)
    }

    /// The entry with this key.
    pub(crate) fn find(self: &Arc<Self>, key: Key) -> Result<Option<Entry>, DamagedRun> {
        if key.due_ms < self.first_due_ms {
            return Ok(None);
        }
        Ok(self.from(key)?.peek()?.filter(|entry| entry.key == key))
    }

    /// Reads everything.
    pub(crate) fn verify(&self) -> Result<(), DamagedRun> {
        let (fences, crc) = self.fences()?;
        if crc != u64::from(crc32fast::hash(fences.as_flattened())) {
            return Err(self.damaged("its fences are damaged"));
        }
        let mut last = None;
        for (number, fence) in fences.iter().enumerate() {
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
            }
        }
        Ok(())
    }
}

/// Walks a run.
#[derive(Debug)]
pub(crate) struct Cursor {
    run: Arc<Run>,
    next_block: usize,
    block: std::vec::IntoIter<Entry>,
}

impl Cursor {
    /// The entry that [`Self::next`] gives.
    pub(crate) fn peek(&mut self) -> Result<Option<Entry>, DamagedRun> {
        while self.block.as_slice().is_empty() {
            if self.next_block >= self.run.blocks() {
                return Ok(None);
            }
            self.block = self.run.block(self.next_block)?.into_iter();
            self.next_block += 1;
        }
        Ok(self.block.as_slice().first().copied())
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, DamagedRun> {
        let entry = self.peek()?;
        self.block.next();
        Ok(entry)
    }
}

/// Entries of several runs in one order.
#[derive(Debug)]
pub(crate) struct Merge {
    cursors: Vec<Cursor>,
    heads: std::collections::BinaryHeap<std::cmp::Reverse<(Entry, usize)>>,
}

impl Merge {
    pub(crate) fn new(runs: &[Arc<Run>], from: Key) -> Result<Self, DamagedRun> {
        let mut merge = Self {
            cursors: Vec::with_capacity(runs.len()),
            heads: std::collections::BinaryHeap::with_capacity(runs.len()),
        };
        for run in runs {
            merge.cursors.push(run.from(from)?);
            merge.pull(merge.cursors.len() - 1)?;
        }
        Ok(merge)
    }

    fn pull(&mut self, number: usize) -> Result<(), DamagedRun> {
        if let Some(entry) = self.cursors[number].next()? {
            self.heads.push(std::cmp::Reverse((entry, number)));
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, DamagedRun> {
        let Some(std::cmp::Reverse((entry, number))) = self.heads.pop() else {
            return Ok(None);
        };
        self.pull(number)?;
        Ok(Some(entry))
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
        write(disk, 7, 42, entries.len() as u64 + 200, all).unwrap();
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
                if let Ok(found) = run.find(wanted.key) {
                    assert_eq!(found, Some(*wanted), "byte {at} of the fences");
                }
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
