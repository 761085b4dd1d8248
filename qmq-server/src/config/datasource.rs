//! The database of a meta server, typed.

use std::fmt;

use super::configuration::Configuration;
use super::error::{ConfigError, Problem, Warning};
use super::file_kind::FileKind;
use super::secret::Secret;
use super::settings::{Settings, Sources};
use super::url::masked;

/// The database of a meta server.
#[derive(Clone)]
pub struct DatasourceConfig {
    /// `jdbc.url`, as it is written: `jdbc:mysql://` or `jdbc:mariadb://`. It may have passwords; [`Self::shown_url`] has none.
    pub url: String,
    /// `jdbc.username`.
    pub username: String,
    /// `jdbc.password`, or the content of `jdbc.password.file`; `None`: without a password.
    pub password: Option<Secret>,
    /// `pool.size.max`: connections, 1 to 1,000.
    pub pool_size_max: u32,
    /// Every key with its value and where it came from, and the warnings.
    pub settings: Settings,
}

impl fmt::Debug for DatasourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatasourceConfig")
            .field("url", &self.shown_url())
            .field("username", &self.username)
            .field("password", &self.password)
            .field("pool_size_max", &self.pool_size_max)
            .finish_non_exhaustive()
    }
}

impl DatasourceConfig {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All that is wrong, not just the first.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Configuration::load(sources)
    }

    /// What was odd.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.settings.warnings
    }

    /// The address without what it says of passwords, for logs.
    #[must_use]
    pub fn shown_url(&self) -> String {
        masked(&self.url)
    }
}

impl Configuration for DatasourceConfig {
    type Dynamic = ();

    const KIND: FileKind = FileKind::Datasource;

    fn rules(_: &mut Settings) -> Result<Vec<Problem>, Problem> {
        Ok(Vec::new())
    }

    fn typed(settings: Settings, _: &Sources) -> Result<Self, ConfigError> {
        Ok(Self {
            url: settings.text("jdbc.url")?,
            username: settings.text("jdbc.username")?,
            password: settings.secret("jdbc.password")?,
            pool_size_max: settings.number("pool.size.max")?,
            settings,
        })
    }

    fn dynamic(_: &Settings) -> Result<(), Problem> {
        Ok(())
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn current(&self) {}
}
