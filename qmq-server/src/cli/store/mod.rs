//! `qmq store`: one file a command.

mod append;
mod backup;
pub(super) mod damage;
pub(super) mod dump;
mod inspect;
mod read;
mod repair;
mod verify;

use clap::{Subcommand, ValueEnum};
use qmq_store::Durability;

use super::failure::Failure;

/// Shown by `qmq store --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  seq 1000 | qmq store append --dir data --subject numbers
  qmq store read --dir data --subject numbers --follow
  qmq store inspect --dir data
  qmq store verify --dir data || qmq store repair --dir data
  qmq store dump --dir data --json | head
  qmq store backup --dir data --to data.copy";

/// What can be done with a store's folder.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store each line of standard input as a message
    Append(append::Args),
    /// Print a subject's messages
    Read(read::Args),
    /// Show what a folder holds: files, subjects, groups
    Inspect(inspect::Args),
    /// Read everything and check every checksum
    Verify(verify::Args),
    /// Rebuild a damaged identity, checkpoint or index from the log
    Repair(repair::Args),
    /// Print the log record by record
    Dump(dump::Args),
    /// Copy a store to a new folder and verify the copy
    Backup(backup::Args),
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Append(args) => append::run(args),
        Command::Read(args) => read::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Dump(args) => dump::run(args),
        Command::Backup(args) => backup::run(args),
    }
}

/// What a message survives once it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// The death of the process
    Buffered,
    /// A loss of power
    Synced,
}

impl From<Level> for Durability {
    fn from(level: Level) -> Self {
        match level {
            Level::Buffered => Self::Buffered,
            Level::Synced => Self::Synced,
        }
    }
}
