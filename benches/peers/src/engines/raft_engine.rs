//! raft-engine 0.4: one log of many raft groups, with an index in memory and group commit.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, LogBatch, MessageExt, ReadableSize};

use crate::cli::Plan;
use crate::engine::{Engine, Kind, Writer};
use crate::mode::Mode;
use crate::records::{RECORDS, Records};

pub const KIND: Kind = Kind {
    name: "raft-engine",
    supports: |mode| mode != Mode::Inflight64,
    open,
    is_peer: true,
};

fn open(dir: &Path, plan: &Plan) -> Result<Box<dyn Engine>> {
    let mut config = Config {
        dir: dir.to_string_lossy().into_owned(),
        // The records cannot be compressed.
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    };
    if plan.mode.is_synced() {
        // Files are written over rather than extended, which makes a sync much cheaper.
        config.prefill_for_recycle = true;
        config.prefill_limit = Some(ReadableSize::mb(512));
    }
    let engine = raft_engine::Engine::open(config)?;
    let synced = plan.mode.is_synced();
    Ok(Box::new(Raft {
        engine,
        synced,
        groups: AtomicU64::new(1),
    }))
}

struct Raft {
    engine: raft_engine::Engine,
    synced: bool,
    groups: AtomicU64,
}

impl Engine for Raft {
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>> {
        Ok(Box::new(GroupWriter {
            raft: self,
            group: self.groups.fetch_add(1, Ordering::Relaxed),
            batch: LogBatch::default(),
            entries: records.iter().map(entry).collect(),
            index: 0,
        }))
    }
}

/// A log entry. Of the messages that come with the protobuf crate this one has a number and a byte
/// string, like the entry of a raft log, so no generated code is needed.
struct Entries;

impl MessageExt for Entries {
    type Entry = UninterpretedOption;

    fn index(entry: &Self::Entry) -> u64 {
        entry.get_positive_int_value()
    }
}

fn entry(record: &[u8]) -> UninterpretedOption {
    let mut entry = UninterpretedOption::new();
    entry.set_string_value(record.to_vec());
    entry
}

/// Each thread writes a raft group of its own: indexes of a group are consecutive.
struct GroupWriter<'a> {
    raft: &'a Raft,
    group: u64,
    batch: LogBatch,
    entries: Vec<UninterpretedOption>,
    index: u64,
}

impl GroupWriter<'_> {
    fn write(&mut self, first: usize, count: usize) -> Result<()> {
        let entries = &mut self.entries[first..first + count];
        for entry in entries.iter_mut() {
            self.index += 1;
            entry.set_positive_int_value(self.index);
        }
        self.batch.add_entries::<Entries>(self.group, entries)?;
        self.raft.engine.write(&mut self.batch, self.raft.synced)?;
        Ok(())
    }
}

impl Writer for GroupWriter<'_> {
    fn append(&mut self, slot: usize) -> Result<()> {
        self.write(slot % RECORDS, 1)
    }

    fn append_batch(&mut self) -> Result<()> {
        self.write(0, RECORDS)
    }
}
