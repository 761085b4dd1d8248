//! `qmq delay get`: one message.

use qmq_sched::{DelayId, Standing};
use serde::Serialize;

use super::folder::{self, Folder};
use crate::cli::failure::Failure;
use crate::cli::output::{Body, Output, rfc3339};

const EXAMPLES: &str = "\
Prints when the message is due, whether it is pending or fired (handed out and
not dispatched), its subject and its body, with tabs between; with --json an
object with `id`, `due_ms`, `standing`, `subject` and `body` (`body_hex` if it
is no text). A message that is dispatched or cancelled is gone: exit code 1.

Examples:
  qmq delay get --dir later 0007cbe80000000012c0000000000a4f
  qmq delay get --dir later 0007cbe80000000012c0000000000a4f --json | jq .body";

/// Arguments of `qmq delay get`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Its id, as `qmq delay schedule` printed it
    id: DelayId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    due_ms: u64,
    standing: &'static str,
    subject: &'a str,
    #[serde(flatten)]
    body: Body<'a>,
}

/// Prints it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let scheduler = args.folder.existing()?;
    let found = scheduler
        .get(args.id)
        .map_err(|e| super::failed("cannot look it up", &e))?;
    folder::leave(scheduler)?;
    let found = found.ok_or_else(|| {
        Failure::new(
            format!("there is no message {}", args.id),
            "it is dispatched, cancelled, or of another folder; `qmq delay list --dir` shows what is pending",
        )
    })?;
    let message = found.message.map_err(|e| {
        Failure::of(
            format_args!("cannot read the message {}", args.id),
            &e,
            "`qmq delay verify --dir` says what is damaged",
        )
    })?;
    let standing = match found.standing {
        Standing::Pending => "pending",
        Standing::Fired => "fired",
    };
    let mut out = Output::new();
    if args.json {
        out.json(&Line {
            id: args.id.to_string(),
            due_ms: found.due_ms,
            standing,
            subject: message.subject(),
            body: message.body().as_ref().into(),
        })?;
    } else {
        let mut line = format!(
            "{}\t{standing}\t{}\t",
            rfc3339(found.due_ms),
            message.subject()
        )
        .into_bytes();
        line.extend_from_slice(message.body());
        out.line(line)?;
    }
    out.flush()
}
