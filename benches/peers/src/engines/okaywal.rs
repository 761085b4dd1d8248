//! okaywal 0.3: every commit is synced, commits of several threads share a sync. It has no
//! buffered mode and no batches.

use std::path::Path;

use anyhow::Result;
use okaywal::{Configuration, LogVoid, WriteAheadLog};

use crate::cli::Plan;
use crate::engine::{Engine, Kind, Writer};
use crate::mode::Mode;
use crate::records::Records;

pub const KIND: Kind = Kind {
    name: "okaywal",
    supports: |mode| matches!(mode, Mode::Synced1 | Mode::Synced64),
    open,
    is_peer: true,
};

fn open(dir: &Path, _plan: &Plan) -> Result<Box<dyn Engine>> {
    // `LogVoid` forgets what is checkpointed, so files are recycled. Larger files than the default
    // of 1 MiB are recycled less often.
    let configuration = Configuration::default_for(dir)
        .preallocate_bytes(16 << 20)
        .checkpoint_after_bytes(15 << 20);
    Ok(Box::new(Wal(configuration.open(LogVoid)?)))
}

struct Wal(WriteAheadLog);

impl Engine for Wal {
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>> {
        Ok(Box::new(WalWriter {
            wal: &self.0,
            records,
        }))
    }
}

struct WalWriter<'a> {
    wal: &'a WriteAheadLog,
    records: &'a Records,
}

impl Writer for WalWriter<'_> {
    fn append(&mut self, slot: usize) -> Result<()> {
        let mut entry = self.wal.begin_entry()?;
        entry.write_chunk(self.records.get(slot))?;
        entry.commit()?;
        Ok(())
    }
}
