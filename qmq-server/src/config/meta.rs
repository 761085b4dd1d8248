//! What a meta server is told, typed.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::configuration::Configuration;
use super::datasource::DatasourceConfig;
use super::error::{ConfigError, Problem, Warning};
use super::file_kind::FileKind;
use super::key::variable_of;
use super::keys;
use super::parts::{ConnectionLimits, Security, WindowLimits};
use super::rules;
use super::settings::{Settings, Sources};
use super::value::Value;

/// Where a meta server keeps what it knows.
#[derive(Clone, Debug)]
pub enum MetaDatabase {
    /// In a SQLite file of its own: `meta.database`.
    Sqlite(PathBuf),
    /// In a MySQL or MariaDB database, as `datasource.file`, the environment or `--set` says.
    Datasource(Box<DatasourceConfig>),
}

/// What of a meta server's configuration takes effect without a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaDynamic {
    /// `heartbeat.timeout.ms`.
    pub heartbeat_timeout: Duration,
    /// `min.group.num`: 1 to 1,000.
    pub min_group_num: u32,
}

/// What a meta server is told. Fields without a comment of their own are explained by `meaning` in [`keys::META`].
#[derive(Clone, Debug)]
pub struct MetaConfig {
    /// `meta.name`; `None`: take the host's.
    pub name: Option<String>,
    /// `meta.listen` and `meta.server.port`.
    pub listen: SocketAddr,
    /// `http.listen` and `meta.server.discover.port`.
    pub http: SocketAddr,
    /// `http.compat`, with `auto` decided: `true` on a loopback address.
    pub http_compat: bool,
    /// `qmq.host`: what `/meta/address` tells; `None`: the address at which it was asked.
    pub host: Option<String>,
    /// Where it keeps what it knows.
    pub database: MetaDatabase,
    /// `meta.root`.
    pub root: PathBuf,
    /// `meta.snapshot.file`.
    pub snapshot_file: PathBuf,
    /// `refresh.period.seconds`.
    pub refresh_period: Duration,
    /// `valid.api.tokens.file`, for [`ApiTokens`](super::ApiTokens).
    pub api_tokens_file: PathBuf,
    /// Whether it was set, so that a missing file is a mistake.
    pub api_tokens_required: bool,
    /// `client.log.switch.file`, for [`ClientLogSwitch`](super::ClientLogSwitch).
    pub client_log_switch_file: PathBuf,
    /// Whether it was set, so that a missing file is a mistake.
    pub client_log_switch_required: bool,
    /// Limits on connections.
    pub connection: ConnectionLimits,
    /// Limits on what is under way on them.
    pub windows: WindowLimits,
    /// Who may do what over QUIC.
    pub security: Security,
    /// What takes effect without a restart, as it was at start; [`super::Watched::current`] has it as it is.
    pub dynamic: MetaDynamic,
    /// Every key with its value and where it came from, and the warnings.
    pub settings: Settings,
}

impl MetaConfig {
    /// Reads and checks everything, with the file that names the database. Of the command line and the environment, the keys of
    /// `datasource.properties` count for that one.
    ///
    /// # Errors
    /// All that is wrong, not just the first.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Configuration::load(sources)
    }

    /// What was odd, of both files.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.settings.warnings.clone();
        if let MetaDatabase::Datasource(datasource) = &self.database {
            warnings.extend_from_slice(datasource.warnings());
        }
        warnings
    }
}

/// Whether a key is one of `datasource.properties`.
fn is_of_datasource(name: &str) -> bool {
    let of_file = name.strip_suffix(".file");
    keys::DATASOURCE
        .iter()
        .any(|key| key.name == name || (key.is_secret() && Some(key.name) == of_file))
}

/// The database, if it is not the own file.
fn datasource(
    settings: &Settings,
    sources: &Sources,
) -> Result<Option<DatasourceConfig>, ConfigError> {
    let path = settings.some_path("datasource.file")?;
    let file = (settings.is_set("datasource.file") || path.exists()).then_some(path);
    let variable = variable_of("jdbc.url");
    let named_elsewhere = sources.sets.iter().any(|(key, _)| key == "jdbc.url")
        || sources
            .environment
            .iter()
            .any(|(name, _)| *name == variable);
    if file.is_none() && !named_elsewhere {
        return Ok(None);
    }
    let sets = sources.sets.iter();
    let sources = Sources {
        file,
        environment: sources.environment.clone(),
        sets: sets
            .filter(|(key, _)| is_of_datasource(key))
            .cloned()
            .collect(),
    };
    DatasourceConfig::load(&sources).map(Some)
}

impl Configuration for MetaConfig {
    type Dynamic = MetaDynamic;

    const KIND: FileKind = FileKind::Meta;

    fn own(sources: &Sources) -> Cow<'_, Sources> {
        let mut own = sources.clone();
        own.sets.retain(|(key, _)| !is_of_datasource(key));
        Cow::Owned(own)
    }

    fn rules(settings: &mut Settings) -> Result<Vec<Problem>, Problem> {
        let mut problems = Vec::new();
        let root = settings.some_path("meta.root")?;
        settings.computed("meta.database", Value::Path(root.join("meta.db")));
        settings.computed(
            "meta.snapshot.file",
            Value::Path(root.join("meta.snapshot")),
        );
        rules::windows(settings, &mut problems)?;
        rules::names(settings, &["meta.name"], &mut problems)?;
        Ok(problems)
    }

    fn typed(settings: Settings, sources: &Sources) -> Result<Self, ConfigError> {
        let s = &settings;
        let http_listen: IpAddr = s.address("http.listen")?;
        let database = match datasource(s, sources)? {
            Some(datasource) => MetaDatabase::Datasource(Box::new(datasource)),
            None => MetaDatabase::Sqlite(s.some_path("meta.database")?),
        };
        Ok(Self {
            name: s.maybe_text("meta.name")?,
            listen: SocketAddr::new(s.address("meta.listen")?, s.number("meta.server.port")?),
            http: SocketAddr::new(http_listen, s.number("meta.server.discover.port")?),
            http_compat: match s.text("http.compat")?.as_str() {
                "true" => true,
                "false" => false,
                _ => http_listen.is_loopback(),
            },
            host: s.maybe_text("qmq.host")?,
            database,
            root: s.some_path("meta.root")?,
            snapshot_file: s.some_path("meta.snapshot.file")?,
            refresh_period: s.duration("refresh.period.seconds")?,
            api_tokens_file: s.some_path("valid.api.tokens.file")?,
            api_tokens_required: s.is_set("valid.api.tokens.file"),
            client_log_switch_file: s.some_path("client.log.switch.file")?,
            client_log_switch_required: s.is_set("client.log.switch.file"),
            connection: ConnectionLimits::of(s)?,
            windows: WindowLimits::of(s)?,
            security: Security::of(s)?,
            dynamic: Self::dynamic(s)?,
            settings,
        })
    }

    fn dynamic(settings: &Settings) -> Result<MetaDynamic, Problem> {
        Ok(MetaDynamic {
            heartbeat_timeout: settings.duration("heartbeat.timeout.ms")?,
            min_group_num: settings.number("min.group.num")?,
        })
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn current(&self) -> MetaDynamic {
        self.dynamic
    }
}

#[cfg(test)]
#[path = "meta_tests.rs"]
mod tests;
