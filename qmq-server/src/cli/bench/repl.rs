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
Master and slave are two stores in one process, driven by one thread, which hands
every frame over as the bytes that a connection would carry. The slave's
acknowledgement counts when it has written (`AckPolicy::Buffered`), so that what
is measured is replication and not a second disk. At the end of each row the two
logs are compared.

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
               the store's own buffered appends (measured before and after; the
               better one counts)
  one          the store's own synced appends
  catch_up     reading a file as long as the log, once the system was asked to
               forget it, or writing and syncing it: whichever is slower

write_amplification, open_files, mappings: as `qmq bench store --help` says.

Examples:
  qmq bench repl
  qmq bench repl --messages 1000000 --size 100 --dir /dev/shm/bench
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
    /// Print JSON, one row a line
    #[arg(long)]
    json: bool,
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
    let before = append::alone(&plan)?;
    let mut following = append::following(&plan)?;
    let mut synced = sync::synced(&plan)?;
    let mut sync = sync::run(&plan)?;
    let after = append::alone(&plan)?;
    let append = if after.msgs_per_s > before.msgs_per_s {
        after
    } else {
        before
    };
    for row in [&mut following, &mut synced, &mut sync] {
        row.limit_msgs_per_s = append.msgs_per_s;
        row.ratio_to_limit = row.msgs_per_s / append.msgs_per_s;
    }
    let one = sync::one(&plan)?;
    let catch_up = catch_up::run(&plan)?;
    let rows = [append, following, synced, sync, one, catch_up];
    report::print(&rows, args.json)
}
