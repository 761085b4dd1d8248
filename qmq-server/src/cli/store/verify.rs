//! `qmq store verify`: everything read back and compared with its checksums.

use std::path::PathBuf;

use qmq_store::offline;
use serde::Serialize;

use super::damage;
use crate::cli::failure::Failure;
use crate::cli::files;
use crate::cli::output::{Output, bytes, count};
use crate::cli::progress;

const EXAMPLES: &str = "\
Reads the log, the indexes and the checkpoints and compares them with their
checksums. Writes nothing and needs no lock: of a store in use it checks what
had been written when it began. Exit code 0 if all is well; else 1, and each
damaged stretch is a line with its file and its offset (for a log file: the
offset in the log; a message's subject and sequence follow).

Examples:
  qmq store verify --dir data
  qmq store verify --dir data --json | jq 'select(.damage)'";

/// Arguments of `qmq store verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder
    #[arg(long)]
    dir: PathBuf,
    /// Print JSON, one object a line: each damage, then the sums with `ok`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sums {
    ok: bool,
    segments: u64,
    bytes: u64,
    records: u64,
    notes: u64,
    messages: u64,
    damages: usize,
}

/// Verifies; damage is a failure.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = files::existing(&args.dir)?;
    let bar = progress::of_bytes("verify");
    let verified = offline::verify(dir, &mut progress::told(&bar));
    bar.finish_and_clear();
    let report = verified.map_err(|e| {
        Failure::of(
            format_args!("cannot verify {}", dir.display()),
            &e,
            "`qmq store repair --dir` mends what the log allows",
        )
    })?;
    let mut out = Output::new();
    damage::print(&mut out, &report.damages, args.json, "")?;
    let ok = report.damages.is_empty();
    if args.json {
        out.json(&Sums {
            ok,
            segments: report.segments,
            bytes: report.bytes,
            records: report.records,
            notes: report.notes,
            messages: report.messages,
            damages: report.damages.len(),
        })?;
    } else {
        out.line(format!(
            "read {} segments, {}, {} records, {} messages: {}",
            count(report.segments),
            bytes(report.bytes),
            count(report.records),
            count(report.messages),
            if ok {
                "all as written".to_owned()
            } else {
                format!("{} damaged", report.damages.len())
            }
        ))?;
    }
    out.flush()?;
    if ok {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "{} holds {} damaged stretches",
            dir.display(),
            report.damages.len()
        ),
        format!(
            "mend what the log allows with: qmq store repair --dir {}",
            dir.display()
        ),
    ))
}
