//! Files without fixed keys, re-read when they change: tokens, switches, ports.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::error::{ConfigError, Problem, Warning, Warnings};
use super::origin::Origin;
use super::properties::{Entry, Properties};
use super::reader::syntax;
use super::settings::FILE_BYTES_MAX;
use super::stamp::{Stamp, read_limited};

/// What a line brought that cannot be taken as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Odd {
    /// Nothing comes of it, for the reason given.
    Warning(String),
    /// The file is refused for it.
    Problem(String),
}

/// What a file without fixed keys says.
pub trait Lines: Default + Send + Sync {
    /// Takes one line; a later one of the same key comes after it.
    ///
    /// # Errors
    /// What is odd about the line, in words that do not show what may be a secret.
    fn take(&mut self, entry: Entry) -> Result<(), Odd>;

    /// What is different from `old`, a line each, for the log; secrets are not named.
    fn changes_since(&self, old: &Self) -> Vec<String>;
}

/// What the bytes of a file say, and what is odd about it.
///
/// # Errors
/// All lines that are refused; a hundred that cannot be read are told, the others counted.
pub(super) fn parse<T: Lines>(path: &Path, bytes: &[u8]) -> Result<(T, Vec<Warning>), ConfigError> {
    let properties = Properties::parse(bytes);
    let mut problems = syntax(path, properties.errors);
    let (mut lines, mut warnings) = (T::default(), Warnings::default());
    for entry in properties.entries {
        let (path, line) = (path.to_owned(), entry.line);
        match lines.take(entry) {
            Ok(()) => {}
            Err(Odd::Warning(what)) => {
                let origin = Origin::File { path, line };
                warnings.push(Warning::Line { origin, what });
            }
            Err(Odd::Problem(what)) => {
                let origin = Origin::File { path, line };
                problems.push(Problem::Line { origin, what });
            }
        }
    }
    match problems.is_empty() {
        true => Ok((lines, warnings.into_vec())),
        false => Err(ConfigError { problems }),
    }
}

/// What a changed file brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinesReload {
    /// What takes effect from now on, in words.
    pub changes: Vec<String>,
    /// What is odd in the file.
    pub warnings: Vec<Warning>,
}

impl LinesReload {
    /// Tells the log.
    pub fn log(&self, path: &Path) {
        for change in &self.changes {
            tracing::info!(file = %path.display(), "{change}");
        }
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// A file without fixed keys, re-read when it changes. Nothing happens behind the caller's back: [`Self::poll`] looks.
#[derive(Debug)]
pub struct WatchedLines<T> {
    path: PathBuf,
    current: RwLock<Arc<T>>,
    seen: Mutex<Option<Stamp>>,
}

impl<T: Lines> WatchedLines<T> {
    /// Reads the file. One that is not there says nothing, unless it is `required`; it is read when it appears.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn open(path: PathBuf, required: bool) -> Result<(Self, Vec<Warning>), ConfigError> {
        let watched = Self {
            seen: Mutex::new(stamp_of(&path)),
            current: RwLock::default(),
            path,
        };
        if !required && watched.seen.lock().is_none() {
            return Ok((watched, Vec::new()));
        }
        let (lines, warnings) = watched.read()?;
        *watched.current.write() = Arc::new(lines);
        Ok((watched, warnings))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says now. Cheap enough for every request.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    /// Looks at the file, and reads it if it is another one than last time. `None` if it is not.
    ///
    /// # Errors
    /// All that is wrong with the new file, once; what it said before stays in force until it is changed again. A file that has
    /// vanished is wrong too: to take everything away, empty it.
    pub fn poll(&self) -> Result<Option<LinesReload>, ConfigError> {
        let mut seen = self.seen.lock();
        let stamp = stamp_of(&self.path);
        if stamp == *seen {
            return Ok(None);
        }
        *seen = stamp;
        let (lines, warnings) = self.read()?;
        let changes = lines.changes_since(&self.current());
        *self.current.write() = Arc::new(lines);
        Ok(Some(LinesReload { changes, warnings }))
    }

    fn read(&self) -> Result<(T, Vec<Warning>), ConfigError> {
        let bytes = bytes_of(&self.path, "the configuration")?;
        parse(&self.path, &bytes)
    }
}

/// The bytes of a file of at most [`FILE_BYTES_MAX`].
pub(super) fn bytes_of(path: &Path, named_by: &str) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |error: io::Error| Problem::Unreadable {
        path: path.to_owned(),
        named_by: named_by.to_owned(),
        reason: Arc::new(error),
    };
    Ok(read_limited(path, FILE_BYTES_MAX).map_err(unreadable)?)
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    Stamp::of(path).ok().flatten()
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
