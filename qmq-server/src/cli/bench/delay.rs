//! `qmq bench delay`: what is measured, and with which scheduler.

mod cancel;
mod dispatch;
mod restart;
mod schedule;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use qmq_sched::{Message, Options, Scheduler};

use super::store::failed;
use super::{limits, report};
use crate::cli::delay::folder;
use crate::cli::failure::Failure;
use crate::cli::files::WorkFolder;

const EXAMPLES: &str = "\
Rows:
  schedule  all pending messages, buffered, one after the other, due at random
            times within one bucket, --ahead-minutes from now
  load      the first look at what is due next after an open, which takes the
            next messages into memory; five times
  dispatch  for --seconds, --rate messages fall due each second of the real
            clock, beside what is pending; with --at-once all of them in the
            same millisecond. Each call of `due` is measured, and `early`,
            `late_p50_ms`, `late_p99_ms` and `late_max_ms` say how far from its
            due time each message was in the caller's hands. Its
            write_amplification is that of whole lives: scheduled, handed out,
            dispatched
  cancel    up to 10,000 pending messages, chosen at random, buffered
  restart   the store and the scheduler are dropped without being closed and
            opened again, five times; p50_us is the median, `messages` what is
            pending, five times

Every row stands beside a limit of this machine, measured in the same run:
  schedule, cancel  the store's own buffered append of as many messages with the
                    same bodies (measured before and, up to ten million, after;
                    the better one counts)
  load              reading and checksumming as many bytes of the index
  dispatch          --rate
  restart           reading and checksumming the newest checkpoints and the
                    bytes of the log after that of the store

write_amplification, rss_anon_bytes, open_files, mappings: as `qmq bench store
--help` says. Files are warm in the page cache throughout.

Examples:
  qmq bench delay
  qmq bench delay --pending 36000000 --size 100 --scale-minutes 60 --dir /data/bench
  qmq bench delay --rate 1000000 --at-once
  qmq bench delay --rate 100000 --json | jq 'select(.name == \"dispatch\")'";

/// Arguments of `qmq bench delay`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Messages that are pending throughout
    #[arg(long, value_name = "N", default_value_t = 200_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pending: u64,
    /// Messages that fall due each second
    #[arg(long, value_name = "R", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
    /// For how long they do
    #[arg(long, value_name = "S", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Let --rate messages fall due in one millisecond instead
    #[arg(long, conflicts_with = "seconds")]
    at_once: bool,
    /// Bytes of a body
    #[arg(long, value_name = "B", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(0..=2 << 20))]
    size: u32,
    /// Minutes of one bucket
    #[arg(long, value_name = "M", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=1_440))]
    scale_minutes: u32,
    /// Minutes from now to when what is pending is due
    #[arg(long, value_name = "M", default_value_t = 1_440,
          value_parser = clap::value_parser!(u64).range(1..=5_000_000))]
    ahead_minutes: u64,
    /// Let the log's retention take what is beyond so many bytes: what outlives it is moved [default: it takes nothing]
    #[arg(long, value_name = "B")]
    log_bytes: Option<u64>,
    /// Folder to work in and to keep; must be empty or new [default: a temporary one, removed at the end]
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
    pending: u64,
    rate: u64,
    seconds: u64,
    at_once: bool,
    size: usize,
    scale_minutes: u32,
    ahead_minutes: u64,
    log_bytes: Option<u64>,
}

impl Plan {
    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    fn open(&self) -> Result<Scheduler, Failure> {
        let options = Options {
            segment_scale_minute: self.scale_minutes,
            ..Options::default()
        };
        let mut store = qmq_store::Options::default();
        store.retention.max_bytes = self.log_bytes;
        folder::open(&self.dir, store, &options, false)
            .map_err(|e| failed("cannot open a scheduler", &*e))
    }

    /// The message of all rows; its body is shared.
    fn message(&self) -> Message {
        Message::new("bench", Bytes::from(limits::sample(self.size)))
    }

    fn body_bytes(&self, messages: u64) -> u64 {
        messages * self.size as u64
    }
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let folder = WorkFolder::prepare(args.dir.as_deref())?;
    let plan = Plan {
        dir: folder.path().to_owned(),
        pending: args.pending,
        rate: args.rate,
        seconds: args.seconds,
        at_once: args.at_once,
        size: args.size as usize,
        scale_minutes: args.scale_minutes,
        ahead_minutes: args.ahead_minutes,
        log_bytes: args.log_bytes,
    };
    let scheduler = plan.open()?;
    let (schedule, ids) = schedule::run(&plan, &scheduler)?;
    let (load, restart, scheduler) = restart::run(&plan, scheduler)?;
    let dispatch = dispatch::run(&plan, &scheduler, schedule.msgs_per_s)?;
    let cancel = cancel::run(&plan, &scheduler, ids, schedule.limit_msgs_per_s)?;
    report::print(&[schedule, load, dispatch, cancel, restart], args.json)
}

/// The clock, since 1970 UTC.
fn now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Files of a folder whose names begin so, as parts that [`limits::read_time`] takes, of `bytes` together.
fn parts(dir: &Path, prefix: &str, bytes: u64) -> std::io::Result<Vec<(PathBuf, u64, u64)>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            parts.push((entry.path(), 0, entry.metadata()?.len()));
        }
    }
    let share = bytes / parts.len().max(1) as u64;
    for (_, _, len) in &mut parts {
        *len = share.min(*len);
    }
    Ok(parts)
}
