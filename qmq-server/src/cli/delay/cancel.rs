//! `qmq delay cancel`: an exact answer for each id.

use qmq_sched::{Cancelled, DelayId};
use qmq_store::Durability;
use serde::Serialize;

use super::folder::{self, Folder};
use crate::cli::failure::Failure;
use crate::cli::output::Output;

const EXAMPLES: &str = "\
Prints each id with what became of it, once that is synced:
  done           it will not be handed out, or is cancelled already
  already_fired  too late: it has been handed out
  unknown        no message of this folder has that id
The exit code is 0 if all are done.

Examples:
  qmq delay cancel --dir later 0007cbe80000000012c0000000000a4f
  qmq delay list --dir later --subject reminder --json | jq -r .id | xargs qmq delay cancel --dir later";

/// Arguments of `qmq delay cancel`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Ids, as `qmq delay schedule` printed them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<DelayId>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    id: String,
    answer: &'static str,
}

/// Cancels all of them.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let scheduler = args.folder.existing()?;
    let answers = args
        .ids
        .iter()
        .map(|&id| scheduler.cancel_with(id, Durability::Buffered))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| super::failed("cannot cancel", &e))?;
    scheduler
        .store()
        .sync()
        .map_err(|e| super::failed("cannot cancel", &e.into()))?;
    let mut out = Output::new();
    for (id, answer) in args.ids.iter().zip(&answers) {
        let (id, answer) = (id.to_string(), name(*answer));
        if args.json {
            out.json(&Line { id, answer })?;
        } else {
            out.line(format!("{id} {answer}"))?;
        }
    }
    out.flush()?;
    folder::close(scheduler)?;
    if answers.iter().all(|answer| *answer == Cancelled::Done) {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn name(answer: Cancelled) -> &'static str {
    match answer {
        Cancelled::Done => "done",
        Cancelled::AlreadyFired => "already_fired",
        Cancelled::AlreadyCancelled => "already_cancelled",
        Cancelled::Unknown => "unknown",
    }
}
