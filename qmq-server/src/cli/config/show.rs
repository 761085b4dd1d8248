//! `qmq config show`: every key, its value, and where it came from.

use std::path::PathBuf;

use qmq_server::config::{Checked, Content, Origin, Setting, Settings, Status, Value};
use serde::Serialize;

use super::{Finding, Place, Reading, printable};
use crate::cli::failure::{Failure, complain};
use crate::cli::output::{Output, note, table};

const EXAMPLES: &str = "\
Secrets are shown as (secret). A file that cannot be used is not shown: its errors are, and the exit code is 1.

Examples:
  qmq config show broker.properties
  qmq config show broker.properties --changed --set broker.port=21000
  qmq config show datasource.properties --json | jq -r 'select(.key == \"jdbc.url\").value'";

/// Arguments of `qmq config show`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Only keys that are set somewhere
    #[arg(long)]
    changed: bool,
    /// Print JSON, one object a key
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    key: String,
    /// As a file could have it; `null` if there is none or it is a secret.
    value: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    secret: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Place>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

/// Shows the file.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let kind = args.reading.kind_of(&args.file)?;
    let sources = args.reading.sources(&args.file)?;
    let checked = Checked::read(kind, &sources);
    let Some(content) = checked.content.as_ref().filter(|_| checked.is_usable()) else {
        return Err(refused(args.json, &checked)?);
    };
    for problem in &checked.to_fill_in {
        note(&printable(&format!("to fill in: {problem}")));
    }
    for warning in &checked.warnings {
        note(&printable(&format!("warning: {warning}")));
    }
    let mut out = Output::new();
    match content {
        Content::Settings(settings) => keys(&mut out, args, settings)?,
        Content::Tokens(descriptions) => tokens(&mut out, args, descriptions)?,
        Content::Lines(lines) => {
            for (name, value) in lines {
                match args.json {
                    true => out.json(&free(name.clone(), Some(value.clone())))?,
                    false => out.line(printable(&format!("{name}={value}")))?,
                }
            }
        }
    }
    out.flush()
}

fn refused(json: bool, checked: &Checked) -> Result<Failure, Failure> {
    let mut out = Output::new();
    for problem in &checked.problems {
        match json {
            true => out.json(&Finding::from(problem))?,
            false => complain(&printable(&problem.to_string())),
        }
    }
    out.flush()?;
    Ok(Failure::Reported)
}

fn keys(out: &mut Output, args: &Args, settings: &Settings) -> Result<(), Failure> {
    let all = settings.iter();
    let shown = all.filter(|setting| !args.changed || setting.origin != Origin::Default);
    if args.json {
        for setting in shown {
            out.json(&line(setting))?;
        }
        return Ok(());
    }
    let mut rows = table(&["key", "value", "origin", "status"], &[]);
    for setting in shown {
        rows.add_row([
            setting.key.name.to_owned(),
            printable(&value_of(setting)),
            printable(&setting.origin.to_string()),
            status(setting).to_owned(),
        ]);
    }
    out.line(rows.to_string())
}

fn value_of(setting: &Setting) -> String {
    match setting.value {
        Value::None => "(none)".to_owned(),
        _ => setting.written(),
    }
}

fn status(setting: &Setting) -> &'static str {
    match setting.key.status {
        Status::Works => "works",
        Status::Dynamic => "dynamic",
        Status::NoEffect(_) => "no effect",
    }
}

fn line(setting: &Setting) -> Line {
    let secret = matches!(setting.value, Value::Secret(_));
    let value = match &setting.value {
        Value::Secret(_) | Value::None => None,
        _ => Some(setting.written()),
    };
    Line {
        key: setting.key.name.to_owned(),
        value,
        secret,
        origin: Some(Place::from(&setting.origin)),
        status: status(setting),
        why: match setting.key.status {
            Status::NoEffect(why) => Some(why),
            _ => None,
        },
    }
}

fn free(key: String, value: Option<String>) -> Line {
    Line {
        key,
        value,
        secret: false,
        origin: None,
        status: "dynamic",
        why: None,
    }
}

#[derive(Serialize)]
struct Tokens<'a> {
    tokens: usize,
    descriptions: &'a [String],
}

fn tokens(out: &mut Output, args: &Args, descriptions: &[String]) -> Result<(), Failure> {
    let tokens = descriptions.len();
    if args.json {
        return out.json(&Tokens {
            tokens,
            descriptions,
        });
    }
    let plural = if tokens == 1 { "" } else { "s" };
    out.line(format!(
        "{tokens} token{plural}, not shown; what they are for:"
    ))?;
    for description in descriptions {
        out.line(printable(&format!("  {description}")))?;
    }
    Ok(())
}
