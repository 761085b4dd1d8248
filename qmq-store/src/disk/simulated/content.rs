//! The bytes of a file, in shared blocks: a copy for a crash image costs only the blocks that differ.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: u64 = 4096;

type Block = [u8; BLOCK_BYTES as usize];

/// Sparse bytes without an end; what was never written reads as zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    blocks: BTreeMap<u64, Arc<Block>>,
}

impl Content {
    pub(super) fn read(&self, mut offset: u64, mut buf: &mut [u8]) {
        while !buf.is_empty() {
            let (block, at, count) = piece(offset, buf.len());
            let (head, rest) = buf.split_at_mut(count);
            match self.blocks.get(&block) {
                Some(bytes) => head.copy_from_slice(&bytes[at..at + count]),
                None => head.fill(0),
            }
            buf = rest;
            offset += count as u64;
        }
    }

    pub(super) fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (block, at, count) = piece(offset, bytes.len());
            let (head, rest) = bytes.split_at(count);
            let block = self
                .blocks
                .entry(block)
                .or_insert_with(|| Arc::new([0; BLOCK_BYTES as usize]));
            Arc::make_mut(block)[at..at + count].copy_from_slice(head);
            bytes = rest;
            offset += count as u64;
        }
    }

    /// Zeroes everything from `len` on.
    pub(super) fn truncate(&mut self, len: u64) {
        self.blocks.split_off(&len.div_ceil(BLOCK_BYTES));
        let at = (len % BLOCK_BYTES) as usize;
        if at > 0
            && let Some(block) = self.blocks.get_mut(&(len / BLOCK_BYTES))
        {
            Arc::make_mut(block)[at..].fill(0);
        }
    }

    /// Forgets a block, which then reads as zero.
    pub(super) fn drop_block(&mut self, block: u64) {
        self.blocks.remove(&block);
    }

    /// The stretches of `start..end` that may hold something else than zeros, in order.
    pub(super) fn written(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        if start >= end {
            return Vec::new();
        }
        let bounds = |block: u64| {
            let at = block * BLOCK_BYTES;
            (at.max(start), (at + BLOCK_BYTES).min(end))
        };
        let blocks = self
            .blocks
            .range(start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES));
        blocks.map(|(&block, _)| bounds(block)).collect()
    }
}

/// The block at `offset`, the place within it, and how many of `len` bytes are in it.
fn piece(offset: u64, len: usize) -> (u64, usize, usize) {
    let at = (offset % BLOCK_BYTES) as usize;
    (offset / BLOCK_BYTES, at, len.min(BLOCK_BYTES as usize - at))
}
