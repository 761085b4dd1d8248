//! `qmq delay`: one file a command.

mod cancel;
mod due;
pub(super) mod folder;
mod get;
mod list;
mod run;
mod schedule;
mod stats;
mod verify;

use clap::Subcommand;
use qmq_sched::Error;

use super::failure::Failure;

/// Shown by `qmq delay --help`.
pub(crate) const EXAMPLES: &str = "\
The messages lie in two folders below --dir: `log`, a store that `qmq store`
can look into, and `index`, which is made anew from it when it is damaged or
gone. One process at a time has them.

Examples:
  printf '+90s\\tdrink water\\n' | qmq delay schedule --dir later --subject reminder
  printf '2030-01-01T00:00:00+01:00\\thappy new year\\n' | qmq delay schedule --dir later --subject greeting
  qmq delay list --dir later --to +1d
  qmq delay run --dir later --until-empty
  qmq delay verify --dir later";

/// What can be done with messages for later.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Schedule each line of standard input: when, a tab, and the message
    Schedule(schedule::Args),
    /// Keep messages from being handed out
    Cancel(cancel::Args),
    /// Show one message
    Get(get::Args),
    /// Show what is pending, in the order of the due times
    List(list::Args),
    /// Show how much is pending, of each subject and in total
    Stats(stats::Args),
    /// Read everything and check every checksum
    Verify(verify::Args),
    /// Print messages when they fall due
    Run(run::Args),
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Schedule(args) => schedule::run(args),
        Command::Cancel(args) => cancel::run(args),
        Command::Get(args) => get::run(args),
        Command::List(args) => list::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Run(args) => run::run(args),
    }
}

/// The scheduler refused, and not because of what it was given.
fn failed(doing: &str, error: &Error) -> Failure {
    Failure::of(
        doing,
        error,
        "`qmq delay verify --dir` says what is damaged",
    )
}
