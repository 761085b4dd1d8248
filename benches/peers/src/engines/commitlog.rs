//! commitlog 0.2: segments with a mapped index. Its `flush` syncs only the index, so it has no
//! synced mode.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use commitlog::message::MessageBuf;
use commitlog::{CommitLog, LogOptions};

use crate::cli::Plan;
use crate::engine::{Engine, Kind, Writer};
use crate::records::Records;

pub const KIND: Kind = Kind {
    name: "commitlog",
    supports: |mode| !mode.is_synced(),
    open,
    is_peer: true,
};

fn open(dir: &Path, _plan: &Plan) -> Result<Box<dyn Engine>> {
    let mut options = LogOptions::new(dir);
    // A batch counts as one message: the default of 1 MB is less than 1,000 records of 1 KiB.
    options.message_max_bytes(4 << 20);
    Ok(Box::new(Log(Mutex::new(CommitLog::new(options)?))))
}

struct Log(Mutex<CommitLog>);

impl Engine for Log {
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(LogWriter {
            log,
            records,
            buffer: MessageBuf::default(),
        }))
    }
}

/// Holds the lock for good: a `CommitLog` has one writer.
struct LogWriter<'a> {
    log: MutexGuard<'a, CommitLog>,
    records: &'a Records,
    buffer: MessageBuf,
}

impl Writer for LogWriter<'_> {
    fn append(&mut self, slot: usize) -> Result<()> {
        self.log.append_msg(self.records.get(slot))?;
        Ok(())
    }

    fn append_batch(&mut self) -> Result<()> {
        self.buffer.clear();
        for record in self.records.iter() {
            self.buffer
                .push(record)
                .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
        self.log.append(&mut self.buffer)?;
        Ok(())
    }
}
