//! qmq-store itself, with its default options: index, checksum and wake-up included.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use qmq_store::{Durability, Error, Message, Options, Store};

use crate::cli::Plan;
use crate::engine::{Engine, Kind, Writer};
use crate::measure::{Load, latencies};
use crate::mode::Mode;
use crate::records::{RECORDS, Records};

pub const KIND: Kind = Kind {
    name: "qmq",
    supports: |_| true,
    open,
    is_peer: false,
};

const SUBJECT: &str = "peers.records";
/// Records that each thread keeps in flight.
const IN_FLIGHT_PER_THREAD: usize = 16;

fn open(dir: &Path, plan: &Plan) -> Result<Box<dyn Engine>> {
    let store = Store::open(dir, Options::default())?;
    let durability = if plan.mode.is_synced() {
        Durability::Synced
    } else {
        Durability::Buffered
    };
    if plan.mode.is_synced() {
        settle(&store)?;
    }
    Ok(Box::new(Log { store, durability }))
}

/// Fills the first segment and a little more by synced appends. Once syncs are frequent, the store writes its segments' blocks ahead, as `raw` and others
/// do when they are opened; what is measured is how it goes on.
fn settle(store: &Store) -> Result<()> {
    let message = Message::new(SUBJECT, vec![0; 8 << 10]);
    for _ in 0..8_600 {
        store.append(&message)?;
    }
    Ok(())
}

struct Log {
    store: Store,
    durability: Durability,
}

impl Engine for Log {
    fn writer<'a>(&'a self, records: &'a Records) -> Result<Box<dyn Writer + 'a>> {
        Ok(Box::new(LogWriter {
            log: self,
            messages: messages(records),
        }))
    }

    fn in_flight(&self, records: &Records, time: Duration) -> Option<Result<Load>> {
        Some(in_flight(&self.store, &messages(records), time))
    }
}

fn messages(records: &Records) -> Vec<Message> {
    records
        .iter()
        .map(|record| Message::new(SUBJECT, record.to_vec()))
        .collect()
}

struct LogWriter<'a> {
    log: &'a Log,
    messages: Vec<Message>,
}

impl Writer for LogWriter<'_> {
    fn append(&mut self, slot: usize) -> Result<()> {
        self.log
            .store
            .append_with(&self.messages[slot % RECORDS], self.log.durability)?;
        Ok(())
    }

    fn append_batch(&mut self) -> Result<()> {
        self.log
            .store
            .append_batch(&self.messages, self.log.durability)?;
        Ok(())
    }
}

fn in_flight(store: &Store, messages: &[Message], time: Duration) -> Result<Load> {
    let start = Instant::now();
    let loads = thread::scope(|scope| {
        let threads: Vec<_> = (0..Mode::Inflight64.threads())
            .map(|_| scope.spawn(|| in_flight_of_thread(store, messages, start + time)))
            .collect();
        threads
            .into_iter()
            .map(crate::measure::join)
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(Load::sum(loads, start.elapsed()))
}

fn in_flight_of_thread(store: &Store, messages: &[Message], until: Instant) -> Result<Load> {
    let (done, synced) = mpsc::channel::<(Instant, Result<(), Error>)>();
    let mut latency = latencies();
    let (mut appended, mut answered) = (0_usize, 0_usize);
    loop {
        while appended - answered < IN_FLIGHT_PER_THREAD && Instant::now() < until {
            let (started, done) = (Instant::now(), done.clone());
            let at = store.append_with(&messages[appended % RECORDS], Durability::Buffered)?;
            store.when(at.end_offset, Durability::Synced, move |result| {
                // The receiver outlives every callback unless an append failed meanwhile.
                let _ = done.send((started, result));
            });
            appended += 1;
        }
        if appended == answered {
            return Ok(Load::new(appended as u64, latency));
        }
        let (started, result) = synced.recv()?;
        result?;
        latency.saturating_record(started.elapsed().as_nanos() as u64);
        answered += 1;
    }
}
