//! `qmq store backup`: a copy that opens.

use std::path::PathBuf;

use qmq_store::{Background, Options, Retention, Store};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::files;
use crate::cli::output::{Output, bytes, count};
use crate::cli::progress;

const EXAMPLES: &str = "\
Copies a store to a folder that is new or empty, and verifies the copy by
opening it. The copy has an identity of its own. No other process may have the
store open meanwhile; a program that has it open calls Store::backup.

Examples:
  qmq store backup --dir data --to data.copy
  qmq store backup --dir data --to /backup/$(date +%F) --json";

/// Arguments of `qmq store backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder; no other process may have it open
    #[arg(long)]
    dir: PathBuf,
    /// Where to copy it; must be empty or new
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sums {
    ok: bool,
    segments: u64,
    bytes: u64,
    end_offset: u64,
    records: u64,
    messages: u64,
    damages: usize,
}

/// Copies.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = files::existing(&args.dir)?;
    let failed = |doing: &str, error: &(dyn std::error::Error + 'static)| {
        let next = "check both folders, and give an empty or new one with --to";
        Failure::of(
            format_args!("cannot {doing} {}", dir.display()),
            error,
            next,
        )
    };
    // Nothing of the original is to go while it is copied.
    let options = Options {
        background: Background::Manual,
        retention: Retention {
            max_age: None,
            ..Retention::default()
        },
        ..Options::default()
    };
    let store = Store::open(dir, options).map_err(|e| failed("open", &e))?;
    let bar = progress::of_bytes("backup");
    let copied = store.backup(&args.to, &mut progress::told(&bar));
    bar.finish_and_clear();
    let report = copied.map_err(|e| failed("copy", &e))?;
    store.close().map_err(|e| failed("close", &e))?;
    let damages = report.verified.damages.len();
    let mut out = Output::new();
    if args.json {
        out.json(&Sums {
            ok: damages == 0,
            segments: report.segments,
            bytes: report.bytes,
            end_offset: report.end_offset,
            records: report.verified.records,
            messages: report.verified.messages,
            damages,
        })?;
    } else {
        out.line(format!(
            "copied {} segments, {}, to {}; read back {} messages",
            count(report.segments),
            bytes(report.bytes),
            args.to.display(),
            count(report.verified.messages)
        ))?;
    }
    out.flush()?;
    if damages == 0 {
        return Ok(());
    }
    Err(Failure::new(
        format!("the copy holds {damages} damaged stretches, as the original does or as copied"),
        format!("compare with: qmq store verify --dir {}", dir.display()),
    ))
}
