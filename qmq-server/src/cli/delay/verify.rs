//! `qmq delay verify`: the log and the index read back and compared with their checksums.

use qmq_sched::OpenReport;
use qmq_store::offline;
use serde::Serialize;

use super::folder::{self, Folder};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, count, note};
use crate::cli::progress;
use crate::cli::store::damage;

const EXAMPLES: &str = "\
Reads the log and the index and compares them with their checksums. Exit code 0
if all is well; else 1, and each damage is a line. An index that is damaged is
made anew from the log, so that the next verify finds it whole; damage of the
log stays, and so does that of a `bodies-` file, which nothing else has. The
files that are made anew when a copy is first opened are no damage: `made_anew`
says so.

Examples:
  qmq delay verify --dir later
  qmq delay verify --dir later --json | jq 'select(.damage)'";

/// Arguments of `qmq delay verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Print JSON, one object a line: each damage, then the sums with `ok`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sums {
    ok: bool,
    messages: u64,
    log_damages: usize,
    index_damages: usize,
    made_anew: bool,
}

/// What is wrong beside the log.
#[derive(Serialize)]
struct Found {
    damage: &'static str,
    what: String,
}

impl Found {
    fn index(what: &str) -> Self {
        let damage = match what.starts_with("bodies-") {
            true => "bodies",
            false => "index",
        };
        Self {
            damage,
            what: what.to_owned(),
        }
    }
}

/// What the open has found. Where no run is there, only a checkpoint can be damaged of what is made anew.
fn found_at_open(report: &OpenReport, had_runs: bool) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(why) = &report.rebuilt {
        if had_runs || why.contains("checkpoint") {
            found.push(Found::index(why));
        } else {
            note(&format!("index: {why}; made anew from the log"));
        }
    }
    found.extend(report.lost_files.iter().map(|name| Found {
        damage: "bodies",
        what: format!("{name} is gone or damaged as a whole; its messages come as damaged"),
    }));
    found.extend(report.damaged_files.iter().map(|name| Found {
        damage: "bodies",
        what: format!("{name}: its header or its index is damaged; its records were searched for"),
    }));
    if report.damaged > 0 {
        let many = count(report.damaged);
        found.push(Found {
            damage: "record",
            what: format!("{many} records of the log could not be read; what they said is lost"),
        });
    }
    found
}

/// Verifies; damage is a failure.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    args.folder.check_exists()?;
    let log = args.folder.log();
    let bar = progress::of_bytes("verify");
    let verified = offline::verify(&log, &mut progress::told(&bar));
    bar.finish_and_clear();
    let log_damages = verified
        .map_err(|e| {
            Failure::of(
                format_args!("cannot verify {}", log.display()),
                &e,
                "`qmq store repair --dir` mends what the log allows",
            )
        })?
        .damages;
    let had_runs = args.folder.has_runs();
    let scheduler = args.folder.existing()?;
    let mut index_damages = found_at_open(scheduler.open_report(), had_runs);
    let runs = scheduler
        .verify()
        .map_err(|e| super::failed("cannot verify the index", &e))?;
    index_damages.extend(runs.iter().map(|what| Found::index(what)));
    let is_made_anew = index_damages.iter().any(|found| found.damage == "index");
    let made_anew = scheduler.open_report().rebuilt.is_some() || is_made_anew;
    let messages = scheduler.totals().count;
    // What was made anew is kept.
    folder::close(scheduler)?;
    let mut out = Output::new();
    damage::print(&mut out, &log_damages, args.json, "")?;
    for found in &index_damages {
        if args.json {
            out.json(found)?;
        } else {
            let Found { damage, what } = found;
            let mended = match *damage {
                "index" => "; made anew from the log",
                _ => "",
            };
            out.line(format!("{damage}: {what}{mended}"))?;
        }
    }
    let ok = log_damages.is_empty() && index_damages.is_empty();
    if args.json {
        out.json(&Sums {
            ok,
            messages,
            log_damages: log_damages.len(),
            index_damages: index_damages.len(),
            made_anew,
        })?;
    } else {
        out.line(format!(
            "{} messages pending or handed out: {}",
            count(messages),
            if ok {
                "all as written".to_owned()
            } else {
                format!(
                    "{} damages of the log, {} of the index",
                    log_damages.len(),
                    index_damages.len()
                )
            }
        ))?;
    }
    out.flush()?;
    match log_damages.len() {
        0 if ok => Ok(()),
        0 => Err(Failure::Reported),
        many => Err(Failure::new(
            format!("{} holds {many} damaged stretches", log.display()),
            format!(
                "mend what the log allows with: qmq store repair --dir {}",
                log.display()
            ),
        )),
    }
}
