//! Takes keys from one place after another, and reads their values.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Problem, Warning, Warnings};
use super::key::{Fallback, Key, Kind, Status, variable_of};
use super::keys;
use super::nearest::nearest;
use super::origin::Origin;
use super::properties::{Properties, SyntaxError};
use super::settings::{FILE_BYTES_MAX, Setting, Sources};
use super::stamp::read_limited;
use super::url::{has_placeholder, is_placeholder, masked};
use super::value::Value;

/// Variables that begin with `QMQ_` and are no keys.
pub(super) const OTHER_VARIABLES: [&str; 2] = ["QMQ_CLIENT", "QMQ_LOG"];

/// Most unreadable lines of a file that are told one by one.
const SYNTAX_MAX: usize = 100;

/// A key as it was found, before its value is read.
struct Found {
    origin: Origin,
    text: String,
    /// Set through `KEY.file`, so that `text` names the file that holds the value.
    in_file: bool,
}

/// What has been found so far, highest precedence last.
pub(super) struct Reader {
    table: &'static [Key],
    found: HashMap<&'static str, Found>,
    /// Where keys stand without a value.
    empty: HashMap<&'static str, Origin>,
    pub(super) warnings: Warnings,
    pub(super) problems: Vec<Problem>,
    /// What stops a server, and not the check of a file that is there to be filled in.
    pub(super) unfilled: Vec<Problem>,
    /// The files that secrets were read from.
    pub(super) secret_files: Vec<PathBuf>,
}

impl Reader {
    /// Nothing yet, of the keys of `table`.
    pub(super) fn new(table: &'static [Key]) -> Self {
        Self {
            table,
            found: HashMap::new(),
            empty: HashMap::new(),
            warnings: Warnings::default(),
            problems: Vec::new(),
            unfilled: Vec::new(),
            secret_files: Vec::new(),
        }
    }

    /// Takes every line of a properties file.
    pub(super) fn file(&mut self, path: &Path) {
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
        self.problems.extend(syntax(path, properties.errors));
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

    /// Takes every variable that begins with `QMQ_`.
    pub(super) fn environment(&mut self, variables: &[(String, String)]) {
        let names: HashMap<_, _> = variables_of(self.table).collect();
        for (variable, value) in variables {
            if !variable.starts_with("QMQ_") || OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let origin = Origin::Environment(variable.clone());
            match names.get(variable) {
                Some(name) => self.found(origin, name, value.clone()),
                // One shell may set keys of the broker and of clients.
                None if of_any_table(variable) => {}
                None => {
                    let guess = variable.trim_start_matches("QMQ_").replace('_', ".");
                    self.unknown(origin, variable, &guess);
                }
            }
        }
    }

    fn unknown(&mut self, origin: Origin, key: &str, meant: &str) {
        // Looking for names takes time, which a file of many lines must not add up.
        let nearest = match self.warnings.is_full() {
            true => None,
            false => nearest(meant, self.table.iter().map(|key| key.name)),
        };
        let key = key.chars().take(200).collect();
        self.warnings.push(Warning::UnknownKey {
            origin,
            key,
            nearest,
        });
    }

    /// Takes one key as it was found; a later one of the same key comes before it.
    pub(super) fn found(&mut self, origin: Origin, name: &str, text: String) {
        let of_file = name.strip_suffix(".file");
        let exact = self.table.iter().find(|key| key.is_of(name));
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
                key: name.to_owned(),
                value: shown(key, &text),
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
        let default = match key.default {
            Fallback::Text(default) | Fallback::Computed(default) => default,
            Fallback::Required => {
                self.empty.insert(key.name, origin);
                return;
            }
        };
        // Empty is how the default of such a key is written.
        if !default.is_empty() {
            self.warnings.push(Warning::EmptyValue {
                origin,
                key: key.name,
                default,
                allowed: key.kind.allowed(),
            });
        }
    }

    /// The value of a key, of what was found.
    pub(super) fn setting(&mut self, key: &'static Key, sources: &Sources) -> Setting {
        let folder = sources.folder();
        let found = self.found.remove(key.name);
        let (origin, text) = match found {
            Some(found) if found.in_file => {
                let text = self.secret_in(key, folder, &found);
                (found.origin, text)
            }
            Some(found) => (found.origin, Some(found.text)),
            None => {
                if key.default == Fallback::Required {
                    self.missing(key, sources);
                }
                (Origin::Default, default_of(key))
            }
        };
        let value = match text {
            Some(text) => self.read(key, &origin, &text),
            None => Value::None,
        };
        let value = match value {
            Value::Path(path) => match origin {
                Origin::File { .. } | Origin::Default => Value::Path(folder.join(path)),
                _ => Value::Path(path),
            },
            value => value,
        };
        Setting { key, value, origin }
    }

    fn read(&mut self, key: &'static Key, origin: &Origin, text: &str) -> Value {
        let placeholder = match key.is_secret() {
            true => is_placeholder(text),
            false => has_placeholder(text),
        };
        match key.kind.read(text) {
            Some(value) => {
                if placeholder && !matches!(key.status, Status::NoEffect(_)) {
                    let (origin, key) = (origin.clone(), key.name);
                    self.warnings.push(Warning::Placeholder { origin, key });
                }
                value
            }
            None if placeholder => {
                self.unfilled.push(Problem::Placeholder {
                    origin: origin.clone(),
                    key: key.name.to_owned(),
                    value: shown(key, text),
                    allowed: key.kind.allowed(),
                });
                // So that the rules between keys can still be checked.
                let default = default_of(key);
                let value = default.and_then(|text| key.kind.read(&text));
                value.unwrap_or(Value::None)
            }
            None => {
                self.problems.push(Problem::BadValue {
                    origin: origin.clone(),
                    key: key.name.to_owned(),
                    value: shown(key, text),
                    allowed: key.kind.allowed(),
                });
                Value::None
            }
        }
    }

    fn missing(&mut self, key: &'static Key, sources: &Sources) {
        let file = match &sources.file {
            Some(file) => file.display().to_string(),
            None => "the configuration file".to_owned(),
        };
        self.unfilled.push(Problem::Required {
            origin: self.empty.remove(key.name),
            key: key.name,
            file,
        });
    }

    fn secret_in(&mut self, key: &Key, folder: &Path, found: &Found) -> Option<String> {
        let named = Path::new(found.text.trim());
        let path = match found.origin {
            Origin::File { .. } => folder.join(named),
            _ => named.to_owned(),
        };
        self.secret_files.push(path.clone());
        let read = read_limited(&path, FILE_BYTES_MAX).and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
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
}

/// What an error shows of a value.
fn shown(key: &Key, text: &str) -> String {
    match key.kind {
        Kind::Secret { .. } => "(secret)".to_owned(),
        Kind::JdbcUrl | Kind::Urls => masked(text).chars().take(200).collect(),
        _ => text.chars().take(200).collect(),
    }
}

fn default_of(key: &Key) -> Option<String> {
    match key.default {
        Fallback::Text("") | Fallback::Computed(_) | Fallback::Required => None,
        Fallback::Text(text) => Some(text.to_owned()),
    }
}

/// The lines of a file that cannot be read, as problems.
pub(super) fn syntax(path: &Path, errors: Vec<(usize, SyntaxError)>) -> Vec<Problem> {
    let count = errors.len().saturating_sub(SYNTAX_MAX);
    let told = errors.into_iter().take(SYNTAX_MAX);
    let mut problems: Vec<_> = told
        .map(|(line, reason)| {
            let path = path.to_owned();
            Problem::Syntax { path, line, reason }
        })
        .collect();
    if count > 0 {
        let path = path.to_owned();
        problems.push(Problem::More { path, count });
    }
    problems
}

/// Environment variables and the names that they set.
fn variables_of(table: &'static [Key]) -> impl Iterator<Item = (String, String)> {
    let keys = table.iter().filter(|key| !key.is_pattern());
    keys.flat_map(|key| {
        let file = key.is_secret().then(|| format!("{}.file", key.name));
        let names = std::iter::once(key.name.to_owned()).chain(file);
        names.map(|name| (variable_of(&name), name))
    })
}

fn of_any_table(variable: &str) -> bool {
    let mut all = keys::ALL.into_iter().flat_map(variables_of);
    all.any(|(name, _)| name == variable)
}

/// Whether two origins are of the same rank, so that neither overrides the other.
fn same_place(a: &Origin, b: &Origin) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}
