//! fjall 3: an LSM tree behind a journal; keys are sequence numbers.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::cli::Plan;
use crate::engine::{Engine, Kind, Writer};
use crate::mode::Mode;
use crate::records::Records;

pub const KIND: Kind = Kind {
    name: "fjall",
    supports: |mode| mode != Mode::Inflight64,
    open,
    is_peer: true,
};

fn open(dir: &Path, plan: &Plan) -> Result<Box<dyn Engine>> {
    // The records cannot be compressed. A write is handed to the system before it returns, as in
    // every other engine here (the default).
    let database = Database::builder(dir)
        .journal_compression(CompressionType::None)
        .open()?;
    let keyspace = database.keyspace("records", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Tree {
        database,
        keyspace,
        synced: plan.mode.is_synced(),
        next: AtomicU64::new(0),
    }))
}

struct Tree {
    database: Database,
    keyspace: Keyspace,
    synced: bool,
    next: AtomicU64,
}

impl Tree {
    fn key(&self) -> [u8; 8] {
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }
}

impl Engine for Tree {
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>> {
        Ok(Box::new(TreeWriter {
            tree: self,
            records,
        }))
    }
}

struct TreeWriter<'a> {
    tree: &'a Tree,
    records: &'a Records,
}

impl Writer for TreeWriter<'_> {
    fn append(&mut self, slot: usize) -> Result<()> {
        self.tree
            .keyspace
            .insert(self.tree.key(), self.records.get(slot))?;
        if self.tree.synced {
            self.tree.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn append_batch(&mut self) -> Result<()> {
        let mut batch = self.tree.database.batch();
        for record in self.records.iter() {
            batch.insert(&self.tree.keyspace, self.tree.key(), record);
        }
        batch.commit()?;
        Ok(())
    }
}
