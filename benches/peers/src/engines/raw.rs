//! The limit: what the kernel allows when nothing but the record's bytes is written.
//!
//! Buffered: the record is copied into a mapping whose blocks were allocated before. Synced:
//! `pwrite` and `fdatasync`, one record at a time, over blocks that were written before; the modes
//! with 64 records at once count each of these as 64.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use memmap2::{MmapMut, MmapOptions};

use crate::cli::Plan;
use crate::engine::{Engine, Kind, Writer};
use crate::mode::Mode;
use crate::records::{RECORDS, Records};

pub const KIND: Kind = Kind {
    name: "raw",
    supports: |_| true,
    open,
    is_peer: false,
};

/// Bytes of the file that synced records are written into, over and over.
const SYNCED_FILE_BYTES: u64 = 64 << 20;

fn open(dir: &Path, plan: &Plan) -> Result<Box<dyn Engine>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.join("raw"))?;
    if plan.mode.is_synced() {
        let zeros = vec![0; 64 << 10];
        for offset in (0..SYNCED_FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        let group = if plan.mode == Mode::Synced1 { 1 } else { 64 };
        return Ok(Box::new(Synced { file, group }));
    }
    let batches = plan.messages.div_ceil(RECORDS as u64);
    let file_bytes = batches * (RECORDS * plan.mode.record_bytes()) as u64;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, file_bytes)?;
    Ok(Box::new(Buffered { file }))
}

struct Buffered {
    file: File,
}

impl Engine for Buffered {
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>> {
        // SAFETY: the file lies in a folder of this process alone, which never truncates it and
        // maps it once.
        let mapping = unsafe { MmapOptions::new().map_mut(&self.file)? };
        Ok(Box::new(Copier {
            mapping,
            records,
            end: 0,
        }))
    }
}

struct Copier<'a> {
    mapping: MmapMut,
    records: &'a Records,
    end: usize,
}

impl Copier<'_> {
    fn copy(&mut self, record: &[u8]) {
        let next = self.end + record.len();
        self.mapping[self.end..next].copy_from_slice(record);
        self.end = next;
    }
}

impl Writer for Copier<'_> {
    fn append(&mut self, slot: usize) -> Result<()> {
        self.copy(self.records.get(slot));
        Ok(())
    }

    fn append_batch(&mut self) -> Result<()> {
        self.records.iter().for_each(|record| self.copy(record));
        Ok(())
    }
}

struct Synced {
    file: File,
    group: u64,
}

impl Engine for Synced {
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>> {
        Ok(Box::new(Syncer {
            file: &self.file,
            records,
            end: 0,
        }))
    }

    fn threads(&self, _mode: Mode) -> usize {
        1
    }

    fn records_per_append(&self) -> u64 {
        self.group
    }
}

struct Syncer<'a> {
    file: &'a File,
    records: &'a Records,
    end: u64,
}

impl Writer for Syncer<'_> {
    fn append(&mut self, slot: usize) -> Result<()> {
        let record = self.records.get(slot);
        if self.end + record.len() as u64 > SYNCED_FILE_BYTES {
            self.end = 0;
        }
        self.file.write_all_at(record, self.end)?;
        self.file.sync_data()?;
        self.end += record.len() as u64;
        Ok(())
    }
}
