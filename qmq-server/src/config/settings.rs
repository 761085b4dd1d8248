//! From a table of keys and the places where they may be set to one value a key.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::{ConfigError, Problem, Warning};
use super::key::{Fallback, Key, Kind, Status, Value, variable_of};
use super::nearest::nearest;
use super::origin::Origin;
use super::properties::Properties;
use super::stamp::read_limited;

/// Most bytes of a properties file, and of a file with a secret.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Variables that begin with `QMQ_` and are no keys.
const OTHER_VARIABLES: [&str; 2] = ["QMQ_CLIENT", "QMQ_LOG"];

/// The places where keys may be set.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The process's environment, or what stands for it; only names that begin with `QMQ_` count.
    pub environment: Vec<(String, String)>,
    /// The `--set KEY=VALUE` of the command line, in order; the last one of a key counts.
    pub sets: Vec<(String, String)>,
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

/// Every key's value. Keys with a computed default have [`Value::None`] until whoever computes it has.
#[derive(Clone, Debug)]
pub struct Settings {
    settings: BTreeMap<&'static str, Setting>,
    /// What was odd.
    pub warnings: Vec<Warning>,
}

/// A key as it was found, before its value is read.
struct Found {
    origin: Origin,
    text: String,
    /// Set through `KEY.file`, so that `text` names the file that holds the value.
    in_file: bool,
}

impl Settings {
    /// Reads all sources.
    ///
    /// # Errors
    /// Everything that is wrong, in any of them.
    pub fn read(table: &'static [Key], sources: &Sources) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            table,
            found: HashMap::new(),
            warnings: Vec::new(),
            problems: Vec::new(),
        };
        if let Some(path) = &sources.file {
            reader.file(path);
        }
        reader.environment(&sources.environment);
        for (key, value) in &sources.sets {
            reader.found(Origin::Set, key, value.clone());
        }
        let settings = table
            .iter()
            .map(|key| reader.setting(key, sources.folder()));
        let settings: BTreeMap<_, _> = settings.collect();
        let Reader {
            warnings, problems, ..
        } = reader;
        if problems.is_empty() {
            Ok(Self { settings, warnings })
        } else {
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

    /// The value of a [`Kind::Bool`].
    pub(super) fn bool(&self, name: &'static str) -> Result<bool, Problem> {
        match self.value(name)? {
            Value::Bool(value) => Ok(*value),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a [`Kind::Integer`] or [`Kind::Bytes`].
    pub(super) fn number<N: TryFrom<u64>>(&self, name: &'static str) -> Result<N, Problem> {
        let number = match self.value(name)? {
            Value::Number(value) => N::try_from(*value).ok(),
            _ => None,
        };
        number.ok_or(Problem::Table { key: name })
    }

    /// The value of a [`Kind::Duration`].
    pub(super) fn duration(&self, name: &'static str) -> Result<Duration, Problem> {
        match self.value(name)? {
            Value::Duration(value) => Ok(*value),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a [`Kind::Path`].
    pub(super) fn path(&self, name: &'static str) -> Result<Option<PathBuf>, Problem> {
        match self.value(name)? {
            Value::Path(value) => Ok(Some(value.clone())),
            Value::None => Ok(None),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a [`Kind::Address`].
    pub(super) fn address(&self, name: &'static str) -> Result<IpAddr, Problem> {
        match self.value(name)? {
            Value::Address(value) => Ok(*value),
            _ => Err(Problem::Table { key: name }),
        }
    }

    /// The value of a kind of text, empty if there is none.
    pub(super) fn text(&self, name: &'static str) -> Result<String, Problem> {
        match self.value(name)? {
            Value::Text(value) | Value::Secret(value) => Ok(value.clone()),
            Value::None => Ok(String::new()),
            _ => Err(Problem::Table { key: name }),
        }
    }
}

struct Reader {
    table: &'static [Key],
    found: HashMap<&'static str, Found>,
    warnings: Vec<Warning>,
    problems: Vec<Problem>,
}

impl Reader {
    fn file(&mut self, path: &Path) {
        let bytes = match read_limited(path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.problems.push(Problem::Unreadable {
                    path: path.to_owned(),
                    named_by: "the command line".to_owned(),
                    reason: Arc::new(error),
                });
                return;
            }
        };
        let properties = Properties::parse(&bytes);
        for (line, reason) in properties.errors {
            let path = path.to_owned();
            self.problems.push(Problem::Syntax { path, line, reason });
        }
        let mut lines = HashMap::new();
        let mut last: Vec<(usize, String, String)> = Vec::new();
        for entry in properties.entries {
            let index = *lines.entry(entry.key.clone()).or_insert(last.len());
            let new = (entry.line, entry.key, entry.value);
            let Some(old) = last.get_mut(index) else {
                last.push(new);
                continue;
            };
            self.warnings.push(Warning::Repeated {
                origin: Origin::File {
                    path: path.to_owned(),
                    line: new.0,
                },
                key: new.1.clone(),
                earlier: old.0,
            });
            *old = new;
        }
        for (line, key, value) in last {
            let path = path.to_owned();
            self.found(Origin::File { path, line }, &key, value);
        }
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        let mut names: HashMap<String, String> = HashMap::new();
        for key in self.table {
            names.insert(key.variable(), key.name.to_owned());
            if key.is_secret() {
                let name = format!("{}.file", key.name);
                names.insert(variable_of(&name), name);
            }
        }
        for (variable, value) in variables {
            if !variable.starts_with("QMQ_") || OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let origin = Origin::Environment(variable.clone());
            match names.get(variable) {
                Some(name) => self.found(origin, name, value.clone()),
                None => {
                    let guess = variable.trim_start_matches("QMQ_").replace('_', ".");
                    self.unknown(origin, variable, &guess);
                }
            }
        }
    }

    fn unknown(&mut self, origin: Origin, key: &str, meant: &str) {
        let nearest = nearest(meant, self.table.iter().map(|key| key.name));
        let key = key.chars().take(200).collect();
        self.warnings.push(Warning::UnknownKey {
            origin,
            key,
            nearest,
        });
    }

    fn found(&mut self, origin: Origin, name: &str, text: String) {
        let of_file = name.strip_suffix(".file");
        let exact = self.table.iter().find(|key| key.name == name);
        let secret = || {
            let in_table = |key: &&Key| key.is_secret() && Some(key.name) == of_file;
            self.table.iter().find(in_table)
        };
        let (key, in_file) = match exact {
            Some(key) => (key, false),
            None => match secret() {
                Some(key) => (key, true),
                None => return self.unknown(origin, name, name),
            },
        };
        if text.trim().is_empty() {
            self.empty(origin, key);
            return;
        }
        if let Status::NoEffect(why) = key.status {
            self.warnings.push(Warning::NoEffect {
                origin: origin.clone(),
                key: key.name,
                why,
            });
        }
        let new = Found {
            origin,
            text,
            in_file,
        };
        let old = self.found.get(key.name);
        if let Some(old) = old
            && old.in_file != new.in_file
            && same_place(&old.origin, &new.origin)
        {
            self.problems.push(Problem::SetTwice {
                origin: new.origin.clone(),
                key: key.name.to_owned(),
            });
        }
        self.found.insert(key.name, new);
    }

    /// An empty value is the default, also above a place that sets another one.
    fn empty(&mut self, origin: Origin, key: &'static Key) {
        self.found.remove(key.name);
        let (Fallback::Text(default) | Fallback::Computed(default)) = key.default;
        // Empty is how the default of such a key is written.
        if !default.is_empty() {
            let key = key.name;
            self.warnings.push(Warning::EmptyValue {
                origin,
                key,
                default,
            });
        }
    }

    fn setting(&mut self, key: &'static Key, folder: &Path) -> (&'static str, Setting) {
        let found = self.found.remove(key.name);
        let (origin, text) = match found {
            Some(found) if found.in_file => {
                let text = self.secret_in(key, folder, &found);
                (found.origin, text)
            }
            Some(found) => (found.origin, Some(found.text)),
            None => match key.default {
                Fallback::Text("") | Fallback::Computed(_) => (Origin::Default, None),
                Fallback::Text(text) => (Origin::Default, Some(text.to_owned())),
            },
        };
        let value = match text {
            Some(text) => match key.kind.read(&text) {
                Some(value) => value,
                None => {
                    self.bad(key, origin.clone(), text);
                    Value::None
                }
            },
            None => Value::None,
        };
        let value = match value {
            Value::Path(path) => match origin {
                Origin::File { .. } | Origin::Default => Value::Path(folder.join(path)),
                _ => Value::Path(path),
            },
            value => value,
        };
        let setting = Setting { key, value, origin };
        (key.name, setting)
    }

    fn secret_in(&mut self, key: &Key, folder: &Path, found: &Found) -> Option<String> {
        let named = Path::new(found.text.trim());
        let path = match found.origin {
            Origin::File { .. } => folder.join(named),
            _ => named.to_owned(),
        };
        let read = read_limited(&path, FILE_BYTES_MAX).and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8"))
        });
        match read {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                self.problems.push(Problem::Unreadable {
                    path,
                    named_by: format!("{}.file ({})", key.name, found.origin),
                    reason: Arc::new(error),
                });
                None
            }
        }
    }

    fn bad(&mut self, key: &Key, origin: Origin, text: String) {
        let value = match key.kind {
            Kind::Secret { .. } => "(secret)".to_owned(),
            _ => text.chars().take(200).collect(),
        };
        self.problems.push(Problem::BadValue {
            origin,
            key: key.name.to_owned(),
            value,
            allowed: key.kind.allowed(),
        });
    }
}

/// Whether two origins are of the same rank, so that neither overrides the other.
fn same_place(a: &Origin, b: &Origin) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
