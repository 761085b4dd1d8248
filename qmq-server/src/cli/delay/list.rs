//! `qmq delay list`: what is pending, in the order of the due times.

use qmq_sched::Listed;
use serde::Serialize;

use super::due::Due;
use super::folder::{self, Folder};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, count, note, rfc3339, table};

/// Messages asked for at a time.
const PAGE_MAX: usize = 10_000;

const EXAMPLES: &str = "\
Prints a table; with --json an object with `id`, `due_ms`, `subject` and
`body_bytes` for each message. What is handed out and not dispatched is not
pending.

Examples:
  qmq delay list --dir later --to +1h
  qmq delay list --dir later --subject reminder --from 2030-01-01T00:00:00Z --max 10 --json";

/// Arguments of `qmq delay list`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Only of this subject
    #[arg(long)]
    subject: Option<String>,
    /// Only what is due then or later, as RFC 3339 or +90s
    #[arg(long, value_name = "DUE")]
    from: Option<Due>,
    /// Only what is due before, as RFC 3339 or +90s
    #[arg(long, value_name = "DUE")]
    to: Option<Due>,
    /// Most messages shown
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    max: usize,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    due_ms: u64,
    subject: &'a str,
    body_bytes: u32,
}

/// Prints them, page after page.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let scheduler = args.folder.existing()?;
    let now_ms = scheduler.store().options().clock.now_ms();
    let from_ms = args.from.map_or(0, |due| due.ms(now_ms));
    let until_ms = args.to.map_or(u64::MAX, |due| due.ms(now_ms));
    let mut out = Output::new();
    let mut rows = table(&["id", "due", "subject", "bytes"], &[3]);
    let (mut after, mut left) = (None, args.max);
    loop {
        let page = scheduler
            .list(
                args.subject.as_deref(),
                from_ms,
                until_ms,
                after,
                left.min(PAGE_MAX),
            )
            .map_err(|e| super::failed("cannot list", &e))?;
        left -= page.messages.len();
        for one in &page.messages {
            if args.json {
                out.json(&line(one))?;
            } else {
                let (id, due) = (one.id.to_string(), rfc3339(one.due_ms));
                rows.add_row([id, due, one.subject.clone(), count(one.body_len.into())]);
            }
        }
        after = page.next;
        if after.is_none() || left == 0 {
            break;
        }
    }
    if !args.json {
        out.line(rows.to_string())?;
    }
    out.flush()?;
    folder::leave(scheduler)?;
    if let Some((due_ms, _)) = after {
        note(&format!(
            "there may be more from {} on; raise --max to see them",
            rfc3339(due_ms)
        ));
    }
    Ok(())
}

fn line(one: &Listed) -> Line<'_> {
    Line {
        id: one.id.to_string(),
        due_ms: one.due_ms,
        subject: &one.subject,
        body_bytes: one.body_len,
    }
}
