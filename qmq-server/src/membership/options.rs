//! What a node is told of the cluster that it belongs to.

use std::path::PathBuf;
use std::time::Duration;

use qmq_wire::{NodeRole, Role, Token};

use super::discover::HttpLimits;
use crate::config::{Member, Role as Configured, Secret};
use crate::tls::{CertifiedFiles, TlsFiles};

/// Which program a node runs: it can play some roles, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// `qmq broker`.
    Broker,
    /// `qmq delay --config delay.properties`.
    Delay,
}

impl NodeKind {
    /// The role in which it takes messages.
    #[must_use]
    pub fn master(self) -> NodeRole {
        match self {
            Self::Broker => NodeRole::Master,
            Self::Delay => NodeRole::DelayMaster,
        }
    }

    /// The role in which it copies a master.
    #[must_use]
    pub fn slave(self) -> NodeRole {
        match self {
            Self::Broker => NodeRole::Slave,
            Self::Delay => NodeRole::DelaySlave,
        }
    }

    /// As operators call it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Delay => "delay server",
        }
    }

    pub(super) fn hello_role(self) -> Role {
        match self {
            Self::Broker => Role::Master,
            Self::Delay => Role::Delay,
        }
    }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Where a meta server is.
    pub http: HttpLimits,
    /// Until a meta server has said HELLO.
    pub connect: Duration,
    /// Until it has answered a question.
    pub request: Duration,
    /// A connection that is silent for so long is lost.
    pub idle: Duration,
    /// Between heartbeats, unless the meta server says a shorter time.
    pub heartbeat: Duration,
    /// The first pause after a failure; each further one is twice as long.
    pub pause_least: Duration,
    /// The longest pause.
    pub pause_most: Duration,
    /// What keeps a node waiting is said again after so long.
    pub remind: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            http: HttpLimits::default(),
            connect: Duration::from_secs(3),
            request: Duration::from_secs(3),
            idle: Duration::from_secs(15),
            heartbeat: Duration::from_secs(10),
            pause_least: Duration::from_millis(250),
            pause_most: Duration::from_secs(5),
            remind: Duration::from_secs(60),
        }
    }
}

/// Everything that [`Membership::start`](super::Membership::start) needs.
#[derive(Clone, Debug)]
pub struct MembershipOptions {
    /// Which program this is.
    pub kind: NodeKind,
    /// `meta.server.endpoint`: URLs that say where a meta server is; at least one.
    pub endpoints: Vec<String>,
    /// `meta.server.name`: the name in the certificates of meta servers; `None`: the host of the URL.
    pub server_name: Option<String>,
    /// `tls.ca`: who signs the certificates of meta servers.
    pub authority: PathBuf,
    /// `tls.cert` and `tls.key`: what makes this a node, if its certificate says so.
    pub own: Option<CertifiedFiles>,
    /// `cluster.token`: what makes this a node without such a certificate.
    pub cluster_token: Option<Token>,
    /// `qmq.host`: the name by which operators have entered it.
    pub hostname: String,
    /// `qmq.ip`: what others reach it at, where the table of the meta server does not say another; `None`: its own address on the way to the meta server.
    pub ip: Option<String>,
    /// Port for clients, on UDP.
    pub port: u16,
    /// Port for slaves.
    pub sync_port: u16,
    /// `broker.group` and `broker.role`, if both are set: what it enters itself as if nobody has.
    pub claim: Option<(String, NodeRole)>,
    /// `broker.group`, for the line to type where there is no claim.
    pub group: Option<String>,
    /// Folder of the file that has what the meta server said last: the store's.
    pub folder: PathBuf,
    /// How long to wait for what.
    pub timing: Timing,
}

impl MembershipOptions {
    /// As a configuration says; `None` if `meta.server.endpoint` is empty: the node stands alone.
    #[must_use]
    pub fn of(
        kind: NodeKind,
        member: &Member,
        group: Option<&str>,
        port: u16,
        folder: PathBuf,
        tls: &TlsFiles,
        cluster_token: Option<&Secret>,
    ) -> Option<Self> {
        if member.meta_endpoints.is_empty() {
            return None;
        }
        let role = member.role.map(|role| match role {
            Configured::Master => NodeRole::Master,
            Configured::Slave => NodeRole::Slave,
            Configured::DelayMaster => NodeRole::DelayMaster,
            Configured::DelaySlave => NodeRole::DelaySlave,
        });
        let own_name = || {
            let name = rustix::system::uname();
            name.nodename().to_string_lossy().into_owned()
        };
        Some(Self {
            kind,
            endpoints: member.meta_endpoints.clone(),
            server_name: member.meta_name.clone(),
            authority: tls.authority.clone(),
            own: Some(tls.own.clone()),
            cluster_token: cluster_token.map(|secret| Token(secret.expose().to_owned())),
            hostname: member.host.clone().unwrap_or_else(own_name),
            ip: member.ip.map(|ip| ip.to_string()),
            port,
            sync_port: member.sync_port,
            claim: group.map(str::to_owned).zip(role),
            group: group.map(str::to_owned),
            folder,
            timing: Timing::default(),
        })
    }
}
