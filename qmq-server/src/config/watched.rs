//! A broker's configuration, re-read when its file changes.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::BrokerConfig;
use super::broker::{Dynamic, complete};
use super::error::{ConfigError, Warning};
use super::key::Key;
use super::keys;
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

/// A broker's configuration, re-read when its file changes. Nothing happens behind the caller's back: [`Self::poll`] looks.
#[derive(Debug)]
pub struct WatchedConfig {
    sources: Sources,
    current: RwLock<Arc<Dynamic>>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamp: Option<Stamp>,
    /// What is in force: the values of the start, with the dynamic ones as they are now.
    settings: Settings,
}

impl WatchedConfig {
    /// Loads the configuration and remembers what its file looked like.
    ///
    /// # Errors
    /// As [`BrokerConfig::load`].
    pub fn load(sources: Sources) -> Result<(Self, BrokerConfig), ConfigError> {
        // The stamp comes first: a write in between is seen by the first poll.
        let stamp = stamp_of(&sources);
        let config = BrokerConfig::load(&sources)?;
        let seen = Seen {
            stamp,
            settings: config.settings.clone(),
        };
        let watched = Self {
            sources,
            current: RwLock::new(Arc::new(config.dynamic)),
            seen: Mutex::new(seen),
        };
        Ok((watched, config))
    }

    /// The dynamic values as they are now. Cheap enough for every request.
    #[must_use]
    pub fn current(&self) -> Arc<Dynamic> {
        Arc::clone(&self.current.read())
    }

    /// Looks at the file, and reads it if it is another one than last time. `None` if it is not.
    ///
    /// # Errors
    /// All that is wrong with the new file, once; the old values stay in force until it is changed again. A file that has
    /// vanished is wrong too.
    pub fn poll(&self) -> Result<Option<Reload>, ConfigError> {
        let mut seen = self.seen.lock();
        let stamp = stamp_of(&self.sources);
        if stamp == seen.stamp {
            return Ok(None);
        }
        seen.stamp = stamp;
        let mut settings = Settings::read(keys::BROKER, &self.sources)?;
        let problems = complete(&mut settings);
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let dynamic = Dynamic::of(&settings)?;
        let mut reload = Reload {
            warnings: std::mem::take(&mut settings.warnings),
            ..Reload::default()
        };
        for new in settings.iter() {
            let Some(old) = seen.settings.get(new.key.name) else {
                continue;
            };
            if old.value == new.value || matches!(new.key.status, super::Status::NoEffect(_)) {
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

fn stamp_of(sources: &Sources) -> Option<Stamp> {
    let path = sources.file.as_deref()?;
    Stamp::of(path).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn watched(text: &str) -> (tempfile::TempDir, std::path::PathBuf, WatchedConfig) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.properties");
        fs::write(&path, text).unwrap();
        let (watched, _) = WatchedConfig::load(Sources::of_file(&path)).unwrap();
        (folder, path, watched)
    }

    #[test]
    fn a_changed_dynamic_key_takes_effect_and_is_reported() {
        let (_folder, path, watched) = watched("message.retry.delay.seconds=5\n");
        assert_eq!(watched.poll().unwrap(), None);
        fs::write(
            &path,
            "message.retry.delay.seconds=60\nsubject.auto.create=false\n",
        )
        .unwrap();
        let reload = watched.poll().unwrap().unwrap();
        let changes: Vec<_> = reload
            .changed
            .iter()
            .map(|change| (change.key.name, &*change.old, &*change.new))
            .collect();
        let expected = [
            ("message.retry.delay.seconds", "5 s", "60 s"),
            ("subject.auto.create", "true", "false"),
        ];
        assert_eq!(changes, expected);
        assert_eq!(reload.needs_restart, []);
        let current = watched.current();
        assert_eq!(current.retry_delay, Duration::from_secs(60));
        assert!(!current.subject_auto_create);
        assert_eq!(watched.poll().unwrap(), None);
    }

    #[test]
    fn a_change_that_needs_a_restart_is_reported_until_it_is_taken_back() {
        let (_folder, path, watched) = watched("broker.port=20881\n");
        fs::write(&path, "broker.port=20899\nsync.port=1\n").unwrap();
        let reload = watched.poll().unwrap().unwrap();
        assert_eq!(reload.changed, []);
        let names: Vec<_> = reload.needs_restart.iter().map(|c| c.key.name).collect();
        assert_eq!(names, ["broker.port", "http.port"]);
        fs::write(&path, "broker.port=20899\nsubject.auto.create=false\n").unwrap();
        let reload = watched.poll().unwrap().unwrap();
        assert_eq!((reload.changed.len(), reload.needs_restart.len()), (1, 2));
        fs::write(&path, "broker.port=20881\nsubject.auto.create=false\n\n").unwrap();
        let reload = watched.poll().unwrap().unwrap();
        assert_eq!((reload.changed.len(), reload.needs_restart.len()), (0, 0));
    }

    #[test]
    fn a_bad_file_is_reported_once_and_the_old_values_stay() {
        let (_folder, path, watched) = watched("message.retry.delay.seconds=7\n");
        fs::write(
            &path,
            "message.retry.delay.seconds=soon\nsubject.auto.create=maybe\n",
        )
        .unwrap();
        let error = watched.poll().unwrap_err();
        assert_eq!(error.problems.len(), 2, "{error}");
        assert_eq!(watched.poll().unwrap(), None);
        assert_eq!(watched.current().retry_delay, Duration::from_secs(7));
        fs::remove_file(&path).unwrap();
        assert!(watched.poll().is_err());
        assert_eq!(watched.poll().unwrap(), None);
        assert_eq!(watched.current().retry_delay, Duration::from_secs(7));
        fs::write(&path, "message.retry.delay.seconds=8\n").unwrap();
        assert_eq!(watched.poll().unwrap().unwrap().changed.len(), 1);
        assert_eq!(watched.current().retry_delay, Duration::from_secs(8));
    }

    #[test]
    fn without_a_file_there_is_nothing_to_poll() {
        let (watched, _) = WatchedConfig::load(Sources::default()).unwrap();
        assert_eq!(watched.poll().unwrap(), None);
    }

    #[test]
    fn what_the_command_line_sets_is_not_changed_by_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.properties");
        fs::write(&path, "").unwrap();
        let sets = vec![("message.retry.delay.seconds".to_owned(), "3".to_owned())];
        let sources = Sources {
            sets,
            ..Sources::of_file(&path)
        };
        let (watched, _) = WatchedConfig::load(sources).unwrap();
        fs::write(&path, "message.retry.delay.seconds=9\n").unwrap();
        assert_eq!(watched.poll().unwrap(), Some(Reload::default()));
        assert_eq!(watched.current().retry_delay, Duration::from_secs(3));
    }
}
