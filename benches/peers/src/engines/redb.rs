//! redb 4: a copy-on-write B-tree; keys are sequence numbers, each call is one transaction.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use redb::{Database, Durability, TableDefinition};

use crate::cli::Plan;
use crate::engine::{Engine, Kind, Writer};
use crate::mode::Mode;
use crate::records::Records;

pub const KIND: Kind = Kind {
    name: "redb",
    supports: |mode| mode != Mode::Inflight64,
    open,
    is_peer: true,
};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("records");

fn open(dir: &Path, plan: &Plan) -> Result<Box<dyn Engine>> {
    let durability = if plan.mode.is_synced() {
        Durability::Immediate
    } else {
        Durability::None
    };
    let database = Database::create(dir.join("redb"))?;
    Ok(Box::new(Tree {
        database,
        durability,
        next: AtomicU64::new(0),
    }))
}

struct Tree {
    database: Database,
    durability: Durability,
    next: AtomicU64,
}

impl Tree {
    fn insert<'a>(&self, records: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for record in records {
                table.insert(self.next.fetch_add(1, Ordering::Relaxed), record)?;
            }
        }
        transaction.commit()?;
        Ok(())
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
        self.tree.insert(std::iter::once(self.records.get(slot)))
    }

    fn append_batch(&mut self) -> Result<()> {
        self.tree.insert(self.records.iter())
    }
}
