//! `qmq delay run`: messages when they fall due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qmq_sched::{DelayId, Fired};
use serde::Serialize;

use super::folder::{self, Folder};
use crate::cli::failure::{Failure, complain};
use crate::cli::output::{Body, Output, rfc3339};

/// Messages taken at once.
const DUE_MAX: usize = 1_000;

/// Longest wait: how soon an end of standard input is seen.
const WAIT_MAX: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Prints each message when its time has come: id, due time, lateness in ms,
subject and body, with tabs between; with --json an object with `id`, `due_ms`,
`late_ms`, `subject` and `body` (`body_hex` if it is no text). What has been
printed is recorded as dispatched, and not printed again. What a kill catches
between the two is printed once more by the next run.

What fell due before is printed at once. It goes on until it is stopped, or
until what an option says.

Examples:
  qmq delay run --dir later
  qmq delay run --dir later --for 10s
  qmq delay run --dir later --until-empty --json | jq .late_ms";

/// Arguments of `qmq delay run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Stop after this time: 500ms, 10s, 5m, 2h, 1d
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// Stop when nothing is pending
    #[arg(long)]
    until_empty: bool,
    /// Stop when standard input ends
    #[arg(long)]
    until_eof: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    match format!("+{text}").parse() {
        Ok(super::due::Due::In(ms)) => Ok(Duration::from_millis(ms)),
        _ => Err(format!(
            "{text:?} is no time; write it as 10s (ms, s, m, h, d)"
        )),
    }
}

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    due_ms: u64,
    late_ms: i64,
    subject: &'a str,
    #[serde(flatten)]
    body: Body<'a>,
}

/// Prints until the end that was asked for.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let scheduler = args.folder.existing()?;
    let until = args.time.and_then(|time| Instant::now().checked_add(time));
    let eof = Arc::new(AtomicBool::new(false));
    if args.until_eof {
        let eof = Arc::clone(&eof);
        // Not joined: nobody can wake it from its read.
        thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            eof.store(true, Ordering::Relaxed);
        });
    }
    let mut printer = Printer {
        json: args.json,
        out: Output::new(),
        damaged: 0,
    };
    let failed = |e: &qmq_sched::Error| super::failed("cannot take what is due", e);
    loop {
        let fired = scheduler.due(now_ms(), DUE_MAX).map_err(|e| failed(&e))?;
        printer.print(&fired)?;
        let ids: Vec<DelayId> = fired.iter().map(|one| one.id).collect();
        scheduler.dispatched(&ids).map_err(|e| failed(&e))?;
        if until.is_some_and(|until| Instant::now() >= until) || eof.load(Ordering::Relaxed) {
            break;
        }
        if !fired.is_empty() {
            continue;
        }
        let next = scheduler.next_due().map_err(|e| failed(&e))?;
        if args.until_empty && next.is_none() {
            break;
        }
        let wait = until.map_or(WAIT_MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let waited = scheduler.wait_due(now(), wait.min(WAIT_MAX));
        waited.map_err(|e| failed(&e))?;
    }
    folder::close(scheduler)?;
    if printer.damaged > 0 {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

/// The clock, since 1970 UTC; the store's own is as coarse as the kernel's tick.
fn now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}

struct Printer {
    json: bool,
    out: Output,
    damaged: u64,
}

impl Printer {
    /// Prints messages; the reader has them when this returns.
    fn print(&mut self, fired: &[Fired]) -> Result<(), Failure> {
        for one in fired {
            let message = match &one.message {
                Ok(message) => message,
                Err(damaged) => {
                    complain(&format!("{}: {damaged}", one.id));
                    self.damaged += 1;
                    continue;
                }
            };
            let (id, subject) = (one.id.to_string(), message.subject());
            let late_ms = now_ms().cast_signed() - one.due_ms.cast_signed();
            if self.json {
                self.out.json(&Line {
                    id,
                    due_ms: one.due_ms,
                    late_ms,
                    subject,
                    body: message.body().as_ref().into(),
                })?;
            } else {
                let due = rfc3339(one.due_ms);
                let mut line = format!("{id}\t{due}\t{late_ms}\t{subject}\t").into_bytes();
                line.extend_from_slice(message.body());
                self.out.line(line)?;
            }
        }
        self.out.flush()
    }
}
