//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::mode::Mode;

const EXAMPLES: &str = "\
Examples:
  qmq-peers                                   every engine, every mode
  qmq-peers --modes buffered-1k,batch-1k      two modes, in /dev/shm
  qmq-peers --modes synced-1 --dir /var/tmp   synced writes on the disk under /var/tmp
  qmq-peers --engines raw,qmq,raft-engine --rounds 3 --json > peers.json

Nothing else should run on the machine meanwhile. Compare only numbers of one run.";

#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Arguments {
    /// Folder for the engines' files [default: /dev/shm for buffered and batch modes, the
    /// current folder for synced ones]
    #[arg(long)]
    pub dir: Option<PathBuf>,

    /// Timed rounds of each engine and mode, after one untimed round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,

    /// Records of a round in buffered and batch modes [default: 500,000 of 1 KiB, 2,000,000 of
    /// 100 B]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,

    /// Seconds of a round in synced modes
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,

    /// Only these engines, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub engines: Vec<String>,

    /// Only these modes, separated by commas
    #[arg(long, value_delimiter = ',', value_enum)]
    pub modes: Vec<Mode>,

    /// Print one JSON document instead of the tables
    #[arg(long)]
    pub json: bool,

    #[command(subcommand)]
    pub one: Option<Hidden>,
}

#[derive(Debug, Subcommand)]
pub enum Hidden {
    /// One round of one engine, as the program starts itself
    #[command(hide = true)]
    One(Plan),
}

/// What one child process measures.
#[derive(Clone, Debug, Deserialize, Serialize, clap::Args)]
pub struct Plan {
    #[arg(long)]
    pub engine: String,
    #[arg(long, value_enum)]
    pub mode: Mode,
    /// An empty folder, removed by the parent afterwards.
    #[arg(long)]
    pub dir: PathBuf,
    /// Records to append in buffered and batch modes.
    #[arg(long)]
    pub messages: u64,
    /// Seconds to append for in synced modes, and never to exceed by much in the others.
    #[arg(long)]
    pub seconds: f64,
}
