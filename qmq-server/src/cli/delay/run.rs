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

/// Longest sleep: how soon an end of standard input is seen.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// How often the index is brought up to date.
const MAINTAIN: Duration = Duration::from_secs(1);

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
    let (mut maintained, mut is_changed) = (Instant::now(), false);
    loop {
        let fired = scheduler.due(now_ms(), DUE_MAX).map_err(|e| failed(&e))?;
        printer.print(&fired)?;
        let ids: Vec<DelayId> = fired.iter().map(|one| one.id).collect();
        scheduler.dispatched(&ids).map_err(|e| failed(&e))?;
        if until.is_some_and(|until| Instant::now() >= until) || eof.load(Ordering::Relaxed) {
            break;
        }
        is_changed |= !fired.is_empty();
        if is_changed && maintained.elapsed() >= MAINTAIN {
            scheduler.maintain().map_err(|e| failed(&e))?;
            (maintained, is_changed) = (Instant::now(), false);
        }
        if !fired.is_empty() {
            continue;
        }
        let next = scheduler.next_due().map_err(|e| failed(&e))?;
        if args.until_empty && next.is_none() {
            break;
        }
        thread::sleep(sleep(next, until));
    }
    folder::close(scheduler)?;
    if printer.damaged > 0 {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

/// How long nothing happens.
fn sleep(next_ms: Option<u64>, until: Option<Instant>) -> Duration {
    let due = next_ms.map(|ms| {
        let due = UNIX_EPOCH.checked_add(Duration::from_millis(ms));
        due.map_or(SLEEP_MAX, |due| {
            due.duration_since(SystemTime::now()).unwrap_or_default()
        })
    });
    let end = until.map(|until| until.saturating_duration_since(Instant::now()));
    due.into_iter().chain(end).fold(SLEEP_MAX, Duration::min)
}

/// The clock to the millisecond; the store's own is as coarse as the kernel's tick.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
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
