//! walrus-rust 0.2: a log of topics. The parent sets its two environment variables, the folder
//! and silence, when it starts the process.

use std::path::Path;

use anyhow::Result;
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use crate::cli::Plan;
use crate::engine::{Engine, Kind, Writer};
use crate::mode::Mode;
use crate::records::Records;

pub const KIND: Kind = Kind {
    name: "walrus",
    supports: |mode| mode != Mode::Inflight64,
    open,
    is_peer: true,
};

const TOPIC: &str = "records";

fn open(_dir: &Path, plan: &Plan) -> Result<Box<dyn Engine>> {
    let schedule = if plan.mode.is_synced() {
        FsyncSchedule::SyncEach
    } else {
        FsyncSchedule::NoFsync
    };
    let reads = ReadConsistency::AtLeastOnce {
        persist_every: 1_000,
    };
    Ok(Box::new(Wal(Walrus::with_consistency_and_schedule(
        reads, schedule,
    )?)))
}

struct Wal(Walrus);

impl Engine for Wal {
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>> {
        Ok(Box::new(TopicWriter {
            wal: &self.0,
            records,
            batch: records.iter().collect(),
        }))
    }
}

struct TopicWriter<'a> {
    wal: &'a Walrus,
    records: &'a Records,
    batch: Vec<&'a [u8]>,
}

impl Writer for TopicWriter<'_> {
    fn append(&mut self, slot: usize) -> Result<()> {
        self.wal.append_for_topic(TOPIC, self.records.get(slot))?;
        Ok(())
    }

    fn append_batch(&mut self) -> Result<()> {
        self.wal.batch_append_for_topic(TOPIC, &self.batch)?;
        Ok(())
    }
}
