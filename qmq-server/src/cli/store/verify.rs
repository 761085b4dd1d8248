//! `qmq store verify`: everything read back and compared with its checksums.

use std::path::PathBuf;

use qmq_store::{Damage, offline};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::files;
use crate::cli::output::{Output, bytes, count};
use crate::cli::progress;

const EXAMPLES: &str = "\
Reads the log, the indexes and the checkpoints and compares them with their
checksums. Writes nothing and needs no lock: of a store in use it checks what
had been written when it began. Exit code 0 if all is well; else 1, and each
damaged stretch is a line with its file and its offset (for a log file: the
offset in the log; a message's subject and sequence follow).

Examples:
  qmq store verify --dir data
  qmq store verify --dir data --json | jq 'select(.damage)'";

/// Arguments of `qmq store verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder
    #[arg(long)]
    dir: PathBuf,
    /// Print JSON, one object a line: each damage, then the sums with `ok`
    #[arg(long)]
    json: bool,
}

/// A damaged stretch as JSON.
#[derive(Serialize)]
pub(super) struct DamageLine<'a> {
    damage: String,
    file: &'a str,
    offset: u64,
    len: u64,
    subject: Option<&'a str>,
    sequence: Option<u64>,
}

impl<'a> From<&'a Damage> for DamageLine<'a> {
    fn from(damage: &'a Damage) -> Self {
        let message = damage.message.as_ref();
        Self {
            damage: snake_case(&format!("{:?}", damage.kind)),
            file: &damage.file,
            offset: damage.offset,
            len: damage.len,
            subject: message.map(|(subject, _)| subject.as_str()),
            sequence: message.map(|(_, sequence)| *sequence),
        }
    }
}

/// `MessageBody` as `message_body`.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[derive(Serialize)]
struct Sums {
    ok: bool,
    segments: u64,
    bytes: u64,
    records: u64,
    messages: u64,
    damages: usize,
}

/// Verifies; damage is a failure.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = files::existing(&args.dir)?;
    let bar = progress::of_bytes("verify");
    let verified = offline::verify(dir, &mut progress::told(&bar));
    bar.finish_and_clear();
    let report = verified.map_err(|e| {
        Failure::of(
            format_args!("cannot verify {}", dir.display()),
            &e,
            "`qmq store repair --dir` mends what the log allows",
        )
    })?;
    let mut out = Output::new();
    for damage in &report.damages {
        if args.json {
            out.json(&DamageLine::from(damage))?;
        } else {
            out.line(damage.to_string())?;
        }
    }
    let ok = report.damages.is_empty();
    if args.json {
        out.json(&Sums {
            ok,
            segments: report.segments,
            bytes: report.bytes,
            records: report.records,
            messages: report.messages,
            damages: report.damages.len(),
        })?;
    } else {
        out.line(format!(
            "read {} segments, {}, {} records, {} messages: {}",
            count(report.segments),
            bytes(report.bytes),
            count(report.records),
            count(report.messages),
            if ok {
                "all as written".to_owned()
            } else {
                format!("{} damaged", report.damages.len())
            }
        ))?;
    }
    out.flush()?;
    if ok {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "{} holds {} damaged stretches",
            dir.display(),
            report.damages.len()
        ),
        format!(
            "mend what the log allows with: qmq store repair --dir {}",
            dir.display()
        ),
    ))
}
