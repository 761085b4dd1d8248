//! `qmq bench repl`: a master and its slave in one process, beside the store by itself.

mod append;
mod catch_up;
pub(super) mod pair;
mod sync;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use qmq_store::{Message, Options};

use super::consume::record_bytes;
use super::store::{failed, io_failed};
use super::{limits, report};
use crate::cli::failure::Failure;
use crate::cli::files::WorkFolder;

const EXAMPLES: &str = "\
Master and slave are two stores in one process, each driven by a thread of its own,
as they would be by a process each: a slave takes in what its master reads on. Every
frame is handed over as the bytes that a connection would carry, which holds 1 MiB
and a frame. The slave's acknowledgement counts when it has written
(`AckPolicy::Buffered`), so that what is measured is replication and not a second
disk. At the end of each row the two logs are compared.

Rows:
  append    the store by itself, one thread, buffered
  async     the same on the master, while the slave follows; the row ends with the
            last append, the slave may come in later
  synced    the store by itself, appends that wait for its sync, 4,096 in flight by
            callbacks; a call is from the append to its callback
  sync      the same on the master, and each waits for the slave too
            (`Durability::Replicated`: synced here, written there)
  one       as `sync`, one in flight; `added_p50_us` and `added_p99_us`: so much
            more than a synced append to the store by itself
  catch_up  a slave that has nothing yet gets the whole log; from when the master
            is one until the slave has synced the last byte. rss_anon_bytes is
            the most seen meanwhile

lag_p50_ms, lag_p99_ms: from the append until the slave has written it, of one
message in 64.

Every row stands beside a limit of this machine, measured in the same run:
  append       copying records of the same length into a mapped file whose blocks
               are allocated
  async, synced, sync
               the store's own buffered appends
  one          the store's own synced appends
  catch_up     reading a file as long as the log, once the system was asked to
               forget it, or writing and syncing it: whichever is slower
`append` to `sync` and `catch_up` with its limits are measured twice, in turns, and
the better time counts: memory and disks are not equally fast at any two moments.

core_wait: share of the row's time in which the appending thread could have gone on
and had no core, since the other threads of both ends were at work on all of them.

write_amplification, open_files, mappings: as `qmq bench store --help` says.

Examples:
  qmq bench repl
  qmq bench repl --messages 1000000 --size 100 --dir /dev/shm/bench
  qmq bench repl --rows catch_up --messages 9500000     a slave 10 GB behind
  qmq bench repl --json | jq -r '[.name, .msgs_per_s, .ratio_to_limit, .lag_p99_ms] | @tsv'";

/// Arguments of `qmq bench repl`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Messages of a row; of `one` up to 5,000
    #[arg(long, value_name = "N", default_value_t = 200_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Bytes of a body
    #[arg(long, value_name = "B", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(0..=4 << 20))]
    size: u32,
    /// Folder to work in; must be empty or new; each row clears it [default: a temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only these rows (`append` too, where others are measured against it) [default: all]
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    rows: Vec<RowName>,
    /// Print JSON, one row a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum RowName {
    Append,
    Async,
    Synced,
    Sync,
    One,
    CatchUp,
}

/// The arguments, in the types that the rows work with.
#[derive(Debug)]
struct Plan {
    dir: PathBuf,
    messages: u64,
    size: usize,
}

const SUBJECT: &str = "bench";

impl Plan {
    fn message(&self) -> Message {
        Message::new(SUBJECT, Bytes::from(limits::sample(self.size)))
    }

    fn record_bytes(&self) -> usize {
        record_bytes(SUBJECT.len(), self.size)
    }

    fn options(&self) -> Options {
        Options::default()
    }

    fn folders(&self) -> Folders {
        Folders([self.dir.join("master"), self.dir.join("slave")])
    }
}

/// The folders of a row, which are removed after it.
struct Folders([PathBuf; 2]);

impl Folders {
    fn paths(&self) -> [&Path; 2] {
        [&self.0[0], &self.0[1]]
    }

    fn remove(self) -> Result<(), Failure> {
        for folder in &self.0 {
            if folder.exists() {
                std::fs::remove_dir_all(folder).map_err(|e| io_failed(&e))?;
            }
        }
        Ok(())
    }
}

/// Replication, or a store that it works on, refused.
fn repl_failed(error: &pair::Failed) -> Failure {
    failed("cannot replicate", &**error)
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let folder = WorkFolder::prepare(args.dir.as_deref())?;
    let plan = Plan {
        dir: folder.path().to_owned(),
        messages: args.messages,
        size: args.size as usize,
    };
    let wanted = |name| args.rows.is_empty() || args.rows.contains(&name);
    let beside_appends = [
        (RowName::Async, append::following as Measure),
        (RowName::Synced, sync::synced),
        (RowName::Sync, sync::run),
    ];
    let beside_appends = beside_appends.into_iter().filter(|(name, _)| wanted(*name));
    let measures: Vec<Measure> = beside_appends.map(|(_, measure)| measure).collect();
    let mut rows = Vec::new();
    if wanted(RowName::Append) || !measures.is_empty() {
        let all = [append::alone as Measure].into_iter().chain(measures);
        rows = best_in_turns(&plan, &all.collect::<Vec<_>>())?;
        let append = rows[0].msgs_per_s;
        for row in &mut rows[1..] {
            row.limit_msgs_per_s = append;
            row.ratio_to_limit = row.msgs_per_s / append;
        }
    }
    if wanted(RowName::One) {
        rows.push(sync::one(&plan)?);
    }
    if wanted(RowName::CatchUp) {
        rows.push(catch_up::run(&plan)?);
    }
    report::print(&rows, args.json)
}

type Measure = fn(&Plan) -> Result<report::Row, Failure>;

/// Measures each of them twice, in turns, so that none has the better of the machine's moods; the better row counts.
fn best_in_turns(plan: &Plan, measures: &[Measure]) -> Result<Vec<report::Row>, Failure> {
    let turn = || measures.iter().map(|measure| measure(plan));
    let mut best = turn().collect::<Result<Vec<_>, _>>()?;
    for (best, row) in best.iter_mut().zip(turn()) {
        let row = row?;
        if row.msgs_per_s > best.msgs_per_s {
            *best = row;
        }
    }
    Ok(best)
}
