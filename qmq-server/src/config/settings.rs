//! From a table of keys and the places where they may be set to one value a key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Problem, Warning};
use super::key::{Key, Kind};
use super::origin::Origin;
use super::reader::Reader;
use super::secret::Secret;
use super::value::Value;

/// Most bytes of a properties file, and of a file with a secret.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// The places where keys may be set.
#[derive(Clone, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The process's environment, or what stands for it; only names that begin with `QMQ_` count.
    pub environment: Vec<(String, String)>,
    /// The `--set KEY=VALUE` of the command line, in order; the last one of a key counts.
    pub sets: Vec<(String, String)>,
}

/// Names without values, some of which are secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("environment", &names(&self.environment))
            .field("sets", &names(&self.sets))
            .finish()
    }
}

impl Sources {
    /// A file alone.
    #[must_use]
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        Self {
            file: Some(path.into()),
            ..Self::default()
        }
    }

    /// Takes what counts of an environment, such as `std::env::vars_os()`. A value that is not UTF-8 keeps what of it is.
    pub fn take_environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        let text = |os: OsString| os.to_string_lossy().into_owned();
        let variables = variables.into_iter();
        let pairs = variables.map(|(name, value)| (text(name), text(value)));
        let ours = pairs.filter(|(name, _)| name.starts_with("QMQ_"));
        self.environment.extend(ours);
    }

    /// Takes one `--set KEY=VALUE`.
    ///
    /// # Errors
    /// [`Problem::NotKeyValue`] without a `=`, or with nothing in front of it.
    pub fn take_set(&mut self, text: &str) -> Result<(), Problem> {
        let pair = text.split_once('=').map(|(key, value)| (key.trim(), value));
        match pair {
            Some((key, value)) if !key.is_empty() => {
                self.sets.push((key.to_owned(), value.to_owned()));
                Ok(())
            }
            _ => Err(Problem::NotKeyValue),
        }
    }

    /// The folder that default paths are relative to: the file's, or the current one.
    #[must_use]
    pub fn folder(&self) -> &Path {
        let folder = self.file.as_deref().and_then(Path::parent);
        folder.unwrap_or(Path::new(""))
    }
}

/// A key's value, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// Its value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

impl Setting {
    /// The value as a file could have it, but for secrets and for passwords in an address, which are not shown. Empty if there is none.
    #[must_use]
    pub fn written(&self) -> String {
        match (&self.value, self.key.kind) {
            (Value::Duration(value), Kind::Duration { unit, .. }) => unit.count(*value).to_string(),
            (Value::None, _) => String::new(),
            (value, _) => value.to_string(),
        }
    }
}

/// Every key's value. Keys with a computed default have [`Value::None`] until whoever computes it has.
#[derive(Clone, Debug)]
pub struct Settings {
    settings: BTreeMap<&'static str, Setting>,
    /// What was odd.
    pub warnings: Vec<Warning>,
    /// What is still to be filled in: required keys that are not set, and placeholders of the documentation that no key takes.
    pub unfilled: Vec<Problem>,
    /// The files that secrets were read from.
    pub(super) secret_files: Vec<PathBuf>,
}

impl Settings {
    /// Reads all sources.
    ///
    /// # Errors
    /// Everything that is wrong, in any of them.
    pub fn read(table: &'static [Key], sources: &Sources) -> Result<Self, ConfigError> {
        let settings = Self::read_unfilled(table, sources)?;
        match settings.unfilled.is_empty() {
            true => Ok(settings),
            false => Err(ConfigError {
                problems: settings.unfilled,
            }),
        }
    }

    /// As [`Self::read`], but takes what is still to be filled in, and puts it in [`Self::unfilled`]; such a key has its default, or
    /// [`Value::None`].
    ///
    /// # Errors
    /// Everything else that is wrong.
    pub fn read_unfilled(table: &'static [Key], sources: &Sources) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(table);
        if let Some(path) = &sources.file {
            reader.file(path);
        }
        reader.environment(&sources.environment);
        for (key, value) in &sources.sets {
            reader.found(Origin::Set, key, value.clone());
        }
        let keys = table.iter().filter(|key| !key.is_pattern());
        let settings = keys
            .map(|key| (key.name, reader.setting(key, sources)))
            .collect();
        let Reader {
            warnings,
            mut problems,
            unfilled,
            secret_files,
            ..
        } = reader;
        if problems.is_empty() {
            Ok(Self {
                settings,
                warnings: warnings.into_vec(),
                unfilled,
                secret_files,
            })
        } else {
            problems.extend(unfilled);
            Err(ConfigError { problems })
        }
    }

    /// Every setting, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.settings.values()
    }

    /// The setting of the key `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name)
    }

    /// Gives a key without a value the one computed from others.
    pub(super) fn computed(&mut self, name: &str, value: Value) {
        if let Some(setting) = self.settings.get_mut(name)
            && setting.value == Value::None
        {
            setting.value = value;
        }
    }

    /// Takes over the values of dynamic keys from newer settings.
    pub(super) fn take_dynamic(&mut self, newer: Self) {
        for (name, setting) in newer.settings {
            if setting.key.is_dynamic() {
                self.settings.insert(name, setting);
            }
        }
    }

    /// The problem that `name` has a value that does not go with another key's.
    pub(super) fn conflict(&self, name: &'static str, allowed: String) -> Problem {
        match self.get(name) {
            Some(setting) => Problem::BadValue {
                origin: setting.origin.clone(),
                key: name.to_owned(),
                value: setting.value.to_string(),
                allowed,
            },
            None => Problem::Table { key: name },
        }
    }

    fn value(&self, name: &'static str) -> Result<&Value, Problem> {
        let setting = self.get(name).ok_or(Problem::Table { key: name })?;
        Ok(&setting.value)
    }

    /// The value of a [`Kind::Bool`](super::Kind::Bool).
    pub(super) fn bool(&self, name: &'static str) -> Result<bool, Problem> {
        match self.value(name)? {
            Value::Bool(value) => Ok(*value),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a [`Kind::Integer`](super::Kind::Integer) or [`Kind::Bytes`](super::Kind::Bytes).
    pub(super) fn number<N: TryFrom<u64>>(&self, name: &'static str) -> Result<N, Problem> {
        let number = match self.value(name)? {
            Value::Number(value) => N::try_from(*value).ok(),
            _ => None,
        };
        number.ok_or(Problem::Table { key: name })
    }

    /// The value of a [`Kind::Duration`](super::Kind::Duration).
    pub(super) fn duration(&self, name: &'static str) -> Result<Duration, Problem> {
        match self.value(name)? {
            Value::Duration(value) => Ok(*value),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a [`Kind::Path`](super::Kind::Path).
    pub(super) fn path(&self, name: &'static str) -> Result<Option<PathBuf>, Problem> {
        match self.value(name)? {
            Value::Path(value) => Ok(Some(value.clone())),
            Value::None => Ok(None),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a [`Kind::Address`](super::Kind::Address).
    pub(super) fn address(&self, name: &'static str) -> Result<IpAddr, Problem> {
        match self.value(name)? {
            Value::Address(value) => Ok(*value),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a [`Kind::Address`](super::Kind::Address) that may be missing.
    pub(super) fn maybe_address(&self, name: &'static str) -> Result<Option<IpAddr>, Problem> {
        match self.value(name)? {
            Value::Address(value) => Ok(Some(*value)),
            Value::None => Ok(None),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a [`Kind::Secret`](super::Kind::Secret), if there is one.
    pub(super) fn secret(&self, name: &'static str) -> Result<Option<Secret>, Problem> {
        match self.value(name)? {
            Value::Secret(value) => Ok(Some(Secret::new(value.clone()))),
            Value::None => Ok(None),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a kind of text, if there is one.
    pub(super) fn maybe_text(&self, name: &'static str) -> Result<Option<String>, Problem> {
        Ok(Some(self.text(name)?).filter(|text| !text.is_empty()))
    }

    /// The value of a [`Kind::Path`](super::Kind::Path) that has a default.
    pub(super) fn some_path(&self, name: &'static str) -> Result<PathBuf, Problem> {
        self.path(name)?.ok_or(Problem::Table { key: name })
    }

    /// Whether anyone set it.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|setting| setting.origin != Origin::Default)
    }

    /// The value of a kind of text, empty if there is none.
    pub(super) fn text(&self, name: &'static str) -> Result<String, Problem> {
        match self.value(name)? {
            Value::Text(value) | Value::Secret(value) | Value::Url(value) => Ok(value.clone()),
            Value::None => Ok(String::new()),
            _ => Err(Problem::Table { key: name }),
        }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
