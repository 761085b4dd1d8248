//! What is wrong with a configuration, all of it at once, and what is merely odd.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::origin::Origin;
use super::properties::SyntaxError;

/// Everything that is wrong with a configuration; one line each when shown.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ConfigError {
    /// In the order in which they were found; at least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        let problems = vec![problem];
        Self { problems }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A value that its key does not take, by itself or beside another key's.
    #[error("{origin}: {key} = {value:?} is refused; allowed is {allowed}")]
    BadValue {
        /// Where it was set.
        origin: Origin,
        /// The key.
        key: String,
        /// The value, or `(secret)`.
        value: String,
        /// What would be taken.
        allowed: String,
    },
    /// A key that must be set and is not.
    #[error(
        "{}{key} is required and {}; set it in {file}, as {} or with --set {key}=...",
        At(origin),
        Unset(origin),
        super::key::variable_of(key)
    )]
    Required {
        /// Where it stands without a value, if it does.
        origin: Option<Origin>,
        /// The key.
        key: &'static str,
        /// The file that should have it.
        file: String,
    },
    /// A value that still is what the documentation has in its place.
    #[error(
        "{origin}: {key} = {value:?} is a placeholder of the documentation; put your own there: {allowed}"
    )]
    Placeholder {
        /// Where it was set.
        origin: Origin,
        /// The key.
        key: String,
        /// The value, or `(secret)`.
        value: String,
        /// What would be taken.
        allowed: String,
    },
    /// A line of a file without fixed keys that is refused. Says nothing of what stands there if that may be a secret.
    #[error("{origin}: {what}")]
    Line {
        /// Where.
        origin: Origin,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// More of the same than is shown.
    #[error("{}: {count} more lines cannot be read", path.display())]
    More {
        /// The file.
        path: PathBuf,
        /// How many are not shown.
        count: usize,
    },
    /// A line that cannot be read.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        reason: SyntaxError,
    },
    /// A file that cannot be read.
    #[error("{}: cannot be read: {reason}; it was named by {named_by}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What named it.
        named_by: String,
        /// What the system said.
        reason: Arc<io::Error>,
    },
    /// A key and its `.file` are both set at the same place.
    #[error("{origin}: {key} and {key}.file are both set; keep one of them")]
    SetTwice {
        /// Where the second one was set.
        origin: Origin,
        /// The key without `.file`.
        key: String,
    },
    /// A `--set` of another form. What it says is not shown, since it may be a secret.
    #[error("--set takes KEY=VALUE, such as --set broker.port=20881")]
    NotKeyValue,
    /// A mistake of this program: code asks for a key as something that the table does not say.
    #[error("key {key} is not in the table as what it is read as; please report this")]
    Table {
        /// The key.
        key: &'static str,
    },
}

struct At<'a>(&'a Option<Origin>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(origin) => write!(f, "{origin}: "),
            None => Ok(()),
        }
    }
}

struct Unset<'a>(&'a Option<Origin>);

impl fmt::Display for Unset<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "left empty",
            None => "not set",
        })
    }
}

/// Something odd that stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A key that nothing knows.
    UnknownKey {
        /// Where it was set.
        origin: Origin,
        /// The key.
        key: String,
        /// The known name that it may have meant.
        nearest: Option<&'static str>,
    },
    /// A key without a value: its default counts.
    EmptyValue {
        /// Where it was set.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// The default.
        default: &'static str,
        /// What would be taken.
        allowed: String,
    },
    /// A key of QMQ's from which nothing comes here.
    NoEffect {
        /// Where it was set.
        origin: Origin,
        /// The key.
        key: String,
        /// The value, or `(secret)`.
        value: String,
        /// Why.
        why: &'static str,
    },
    /// A key that comes twice in a file: the last one counts.
    Repeated {
        /// The line that counts.
        origin: Origin,
        /// The key.
        key: String,
        /// The line that does not.
        earlier: usize,
    },
    /// A value that looks like a placeholder of the documentation, and still is one that its key takes.
    Placeholder {
        /// Where it was set.
        origin: Origin,
        /// The key.
        key: &'static str,
    },
    /// A line of a file without fixed keys from which nothing comes. Says nothing of what stands there if that may be a secret.
    Line {
        /// Where.
        origin: Origin,
        /// What is odd.
        what: String,
    },
    /// More of this than is shown.
    More {
        /// How many are not shown.
        count: usize,
    },
}

/// Warnings, of which so many are kept and the rest counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Warnings {
    kept: Vec<Warning>,
    more: usize,
}

/// Most warnings of one reading.
pub(super) const WARNINGS_MAX: usize = 200;

impl Warnings {
    /// Whether the next one is counted only.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= WARNINGS_MAX
    }

    pub(super) fn push(&mut self, warning: Warning) {
        match self.is_full() {
            true => self.more += 1,
            false => self.kept.push(warning),
        }
    }

    pub(super) fn into_vec(mut self) -> Vec<Warning> {
        let count = self.more;
        if count > 0 {
            self.kept.push(Warning::More { count });
        }
        self.kept
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey {
                origin,
                key,
                nearest,
            } => {
                write!(f, "{origin}: {key:?} is no known key and is passed over")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None => Ok(()),
                }
            }
            Self::EmptyValue {
                origin,
                key,
                default,
                allowed,
            } => match *default {
                "" => write!(f, "{origin}: {key} has no value; it counts as not set"),
                default => write!(
                    f,
                    "{origin}: {key} has no value; its default counts: {default}; allowed is {allowed}"
                ),
            },
            Self::NoEffect {
                origin, key, why, ..
            } => {
                write!(f, "{origin}: {key} is accepted without effect: {why}")
            }
            Self::Repeated {
                origin,
                key,
                earlier,
            } => write!(
                f,
                "{origin}: {key:?} was set on line {earlier} already; this one counts"
            ),
            Self::Placeholder { origin, key } => write!(
                f,
                "{origin}: {key} looks like a placeholder of the documentation; put your own there"
            ),
            Self::Line { origin, what } => write!(f, "{origin}: {what}"),
            Self::More { count } => write!(f, "{count} more of this are not shown"),
        }
    }
}
