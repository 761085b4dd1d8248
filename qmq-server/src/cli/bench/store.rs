//! `qmq bench store`: what is measured, and with which store.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use qmq_store::{Durability, Options, Store};

use super::consume::record_bytes;
use super::{consume, produce, reopen, report};
use crate::cli::failure::Failure;
use crate::cli::files::WorkFolder;
use crate::cli::store::Level;

const EXAMPLES: &str = "\
Rows:
  append   each of the threads appends its share
  pull     each group takes everything once, in batches; pulling and
  ack      acknowledging take turns and are measured apart
  reopen   the store is dropped without being closed and opened again, five
           times; `messages` is what is stored, five times
  reopen_closed
           the same after a close

Every row stands beside a limit of this machine, measured in the same run:
  append, buffered   copying records of the same length into a mapped file
                     whose blocks are allocated, by as many threads
  append, synced     write and fdatasync, one after the other, of as many
                     records as can be under way at a time (threads times
                     --append-batch), into blocks that are allocated or that
                     were written before, whichever is faster
                     (both measured before and after, the better one counts)
  pull, ack          CRC-32 over the same records straight from the store's
                     files, in the order of the pulls, by as many threads (an
                     acknowledgement reads none of them, so its ratio can be
                     more than 1)
  reopen, reopen_closed
                     reading and checksumming the newest checkpoint and the
                     bytes of the log after it

write_amplification: what the kernel counts as dirtied by this process, by
calls or through mappings, in whole pages (write_bytes of /proc/self/io; where
that does not count, as on tmpfs, the growth of the files' blocks), divided by
the bytes of the bodies that the row is about.
rss_anon_bytes, open_files, mappings: of the whole process when the row's work
is done. Files are warm in the page cache throughout.

Examples:
  qmq bench store
  qmq bench store --messages 1000000 --size 100 --subjects 1000 --groups 3 --threads 4
  qmq bench store --messages 20000 --threads 64 --durability synced
  qmq bench store --json | jq -r '[.name, .msgs_per_s, .ratio_to_limit] | @tsv'";

/// Arguments of `qmq bench store`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Messages to append
    #[arg(long, value_name = "N", default_value_t = 200_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Bytes of a body
    #[arg(long, value_name = "B", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(0..=4 << 20))]
    size: u32,
    /// Subjects to spread them over
    #[arg(long, value_name = "S", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subjects: u32,
    /// Groups that each consume everything
    #[arg(long, value_name = "G", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    groups: u32,
    /// Threads that append, and then pull and acknowledge
    #[arg(long, value_name = "T", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=4_096))]
    threads: u32,
    /// Messages a pull and an acknowledgement
    #[arg(long, value_name = "K", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Messages an append
    #[arg(long, value_name = "K", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    append_batch: u32,
    /// What an append waits for
    #[arg(long, value_enum, default_value = "buffered")]
    durability: Level,
    /// Folder to work in and to keep; must be empty or new [default: a temporary one, removed at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print JSON, one row a line
    #[arg(long)]
    json: bool,
}

/// The arguments, in the types that the rows work with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) messages: u64,
    pub(super) size: usize,
    pub(super) subjects: usize,
    pub(super) groups: usize,
    pub(super) threads: usize,
    pub(super) batch: usize,
    pub(super) append_batch: u64,
    pub(super) durability: Durability,
}

impl Plan {
    /// Name of a subject; all are equally long.
    pub(super) fn subject(&self, number: usize) -> String {
        format!("bench.{number:07}")
    }

    /// Bytes that each message takes in the log.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.subject(0).len(), self.size)
    }

    /// Messages that the appends store: whole batches only.
    pub(super) fn stored(&self) -> u64 {
        self.messages / self.append_batch * self.append_batch
    }

    /// How the store is opened. Retention is left as it is: a benchmark is younger than three days.
    pub(super) fn options(&self) -> Options {
        Options {
            unacked_max: 10_000_000,
            ..Options::default()
        }
    }
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let folder = WorkFolder::prepare(args.dir.as_deref())?;
    let dir = folder.path().join("store");
    let scratch = folder.path().join("limit");
    let plan = Plan {
        dir: dir.clone(),
        messages: args.messages,
        size: args.size as usize,
        subjects: args.subjects as usize,
        groups: args.groups as usize,
        threads: args.threads as usize,
        batch: args.batch as usize,
        append_batch: u64::from(args.append_batch),
        durability: args.durability.into(),
    };
    if plan.stored() == 0 {
        return Err(Failure::usage(
            format!(
                "--messages {} is less than one --append-batch",
                plan.messages
            ),
            "give more messages or a smaller batch",
        ));
    }
    let store = Store::open(&dir, plan.options()).map_err(|e| failed("cannot open a store", &e))?;
    let append = produce::run(&plan, &store, &scratch)?;
    let [pull, ack] = consume::run(&plan, &store, &dir)?;
    let [reopen, reopen_closed] = reopen::run(&plan, store, &dir)?;
    report::print(&[append, pull, ack, reopen, reopen_closed], args.json)
}

/// The store refused.
pub(super) fn failed(doing: &str, error: &(dyn StdError + 'static)) -> Failure {
    Failure::of(
        doing,
        error,
        "try fewer or smaller messages, or another --dir",
    )
}

/// The operating system refused.
pub(super) fn io_failed(error: &io::Error) -> Failure {
    Failure::of(
        "cannot measure",
        error,
        "give a --dir on a disk with more room",
    )
}
