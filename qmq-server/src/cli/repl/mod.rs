//! `qmq repl`: one file a command.

mod compare;
mod diff;

use clap::Subcommand;

use super::failure::Failure;

/// Shown by `qmq repl --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  qmq repl diff --dir master --dir slave
  qmq repl diff --dir master --dir slave --json | jq .outcome";

/// What can be done with the stores of masters and slaves.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compare the logs of two stores, byte for byte
    Diff(diff::Args),
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Diff(args) => diff::run(args),
    }
}
