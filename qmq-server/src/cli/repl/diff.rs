//! `qmq repl diff`: whether two stores have the same log.

use std::path::{Path, PathBuf};

use qmq_store::offline::{self, Dumped};
use qmq_store::{Epoch, Error, Options, ReadOnlyStore, Store};
use serde::Serialize;
use serde_json::{Value, json};

use super::compare::{Compared, Outcome, Unreadable, compare, epochs_part};
use crate::cli::failure::Failure;
use crate::cli::files;
use crate::cli::output::{Output, count, table};
use crate::cli::progress;
use crate::cli::store::dump;

const EXAMPLES: &str = "\
Compares the bytes of the two logs by digests, over the range that both still
have; where a log begins is retention's affair and no difference. Of the first
byte that differs it says the offset, and which record that is on either side.
Indexes and checkpoints are not compared: each store makes its own.

Writes nothing and needs no lock. Of a store in use it compares what had been
written when it looked, so a slave that follows is a prefix of its master.

Exit code 0 only if the logs are equal and end at the same offset; 1 if they
differ, if one is a prefix of the other, if they have nothing in common, or if
they cannot be read. With --json, `outcome` is `equal`, `a_is_prefix`,
`b_is_prefix`, `differ` or `nothing_in_common`.

Examples:
  qmq repl diff --dir master --dir slave
  qmq repl diff --dir master --dir slave --json | jq '.offset, .a.record, .b.record'";

/// Arguments of `qmq repl diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folders of the two stores: give it twice, A and then B
    #[arg(long, required = true)]
    dir: Vec<PathBuf>,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

/// One of the two stores.
struct Side<'a> {
    name: &'static str,
    dir: &'a Path,
    store: ReadOnlyStore,
}

#[derive(Serialize)]
struct Report<'a> {
    outcome: &'static str,
    from: u64,
    to: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    a: SideReport<'a>,
    b: SideReport<'a>,
}

#[derive(Serialize)]
struct SideReport<'a> {
    dir: &'a Path,
    start: u64,
    end: u64,
    epochs: Vec<Term>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Value>,
}

/// An epoch as JSON.
#[derive(Serialize)]
struct Term {
    number: u64,
    start: u64,
}

/// Compares, and fails unless the logs are equal.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let [a, b] = args.dir.as_slice() else {
        return Err(Failure::usage(
            format!("the number of --dir is {}", args.dir.len()),
            "give two: --dir A --dir B",
        ));
    };
    let (a, b) = (open("A", a)?, open("B", b)?);
    let bar = progress::of_bytes("diff");
    let compared = compare(&a.store, &b.store, &mut progress::told(&bar));
    bar.finish_and_clear();
    let found = compared.map_err(|unreadable| {
        let (side, e) = match unreadable {
            Unreadable::A(e) => (&a, e),
            Unreadable::B(e) => (&b, e),
        };
        Failure::of(
            format_args!(
                "cannot read the log of {}, {}",
                side.name,
                side.dir.display()
            ),
            &e,
            "`qmq store verify --dir` says what is damaged",
        )
    })?;
    if args.json {
        for_programs(&a, &b, &found)?;
    } else {
        for_people(&a, &b, &found)?;
    }
    match found.outcome {
        Outcome::Equal => Ok(()),
        _ => Err(Failure::Reported),
    }
}

fn open<'a>(name: &'static str, dir: &'a Path) -> Result<Side<'a>, Failure> {
    let dir = files::existing(dir)?;
    let store = Store::open_read_only(dir, &Options::default()).map_err(|e| {
        Failure::of(
            format_args!("cannot look into {}", dir.display()),
            &e,
            "give the folders of two stores with --dir",
        )
    })?;
    Ok(Side { name, dir, store })
}

impl Side<'_> {
    fn report(&self, offset: Option<u64>) -> Result<SideReport<'_>, Failure> {
        let range = self.store.log_range();
        let epochs = self.store.epochs();
        let record = match offset {
            Some(offset) => self.record(offset, &|record| json!(dump::line(record)))?,
            None => None,
        };
        Ok(SideReport {
            dir: self.dir,
            start: range.start,
            end: range.end,
            epochs: (epochs.into_iter())
                .map(|Epoch { number, start, .. }| Term { number, start })
                .collect(),
            record,
        })
    }

    /// The record, or the stretch that is none, which has the byte at `offset`.
    fn record<T>(
        &self,
        offset: u64,
        show: &dyn Fn(&Dumped<'_>) -> T,
    ) -> Result<Option<T>, Failure> {
        let look = || {
            let segments = offline::inspect(self.dir)?.segments;
            let bases = segments.iter().map(|segment| segment.base);
            let base = bases.filter(|&base| base <= offset).max().unwrap_or(0);
            let mut begins = None;
            offline::dump(self.dir, base, offset + 1, &mut |record| {
                begins = Some(record.offset);
                true
            })?;
            let mut shown = None;
            if let Some(begins) = begins {
                offline::dump(self.dir, begins, begins + 1, &mut |record| {
                    shown = Some(show(record));
                    false
                })?;
            }
            Ok::<_, Error>(shown)
        };
        look().map_err(|e| {
            Failure::of(
                format_args!("cannot look into {}", self.dir.display()),
                &e,
                "check that the folder can be read",
            )
        })
    }
}

fn for_programs(a: &Side<'_>, b: &Side<'_>, found: &Compared) -> Result<(), Failure> {
    let (outcome, offset) = match found.outcome {
        Outcome::Equal => ("equal", None),
        Outcome::AIsPrefix => ("a_is_prefix", None),
        Outcome::BIsPrefix => ("b_is_prefix", None),
        Outcome::Differ(offset) => ("differ", Some(offset)),
        Outcome::NothingInCommon => ("nothing_in_common", None),
    };
    let mut out = Output::new();
    out.json(&Report {
        outcome,
        from: found.from,
        to: found.to,
        offset,
        a: a.report(offset)?,
        b: b.report(offset)?,
    })?;
    out.flush()
}

fn for_people(a: &Side<'_>, b: &Side<'_>, found: &Compared) -> Result<(), Failure> {
    let mut out = Output::new();
    let mut rows = table(
        &["", "from", "to", "epoch", "since", "folder"],
        &[1, 2, 3, 4],
    );
    for side in [a, b] {
        let range = side.store.log_range();
        let epoch = side.store.epochs().pop();
        rows.add_row([
            side.name.to_owned(),
            count(range.start),
            count(range.end),
            epoch.map_or_else(|| "-".to_owned(), |epoch| count(epoch.number)),
            epoch.map_or_else(|| "-".to_owned(), |epoch| count(epoch.start)),
            side.dir.display().to_string(),
        ]);
    }
    out.line(rows.to_string())?;
    let range = format!("offsets {} to {}", count(found.from), count(found.to));
    let behind = |longer: &Side<'_>| count(longer.store.log_range().end - found.to);
    out.line(match found.outcome {
        Outcome::Equal => format!("equal, {range}"),
        Outcome::AIsPrefix => format!(
            "A is a prefix of B: the same bytes, {range}, and B has {} more",
            behind(b)
        ),
        Outcome::BIsPrefix => format!(
            "B is a prefix of A: the same bytes, {range}, and A has {} more",
            behind(a)
        ),
        Outcome::Differ(offset) => format!("they differ, first at offset {}", count(offset)),
        Outcome::NothingInCommon => {
            "nothing in common: one begins behind the other's end".to_owned()
        }
    })?;
    if let Outcome::Differ(offset) = found.outcome {
        for side in [a, b] {
            let record = side.record(offset, &dump::text)?;
            let record = record.unwrap_or_else(|| "no record".to_owned());
            out.line(format!("{} {record}", side.name))?;
        }
    }
    if let Some((ours, theirs)) = epochs_part(&a.store.epochs(), &b.store.epochs()) {
        let told = |epoch: Option<Epoch>| match epoch {
            Some(epoch) => format!("{} since {}", count(epoch.number), count(epoch.start)),
            None => "none".to_owned(),
        };
        out.line(format!(
            "the epochs part: A {}, B {}",
            told(ours),
            told(theirs)
        ))?;
    }
    out.flush()
}
