//! `qmq store dump`: the log, record by record.

use std::collections::BTreeMap;
use std::path::PathBuf;

use qmq_store::offline::{self, Dumped, DumpedKind};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::files;
use crate::cli::output::{Body, Output, time};

/// Characters of a body or a property that a person gets to see.
const SHOWN_MAX: usize = 60;

const EXAMPLES: &str = "\
Needs no index, no checkpoint and no identity, so it also shows what is left of
a store that does not open. Writes nothing. A stretch that is no record, or a
body that does not fit its checksum, is a line like any other.

Examples:
  qmq store dump --dir data | head
  qmq store dump --dir data --from 1048576 --to 2097152
  qmq store dump --dir data --lost lost-00000000000000065536-00000000000000131072
  qmq store dump --dir data --json | jq 'select(.kind == \"garbage\")'";

/// Arguments of `qmq store dump`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder
    #[arg(long)]
    dir: PathBuf,
    /// Offset in the log to begin at
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// Offset in the log to end before [default: the end]
    #[arg(long, value_name = "OFFSET")]
    to: Option<u64>,
    /// A file in the folder with what was cut off a replica's log (lost-...), in place of the log
    #[arg(long, value_name = "FILE")]
    lost: Option<String>,
    /// Print JSON, one object a line, with whole bodies
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
pub(in crate::cli) struct Line<'a> {
    kind: &'static str,
    offset: u64,
    len: u64,
    subject: &'a str,
    sequence: u64,
    time_ms: u64,
    incarnation: u32,
    id: Option<&'a str>,
    tags: &'a [&'a str],
    properties: BTreeMap<&'a str, &'a str>,
    action: Option<&'a str>,
    /// Bytes of the note.
    note_len: usize,
    #[serde(flatten)]
    body: Body<'a>,
}

/// Prints every record.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = files::existing(&args.dir)?;
    let mut out = Output::new();
    let mut printed = Ok(());
    let to = args.to.unwrap_or(u64::MAX);
    let mut print = |record: &Dumped<'_>| {
        if record.offset < args.from || record.offset >= to {
            return true;
        }
        printed = if args.json {
            out.json(&line(record))
        } else {
            out.line(text(record))
        };
        printed.is_ok()
    };
    let dumped = match &args.lost {
        Some(file) => offline::dump_lost(dir, file, &mut print),
        None => offline::dump(dir, args.from, to, &mut print),
    };
    printed?;
    dumped.map_err(|e| {
        Failure::of(
            format_args!("cannot dump {}", dir.display()),
            &e,
            "check that the folder can be read",
        )
    })?;
    out.flush()
}

fn name(kind: DumpedKind) -> &'static str {
    match kind {
        DumpedKind::Message => "message",
        DumpedKind::Action => "action",
        DumpedKind::Batch => "batch",
        DumpedKind::Epoch => "epoch",
        DumpedKind::BadBody => "bad_body",
        DumpedKind::Garbage => "garbage",
        _ => "unknown",
    }
}

/// A record for programs.
pub(in crate::cli) fn line<'a>(record: &'a Dumped<'a>) -> Line<'a> {
    Line {
        kind: name(record.kind),
        offset: record.offset,
        len: record.len,
        subject: record.subject,
        sequence: record.sequence,
        time_ms: record.time_ms,
        incarnation: record.incarnation,
        id: record.id,
        tags: &record.tags,
        properties: record.properties.iter().copied().collect(),
        action: record.action.as_deref(),
        note_len: record.note.len(),
        body: record.body.into(),
    }
}

/// A record for people.
pub(in crate::cli) fn text(record: &Dumped<'_>) -> String {
    let Dumped {
        offset,
        len,
        subject,
        sequence,
        ..
    } = record;
    let kind = name(record.kind);
    let when = time(record.time_ms);
    let what = match (record.kind, &record.action) {
        (_, Some(action)) => action.clone(),
        (DumpedKind::Message, None) => {
            let properties = properties(record);
            let len = record.body.len();
            format!("{properties}{len} bytes {}", shown(record.body))
        }
        _ => String::new(),
    };
    let note = match record.note.len() {
        0 => String::new(),
        bytes => format!(" note of {bytes} bytes"),
    };
    format!("{offset:>12} {len:>8} {kind:<8} {when:<23} {subject} {sequence} {what}{note}")
}

/// `key=value` of each property, shortened as a body is.
fn properties(record: &Dumped<'_>) -> String {
    let pairs = record.properties.iter();
    pairs
        .map(|(key, value)| format!("{}={} ", shown(key.as_bytes()), shown(value.as_bytes())))
        .collect()
}

/// The beginning of a text or a body, without anything that would upset a terminal.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_MAX * 4)]);
    let mut shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .map(|c| if c.is_control() { '.' } else { c })
        .collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}
