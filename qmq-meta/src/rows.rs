//! Rows as they lie in tables, made into ours. A row that makes no sense is left out and told in the log: it must not take the others with it.

use tracing::warn;

use crate::model::{Broker, BrokerRole, ClientKind, GroupKind};

/// The groups of a route (QMQ: `broker_group_json`); none if it is not a list of names.
pub(crate) fn groups_of(subject: &str, json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| {
        warn!(subject, json, %error, "subject_route.broker_group_json is not a list of names");
        Vec::new()
    })
}

/// The kind of a group; numbers that QMQ does not know count as normal.
pub(crate) fn kind_of(number: i32) -> GroupKind {
    if number == GroupKind::Delay as i32 {
        GroupKind::Delay
    } else {
        GroupKind::Normal
    }
}

/// What a client does; numbers that QMQ does not know count as other.
pub(crate) fn client_kind_of(number: i32) -> ClientKind {
    match number {
        1 => ClientKind::Producer,
        2 => ClientKind::Consumer,
        4 => ClientKind::DelayProducer,
        _ => ClientKind::Other,
    }
}

/// A broker, if role and port are such.
pub(crate) fn broker_of(
    group: String,
    hostname: String,
    ip: String,
    role: i32,
    serve_port: i32,
    sync_port: i32,
) -> Option<Broker> {
    let known = BrokerRole::of_number(role).zip(u16::try_from(serve_port).ok());
    let Some((role, serve_port)) = known else {
        warn!(
            group,
            hostname, role, serve_port, "a row of table broker has no role or port that is known"
        );
        return None;
    };
    Some(Broker {
        group,
        role,
        hostname,
        ip,
        serve_port,
        sync_port: u16::try_from(sync_port).ok(),
    })
}

/// QMQ's number for a port that may not be there.
pub(crate) fn port_number(port: Option<u16>) -> i32 {
    port.map_or(-1, i32::from)
}

/// A time of the database; those before 1970 count as 1970.
pub(crate) fn time_of(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

/// A number for the database, whose integers have a sign.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whether there may be several of a role in a group.
pub(crate) fn may_be_several(role: BrokerRole) -> bool {
    matches!(role, BrokerRole::Slave | BrokerRole::DelaySlave)
}

/// A broker in the words of an error.
pub(crate) fn broker_words(broker: &Broker) -> String {
    format!(
        "broker {}:{} (group {:?}, role {})",
        broker.hostname,
        broker.serve_port,
        broker.group,
        broker.role.name()
    )
}

/// Why a group cannot be removed.
pub(crate) fn still_routed(group: &str, subjects: &[String]) -> crate::error::DatabaseError {
    crate::error::DatabaseError::Refused {
        doing: "remove a broker group",
        reason: format!(
            "{} routes name {group:?}, among them that of {:?}; take it out of them first: qmq tools RemoveSubjectBrokerGroup --brokerGroup={group} --subject=SUBJECT",
            subjects.len(),
            subjects.first().map_or("", String::as_str)
        ),
    }
}

/// Why a heartbeat changes nothing.
pub(crate) fn not_entered(liveness: &crate::database::Liveness) -> String {
    format!(
        "the entry of the {} of broker group {:?}",
        liveness.role.name(),
        liveness.group
    )
}

/// Why a broker cannot enter itself.
pub(crate) fn decommissioned(broker: &Broker) -> crate::error::DatabaseError {
    crate::error::DatabaseError::Decommissioned {
        group: broker.group.clone(),
        command: crate::help::Sketch::of(broker).command("AddBroker"),
    }
}
