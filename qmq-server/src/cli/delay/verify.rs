//! `qmq delay verify`: the log and the index read back and compared with their checksums.

use qmq_store::offline;
use serde::Serialize;

use super::folder::{self, Folder};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, count};
use crate::cli::progress;
use crate::cli::store::damage;

const EXAMPLES: &str = "\
Reads the log and the index and compares them with their checksums. Exit code 0
if all is well; else 1, and each damage is a line. An index that is damaged is
made anew from the log, so that the next verify finds it whole; damage of the
log stays.

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
struct IndexDamage<'a> {
    damage: &'static str,
    what: &'a str,
}

#[derive(Serialize)]
struct Sums {
    ok: bool,
    messages: u64,
    log_damages: usize,
    index_damages: usize,
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
    let scheduler = args.folder.existing()?;
    let mut index_damages = Vec::from_iter(scheduler.open_report().rebuilt.clone());
    index_damages.extend(
        scheduler
            .verify()
            .map_err(|e| super::failed("cannot verify the index", &e))?,
    );
    let messages = scheduler.totals().count;
    // What was made anew is kept.
    folder::close(scheduler)?;
    let mut out = Output::new();
    damage::print(&mut out, &log_damages, args.json, "")?;
    for what in &index_damages {
        if args.json {
            let damage = "index";
            out.json(&IndexDamage { damage, what })?;
        } else {
            out.line(format!("index: {what}; made anew from the log"))?;
        }
    }
    let ok = log_damages.is_empty() && index_damages.is_empty();
    if args.json {
        out.json(&Sums {
            ok,
            messages,
            log_damages: log_damages.len(),
            index_damages: index_damages.len(),
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
