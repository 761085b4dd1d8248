//! `qmq bench`: measurements beside the limits of the same machine in the same minute.

mod cluster;
mod consume;
mod delay;
mod limits;
mod meter;
mod produce;
mod reopen;
mod repl;
mod report;
mod store;

use clap::Subcommand;

use super::failure::Failure;

/// Shown by `qmq bench --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  qmq bench store
  qmq bench store --durability synced --threads 64 --messages 20000 --json
  qmq bench repl --messages 1000000
  qmq bench cluster --rate 50000 --consumers 1 --bare
  qmq bench delay --pending 1000000 --rate 10000 --size 100";

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Append, pull, acknowledge and reopen
    Store(store::Args),
    /// Schedule, load, hand out, cancel and restart
    Delay(delay::Args),
    /// Put a running broker under load, from outside
    Cluster(cluster::Args),
    /// Replicate: with a slave that follows, that is waited for, that catches up
    Repl(repl::Args),
}

pub(crate) use cluster::run_relay;

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Store(args) => store::run(args),
        Command::Delay(args) => delay::run(args),
        Command::Cluster(args) => cluster::run(args),
        Command::Repl(args) => repl::run(args),
    }
}
