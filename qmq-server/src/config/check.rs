//! Whether a configuration file can be used, and what stands in it.

use super::api_tokens::ApiTokens;
use super::broker::BrokerConfig;
use super::client::ClientConfig;
use super::client_log_switch::ClientLogSwitch;
use super::configuration::Configuration;
use super::delay::DelayConfig;
use super::error::{ConfigError, Problem, Warning};
use super::file_kind::FileKind;
use super::http_ports::HttpPorts;
use super::lines::{Lines, bytes_of, parse};
use super::meta::MetaConfig;
use super::settings::{Settings, Sources};

/// What was found in a configuration file.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What keeps it from being used.
    pub problems: Vec<Problem>,
    /// What must be filled in before a server starts with it: the file is a template, with placeholders of the documentation.
    pub to_fill_in: Vec<Problem>,
    /// What is odd.
    pub warnings: Vec<Warning>,
    /// What it says, if it can be used.
    pub content: Option<Content>,
}

/// What a file says.
#[derive(Clone, Debug)]
pub enum Content {
    /// Keys of a table.
    Settings(Box<Settings>),
    /// What the tokens are for.
    Tokens(Vec<String>),
    /// Names with values, of a file without fixed keys.
    Lines(Vec<(String, String)>),
}

impl Checked {
    /// Reads a file, with what else `sources` have.
    #[must_use]
    pub fn read(kind: FileKind, sources: &Sources) -> Self {
        let read = match kind {
            FileKind::ApiTokens => lines::<ApiTokens>(sources, |tokens| {
                let all = tokens.descriptions().into_iter();
                Content::Tokens(all.map(str::to_owned).collect())
            }),
            FileKind::ClientLogSwitch => lines::<ClientLogSwitch>(sources, |switch| {
                let default = std::iter::once(("default", switch.default()));
                let all = default.chain(switch.subjects());
                Content::Lines(
                    all.map(|(name, on)| (name.to_owned(), on.to_string()))
                        .collect(),
                )
            }),
            FileKind::HttpPorts => lines::<HttpPorts>(sources, |ports| {
                let all = ports.iter();
                Content::Lines(
                    all.map(|(name, port)| (name.to_owned(), port.to_string()))
                        .collect(),
                )
            })
            .map(|mut checked| {
                let what =
                    "this file is accepted without effect: there are no slaves with HTTP yet";
                let origin = super::Origin::File {
                    path: sources.file.clone().unwrap_or_default(),
                    line: 1,
                };
                let what = what.to_owned();
                checked.warnings.push(Warning::Line { origin, what });
                checked
            }),
            _ => settings(kind, sources),
        };
        read.unwrap_or_else(|error| Self {
            problems: error.problems,
            ..Self::default()
        })
    }

    /// Whether it can be used, once filled in.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.problems.is_empty()
    }
}

fn lines<T: Lines>(
    sources: &Sources,
    content: impl FnOnce(&T) -> Content,
) -> Result<Checked, ConfigError> {
    let path = sources.file.clone().unwrap_or_default();
    let bytes = bytes_of(&path, "the command line")?;
    let (lines, warnings) = parse(&path, &bytes)?;
    Ok(Checked {
        warnings,
        content: Some(content(&lines)),
        ..Checked::default()
    })
}

fn settings(kind: FileKind, sources: &Sources) -> Result<Checked, ConfigError> {
    let mut settings = Settings::read_unfilled(kind.keys(), sources)?;
    let unfilled = std::mem::take(&mut settings.unfilled);
    let is_placeholder = |problem: &Problem| matches!(problem, Problem::Placeholder { .. });
    let is_template = unfilled.iter().any(is_placeholder);
    let mut problems = match kind {
        FileKind::Broker => BrokerConfig::rules(&mut settings)?,
        FileKind::Delay => DelayConfig::rules(&mut settings)?,
        FileKind::Meta => MetaConfig::rules(&mut settings)?,
        FileKind::Client => ClientConfig::rules(&settings)?,
        _ => Vec::new(),
    };
    let mut checked = Checked {
        warnings: std::mem::take(&mut settings.warnings),
        ..Checked::default()
    };
    match is_template {
        true => checked.to_fill_in = unfilled,
        false => problems.extend(unfilled),
    }
    checked.problems = problems;
    checked.content = Some(Content::Settings(Box::new(settings)));
    Ok(checked)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
