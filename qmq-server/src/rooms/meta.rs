//! The room of a meta server: who serves which subject, what nodes are, that they live.
//!
//! Rules and tables are [`qmq_meta::Meta`]'s business; here is who may ask, and what its errors are on the wire.

mod seldom;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use qmq_meta::{
    Broker, BrokerRole, DatabaseStatus, GroupState, Liveness, Meta, MetaError, RouteRequest,
    Standing,
};
use qmq_wire::{
    Acquire, Acquired, Code, ControlRequest, ControlResponse, Interest, NodeStatus, Presence,
    Purpose, Refusal, Register, Registered, Route, RouteGroup,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{AnswersControl, Caller, FindingRoute, TellsRoutes};
use crate::access::{Principal, Right};
use crate::config::{ClientLogSwitch, WatchedLines};
use crate::membership::host_and_port;

/// Longest time between heartbeats that nodes are asked for: QMQ's.
const AGAIN_MOST_MS: u64 = 10_000;
/// Heartbeats that may be lost before a node counts as silent.
const BEATS_IN_TIMEOUT: u64 = 3;

/// The room. A clone is the same.
#[derive(Clone)]
pub struct MetaRoom {
    /// The rules.
    pub meta: Meta,
    /// Name of the node.
    pub node: String,
    /// `heartbeat.timeout.ms`.
    pub heartbeat_timeout_ms: Arc<AtomicU64>,
    /// When it started.
    pub since: Instant,
    /// Open connections.
    pub connections: Arc<AtomicU64>,
    /// Whether it is shutting down.
    pub draining: Arc<AtomicBool>,
    /// Subjects whose requests are logged in full.
    pub log_switch: Option<Arc<WatchedLines<ClientLogSwitch>>>,
    runtime: Handle,
    told: Arc<seldom::Seldom>,
}

impl std::fmt::Debug for MetaRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetaRoom")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl MetaRoom {
    /// The room of a meta server that begins now. To be called in the runtime in which its database is asked.
    #[must_use]
    pub fn new(meta: Meta, node: String, heartbeat_timeout_ms: Arc<AtomicU64>) -> Self {
        Self {
            meta,
            node,
            heartbeat_timeout_ms,
            since: Instant::now(),
            connections: Arc::default(),
            draining: Arc::default(),
            log_switch: None,
            runtime: Handle::current(),
            told: Arc::default(),
        }
    }

    /// How the node is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let status = self.meta.status();
        NodeStatus {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            connections: self.connections.load(Ordering::Relaxed),
            subjects: status.subjects as u64,
            draining: self.draining.load(Ordering::Relaxed),
            trouble: match status.database {
                DatabaseStatus::Up => String::new(),
                DatabaseStatus::Away { reason, .. } => format!("the database is away: {reason}"),
            },
            ..NodeStatus::default()
        }
    }

    async fn acquire(&self, acquire: &Acquire, caller: &Caller) -> Result<Acquired, MetaError> {
        let Acquire {
            hostname,
            port,
            claim,
        } = acquire;
        tracing::info!(
            "node request ACQUIRE: {hostname}/{port} of {}",
            caller.principal()
        );
        let claim = claim.as_ref().map(|claim| Broker {
            group: claim.group.clone(),
            role: words::role_of_table(claim.role),
            hostname: hostname.clone(),
            ip: claim.ip.clone(),
            serve_port: *port,
            sync_port: Some(claim.sync_port),
        });
        let acquired = self.meta.acquire(hostname, *port, claim.as_ref()).await;
        let acquired = acquired.inspect_err(|error| {
            if let MetaError::UnknownNode { text } = error
                && self.told.is_due(hostname, *port, Instant::now())
            {
                tracing::warn!("{text}");
            }
        })?;
        let broker = acquired.broker;
        let Some(role) = words::role_on_wire(broker.role) else {
            return Err(MetaError::WrongRole {
                text: format!(
                    "{hostname}/{port} is entered as {} of group {:?}, and no program of qmq plays that role: it has MASTER, SLAVE, DELAY_MASTER and DELAY_SLAVE; enter it with --role=0, 1, 5 or 6 under another port",
                    broker.role.name(),
                    broker.group
                ),
            });
        };
        Ok(Acquired {
            group: broker.group,
            role,
            ip: broker.ip,
            copies: acquired.copies.unwrap_or_default(),
            epoch: acquired.epoch,
            differs: acquired.differs.unwrap_or_default(),
        })
    }

    async fn register(&self, register: &Register) -> Result<Registered, MetaError> {
        let Register {
            presence,
            hostname,
            port,
            group,
            role,
            address,
            writable,
            epoch,
        } = register;
        let (presence, state) = match (presence, writable) {
            (Presence::Offline, _) => (qmq_meta::Presence::Offline, GroupState::None),
            (presence, writable) => (
                match presence {
                    Presence::Online => qmq_meta::Presence::Online,
                    _ => qmq_meta::Presence::Heartbeat,
                },
                match writable {
                    true => GroupState::ReadWrite,
                    false => GroupState::Read,
                },
            ),
        };
        let liveness = Liveness {
            group: group.clone(),
            role: words::role_of_table(*role),
            address: address.clone(),
            state,
            epoch: *epoch,
        };
        let heard = self
            .meta
            .present(presence, hostname, *port, &liveness)
            .await?;
        if presence != qmq_meta::Presence::Heartbeat {
            tracing::info!(
                hostname,
                port,
                group,
                address,
                stored = heard.stored,
                "a node is {presence:?}"
            );
        }
        let timeout_ms = self.heartbeat_timeout_ms.load(Ordering::Relaxed);
        let again_ms = (timeout_ms / BEATS_IN_TIMEOUT).clamp(1, AGAIN_MOST_MS);
        Ok(Registered {
            stored: heard.stored,
            again_ms: u32::try_from(again_ms).unwrap_or(u32::MAX),
        })
    }

    /// Where a group's master is, for whoever knows its name.
    fn find_group(&self, name: &str) -> Option<RouteGroup> {
        let mut groups = self.meta.groups().into_iter();
        let group = groups.find(|group| group.name == name && !group.master.is_empty())?;
        let writable = matches!(group.state, GroupState::ReadWrite | GroupState::Write);
        let readable = matches!(group.state, GroupState::ReadWrite | GroupState::Read);
        Some(RouteGroup {
            name: group.name,
            master: group.master,
            writable: writable && !group.retiring,
            readable,
            epoch: group.epoch,
        })
    }

    async fn find(&self, interest: &Interest, caller: &Caller) -> Result<Route, Refusal> {
        let right = match interest.purpose {
            Purpose::Produce | Purpose::Delay => Right::Produce,
            Purpose::Consume => Right::Consume,
        };
        caller
            .check(right, words::real_subject(&interest.subject))
            .map_err(|refused| Refusal::new(0, Code::Denied, refused.to_string()))?;
        let request = RouteRequest {
            subject: interest.subject.clone(),
            kind: words::client_kind(interest.purpose),
            group: interest.group.clone(),
            client: interest.client.clone(),
            application: interest.application.clone(),
            room: interest.room.clone(),
        };
        let answer = self.meta.route(&request).await;
        let answer = answer.map_err(|error| words::refusal(0, &error))?;
        let switch = self.log_switch.as_ref().map(|switch| switch.current());
        if switch.is_some_and(|switch| switch.is_on(&interest.subject)) {
            tracing::info!(?interest, ?answer, principal = %caller.principal(), "a client asks for a route");
        }
        let groups = answer.groups.into_iter().map(|routed| RouteGroup {
            name: routed.group.name,
            master: routed.group.master,
            writable: routed.writable,
            readable: routed.readable,
            epoch: routed.group.epoch,
        });
        Ok(Route {
            stamp: answer.stamp,
            online: answer.standing == Standing::Online,
            stale: answer.stale,
            groups: groups.collect(),
        })
    }
}

impl TellsRoutes for MetaRoom {
    fn changes(&self) -> watch::Receiver<u64> {
        self.meta.changes()
    }

    fn route<'a>(&'a self, interest: &'a Interest, caller: &'a Caller) -> FindingRoute<'a> {
        Box::pin(self.find(interest, caller))
    }
}

/// Longest time that an answer may take: the database's own limits are shorter.
const ANSWER_MAX: Duration = Duration::from_secs(30);

impl AnswersControl for MetaRoom {
    fn answer(
        &self,
        number: u32,
        request: &ControlRequest,
        caller: &Caller,
    ) -> Result<ControlResponse, Refusal> {
        let answering = async {
            let refused = |error: MetaError| words::refusal(number, &error);
            match request {
                ControlRequest::Status => {
                    if *caller.principal() == Principal::Anonymous {
                        may_administer(number, caller)?;
                    }
                    Ok(ControlResponse::Status(self.status()))
                }
                ControlRequest::Acquire(acquire) => {
                    must_be_node(number, &acquire.hostname, acquire.port, caller)?;
                    let acquired = self.acquire(acquire, caller).await;
                    Ok(ControlResponse::Acquired(acquired.map_err(refused)?))
                }
                ControlRequest::Register(register) => {
                    must_be_node(number, &register.hostname, register.port, caller)?;
                    let registered = self.register(register).await;
                    Ok(ControlResponse::Registered(registered.map_err(refused)?))
                }
                // Where a server is helps nobody who may do nothing there.
                ControlRequest::FindGroup { name } => {
                    Ok(ControlResponse::Group(self.find_group(name)))
                }
                _ => Err(Refusal::new(
                    number,
                    Code::UnknownRequest,
                    "a meta server does not do this; ask a broker",
                )),
            }
        };
        let limited = async { tokio::time::timeout(ANSWER_MAX, answering).await };
        self.runtime.block_on(limited).unwrap_or_else(|_| {
            Err(Refusal::new(
                number,
                Code::Unavailable,
                "the database did not answer in time; try another meta server",
            ))
        })
    }
}

fn may_administer(number: u32, caller: &Caller) -> Result<(), Refusal> {
    caller
        .check(Right::Administer, "*")
        .map_err(|refused| Refusal::new(number, Code::Denied, refused.to_string()))
}

/// Only a node says that it is one.
fn must_be_node(number: u32, hostname: &str, port: u16, caller: &Caller) -> Result<(), Refusal> {
    if caller.principal().is_node() {
        return Ok(());
    }
    let text = format!(
        "{hostname}/{port} came in as {}, and only a node of the cluster may say that it is one: give it a certificate that `qmq tls` made for a node (tls.cert, tls.key), signed by the tls.ca of the meta server, or set cluster.token to the same secret at both",
        caller.principal()
    );
    tracing::warn!("{text}");
    Err(Refusal::new(number, Code::Denied, text))
}

/// `host:port` of a broker for clients.
#[must_use]
pub fn address_of(broker: &Broker) -> String {
    host_and_port(&broker.ip, broker.serve_port)
}

/// Whether a role is one that a program of qmq plays.
#[must_use]
pub fn is_played(role: BrokerRole) -> bool {
    words::role_on_wire(role).is_some()
}
