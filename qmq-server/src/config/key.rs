//! One key: its name, what its value may be, its default, and whether it does anything.

use std::time::Duration;

use super::url::{is_host, is_host_port, is_http_url, is_jdbc_url};
use super::value::Value;

/// A key of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, QMQ's own where QMQ has it.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What counts when nothing is set.
    pub default: Fallback,
    /// What it is for, in one line.
    pub meaning: &'static str,
    /// Whether it works.
    pub status: Status,
    /// Where QMQ's documents and its code disagree about it, or this program and both of them.
    pub differs: Option<&'static str>,
}

/// What a key's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// Least value.
        low: u64,
        /// Greatest value.
        high: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A length of time, as a whole number of `unit`.
    Duration {
        /// The unit.
        unit: TimeUnit,
        /// Least value, in units.
        low: u64,
        /// Greatest value, in units.
        high: u64,
    },
    /// A number of bytes: plain, or with `K`, `M` or `G` (1,024 each time; `KiB`, `MiB` and `GiB` too).
    Bytes {
        /// Least value.
        low: u64,
        /// Greatest value.
        high: u64,
    },
    /// A file or folder. A relative one in a file is relative to that file's folder.
    Path,
    /// Any text up to a length.
    Text {
        /// Most bytes.
        bytes_max: usize,
    },
    /// One of some words.
    Word(&'static [&'static str]),
    /// An IP address.
    Address,
    /// A host's name or address.
    Host,
    /// `host:port`, or several with commas.
    HostPorts,
    /// An `http://` address, or several with commas.
    Urls,
    /// The address of a MySQL or MariaDB database as JDBC writes it. What it says of passwords is never shown.
    JdbcUrl,
    /// Rights, as [`crate::access::Rights`] reads them.
    Rights,
    /// A secret: never shown, and also taken from the file that `KEY.file` names.
    Secret {
        /// Most bytes.
        bytes_max: usize,
    },
}

/// The unit of a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Hours.
    Hours,
}

/// What counts when nothing is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// A value, written as in a file. The empty one stands for "none".
    Text(&'static str),
    /// Depends on other keys; the text says how.
    Computed(&'static str),
    /// Nothing does: it must be set.
    Required,
}

/// Whether a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It works, and is read at start.
    Works,
    /// It works, and a change of the file takes effect without a restart.
    Dynamic,
    /// It is one of QMQ's and taken without complaint, but nothing comes of it, for the reason given.
    NoEffect(&'static str),
}

impl Key {
    /// Whether a change takes effect without a restart.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.status == Status::Dynamic
    }

    /// Whether its value must not be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret { .. })
    }

    /// Whether it stands for every key that begins with what is in front of its `*`.
    pub(super) fn is_pattern(&self) -> bool {
        self.name.ends_with('*')
    }

    /// Whether this is the key called `name`, or stands for it.
    pub(super) fn is_of(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => self.name == name,
        }
    }

    /// The environment variable that sets it: `QMQ_` and its name in capitals, with `_` for `.` and `-`.
    #[must_use]
    pub fn variable(&self) -> String {
        variable_of(self.name)
    }
}

/// The environment variable of a key called `name`.
pub(super) fn variable_of(name: &str) -> String {
    let name = name.to_ascii_uppercase().replace(['.', '-'], "_");
    format!("QMQ_{name}")
}

impl TimeUnit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
            Self::Hours => "hours",
        }
    }

    /// How many whole units a length of time has.
    pub(super) fn count(self, value: Duration) -> u64 {
        match self {
            Self::Milliseconds => u64::try_from(value.as_millis()).unwrap_or(u64::MAX),
            Self::Seconds => value.as_secs(),
            Self::Hours => value.as_secs() / 3600,
        }
    }

    fn times(self, count: u64) -> Duration {
        match self {
            Self::Milliseconds => Duration::from_millis(count),
            Self::Seconds => Duration::from_secs(count),
            Self::Hours => Duration::from_secs(count.saturating_mul(3600)),
        }
    }
}

impl Kind {
    /// Reads a value; `None` if it is not what [`Self::allowed`] says. White space around it does not count, except in secrets.
    #[must_use]
    pub fn read(self, text: &str) -> Option<Value> {
        let trimmed = text.trim();
        let within = |low: u64, high: u64| move |value: &u64| (low..=high).contains(value);
        match self {
            Self::Bool if trimmed.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
            Self::Bool if trimmed.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
            Self::Bool => None,
            Self::Integer { low, high, .. } => {
                whole(trimmed).filter(within(low, high)).map(Value::Number)
            }
            Self::Duration { unit, low, high } => whole(trimmed)
                .filter(within(low, high))
                .map(|count| Value::Duration(unit.times(count))),
            Self::Bytes { low, high } => {
                bytes(trimmed).filter(within(low, high)).map(Value::Number)
            }
            Self::Path => {
                let fits = !trimmed.is_empty() && !trimmed.contains('\0');
                fits.then(|| Value::Path(trimmed.into()))
            }
            Self::Text { bytes_max } => {
                let fits = trimmed.len() <= bytes_max && !trimmed.contains(char::is_control);
                fits.then(|| Value::Text(trimmed.to_owned()))
            }
            Self::Word(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(trimmed))
                .map(|&word| Value::Text(word.to_owned())),
            Self::Address => trimmed.parse().ok().map(Value::Address),
            Self::Host => is_host(trimmed).then(|| Value::Text(trimmed.to_owned())),
            Self::HostPorts => {
                let fits = trimmed.split(',').all(|one| is_host_port(one.trim()));
                fits.then(|| Value::Text(trimmed.to_owned()))
            }
            Self::Urls => {
                let urls: Vec<_> = trimmed.split(',').map(str::trim).collect();
                let fits = urls.len() <= URLS_MAX && urls.iter().all(|url| is_http_url(url));
                fits.then(|| Value::Text(trimmed.to_owned()))
            }
            Self::JdbcUrl => is_jdbc_url(trimmed).then(|| Value::Url(trimmed.to_owned())),
            Self::Rights => {
                let rights = trimmed.parse::<crate::access::Rights>();
                rights.is_ok().then(|| Value::Text(trimmed.to_owned()))
            }
            Self::Secret { bytes_max } => {
                let fits = text.len() <= bytes_max && !text.contains(char::is_control);
                fits.then(|| Value::Secret(text.to_owned()))
            }
        }
    }

    /// What is allowed, to stand behind "allowed is".
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer { low, high, unit } => {
                format!("a whole number from {low} to {high} ({unit})")
            }
            Self::Duration { unit, low, high } => {
                format!("a whole number of {} from {low} to {high}", unit.name())
            }
            Self::Bytes { low, high } => {
                format!("a number of bytes from {low} to {high}, such as {low} or 64M")
            }
            Self::Path => "the name of a file or folder".to_owned(),
            Self::Text { bytes_max } => {
                format!("text of at most {bytes_max} bytes without control characters")
            }
            Self::Word(words) => words.join(" or "),
            Self::Address => "an IP address, such as 127.0.0.1, 0.0.0.0 or ::".to_owned(),
            Self::Host => "a host's name or address, such as broker-1.example.org".to_owned(),
            Self::HostPorts => {
                "host:port, or several with commas, such as broker-1:20881,[::1]:20881".to_owned()
            }
            Self::Urls => format!(
                "an http:// address, or at most {URLS_MAX} with commas, such as http://10.0.0.1:8080/meta/address"
            ),
            Self::JdbcUrl => {
                "an address such as jdbc:mysql://db.example.org:3306/qmq_metaserver?useSSL=false"
                    .to_owned()
            }
            Self::Rights => crate::access::RIGHTS_ALLOWED.to_owned(),
            Self::Secret { bytes_max } => {
                format!("a secret of at most {bytes_max} bytes without control characters")
            }
        }
    }
}

/// Most addresses of one [`Kind::Urls`].
const URLS_MAX: usize = 16;

/// Digits only: `parse` would take a plus sign too, which no unit of ours has.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return None,
    };
    whole(digits)?.checked_mul(1 << shift)
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
