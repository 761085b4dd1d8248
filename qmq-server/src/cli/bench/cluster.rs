//! `qmq bench cluster`: a running broker under load, from outside.

mod bare;
mod consumers;
mod pace;
mod producers;
mod report;

use std::time::Duration;

use qmq_client::{Client, Durability};
use tokio::runtime::{Builder, Runtime};

use crate::cli::client::{ClientArgs, Settings};
use crate::cli::failure::Failure;

const EXAMPLES: &str = "\
Rows:
  produce  from the moment a message was meant to be sent to its answer
  deliver  from the moment a message was meant to be sent to its arrival at a consumer
  quinn    bytes in one direction through a bare QUIC connection to another process (--bare)
  round_trip  one message at a time through a process that only passes it on (--bare)
  relay    the same messages through a process that only passes them on (--bare)

With --rate the load is an open loop: a thread of its own says when each message is due, whether or not the ones before
it are answered, so a slow answer does not hide the waiting of those behind it. Without it, each producer keeps
--in-flight requests under way.

Examples:
  qmq bench cluster --batch 1000 --durability buffered --seconds 30
  qmq bench cluster --batch 1 --in-flight 64 --durability synced   # one message a request
  qmq bench cluster --in-hand 64 --durability synced               # the client puts what has come together into one
  qmq bench cluster --batch 1 --in-flight 1 --consumers 0
  qmq bench cluster --rate 50000 --consumers 1 --bare --json";

/// Arguments of `qmq bench cluster`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: ClientArgs,
    /// Producers, each with a connection of its own
    #[arg(long, value_name = "P", default_value_t = 1)]
    producers: usize,
    /// Consumers of one group, each with a connection of its own
    #[arg(long, value_name = "C", default_value_t = 0)]
    consumers: usize,
    /// Most messages of a request
    #[arg(long, value_name = "K", default_value_t = 1000)]
    batch: usize,
    /// Requests of a producer under way at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    in_flight: usize,
    /// Messages of a producer that have not been answered at a time; 0: as many as fill its requests twice
    #[arg(long, value_name = "N", default_value_t = 0)]
    in_hand: usize,
    /// Bytes of a body, 16 at least
    #[arg(long, value_name = "B", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(16..=4 << 20))]
    size: u32,
    /// Messages a second of all producers together; 0: as many as are answered
    #[arg(long, value_name = "R", default_value_t = 0)]
    rate: u64,
    /// What an answer waits for
    #[arg(long, value_enum, default_value = "buffered")]
    durability: Level,
    /// How long the load lasts, after a second to warm up
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// Subjects to spread the messages over
    #[arg(long, value_name = "S", default_value_t = 1)]
    subjects: usize,
    /// Threads that the load runs on; 0: half of the cores, which leaves the others to the broker
    #[arg(long, value_name = "T", default_value_t = 0)]
    threads: usize,
    /// Also measure bare QUIC between two processes, in the same run
    #[arg(long)]
    bare: bool,
    /// Print JSON, one row a line
    #[arg(long)]
    json: bool,
}

/// What an answer waits for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Level {
    /// What the broker is configured for
    Default,
    /// The broker's process may die
    Buffered,
    /// The power may fail
    Synced,
    /// The machine may burn
    Replicated,
}

impl From<Level> for Durability {
    fn from(level: Level) -> Self {
        match level {
            Level::Default => Self::Default,
            Level::Buffered => Self::Buffered,
            Level::Synced => Self::Synced,
            Level::Replicated => Self::Replicated,
        }
    }
}

/// What is asked for, in the types of the parts.
#[derive(Clone, Debug)]
struct Plan {
    producers: usize,
    consumers: usize,
    batch: usize,
    in_flight: usize,
    in_hand: usize,
    size: usize,
    rate: u64,
    durability: Durability,
    load: Duration,
    subjects: Vec<String>,
}

/// At the beginning nothing is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let target = args.target.settings()?;
    let unique = std::process::id();
    let plan = Plan {
        producers: args.producers,
        consumers: args.consumers,
        batch: args.batch,
        in_flight: args.in_flight,
        in_hand: args.in_hand,
        size: args.size as usize,
        rate: args.rate,
        durability: args.durability.into(),
        load: Duration::from_secs(args.seconds),
        subjects: (0..args.subjects.max(1))
            .map(|n| format!("bench.cluster.{unique}.{n}"))
            .collect(),
    };
    let (rows, reason) = runtime(args.threads)?.block_on(async {
        let (mut rows, reason) = measure(&plan, &target).await?;
        if args.bare && reason.is_none() {
            rows.extend(bare::measure(&plan).await?);
        }
        Ok::<_, Failure>((rows, reason))
    })?;
    report::print(&rows, args.json)?;
    match reason {
        None => Ok(()),
        Some(reason) => Err(Failure::new(
            format!("not all messages made it, so the figures say little: {reason}"),
            "`qmq status` shows how the broker is",
        )),
    }
}

fn runtime(threads: usize) -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = if threads == 0 { cores / 2 } else { threads };
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
        .map_err(|error| Failure::of("starting threads", &error, "check `ulimit -u`"))
}

/// The rows, and why a message failed, if one did.
async fn measure(
    plan: &Plan,
    target: &Settings,
) -> Result<(Vec<report::Row>, Option<String>), Failure> {
    let clock = pace::Clock::start();
    let consumers = consumers::start(plan, target, &clock).await?;
    let produced = producers::run(plan, target, &clock).await?;
    let mut rows = vec![report::Row::new("produce", plan, &produced)];
    let mut reason = produced.reason.clone();
    if let Some(consumers) = consumers {
        let delivered = consumers.finish(produced.all).await;
        rows.push(report::Row::new("deliver", plan, &delivered));
        reason = reason.or(delivered.reason);
    }
    Ok((rows, reason))
}

/// A client with a connection of its own.
async fn connect(target: &Settings) -> Result<Client, Failure> {
    target
        .builder()?
        .connect()
        .await
        .map_err(|error| Failure::of("connecting", &error, "is the broker running?"))
}

/// The half of `--bare` that runs in another process.
pub(crate) fn run_relay() -> Result<(), Failure> {
    runtime(0)?.block_on(bare::relay())
}
