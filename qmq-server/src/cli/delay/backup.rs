//! `qmq delay backup`: a copy of the store and of what was moved out of it.

use std::path::PathBuf;
use std::sync::Arc;

use qmq_store::disk::MappedDisk;
use serde::Serialize;

use super::folder::{self, Folder};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, bytes, count};
use crate::cli::progress;

const EXAMPLES: &str = "\
Copies the messages to a folder that is new or empty. The copy has an identity
of its own, so ids that `schedule` printed are unknown to it; `list` says its
own. No other process may have the messages meanwhile; a program that has them
calls Scheduler::backup.

Examples:
  qmq delay backup --dir later --to later.copy
  qmq delay backup --dir later --to /backup/$(date +%F) --json";

/// Arguments of `qmq delay backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Where to copy them; must be empty or new
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sums {
    ok: bool,
    messages: u64,
    log_bytes: u64,
    damages: usize,
}

/// Copies.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let scheduler = args.folder.existing()?;
    let to = |name: &str| {
        let path = args.to.join(name);
        MappedDisk::open(&path, true).map_err(|e| {
            Failure::of(
                format_args!("cannot make {}", path.display()),
                &e,
                "give a folder that can be written with --to",
            )
        })
    };
    let (log, index) = (Arc::new(to("log")?), to("index")?);
    let bar = progress::of_bytes("backup");
    let copied = scheduler.backup(log, &index, &mut progress::told(&bar));
    bar.finish_and_clear();
    let report = copied.map_err(|e| {
        let next = "give an empty or new folder with --to; what is there now is not a copy";
        Failure::of("cannot copy the messages", &e, next)
    })?;
    let messages = scheduler.totals().count;
    folder::close(scheduler)?;
    let damages = report.verified.damages.len();
    let mut out = Output::new();
    if args.json {
        out.json(&Sums {
            ok: damages == 0,
            messages,
            log_bytes: report.bytes,
            damages,
        })?;
    } else {
        out.line(format!(
            "copied {} pending messages, with {} of log, to {}",
            count(messages),
            bytes(report.bytes),
            args.to.display()
        ))?;
    }
    out.flush()?;
    if damages == 0 {
        return Ok(());
    }
    Err(Failure::new(
        format!("the copy holds {damages} damaged stretches, as the original does or as copied"),
        "compare with: qmq delay verify --dir",
    ))
}
