//! A server's configuration, re-read when its file changes.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::BrokerConfig;
use super::configuration::Configuration;
use super::error::{ConfigError, Warning};
use super::key::{Key, Status};
use super::settings::{Settings, Sources};
use super::stamp::Stamp;

/// A key whose value changed. Secrets are shown as `(secret)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: &'static Key,
    /// Its value until now.
    pub old: String,
    /// Its value in the file.
    pub new: String,
}

/// What a changed file brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// What takes effect from now on.
    pub changed: Vec<Change>,
    /// What differs from what the process runs with, and takes effect at the next start.
    pub needs_restart: Vec<Change>,
    /// What is odd in the file.
    pub warnings: Vec<Warning>,
}

impl Reload {
    /// Tells the log: old and new values, and of secrets only that they changed.
    pub fn log(&self) {
        for change in &self.changed {
            match change.key.is_secret() {
                true => tracing::info!(key = change.key.name, "a secret has changed"),
                false => tracing::info!(
                    key = change.key.name,
                    old = change.old,
                    new = change.new,
                    "a setting has changed"
                ),
            }
        }
        for change in &self.needs_restart {
            match change.key.is_secret() {
                true => tracing::warn!(
                    key = change.key.name,
                    "a secret has changed, which takes effect at the next start"
                ),
                false => tracing::warn!(
                    key = change.key.name,
                    old = change.old,
                    new = change.new,
                    "a setting takes effect at the next start"
                ),
            }
        }
        for warning in &self.warnings {
            tracing::warn!(%warning, "the configuration");
        }
    }
}

/// A broker's configuration, re-read when its file changes.
pub type WatchedConfig = Watched<BrokerConfig>;

/// A server's configuration, re-read when its file changes, or one that has a secret. Nothing happens behind the caller's back:
/// [`Self::poll`] looks.
pub struct Watched<C: Configuration> {
    sources: Sources,
    current: RwLock<Arc<C::Dynamic>>,
    seen: Mutex<Seen>,
}

impl<C: Configuration> std::fmt::Debug for Watched<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("sources", &self.sources)
            .field("current", &self.current.read())
            .finish_non_exhaustive()
    }
}

struct Seen {
    stamps: Vec<Option<Stamp>>,
    /// What is in force: the values of the start, with the dynamic ones as they are now.
    settings: Settings,
    /// The files that secrets were last read from.
    secret_files: Vec<PathBuf>,
}

impl<C: Configuration> Watched<C> {
    /// Loads the configuration and remembers what its files looked like.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    pub fn load(sources: Sources) -> Result<(Self, C), ConfigError> {
        // The stamp comes first: a write in between is seen by the first poll.
        let mut stamps = stamps_of(sources.file.iter());
        let config = C::load(&sources)?;
        let settings = config.settings().clone();
        let secret_files = settings.secret_files.clone();
        stamps.extend(stamps_of(secret_files.iter()));
        let seen = Seen {
            stamps,
            settings,
            secret_files,
        };
        let watched = Self {
            sources,
            current: RwLock::new(Arc::new(config.current())),
            seen: Mutex::new(seen),
        };
        Ok((watched, config))
    }

    /// The dynamic values as they are now. Cheap enough for every request.
    #[must_use]
    pub fn current(&self) -> Arc<C::Dynamic> {
        Arc::clone(&self.current.read())
    }

    /// Looks at the files, and reads them if one is another than last time. `None` if none is.
    ///
    /// # Errors
    /// All that is wrong with the new file, once; the old values stay in force until it is changed again. A file that has
    /// vanished is wrong too.
    pub fn poll(&self) -> Result<Option<Reload>, ConfigError> {
        let mut seen = self.seen.lock();
        let files = self.sources.file.iter().chain(&seen.secret_files);
        let stamps = stamps_of(files);
        if stamps == seen.stamps {
            return Ok(None);
        }
        seen.stamps = stamps;
        let mut settings = C::read(&self.sources)?;
        let dynamic = C::dynamic(&settings)?;
        if seen.secret_files != settings.secret_files {
            seen.stamps
                .truncate(usize::from(self.sources.file.is_some()));
            seen.stamps.extend(stamps_of(settings.secret_files.iter()));
            seen.secret_files.clone_from(&settings.secret_files);
        }
        let mut reload = Reload {
            warnings: std::mem::take(&mut settings.warnings),
            ..Reload::default()
        };
        for new in settings.iter() {
            let Some(old) = seen.settings.get(new.key.name) else {
                continue;
            };
            if old.value == new.value || matches!(new.key.status, Status::NoEffect(_)) {
                continue;
            }
            let change = Change {
                key: new.key,
                old: old.value.to_string(),
                new: new.value.to_string(),
            };
            match new.key.is_dynamic() {
                true => reload.changed.push(change),
                false => reload.needs_restart.push(change),
            }
        }
        seen.settings.take_dynamic(settings);
        *self.current.write() = Arc::new(dynamic);
        Ok(Some(reload))
    }
}

fn stamps_of<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Vec<Option<Stamp>> {
    paths.map(|path| Stamp::of(path).ok().flatten()).collect()
}

#[cfg(test)]
#[path = "watched_tests.rs"]
mod tests;
