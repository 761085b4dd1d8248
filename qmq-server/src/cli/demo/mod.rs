//! `qmq demo`: the main job on real input, with the broker killed again and again.

mod audit;
mod broker;
mod checks;
mod consumer;
mod departures;
mod event;
mod input;
mod ledger;
mod pair;
mod reminders;
mod replicated;
mod report;
mod stream;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

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
  1. `qmq dev` runs as a process of its own: a meta server, a broker and a
     delay server. Producers ask the meta server, and send flights over QUIC: one subject a route (flight.JFK.LAX), the carrier as the tag, the row
     as JSON in the body. Two groups consume everything, a third only the
     carriers AA and DL. Two consumers are processes of their own.
  2. The process is killed (SIGKILL) and started again, three times; the clients
     go on where they were. With the first kill a consumer that holds messages
     is killed too, with the second one is stopped; the others finish its work.
  3. After the first kill the store is compared with what had been acknowledged.
  4. When all is done the broker is killed once more, and its store is compared
     with the input, message by message.
  5. Each flight schedules a reminder for three hours before its departure, and
     the time of the data is replayed on a virtual clock. Flights that never
     left are cancelled, late ones are re-timed, some of both too late. Half-way
     the scheduler is dropped with reminders in the caller's hands, and reopened.
     What is due goes to the broker, and is consumed from there in the end.
  6. Some flights are called to the gate seconds later: their calls go to the
     delay server, some are cancelled, and everything is killed and started
     again when half of them are out.
  7. The flights are stored and consumed once more, on a master with a slave,
     each acknowledged when both have it. Half-way the master is dropped without
     notice, the slave is promoted and goes on; the old master returns as slave.

Examples:
  qmq demo
  qmq demo --data flights-2013.csv.gz
  qmq demo --dir flights && qmq store inspect --dir flights/broker/store
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
    let input = Arc::new(Input::load(args.data.as_deref())?);
    let folder = WorkFolder::prepare(args.dir.as_deref())?;
    let dir = folder.path();
    let flights = input.flights.len() as u64;
    let mut ledger = Ledger::new(&input);

    let bar = progress::counted(
        "streaming and consuming",
        flights + Ledger::to_handle(&input),
    );
    let mut first = audit::Audit::default();
    let mut broker = stream::stream(
        args.data.as_deref(),
        &dir.join("broker"),
        &input,
        &mut ledger,
        &bar,
        &mut |store, ledger| {
            let hidden = indicatif::ProgressBar::hidden();
            first = audit::audit(store, &input, ledger, false, &hidden)?;
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    let bar = progress::counted("checking each message", flights);
    let last = audit::audit(&broker.store(), &input, &ledger, true, &bar)?;
    bar.finish_and_clear();

    let bar = progress::counted("replaying the reminders", Replay::steps(&input));
    broker.restart()?;
    let reminders = reminders::replay(&dir.join("reminders"), &broker, &input, &bar)?;
    bar.finish_and_clear();
    let bar = progress::running("calling flights to their gates");
    let departures = departures::call(&mut broker, &input)?;
    broker.end()?;
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
    checks.extend(departures.checks());
    checks.extend(failover.checks());
    let facts = report::Facts {
        input: &input,
        ledger: &ledger,
        audits: &audits,
        reminders: &reminders,
        departures: &departures,
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

/// A runtime for the demo's clients.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("qmq-demo")
        .build()
        .map_err(|error| Failure::of("starting threads", &error, "check `ulimit -u`"))
}
