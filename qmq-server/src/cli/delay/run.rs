//! `qmq delay run`: messages when they fall due.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qmq_sched::{DelayId, Error, Fired, Options, Scheduler};
use serde::Serialize;

use super::folder::{self, Folder};
use crate::cli::failure::{Failure, complain};
use crate::cli::output::{Body, Output, count, rfc3339};

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

A message that cannot be read is said once, on standard error, and is not
recorded: it is tried again after a second, then less and less often, and by
the next run. With any left at the end the exit code is 1.

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
    #[arg(long = "for", value_name = "TIME", value_parser = crate::cli::duration::duration)]
    time: Option<Duration>,
    /// Stop when nothing is pending but what cannot be read
    #[arg(long)]
    until_empty: bool,
    /// Stop when standard input ends
    #[arg(long)]
    until_eof: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
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
        damaged: HashSet::new(),
    };
    let failed = |e: &Error| super::failed("cannot take what is due", e);
    loop {
        let asked_ms = now_ms();
        let fired = scheduler.due(asked_ms, DUE_MAX).map_err(|e| failed(&e))?;
        printer.print(&fired, asked_ms)?;
        let (printed, damaged): (Vec<_>, Vec<_>) =
            fired.iter().partition(|one| one.message.is_ok());
        let ids = |of: &[&Fired]| of.iter().map(|one| one.id).collect::<Vec<DelayId>>();
        scheduler
            .dispatched(&ids(&printed))
            .map_err(|e| failed(&e))?;
        // What is missing now may be there again another time: only what was read is settled.
        scheduler.refused(asked_ms, &ids(&damaged));
        if until.is_some_and(|until| Instant::now() >= until) || eof.load(Ordering::Relaxed) {
            break;
        }
        if !fired.is_empty() {
            continue;
        }
        let damaged = printer.damaged.len();
        let is_over = args.until_empty
            && !is_more_left(&scheduler, damaged, asked_ms).map_err(|e| failed(&e))?;
        // With so many out nothing else is handed out.
        if is_over || damaged >= Options::default().outstanding_max {
            break;
        }
        let wait = until.map_or(WAIT_MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let waited = scheduler.wait_due(now(), wait.min(WAIT_MAX));
        waited.map_err(|e| failed(&e))?;
    }
    folder::close(scheduler)?;
    match printer.damaged.len() {
        0 => Ok(()),
        left => Err(Failure::new(
            match left {
                1 => "1 damaged message is left, handed out and not dispatched".to_owned(),
                _ => format!(
                    "{} damaged messages are left, handed out and not dispatched",
                    count(left as u64)
                ),
            },
            "`qmq delay verify --dir` says what is damaged, and the next run tries again",
        )),
    }
}

/// Whether anything is left but the `damaged` messages, after nothing was due at `now_ms`.
fn is_more_left(scheduler: &Scheduler, damaged: usize, now_ms: u64) -> Result<bool, Error> {
    if damaged == 0 || scheduler.outstanding() > damaged {
        return Ok(scheduler.next_due()?.is_some());
    }
    let mut after = None;
    loop {
        let page = scheduler.list(None, now_ms, u64::MAX, after, 1)?;
        if !page.messages.is_empty() {
            return Ok(true);
        }
        if page.next.is_none() {
            return Ok(false);
        }
        after = page.next;
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
    /// What could not be read when it was last handed out, so each is said once.
    damaged: HashSet<DelayId>,
}

impl Printer {
    /// Prints messages that were asked for at `asked_ms`; the reader has them when this returns.
    fn print(&mut self, fired: &[Fired], asked_ms: u64) -> Result<(), Failure> {
        for one in fired {
            let message = match &one.message {
                Ok(message) => message,
                Err(damaged) => {
                    if self.damaged.insert(one.id) {
                        complain(&format!("{}: {damaged}", one.id));
                    }
                    continue;
                }
            };
            self.damaged.remove(&one.id);
            let (id, subject) = (one.id.to_string(), message.subject());
            // Time that passed since must not hide that one came early.
            let seen_ms = if one.due_ms > asked_ms {
                asked_ms
            } else {
                now_ms()
            };
            let late_ms = seen_ms.cast_signed() - one.due_ms.cast_signed();
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
