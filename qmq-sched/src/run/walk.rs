//! Walking runs: one, or several in one order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::{DamagedRun, Run, fence_key};
use crate::entry::{Entry, Key};

/// Walks a run.
#[derive(Debug)]
pub(crate) struct Cursor {
    run: Arc<Run>,
    next_block: usize,
    block: std::vec::IntoIter<Entry>,
}

impl Run {
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
        let fences = self.tail()?.fences;
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
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Merge {
    pub(crate) fn new(runs: &[Arc<Run>], from: Key) -> Result<Self, DamagedRun> {
        let mut merge = Self {
            cursors: Vec::with_capacity(runs.len()),
            heads: BinaryHeap::with_capacity(runs.len()),
        };
        for run in runs {
            merge.cursors.push(run.from(from)?);
            merge.pull(merge.cursors.len() - 1)?;
        }
        Ok(merge)
    }

    fn pull(&mut self, number: usize) -> Result<(), DamagedRun> {
        if let Some(entry) = self.cursors[number].next()? {
            self.heads.push(Reverse((entry, number)));
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, DamagedRun> {
        let Some(Reverse((entry, number))) = self.heads.pop() else {
            return Ok(None);
        };
        self.pull(number)?;
        Ok(Some(entry))
    }
}
