//! `qmq delay stats`: how much is pending.

use qmq_sched::Totals;
use serde::Serialize;

use super::folder::{self, Folder};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, bytes, count, rfc3339, table};

const EXAMPLES: &str = "\
Counts what is pending or handed out and not dispatched. With --json the first
line has the `kind` `total`, with `handed_out` and `dropped` (for being too
late) beside `messages`, `bytes`, `first_due_ms` and `last_due_ms`; a line of
the kind `subject` follows for each subject.

Examples:
  qmq delay stats --dir later
  qmq delay stats --dir later --json | jq 'select(.kind == \"subject\" and .messages > 0)'";

/// Arguments of `qmq delay stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Total {
        handed_out: usize,
        dropped: u64,
        #[serde(flatten)]
        sums: Sums,
    },
    Subject {
        subject: &'a str,
        #[serde(flatten)]
        sums: Sums,
    },
}

#[derive(Serialize)]
struct Sums {
    messages: u64,
    bytes: u64,
    first_due_ms: u64,
    last_due_ms: u64,
}

impl From<Totals> for Sums {
    fn from(totals: Totals) -> Self {
        Self {
            messages: totals.count,
            bytes: totals.bytes,
            first_due_ms: totals.first_due_ms,
            last_due_ms: totals.last_due_ms,
        }
    }
}

/// Prints the sums.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let scheduler = args.folder.existing()?;
    let (total, subjects) = (scheduler.totals(), scheduler.subjects());
    let (handed_out, dropped) = (scheduler.outstanding(), scheduler.dropped());
    folder::leave(scheduler)?;
    let mut out = Output::new();
    if args.json {
        let sums = total.into();
        out.json(&Line::Total {
            handed_out,
            dropped,
            sums,
        })?;
        for (subject, totals) in &subjects {
            let sums = (*totals).into();
            out.json(&Line::Subject { subject, sums })?;
        }
        return out.flush();
    }
    let mut rows = table(
        &["subject", "messages", "bytes", "first due", "last due"],
        &[1, 2],
    );
    let mut row = |name: &str, totals: &Totals| {
        let due = |ms| {
            if totals.count == 0 {
                "-".to_owned()
            } else {
                rfc3339(ms)
            }
        };
        rows.add_row([
            name.to_owned(),
            count(totals.count),
            bytes(totals.bytes),
            due(totals.first_due_ms),
            due(totals.last_due_ms),
        ]);
    };
    for (subject, totals) in &subjects {
        row(subject, totals);
    }
    row("(all)", &total);
    out.line(rows.to_string())?;
    out.line(format!(
        "{} handed out and not dispatched, {} dropped for being too late",
        count(handed_out as u64),
        count(dropped)
    ))?;
    out.flush()
}
