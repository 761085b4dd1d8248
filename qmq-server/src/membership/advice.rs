//! What operators are told: what is wrong between a node and the table of the meta server, and the line to type.

use std::net::{IpAddr, UdpSocket};

use qmq_wire::{Acquired, NodeRole};

use super::options::{MembershipOptions, NodeKind};

/// QMQ's number of a role, as its tools take it.
#[must_use]
pub(super) fn number(role: NodeRole) -> u8 {
    match role {
        NodeRole::Master => 0,
        NodeRole::Slave => 1,
        NodeRole::DelayMaster => 5,
        NodeRole::DelaySlave => 6,
    }
}

/// QMQ's name of a role, as its tools print it.
#[must_use]
pub(super) fn name(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Master => "MASTER",
        NodeRole::Slave => "SLAVE",
        NodeRole::DelayMaster => "DELAY_MASTER",
        NodeRole::DelaySlave => "DELAY_SLAVE",
    }
}

/// The line that enters this node. `http` is the meta server's `host:port`, `ip` what others reach the node at.
#[must_use]
pub(super) fn add_broker(options: &MembershipOptions, http: &str, ip: &str) -> String {
    let group = options.group.as_deref().unwrap_or("GROUP");
    let role = options.claim.as_ref().map(|(_, role)| *role);
    let role = number(role.unwrap_or_else(|| options.kind.master()));
    let MembershipOptions {
        hostname,
        port,
        sync_port,
        ..
    } = options;
    format!(
        "qmq tools AddBroker --metaserver={http} --token=TOKEN --brokerGroup={group} --role={role} --hostname={hostname} --ip={ip} --servePort={port} --syncPort={sync_port}"
    )
}

/// What the meta server said of a node that nobody has entered, with all that the node knows of itself filled in.
#[must_use]
pub(super) fn filled_in(options: &MembershipOptions, said: &str, http: &str, ip: &str) -> String {
    let own = format!("--hostname={} ", options.hostname);
    let is_ours = |line: &str| line.starts_with("qmq tools AddBroker ") && line.contains(&own);
    let ours = add_broker(options, http, ip);
    let mut lines: Vec<String> = said
        .lines()
        .filter(|line| !is_ours(line))
        .map(|line| line.replace("--metaserver=META ", &format!("--metaserver={http} ")))
        .collect();
    if said.lines().any(is_ours) || !said.contains("qmq tools ") {
        lines.push(ours);
    }
    lines.join("\n")
}

/// Why this program cannot be what the table says, if it cannot.
pub(super) fn cannot_be(options: &MembershipOptions, acquired: &Acquired) -> Option<String> {
    let MembershipOptions {
        kind,
        hostname,
        port,
        ..
    } = options;
    let (group, role) = (&acquired.group, name(acquired.role));
    if acquired.role == kind.master() {
        return None;
    }
    let other = match kind {
        NodeKind::Broker => "qmq delay --config delay.properties",
        NodeKind::Delay => "qmq broker",
    };
    let setting = match kind {
        NodeKind::Broker => "broker.port in broker.properties",
        NodeKind::Delay => "broker.port in delay.properties",
    };
    Some(if acquired.role == kind.slave() {
        format!(
            "the meta server's table has {hostname}/{port} as {role} of group {group:?}: slaves do not run as processes of their own yet, so this {} takes no messages and waits; enter the master's host name and port, or give this node a group of its own: set another {setting} and type qmq tools AddBroker for that port with --role={}",
            kind.word(),
            number(kind.master()),
        )
    } else {
        format!(
            "the meta server's table has {hostname}/{port} as {role} of group {group:?}, and this is a {}, which takes no messages as that; run `{other}` at this port, or set another {setting} and type qmq tools AddBroker for that port with --role={}",
            kind.word(),
            number(kind.master()),
        )
    })
}

/// What others reach this node at: what is set, or its address on the way to the meta server; if that is one of this machine alone, the one from which
/// it reaches others.
pub(super) fn own_ip(options: &MembershipOptions, local: IpAddr) -> String {
    let routed = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
        // Nothing is sent: this only asks which address would be used (192.0.2.0/24 is nobody's: RFC 5737).
        socket.connect(("192.0.2.1", 9)).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
    };
    match &options.ip {
        Some(ip) => ip.clone(),
        None if local.is_loopback() => routed().unwrap_or(local).to_string(),
        None => local.to_string(),
    }
}
