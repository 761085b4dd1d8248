//! `qmq config`: what servers make of configuration files, without a server.

mod check;
mod show;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use qmq_server::config::{FileKind, Origin, Problem, Sources, document};
use serde::Serialize;

use super::failure::Failure;
use super::output::Output;

pub(super) const EXAMPLES: &str = "\
Examples:
  qmq config check conf/*.properties
  qmq config check --kind broker my-broker.conf
  qmq config show broker.properties --changed
  qmq config show metaserver.properties --set min.group.num=3 --json";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what a server would say to configuration files
    Check(check::Args),
    /// Print every key of a configuration file, with its value and where it came from
    Show(show::Args),
    /// Print docs/configuration.md: every key of every file
    #[command(hide = true)]
    Docs,
}

/// Runs the command that the arguments name.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Check(args) => check::run(args),
        Command::Show(args) => show::run(args),
        Command::Docs => {
            let mut out = Output::new();
            out.text(document())?;
            out.flush()
        }
    }
}

/// What kind of file it is, and what else sets its keys.
#[derive(Debug, clap::Args)]
struct Reading {
    /// What the file is, if its name does not begin so
    #[arg(long, value_parser = PossibleValuesParser::new(FileKind::ALL.map(FileKind::name)))]
    kind: Option<String>,
    /// A setting that counts before the file; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl Reading {
    fn kind_of(&self, path: &Path) -> Result<FileKind, Failure> {
        let named = self.kind.as_deref().and_then(FileKind::named);
        named.or_else(|| FileKind::of(path)).ok_or_else(|| {
            Failure::usage(
                format!("{}: its name does not say what it is", path.display()),
                "say it with --kind, such as --kind broker",
            )
        })
    }

    fn sources(&self, path: &Path) -> Result<Sources, Failure> {
        let mut sources = Sources::of_file(path);
        sources.take_environment(std::env::vars_os());
        for set in &self.sets {
            sources.take_set(set).map_err(|error| {
                Failure::usage(error.to_string(), "write it as --set KEY=VALUE")
            })?;
        }
        Ok(sources)
    }
}

/// Where something stands, in JSON.
#[derive(Default, Serialize)]
struct Place {
    /// `file`, `environment`, `set` or `default`.
    from: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
}

impl From<&Origin> for Place {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Default => Self {
                from: "default",
                ..Self::default()
            },
            Origin::File { path, line } => Self {
                from: "file",
                file: Some(path.clone()),
                line: Some(*line),
                ..Self::default()
            },
            Origin::Environment(variable) => Self {
                from: "environment",
                variable: Some(variable.clone()),
                ..Self::default()
            },
            Origin::Set => Self {
                from: "set",
                ..Self::default()
            },
        }
    }
}

/// Something wrong or odd, in JSON.
#[derive(Serialize)]
struct Finding {
    message: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        let mut finding = Self {
            message: problem.to_string(),
            place: None,
            key: None,
            value: None,
            allowed: None,
        };
        match problem {
            Problem::BadValue {
                origin,
                key,
                value,
                allowed,
            }
            | Problem::Placeholder {
                origin,
                key,
                value,
                allowed,
            } => {
                finding.place = Some(origin.into());
                finding.key = Some(key.clone());
                finding.value = Some(value.clone());
                finding.allowed = Some(allowed.clone());
            }
            Problem::Required { origin, key, .. } => {
                finding.place = origin.as_ref().map(Place::from);
                finding.key = Some((*key).to_owned());
            }
            Problem::SetTwice { origin, key } => {
                finding.place = Some(origin.into());
                finding.key = Some(key.clone());
            }
            Problem::Line { origin, .. } => finding.place = Some(origin.into()),
            Problem::Syntax { path, line, .. } => {
                let (path, line) = (path.clone(), *line);
                finding.place = Some(Place::from(&Origin::File { path, line }));
            }
            _ => {}
        }
        finding
    }
}

/// Text for a terminal: what a file has must not move its cursor.
fn printable(text: &str) -> String {
    let escape = |c: char| -> String {
        match c.is_control() {
            true => c.escape_default().collect(),
            false => c.to_string(),
        }
    };
    text.chars().map(escape).collect()
}
