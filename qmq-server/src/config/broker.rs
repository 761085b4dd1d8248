//! What a broker is told, typed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::error::{ConfigError, Problem, Warning};
use super::keys;
use super::settings::{Settings, Sources};
use super::value::Value;
use crate::access::Rights;
use crate::doors::quic::LEAST_WINDOW_BYTES;

/// What an answer to a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// Until the message is on disk.
    Sync,
    /// Until it is written.
    Async,
}

/// Whether a client needs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// One that is presented is verified.
    Optional,
    /// Without one there is no connection.
    Required,
}

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

/// Limits on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `connection.max`.
    pub connections_max: usize,
    /// `connection.idle.ms`.
    pub idle: Duration,
    /// `connection.stall.ms`.
    pub stall: Duration,
    /// `handshake.timeout.ms`.
    pub handshake: Duration,
    /// `streams.max`, of each connection.
    pub streams_max: u32,
}

/// Budgets of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// `memory.receive.bytes`, of each connection.
    pub receive_bytes: u64,
    /// `memory.send.bytes`, of each connection.
    pub send_bytes: u64,
    /// `memory.windows.bytes`, of both, of all connections together.
    pub windows_bytes: u64,
    /// `memory.produce.bytes`, of all together.
    pub produce_bytes: u64,
    /// `memory.deliver.bytes`, of all together.
    pub deliver_bytes: u64,
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

/// What a broker is told. Fields without a comment of their own are explained by `meaning` in [`keys::BROKER`].
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `broker.name`; `None`: take the host's.
    pub name: Option<String>,
    /// `broker.group`.
    pub group: Option<String>,
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
        let mut settings = Settings::read(keys::BROKER, sources)?;
        let problems = complete(&mut settings);
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        Ok(Self::typed(settings)?)
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

    fn typed(settings: Settings) -> Result<Self, Problem> {
        let s = &settings;
        let named = |key| Ok::<_, Problem>(Some(s.text(key)?).filter(|text| !text.is_empty()));
        let path = |key| s.path(key)?.ok_or(Problem::Table { key });
        let rights = s.text("anonymous.rights")?.parse();
        let set = |key| {
            s.get(key)
                .is_some_and(|s| s.origin != super::Origin::Default)
        };
        Ok(Self {
            name: named("broker.name")?,
            group: named("broker.group")?,
            listen: SocketAddr::new(s.address("broker.listen")?, s.number("broker.port")?),
            http_listen: s.address("http.listen")?,
            http_port: Some(s.number("http.port")?).filter(|&port| port != 0),
            store_root: path("store.root")?,
            segment_bytes: s.number("store.segment.bytes")?,
            body_bytes_max: s.number("message.max.bytes")?,
            flush_mode: match s.text("flush.mode")?.as_str() {
                "async" => FlushMode::Async,
                _ => FlushMode::Sync,
            },
            flush_interval: s.duration("flush.interval.ms")?,
            retention: match s.bool("log.expired.delete.enable")? {
                true => Some(s.duration("messagelog.retention.hours")?),
                false => None,
            },
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
            connection: ConnectionLimits {
                connections_max: s.number("connection.max")?,
                idle: s.duration("connection.idle.ms")?,
                stall: s.duration("connection.stall.ms")?,
                handshake: s.duration("handshake.timeout.ms")?,
                streams_max: s.number("streams.max")?,
            },
            memory: MemoryLimits {
                receive_bytes: s.number("memory.receive.bytes")?,
                send_bytes: s.number("memory.send.bytes")?,
                windows_bytes: s.number("memory.windows.bytes")?,
                produce_bytes: s.number("memory.produce.bytes")?,
                deliver_bytes: s.number("memory.deliver.bytes")?,
            },
            metrics_subjects_max: s.number("metrics.subjects.max")?,
            tls_cert: path("tls.cert")?,
            tls_key: path("tls.key")?,
            tls_ca: path("tls.ca")?,
            client_auth: match s.text("client.auth")?.as_str() {
                "required" => ClientAuth::Required,
                _ => ClientAuth::Optional,
            },
            tokens_file: path("tokens.file")?,
            tokens_required: set("tokens.file"),
            anonymous_rights: rights.map_err(|_| Problem::Table {
                key: "anonymous.rights",
            })?,
            dynamic: Dynamic::of(s)?,
            settings,
        })
    }
}

impl Dynamic {
    pub(super) fn of(settings: &Settings) -> Result<Self, Problem> {
        Ok(Self {
            retry_delay: settings.duration("message.retry.delay.seconds")?,
            subject_auto_create: settings.bool("subject.auto.create")?,
            attempts_max: settings.number("consumer.max.attempts")?,
        })
    }
}

/// Computes what depends on other keys, and finds values that do not go together.
pub(super) fn complete(settings: &mut Settings) -> Vec<Problem> {
    rules(settings).unwrap_or_else(|problem| vec![problem])
}

fn rules(settings: &mut Settings) -> Result<Vec<Problem>, Problem> {
    let mut problems = Vec::new();
    let port: u64 = settings.number("broker.port")?;
    let unset = settings.get("http.port").map(|s| &s.value) == Some(&Value::None);
    if unset && port > 55_535 {
        problems.push(
            settings.conflict(
                "broker.port",
                "at most 55535 unless http.port is set, which is broker.port + 10000 otherwise"
                    .to_owned(),
            ),
        );
    }
    settings.computed("http.port", Value::Number(port + 10_000));
    let segment: u64 = settings.number("store.segment.bytes")?;
    let quarter = segment / 4;
    settings.computed("message.max.bytes", Value::Number(quarter.min(4 << 20)));
    let body: u64 = settings.number("message.max.bytes")?;
    if body > quarter {
        problems.push(settings.conflict(
            "message.max.bytes",
            format!("at most {quarter}, a quarter of store.segment.bytes"),
        ));
    }
    for budget in ["memory.produce.bytes", "memory.deliver.bytes"] {
        if settings.number::<u64>(budget)? < body {
            let allowed =
                format!("at least {body}, message.max.bytes, or no such message gets through");
            problems.push(settings.conflict(budget, allowed));
        }
    }
    let connections: u64 = settings.number("connection.max")?;
    let least = 2 * LEAST_WINDOW_BYTES * connections;
    if settings.number::<u64>("memory.windows.bytes")? < least {
        let allowed = format!(
            "at least {least}, {} KiB each way for each of connection.max; lower connection.max or raise this",
            LEAST_WINDOW_BYTES >> 10
        );
        problems.push(settings.conflict("memory.windows.bytes", allowed));
    }
    for (name, what) in [("broker.name", NAME), ("broker.group", NAME)] {
        let text = settings.text(name)?;
        if !text.is_empty() && qmq_message::check_group(&text).is_err() {
            problems.push(settings.conflict(name, what.to_owned()));
        }
    }
    Ok(problems)
}

const NAME: &str = "a name of at most 100 bytes without slashes and white space";

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;
