//! `qmq demo`: the main job on real input, with the power button pressed twice.

mod audit;
mod checks;
mod consumer;
mod drive;
mod event;
mod input;
mod ledger;
mod pair;
mod reminders;
mod replicated;
mod report;
mod worker;

use std::path::PathBuf;

use qmq_store::{Error, Options, Store};

use super::failure::Failure;
use super::files::{DiskUse, WorkFolder};
use super::progress;
use input::Input;
use ledger::Ledger;
use reminders::Replay;
pub(crate) use worker::{WorkerArgs, run_worker};

const EXAMPLES: &str = "\
What happens:
  1. A process streams flights into a fresh store: one subject a route
     (flight.JFK.LAX), the carrier as the tag, the row as JSON in the body.
     Two groups consume everything, a third only the carriers AA and DL. One
     consumer takes work and hangs. Half-way the process is killed (SIGKILL).
  2. The store is reopened and compared with what had been acknowledged.
  3. A second process goes on. One consumer takes work, dies and is declared
     gone; the others finish everything. Then this process is killed too.
  4. The store is reopened and compared with the input, message by message.
  5. Each flight schedules a reminder for three hours before its departure, and
     the time of the data is replayed on a virtual clock. Flights that never
     left are cancelled, late ones are re-timed, some of both too late. Half-way
     the scheduler is dropped with reminders in the caller's hands, and reopened.
  6. The flights are stored and consumed once more, on a master with a slave,
     each acknowledged when both have it. Half-way the master is dropped without
     notice, the slave is promoted and goes on; the old master returns as slave.

Examples:
  qmq demo
  qmq demo --data flights-2013.csv.gz
  qmq demo --dir flights && qmq store inspect --dir flights
  qmq demo --json | tail -n 1

Exit code 0 only if every check held. The last line of --json has `flights`,
`ok` and each check by name.";

/// Arguments of `qmq demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Flights as CSV, gzipped or not [default: one week of 2013, built in]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Folder to fill and to keep; must be empty or new [default: a temporary one, removed at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs the demo; `Ok` only if every check held.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let input = Input::load(args.data.as_deref())?;
    let folder = WorkFolder::prepare(args.dir.as_deref())?;
    let dir = folder.path();
    let data = args.data.as_deref();
    let flights = input.flights.len() as u64;
    let mut ledger = Ledger::new(&input);

    let bar = progress::counted(
        "streaming and consuming",
        flights + Ledger::to_handle(&input),
    );
    drive::run_and_kill(data, dir, 0, &mut ledger, &bar, |ledger, _| {
        ledger.stored() >= flights / 2 && ledger.left[0].is_some()
    })?;
    bar.set_message("reopening");
    let first = audit::audit(
        dir,
        &input,
        &ledger,
        false,
        &indicatif::ProgressBar::hidden(),
    )?;
    bar.set_message("streaming and consuming");
    drive::run_and_kill(data, dir, 1, &mut ledger, &bar, |_, done| done)?;
    bar.finish_and_clear();
    let bar = progress::counted("checking each message", flights);
    let last = audit::audit(dir, &input, &ledger, true, &bar)?;
    bar.finish_and_clear();

    let bar = progress::counted("replaying the reminders", Replay::steps(&input));
    let reminders = reminders::replay(&dir.join("reminders"), &input, &bar)?;
    bar.finish_and_clear();

    let bar = progress::counted("storing on master and slave", flights);
    let failover = replicated::replicate(&dir.join("replicated"), &input, &bar)?;
    bar.finish_and_clear();

    let disk = DiskUse::of(dir).map_err(|e| {
        Failure::of(
            format_args!("cannot look at {}", dir.display()),
            &e,
            "run the demo again",
        )
    })?;
    let audits = [first, last];
    let mut checks = checks::checks(&input, &ledger, &audits);
    checks.extend(reminders.checks());
    checks.extend(failover.checks());
    let facts = report::Facts {
        input: &input,
        ledger: &ledger,
        audits: &audits,
        reminders: &reminders,
        failover: &failover,
        disk,
    };
    if args.json {
        report::for_programs(&facts, &checks)?;
    } else {
        report::for_people(&facts, &checks, &folder)?;
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(
        format!("{failed} of {} checks failed", checks.len()),
        "run it again with --dir to keep the folder, then `qmq store verify --dir` it",
    ))
}

/// How the demo opens its store: with segments so small that every log has several of them.
fn options(input: &Input) -> Options {
    let several = (input.body_bytes / 4).next_power_of_two();
    Options::with_segment_bytes(several.clamp(1 << 20, 64 << 20))
}

/// The sequence that the next message of a subject will get.
fn next_sequence(store: &Store, subject: &str) -> Result<u64, Error> {
    match store.subject_stats(subject) {
        Ok(stats) => Ok(stats.next_sequence),
        Err(e) if unknown(&e) => Ok(0),
        Err(e) => Err(e),
    }
}

/// Whether a subject or a group simply has not been used yet.
fn unknown(error: &Error) -> bool {
    matches!(
        error,
        Error::UnknownSubject { .. } | Error::UnknownGroup { .. }
    )
}
