//! `qmq store inspect`: what a folder holds.

use std::path::PathBuf;

use qmq_store::SubjectStats;
use qmq_store::offline::{self, Inspection};
use serde::Serialize;

use super::damage;
use crate::cli::failure::Failure;
use crate::cli::files::{self, DiskUse};
use crate::cli::output::{Output, bytes, count, table, time};

/// Rows of a table that a person gets without --all.
const ROWS_MAX: usize = 50;

const EXAMPLES: &str = "\
Writes nothing and needs no lock: of a store in use it shows what had been
written when it looked. With --json each line has a `kind`: `store`, then
`segment`, `subject` and `group`.

Examples:
  qmq store inspect --dir data
  qmq store inspect --dir data --all
  qmq store inspect --dir data --json | jq 'select(.kind == \"group\" and .lag > 0)'";

/// Arguments of `qmq store inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The store's folder
    #[arg(long)]
    dir: PathBuf,
    /// Show all rows, however many there are
    #[arg(long)]
    all: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Store {
        store_id: String,
        created_ms: u64,
        incarnation: u32,
        clean: bool,
        end_offset: u64,
        segments: usize,
        subjects: usize,
        files: u64,
        disk_bytes: u64,
        damages: usize,
    },
    Segment {
        file: &'a str,
        base: u64,
        end: Option<u64>,
        sealed: bool,
        first_time_ms: u64,
        last_time_ms: u64,
    },
    Subject {
        subject: &'a str,
        first_sequence: u64,
        next_sequence: u64,
        messages: u64,
        groups: usize,
    },
    Group {
        subject: &'a str,
        group: &'a str,
        broadcast: bool,
        cursor: u64,
        lag: u64,
        unacked: u64,
        waiting: u64,
        skipped: u64,
        consumers: usize,
    },
}

/// Prints what is there.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = files::existing(&args.dir)?;
    let failed = |error: &(dyn std::error::Error + 'static)| {
        let next =
            "`qmq store verify --dir` says what is damaged, `qmq store repair --dir` mends it";
        Failure::of(
            format_args!("cannot inspect {}", dir.display()),
            error,
            next,
        )
    };
    let seen = offline::inspect(dir).map_err(|e| failed(&e))?;
    let disk = DiskUse::of(dir).map_err(|e| failed(&e))?;
    if args.json {
        for_programs(&seen, disk)
    } else {
        for_people(&seen, disk, args.all)
    }
}

fn messages(subject: &SubjectStats) -> u64 {
    subject.next_sequence - subject.first_sequence
}

fn for_programs(seen: &Inspection, disk: DiskUse) -> Result<(), Failure> {
    let mut out = Output::new();
    out.json(&Line::Store {
        store_id: format!("{:032x}", seen.store_id),
        created_ms: seen.created_ms,
        incarnation: seen.incarnation,
        clean: seen.clean,
        end_offset: seen.end_offset,
        segments: seen.segments.len(),
        subjects: seen.subjects.len(),
        files: disk.files,
        disk_bytes: disk.allocated,
        damages: seen.opened.damages.len(),
    })?;
    for segment in &seen.segments {
        out.json(&Line::Segment {
            file: &segment.file,
            base: segment.base,
            end: segment.end,
            sealed: segment.sealed,
            first_time_ms: segment.first_time_ms,
            last_time_ms: segment.last_time_ms,
        })?;
    }
    for subject in &seen.subjects {
        out.json(&Line::Subject {
            subject: &subject.subject,
            first_sequence: subject.first_sequence,
            next_sequence: subject.next_sequence,
            messages: messages(subject),
            groups: subject.groups.len(),
        })?;
        for group in &subject.groups {
            out.json(&Line::Group {
                subject: &subject.subject,
                group: &group.group,
                broadcast: group.broadcast,
                cursor: group.cursor,
                lag: group.lag,
                unacked: group.unacked,
                waiting: group.waiting,
                skipped: group.skipped,
                consumers: group.consumers.len(),
            })?;
        }
    }
    out.flush()
}

fn for_people(seen: &Inspection, disk: DiskUse, all: bool) -> Result<(), Failure> {
    let mut out = Output::new();
    let stored: u64 = seen.subjects.iter().map(messages).sum();
    out.line(format!(
        "store {:032x}, made {}, incarnation {}, {}",
        seen.store_id,
        time(seen.created_ms),
        seen.incarnation,
        if seen.clean {
            "closed in order"
        } else {
            "in use, or not closed in order"
        }
    ))?;
    out.line(format!(
        "{} messages in {} subjects; log up to {} in {} segments; {} on disk in {} files",
        count(stored),
        count(seen.subjects.len() as u64),
        count(seen.end_offset),
        count(seen.segments.len() as u64),
        bytes(disk.allocated),
        count(disk.files)
    ))?;
    damage::print(&mut out, &seen.opened.damages, false, "damaged: ")?;
    segments(&mut out, seen, all)?;
    subjects(&mut out, seen, all)?;
    out.flush()
}

fn segments(out: &mut Output, seen: &Inspection, all: bool) -> Result<(), Failure> {
    let mut rows = table(
        &[
            "segment",
            "from",
            "to",
            "index",
            "first record",
            "last record",
        ],
        &[1, 2],
    );
    let hidden = hidden(seen.segments.len(), all);
    // The newest are the ones of interest.
    for segment in &seen.segments[hidden..] {
        rows.add_row([
            segment.file.clone(),
            count(segment.base),
            segment.end.map_or_else(|| "open".to_owned(), count),
            if segment.sealed { "file" } else { "memory" }.to_owned(),
            time(segment.first_time_ms),
            time(segment.last_time_ms),
        ]);
    }
    out.line("")?;
    out.line(rows.to_string())?;
    more(out, hidden, "older segments")
}

fn subjects(out: &mut Output, seen: &Inspection, all: bool) -> Result<(), Failure> {
    let header = [
        "subject",
        "from",
        "next",
        "group",
        "cursor",
        "lag",
        "unacked",
        "waiting",
        "consumers",
    ];
    let mut rows = table(&header, &[1, 2, 4, 5, 6, 7, 8]);
    let hidden = hidden(seen.subjects.len(), all);
    for subject in &seen.subjects[..seen.subjects.len() - hidden] {
        let mut name = [
            subject.subject.clone(),
            count(subject.first_sequence),
            count(subject.next_sequence),
        ];
        if subject.groups.is_empty() {
            rows.add_row(name.clone());
        }
        for group in &subject.groups {
            rows.add_row(std::mem::take(&mut name).into_iter().chain([
                group.group.clone(),
                count(group.cursor),
                count(group.lag),
                count(group.unacked),
                count(group.waiting),
                count(group.consumers.len() as u64),
            ]));
        }
    }
    out.line("")?;
    out.line(rows.to_string())?;
    more(out, hidden, "more subjects")
}

fn hidden(rows: usize, all: bool) -> usize {
    if all {
        0
    } else {
        rows.saturating_sub(ROWS_MAX)
    }
}

fn more(out: &mut Output, hidden: usize, what: &str) -> Result<(), Failure> {
    if hidden == 0 {
        return Ok(());
    }
    out.line(format!(
        " and {} {what}; --all shows them",
        count(hidden as u64)
    ))
}
