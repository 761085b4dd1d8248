//! What the configurations of several servers have in common, typed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::secret::Secret;
use super::settings::Settings;
use crate::access::Rights;

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

/// Limits on what is under way on connections, of a server that has no messages. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// `memory.receive.bytes`, of each connection.
    pub receive_bytes: u64,
    /// `memory.send.bytes`, of each connection.
    pub send_bytes: u64,
    /// `memory.windows.bytes`, of both, of all connections together.
    pub windows_bytes: u64,
}

/// What a server is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `master`: a broker that takes messages.
    Master,
    /// `slave`: a broker that follows one.
    Slave,
    /// `delay-master`: a delay server that takes messages.
    DelayMaster,
    /// `delay-slave`: a delay server that follows one.
    DelaySlave,
}

/// What its group and the meta servers know of a broker or delay server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `meta.server.endpoint`, taken apart: `http://` addresses, each at most 2,048 bytes, at most 16. None: it stands alone.
    pub meta_endpoints: Vec<String>,
    /// `meta.server.name`; `None`: the host of the address.
    pub meta_name: Option<String>,
    /// `broker.role`; `None`: what the meta servers say.
    pub role: Option<Role>,
    /// `qmq.host`; `None`: the host's own name.
    pub host: Option<String>,
    /// `qmq.ip`; `None`: the first address of this host that is not a loopback.
    pub ip: Option<IpAddr>,
    /// `sync.port`.
    pub sync_port: u16,
}

/// Who may do what, and how nodes prove who they are. `meaning` in the tables of [`super::keys`] says more.
#[derive(Clone, Debug)]
pub struct Security {
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
}

impl FlushMode {
    pub(super) fn of(settings: &Settings) -> Result<Self, Problem> {
        Ok(match settings.text("flush.mode")?.as_str() {
            "async" => Self::Async,
            _ => Self::Sync,
        })
    }
}

impl ConnectionLimits {
    pub(super) fn of(settings: &Settings) -> Result<Self, Problem> {
        Ok(Self {
            connections_max: settings.number("connection.max")?,
            idle: settings.duration("connection.idle.ms")?,
            stall: settings.duration("connection.stall.ms")?,
            handshake: settings.duration("handshake.timeout.ms")?,
            streams_max: settings.number("streams.max")?,
        })
    }
}

impl MemoryLimits {
    pub(super) fn of(settings: &Settings) -> Result<Self, Problem> {
        let windows = WindowLimits::of(settings)?;
        Ok(Self {
            receive_bytes: windows.receive_bytes,
            send_bytes: windows.send_bytes,
            windows_bytes: windows.windows_bytes,
            produce_bytes: settings.number("memory.produce.bytes")?,
            deliver_bytes: settings.number("memory.deliver.bytes")?,
        })
    }
}

impl WindowLimits {
    pub(super) fn of(settings: &Settings) -> Result<Self, Problem> {
        Ok(Self {
            receive_bytes: settings.number("memory.receive.bytes")?,
            send_bytes: settings.number("memory.send.bytes")?,
            windows_bytes: settings.number("memory.windows.bytes")?,
        })
    }
}

impl Member {
    pub(super) fn of(settings: &Settings) -> Result<Self, Problem> {
        let endpoints = settings.text("meta.server.endpoint")?;
        let endpoints = endpoints.split(',').map(str::trim);
        Ok(Self {
            meta_endpoints: endpoints
                .filter(|endpoint| !endpoint.is_empty())
                .map(str::to_owned)
                .collect(),
            meta_name: settings.maybe_text("meta.server.name")?,
            role: match settings.text("broker.role")?.as_str() {
                "master" => Some(Role::Master),
                "slave" => Some(Role::Slave),
                "delay-master" => Some(Role::DelayMaster),
                "delay-slave" => Some(Role::DelaySlave),
                _ => None,
            },
            host: settings.maybe_text("qmq.host")?,
            ip: settings.maybe_address("qmq.ip")?,
            sync_port: settings.number("sync.port")?,
        })
    }
}

impl Security {
    pub(super) fn of(settings: &Settings) -> Result<Self, Problem> {
        let rights = settings.text("anonymous.rights")?.parse();
        Ok(Self {
            tls_cert: settings.some_path("tls.cert")?,
            tls_key: settings.some_path("tls.key")?,
            tls_ca: settings.some_path("tls.ca")?,
            client_auth: match settings.text("client.auth")?.as_str() {
                "required" => ClientAuth::Required,
                _ => ClientAuth::Optional,
            },
            tokens_file: settings.some_path("tokens.file")?,
            tokens_required: settings.is_set("tokens.file"),
            anonymous_rights: rights.map_err(|_| Problem::Table {
                key: "anonymous.rights",
            })?,
            cluster_token: settings.secret("cluster.token")?,
        })
    }
}

/// `messagelog.retention.hours`; `None` if `log.expired.delete.enable` is `false`.
pub(super) fn retention(settings: &Settings) -> Result<Option<Duration>, Problem> {
    Ok(match settings.bool("log.expired.delete.enable")? {
        true => Some(settings.duration("messagelog.retention.hours")?),
        false => None,
    })
}
