//! `qmq delay`: one file a command.

mod backup;
mod cancel;
pub(super) mod due;
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
use super::server;

/// Shown by `qmq delay --help`.
pub(crate) const EXAMPLES: &str = "\
`qmq delay --config delay.properties` is the delay server: it takes delayed
messages (UDP 20801) and gives each to the brokers of its subject at its time.
All keys: `qmq delay --keys`. SIGTERM ends it in order, a second one at once.

The commands work on a folder that no server has; `qmq delayed` asks servers
that run. The messages lie in two folders below --dir: `log`, a store that `qmq store`
can look into, and `index`. Keep them together: what is damaged of the index is
made anew from the log, but for the messages that outlive the log's retention,
which lie in its `bodies-` files. One process at a time has them.

Examples:
  qmq delay --config delay.properties
  printf '+90s\\tdrink water\\n' | qmq delay schedule --dir later --subject reminder
  printf '2030-01-01T00:00:00+01:00\\thappy new year\\n' | qmq delay schedule --dir later --subject greeting
  qmq delay list --dir later --to +1d
  qmq delay run --dir later --until-empty
  qmq delay verify --dir later
  qmq delay backup --dir later --to later.copy";

/// Run the delay server, or work with a folder of messages for later while no server has it
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    server: server::delay::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What can be done with messages for later.
#[derive(Debug, Subcommand)]
enum Command {
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
    /// Copy everything to another folder
    Backup(backup::Args),
    /// Print messages when they fall due
    Run(run::Args),
}

/// Runs the server, or one of them.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let Some(command) = &args.command else {
        return server::delay::run(&args.server);
    };
    match command {
        Command::Schedule(args) => schedule::run(args),
        Command::Cancel(args) => cancel::run(args),
        Command::Get(args) => get::run(args),
        Command::List(args) => list::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Backup(args) => backup::run(args),
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
