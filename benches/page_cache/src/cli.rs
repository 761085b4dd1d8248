//! The command line.

use std::path::PathBuf;

use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  qmq-page-cache --dir /var/lib/qmq              the disk that a store will live on
  qmq-page-cache --dir /dev/shm --quick          memory, in a few seconds
  qmq-page-cache --plot page_cache.svg --json    a plot and the numbers as JSON

Nothing else should run on the machine meanwhile. The folder needs 4 GiB of free space.";

/// Measures the raw ways of appending to files and suggests options of qmq-store
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Folder to measure in; its files are removed again
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,

    /// Rounds of every line; the table shows medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,

    /// Stop after this time, with fewer rounds if need be [default: 80, with --quick: 18]
    #[arg(long)]
    pub(crate) seconds: Option<u64>,

    /// One short round
    #[arg(long)]
    pub(crate) quick: bool,

    /// Draw the table as an SVG file
    #[arg(long)]
    pub(crate) plot: Option<PathBuf>,

    /// Print one JSON document instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}
