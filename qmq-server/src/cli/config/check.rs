//! `qmq config check`: what is wrong with files, and what is odd.

use std::path::{Path, PathBuf};

use qmq_server::config::{Checked, FileKind, Warning};
use serde::Serialize;

use super::{Finding, Place, Reading, printable};
use crate::cli::failure::Failure;
use crate::cli::output::Output;

const EXAMPLES: &str = "\
The exit code is 0 if all files can be used, also with warnings or as templates with placeholders to fill in, and 1 if not.
The environment counts, as it does for a server: broker.port is QMQ_BROKER_PORT.

Examples:
  qmq config check broker.properties
  qmq config check conf/*.properties --json
  qmq config check --kind delay my-delay.conf";

/// Arguments of `qmq config check`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Configuration files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// Print JSON, one object a file
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    file: &'a Path,
    kind: &'static str,
    ok: bool,
    errors: Vec<Finding>,
    to_fill_in: Vec<Finding>,
    warnings: Vec<Finding>,
}

/// Checks all files.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut read = Vec::new();
    for file in &args.files {
        let kind = args.reading.kind_of(file)?;
        let sources = args.reading.sources(file)?;
        read.push((file, kind, sources));
    }
    let (mut out, mut all_usable) = (Output::new(), true);
    for (file, kind, sources) in read {
        let checked = Checked::read(kind, &sources);
        all_usable &= checked.is_usable();
        match args.json {
            true => out.json(&line(file, kind, &checked))?,
            false => print(&mut out, file, kind, &checked)?,
        }
    }
    out.flush()?;
    match all_usable {
        true => Ok(()),
        false => Err(Failure::Reported),
    }
}

fn print(out: &mut Output, file: &Path, kind: FileKind, checked: &Checked) -> Result<(), Failure> {
    for problem in &checked.problems {
        out.line(printable(&format!("error: {problem}")))?;
    }
    for problem in &checked.to_fill_in {
        out.line(printable(&format!("to fill in: {problem}")))?;
    }
    for warning in &checked.warnings {
        out.line(printable(&format!("warning: {warning}")))?;
    }
    let verdict = match (checked.is_usable(), checked.to_fill_in.is_empty()) {
        (true, true) => "can be used",
        (true, false) => "is a template that can be used once it is filled in",
        (false, _) => "cannot be used",
    };
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let summary = format!(
        "{} ({}) {verdict}: {}, {} to fill in, {}",
        file.display(),
        kind.name(),
        plural(checked.problems.len(), "error"),
        checked.to_fill_in.len(),
        plural(checked.warnings.len(), "warning"),
    );
    out.line(printable(&summary))
}

fn line<'a>(file: &'a Path, kind: FileKind, checked: &Checked) -> Line<'a> {
    Line {
        file,
        kind: kind.name(),
        ok: checked.is_usable(),
        errors: checked.problems.iter().map(Finding::from).collect(),
        to_fill_in: checked.to_fill_in.iter().map(Finding::from).collect(),
        warnings: checked.warnings.iter().map(Finding::from).collect(),
    }
}

impl From<&Warning> for Finding {
    fn from(warning: &Warning) -> Self {
        let (origin, key) = match warning {
            Warning::UnknownKey { origin, key, .. }
            | Warning::NoEffect { origin, key, .. }
            | Warning::Repeated { origin, key, .. } => (Some(origin), Some(key.clone())),
            Warning::EmptyValue { origin, key, .. } | Warning::Placeholder { origin, key } => {
                (Some(origin), Some((*key).to_owned()))
            }
            Warning::Line { origin, .. } => (Some(origin), None),
            _ => (None, None),
        };
        let (value, allowed) = match warning {
            Warning::NoEffect { value, .. } => (Some(value.clone()), None),
            Warning::EmptyValue { allowed, .. } => (Some(String::new()), Some(allowed.clone())),
            _ => (None, None),
        };
        Self {
            message: warning.to_string(),
            place: origin.map(Place::from),
            key,
            value,
            allowed,
        }
    }
}
