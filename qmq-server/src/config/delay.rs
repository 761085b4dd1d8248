//! What a delay server is told, typed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::configuration::Configuration;
use super::error::{ConfigError, Problem, Warning};
use super::file_kind::FileKind;
use super::parts::{ConnectionLimits, FlushMode, Member, MemoryLimits, Security, retention};
use super::rules;
use super::settings::{Settings, Sources};

/// What of a delay server's configuration takes effect without a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayDynamic {
    /// `netty.send.message.retry.min.sleep.millis`; at most `retry_max`.
    pub retry_min: Duration,
    /// `netty.send.message.retry.max.sleep.millis`.
    pub retry_max: Duration,
}

/// What a delay server is told. Fields without a comment of their own are explained by `meaning` in
/// [`keys::DELAY`](super::keys::DELAY).
#[derive(Clone, Debug)]
pub struct DelayConfig {
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
    /// `segment.scale.minute`: 5 to 60.
    pub segment_scale_minute: u32,
    /// `delay.due.max.days`.
    pub due_max: Duration,
    /// `delay.send.batch.size`, in messages.
    pub send_batch_max: usize,
    /// `delay.dead.letter.max`, in messages.
    pub dead_letters_max: usize,
    /// Limits on connections.
    pub connection: ConnectionLimits,
    /// Budgets of memory.
    pub memory: MemoryLimits,
    /// Who may do what.
    pub security: Security,
    /// What takes effect without a restart, as it was at start; [`super::Watched::current`] has it as it is.
    pub dynamic: DelayDynamic,
    /// Every key with its value and where it came from, and the warnings.
    pub settings: Settings,
}

impl DelayConfig {
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

    fn of(settings: Settings) -> Result<Self, Problem> {
        let s = &settings;
        let days: u64 = s.number("delay.due.max.days")?;
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
            segment_scale_minute: s.number("segment.scale.minute")?,
            due_max: Duration::from_secs(days * 86_400),
            send_batch_max: s.number("delay.send.batch.size")?,
            dead_letters_max: s.number("delay.dead.letter.max")?,
            connection: ConnectionLimits::of(s)?,
            memory: MemoryLimits::of(s)?,
            security: Security::of(s)?,
            dynamic: Self::dynamic(s)?,
            settings,
        })
    }
}

const RETRY_MIN: &str = "netty.send.message.retry.min.sleep.millis";
const RETRY_MAX: &str = "netty.send.message.retry.max.sleep.millis";

impl Configuration for DelayConfig {
    type Dynamic = DelayDynamic;

    const KIND: FileKind = FileKind::Delay;

    fn rules(settings: &mut Settings) -> Result<Vec<Problem>, Problem> {
        let mut problems = Vec::new();
        rules::http_port(settings, &mut problems)?;
        rules::bodies(settings, &mut problems)?;
        rules::windows(settings, &mut problems)?;
        rules::names(settings, &["broker.name", "broker.group"], &mut problems)?;
        rules::least_and_greatest(settings, RETRY_MIN, RETRY_MAX, &mut problems)?;
        Ok(problems)
    }

    fn typed(settings: Settings, _: &Sources) -> Result<Self, ConfigError> {
        Ok(Self::of(settings)?)
    }

    fn dynamic(settings: &Settings) -> Result<DelayDynamic, Problem> {
        Ok(DelayDynamic {
            retry_min: settings.duration(RETRY_MIN)?,
            retry_max: settings.duration(RETRY_MAX)?,
        })
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn current(&self) -> DelayDynamic {
        self.dynamic
    }
}

#[cfg(test)]
#[path = "delay_tests.rs"]
mod tests;
