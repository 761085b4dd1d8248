//! What a broker is told, typed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::configuration::Configuration;
use super::error::{ConfigError, Problem, Warning};
use super::file_kind::FileKind;
use super::parts::{
    ClientAuth, ConnectionLimits, FlushMode, Member, MemoryLimits, Security, retention,
};
use super::rules;
use super::secret::Secret;
use super::settings::{Settings, Sources};
use crate::access::Rights;

/// How consumers are watched. Each field is the key of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// `consumer.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `consumer.ack.timeout.ms`.
    pub ack_timeout: Duration,
    /// `consumer.nack.max.ms`.
    pub nack_max: Duration,
    /// `drain.ack.ms`.
    pub drain_ack: Duration,
}

/// What is remembered of producers, to answer a repeated send as the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupLimits {
    /// `producer.dedup.window`: numbers a producer.
    pub window: usize,
    /// `producer.dedup.producers.max`.
    pub producers_max: usize,
    /// `producer.dedup.log.bytes`.
    pub log_bytes: u64,
}

/// What takes effect without a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// `message.retry.delay.seconds`.
    pub retry_delay: Duration,
    /// `subject.auto.create`.
    pub subject_auto_create: bool,
    /// `consumer.max.attempts`.
    pub attempts_max: u32,
}

/// What a broker is told. Fields without a comment of their own are explained by `meaning` in [`keys::BROKER`](super::keys::BROKER).
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `broker.name`; `None`: take the host's.
    pub name: Option<String>,
    /// `broker.group`.
    pub group: Option<String>,
    /// What its group and the meta servers know of it.
    pub member: Member,
    /// `broker.listen` and `broker.port`.
    pub listen: SocketAddr,
    /// `http.listen`.
    pub http_listen: IpAddr,
    /// `http.port`; `None`: no HTTP.
    pub http_port: Option<u16>,
    /// `store.root`.
    pub store_root: PathBuf,
    /// `store.segment.bytes`.
    pub segment_bytes: u64,
    /// `message.max.bytes`.
    pub body_bytes_max: u64,
    /// `flush.mode`.
    pub flush_mode: FlushMode,
    /// `flush.interval.ms`.
    pub flush_interval: Duration,
    /// `messagelog.retention.hours`; `None` if `log.expired.delete.enable` is `false`.
    pub retention: Option<Duration>,
    /// How consumers are watched.
    pub consumer: ConsumerLimits,
    /// What is remembered of producers.
    pub dedup: DedupLimits,
    /// Limits on connections.
    pub connection: ConnectionLimits,
    /// Budgets of memory.
    pub memory: MemoryLimits,
    /// `metrics.subjects.max`.
    pub metrics_subjects_max: usize,
    /// `tls.cert`.
    pub tls_cert: PathBuf,
    /// `tls.key`.
    pub tls_key: PathBuf,
    /// `tls.ca`.
    pub tls_ca: PathBuf,
    /// `client.auth`.
    pub client_auth: ClientAuth,
    /// `tokens.file`.
    pub tokens_file: PathBuf,
    /// Whether `tokens.file` was set, so that a missing file is a mistake.
    pub tokens_required: bool,
    /// `anonymous.rights`.
    pub anonymous_rights: Rights,
    /// `cluster.token`, or the content of `cluster.token.file`.
    pub cluster_token: Option<Secret>,
    /// What takes effect without a restart, as it was at start; [`super::WatchedConfig::current`] has it as it is.
    pub dynamic: Dynamic,
    /// Every key with its value and where it came from, and the warnings.
    pub settings: Settings,
}

impl BrokerConfig {
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

    /// Address and port of HTTP, if there is any.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        let port = self.http_port?;
        Some(SocketAddr::new(self.http_listen, port))
    }
}

impl Configuration for BrokerConfig {
    type Dynamic = Dynamic;

    const KIND: FileKind = FileKind::Broker;

    fn rules(settings: &mut Settings) -> Result<Vec<Problem>, Problem> {
        let mut problems = Vec::new();
        rules::http_port(settings, &mut problems)?;
        rules::bodies(settings, &mut problems)?;
        rules::windows(settings, &mut problems)?;
        rules::names(settings, &["broker.name", "broker.group"], &mut problems)?;
        Ok(problems)
    }

    fn typed(settings: Settings, _: &Sources) -> Result<Self, ConfigError> {
        Ok(Self::of(settings)?)
    }

    fn dynamic(settings: &Settings) -> Result<Dynamic, Problem> {
        Dynamic::of(settings)
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn current(&self) -> Dynamic {
        self.dynamic
    }
}

impl BrokerConfig {
    fn of(settings: Settings) -> Result<Self, Problem> {
        let s = &settings;
        let security = Security::of(s)?;
        Ok(Self {
            name: s.maybe_text("broker.name")?,
            group: s.maybe_text("broker.group")?,
            member: Member::of(s)?,
            listen: SocketAddr::new(s.address("broker.listen")?, s.number("broker.port")?),
            http_listen: s.address("http.listen")?,
            http_port: Some(s.number("http.port")?).filter(|&port| port != 0),
            store_root: s.some_path("store.root")?,
            segment_bytes: s.number("store.segment.bytes")?,
            body_bytes_max: s.number("message.max.bytes")?,
            flush_mode: FlushMode::of(s)?,
            flush_interval: s.duration("flush.interval.ms")?,
            retention: retention(s)?,
            consumer: ConsumerLimits {
                session_timeout: s.duration("consumer.session.timeout.ms")?,
                ack_timeout: s.duration("consumer.ack.timeout.ms")?,
                nack_max: s.duration("consumer.nack.max.ms")?,
                drain_ack: s.duration("drain.ack.ms")?,
            },
            dedup: DedupLimits {
                window: s.number("producer.dedup.window")?,
                producers_max: s.number("producer.dedup.producers.max")?,
                log_bytes: s.number("producer.dedup.log.bytes")?,
            },
            connection: ConnectionLimits::of(s)?,
            memory: MemoryLimits::of(s)?,
            metrics_subjects_max: s.number("metrics.subjects.max")?,
            tls_cert: security.tls_cert,
            tls_key: security.tls_key,
            tls_ca: security.tls_ca,
            client_auth: security.client_auth,
            tokens_file: security.tokens_file,
            tokens_required: security.tokens_required,
            anonymous_rights: security.anonymous_rights,
            cluster_token: security.cluster_token,
            dynamic: Dynamic::of(s)?,
            settings,
        })
    }
}

impl Dynamic {
    fn of(settings: &Settings) -> Result<Self, Problem> {
        Ok(Self {
            retry_delay: settings.duration("message.retry.delay.seconds")?,
            subject_auto_create: settings.bool("subject.auto.create")?,
            attempts_max: settings.number("consumer.max.attempts")?,
        })
    }
}

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;
