//! `qmq store repair`: a folder put in order as far as its log allows.

use std::path::PathBuf;

use qmq_store::offline;
use serde::Serialize;

use super::damage;
use crate::cli::failure::Failure;
use crate::cli::files;
use crate::cli::output::{Output, count};
use crate::cli::progress;

const EXAMPLES: &str = "\
Makes a damaged identity, checkpoint or index anew from the log. Records are
never changed: what is damaged in the log stays where it is, is reported by
reads, and costs no other message. Exit code 0 once the store opens again, also
if some records stay damaged; they are listed.

Examples:
  qmq store repair --dir data
  cp -r data data.before && qmq store repair --dir data --json";

/// Arguments of `qmq store repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder; no other process may have it open
    #[arg(long)]
    dir: PathBuf,
    /// Print JSON, one object a line: each damage that stays, then the sums
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sums {
    identity_rebuilt: bool,
    indexes_rebuilt: u64,
    mended_at_open: usize,
    cut_bytes: u64,
    remaining: usize,
}

/// Repairs.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = files::existing(&args.dir)?;
    let bar = progress::of_bytes("repair");
    let repaired = offline::repair(dir, &mut progress::told(&bar));
    bar.finish_and_clear();
    let report = repaired.map_err(|e| {
        Failure::of(
            format_args!("cannot repair {}", dir.display()),
            &e,
            "`qmq store dump --dir` shows what the log still holds",
        )
    })?;
    let sums = Sums {
        identity_rebuilt: report.identity_rebuilt,
        indexes_rebuilt: report.indexes_rebuilt + report.opened.rebuilt_indexes,
        mended_at_open: report.opened.damages.len(),
        cut_bytes: report.opened.cut_bytes,
        remaining: report.remaining.len(),
    };
    let mut out = Output::new();
    damage::print(&mut out, &report.remaining, args.json, "stays: ")?;
    if args.json {
        out.json(&sums)?;
        return out.flush();
    }
    damage::print(&mut out, &report.opened.damages, false, "found: ")?;
    out.line(format!(
        "identity {}, {} indexes made anew, {} bytes of an unfinished end cut, {} damaged stretches stay",
        if sums.identity_rebuilt { "made anew" } else { "sound" },
        count(sums.indexes_rebuilt),
        count(sums.cut_bytes),
        count(sums.remaining as u64),
    ))?;
    out.flush()
}
