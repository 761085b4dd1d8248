//! `qmq delay schedule`: lines in, ids out; one sync for all lines that were there.

use std::io::{self, BufReader};

use qmq_sched::{DelayId, Error, Message, Scheduler};
use qmq_store::Durability;
use qmq_store::message::check_subject;
use serde::Serialize;

use super::due::Due;
use super::folder::{self, Folder};
use crate::cli::failure::{Failure, chain, complain};
use crate::cli::lines::{Line, Lines};
use crate::cli::output::Output;
use crate::cli::store::Level;

/// Input that is read ahead, in bytes.
const INPUT_BYTES: usize = 1 << 20;

/// Longest due time in front of a message, with its tab.
const DUE_BYTES_MAX: usize = 128;

const EXAMPLES: &str = "\
A line is DUE, a tab, and the message. DUE is a moment (RFC 3339) or a time from
now: +500ms, +90s, +5m, +2h, +3d. A moment that is past fires at once.

Prints the id of each message, in order, once it has the durability asked for:
from then on it survives a kill -9 (buffered) or a loss of power (synced). A
line that is refused is an error on standard error; the others go on, and the
exit code is 1 at the end. With --json an object with `id`, `subject` and
`due_ms`.

Examples:
  printf '+90s\\tdrink water\\n' | qmq delay schedule --dir later --subject reminder
  printf '2030-01-01T00:00:00Z\\thappy new year\\n' | qmq delay schedule --dir later --subject greeting
  seq 1000 | awk '{ print \"+\" $1 \"s\\t\" $1 }' | qmq delay schedule --dir later --subject numbers --json";

/// Arguments of `qmq delay schedule`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Subject of the messages
    #[arg(long)]
    subject: String,
    /// What a message survives once its id is printed
    #[arg(long, value_enum, default_value = "synced")]
    durability: Level,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Acknowledged<'a> {
    id: String,
    subject: &'a str,
    due_ms: u64,
}

/// Schedules standard input.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    check_subject(&args.subject)
        .map_err(|e| Failure::usage(e.to_string(), "give another --subject"))?;
    let scheduler = args.folder.open()?;
    let refused = Schedule {
        args,
        scheduler: &scheduler,
        out: Output::new(),
        waiting: Vec::new(),
        refused: 0,
    }
    .all()?;
    folder::close(scheduler)?;
    if refused > 0 {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

struct Schedule<'a> {
    args: &'a Args,
    scheduler: &'a Scheduler,
    out: Output,
    /// Scheduled, and not yet known to be durable.
    waiting: Vec<(DelayId, u64)>,
    refused: u64,
}

impl Schedule<'_> {
    /// Returns how many lines were refused.
    fn all(mut self) -> Result<u64, Failure> {
        let body_max = self.scheduler.store().options().body_bytes_max;
        let line_max = usize::try_from(body_max).unwrap_or(usize::MAX) + DUE_BYTES_MAX;
        let input = BufReader::with_capacity(INPUT_BYTES, io::stdin().lock());
        let mut lines = Lines::new(input, line_max);
        for number in 1_u64.. {
            let line = lines.next().map_err(|e| {
                Failure::of(
                    "cannot read standard input",
                    &e,
                    "what was printed is scheduled",
                )
            })?;
            let done = match line {
                Line::End => break,
                Line::TooLong(bytes) => Err(format!(
                    "{bytes} bytes, and a message takes {body_max}; split it"
                )),
                Line::Whole(line) => self.take(&line)?,
            };
            if let Err(why) = done {
                complain(&format!("line {number}: {why}"));
                self.refused += 1;
            }
            if !lines.has_next() {
                self.print()?;
            }
        }
        self.print()?;
        Ok(self.refused)
    }

    /// Schedules a line, or says why it is refused.
    fn take(&mut self, line: &bytes::Bytes) -> Result<Result<(), String>, Failure> {
        let Some(tab) = line.iter().position(|byte| *byte == b'\t') else {
            return Ok(Err(
                "there is no tab; a line is DUE, a tab, and the message".to_owned(),
            ));
        };
        let due = match String::from_utf8_lossy(&line[..tab]).parse::<Due>() {
            Ok(due) => due,
            Err(why) => return Ok(Err(why)),
        };
        let due_ms = due.ms(self.scheduler.store().options().clock.now_ms());
        let message = Message::new(self.args.subject.as_str(), line.slice(tab + 1..));
        match self
            .scheduler
            .schedule_with(due_ms, &message, Durability::Buffered)
        {
            Ok(id) => self.waiting.push((id, due_ms)),
            // No later line can fare better.
            Err(Error::Store(
                e @ (qmq_store::Error::Poisoned { .. } | qmq_store::Error::Closed),
            )) => {
                return Err(Failure::of(
                    "cannot schedule",
                    &e,
                    "what was printed is scheduled",
                ));
            }
            Err(e) => return Ok(Err(chain(&e))),
        }
        Ok(Ok(()))
    }

    /// Waits until what has been scheduled is durable, and prints it.
    fn print(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let store = self.scheduler.store();
        store
            .wait(store.watermarks().written, self.args.durability.into())
            .map_err(|e| Failure::of("cannot schedule", &e, "what was printed is scheduled"))?;
        for (id, due_ms) in self.waiting.drain(..) {
            let id = id.to_string();
            if self.args.json {
                let subject = &self.args.subject;
                self.out.json(&Acknowledged {
                    id,
                    subject,
                    due_ms,
                })?;
            } else {
                self.out.line(id)?;
            }
        }
        self.out.flush()
    }
}
