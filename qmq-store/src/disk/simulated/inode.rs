//! One file: its newest bytes and length, what they were since the last sync, and the regions that show them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};

use super::super::Region;
use super::content::{BLOCK_BYTES, Content};
use super::history::{History, Rng};

/// Bytes of a sector, the unit that a disk writes whole.
pub(super) const SECTOR_BYTES: u64 = 512;

pub(super) type Sector = [u8; SECTOR_BYTES as usize];

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) content: Content,
    pub(super) len: u64,
    pub(super) sectors: BTreeMap<u64, History<Box<Sector>>>,
    pub(super) lengths: History<u64>,
    /// Blocks within the length that take no space.
    pub(super) holes: BTreeSet<u64>,
    pub(super) regions: Vec<Weak<Region>>,
    pub(super) handles: u64,
}

impl Inode {
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > self.len)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content.read(offset, buf);
        Ok(())
    }

    /// Writes within the length. With `torn`, each sector also gets a version in which only a beginning of its bytes
    /// has arrived.
    pub(super) fn write(
        &mut self,
        tick: &mut u64,
        offset: u64,
        bytes: &[u8],
        mut torn: Option<Rng>,
    ) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (sector, within) = (at / SECTOR_BYTES, (at % SECTOR_BYTES) as usize);
            let count = (bytes.len() - done).min(SECTOR_BYTES as usize - within);
            self.replace_sector(
                tick,
                sector,
                within,
                &bytes[done..done + count],
                torn.as_mut(),
            );
            self.holes.remove(&(at / BLOCK_BYTES));
            done += count;
        }
        self.content.write(offset, bytes);
        self.show(offset, bytes);
    }

    /// Notes what a sector was before `bytes` are written into it.
    fn replace_sector(
        &mut self,
        tick: &mut u64,
        sector: u64,
        within: usize,
        bytes: &[u8],
        torn: Option<&mut Rng>,
    ) {
        let mut old = [0; SECTOR_BYTES as usize];
        self.content.read(sector * SECTOR_BYTES, &mut old);
        if old[within..within + bytes.len()] == *bytes {
            if let Some(history) = self.sectors.get_mut(&sector) {
                history.rewrite();
            }
            return;
        }
        let history = self.sectors.entry(sector).or_default();
        *tick += 1;
        history.replace(Box::new(old), *tick);
        if let Some(rng) = torn
            && bytes.len() > 1
        {
            let arrived = 1 + rng.below(bytes.len() as u64 - 1) as usize;
            let mut partial = old;
            partial[within..within + arrived].copy_from_slice(&bytes[..arrived]);
            *tick += 1;
            history.replace(Box::new(partial), *tick);
        }
    }

    /// Writes zeros, at the cost of what is not zero yet.
    fn clear(&mut self, tick: &mut u64, start: u64, end: u64) {
        if start >= end {
            return;
        }
        for (from, to) in self.content.written(start, end) {
            self.write(tick, from, &vec![0; (to - from) as usize], None);
        }
        for (_, history) in self
            .sectors
            .range_mut(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES))
        {
            history.rewrite();
        }
        for block in start.div_ceil(BLOCK_BYTES)..end / BLOCK_BYTES {
            self.content.drop_block(block);
        }
    }

    pub(super) fn set_len(&mut self, tick: &mut u64, len: u64) {
        if len == self.len {
            return;
        }
        // What is cut off reads as zero if the file grows again.
        self.clear(tick, len, self.len);
        *tick += 1;
        self.lengths.replace(self.len, *tick);
        self.len = len;
        self.holes.split_off(&len.div_ceil(BLOCK_BYTES));
    }

    pub(super) fn punch(&mut self, tick: &mut u64, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.len);
        self.clear(tick, offset, end);
        // The last block of the file may be short, and is given back if the rest of it is.
        let last = if end == self.len {
            end.div_ceil(BLOCK_BYTES)
        } else {
            end / BLOCK_BYTES
        };
        self.holes.extend(offset.div_ceil(BLOCK_BYTES)..last);
    }

    /// Bytes that the file takes.
    pub(super) fn allocated(&self) -> u64 {
        self.len
            - self
                .holes
                .iter()
                .map(|&block| self.block_len(block))
                .sum::<u64>()
    }

    /// Bytes that a write needs beyond those that the file takes already.
    pub(super) fn needs(&self, offset: u64, len: u64) -> u64 {
        let end = offset.saturating_add(len);
        let holes = self
            .holes
            .range(offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES));
        let filled = if len == 0 {
            0
        } else {
            holes.map(|&block| self.block_len(block)).sum()
        };
        end.saturating_sub(self.len).saturating_add(filled)
    }

    fn block_len(&self, block: u64) -> u64 {
        self.len
            .saturating_sub(block * BLOCK_BYTES)
            .min(BLOCK_BYTES)
    }

    /// Makes everything durable but what a failed sync gave up.
    pub(super) fn sync(&mut self) {
        self.sectors.retain(|_, history| !history.is_dirty());
        if self.lengths.is_dirty() {
            self.lengths = History::default();
        }
    }

    /// Gives up what is not durable, as a failed sync does.
    pub(super) fn strand(&mut self) {
        self.sectors.values_mut().for_each(History::strand);
        self.lengths.strand();
    }

    pub(super) fn map(&mut self) -> io::Result<Arc<Region>> {
        let len = usize::try_from(self.len).map_err(io::Error::other)?;
        self.regions.retain(|region| region.strong_count() > 0);
        let live = self
            .regions
            .iter()
            .filter_map(Weak::upgrade)
            .find(|region| region.len() == len);
        if let Some(region) = live {
            return Ok(region);
        }
        let region = Arc::new(Region::heap(len));
        let mut buf = [0; BLOCK_BYTES as usize];
        for (from, to) in self.content.written(0, self.len) {
            let bytes = &mut buf[..(to - from) as usize];
            self.content.read(from, bytes);
            region.store(from, bytes);
        }
        self.regions.push(Arc::downgrade(&region));
        Ok(region)
    }

    /// Whether anybody holds a region of it.
    pub(super) fn is_mapped(&self) -> bool {
        self.regions.iter().any(|region| region.strong_count() > 0)
    }

    /// Whether the region came from this file.
    pub(super) fn owns(&self, region: &Region) -> bool {
        self.regions
            .iter()
            .any(|own| std::ptr::eq(own.as_ptr(), region))
    }

    /// Writes to all regions, as far as they reach.
    pub(super) fn show(&self, offset: u64, bytes: &[u8]) {
        for region in self.regions.iter().filter_map(Weak::upgrade) {
            let reach = (region.len() as u64)
                .saturating_sub(offset)
                .min(bytes.len() as u64);
            if reach > 0 {
                region.store(offset, &bytes[..reach as usize]);
            }
        }
    }

    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) -> io::Result<()> {
        if bit > 7 || offset >= self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut byte = [0];
        self.content.read(offset, &mut byte);
        byte[0] ^= 1 << bit;
        self.content.write(offset, &byte);
        self.show(offset, &byte);
        if let Some(history) = self.sectors.get_mut(&(offset / SECTOR_BYTES)) {
            for version in history.older_mut() {
                version[(offset % SECTOR_BYTES) as usize] ^= 1 << bit;
            }
        }
        Ok(())
    }
}
