//! Words of the tables and words of the wire.

use qmq_message::subject::{SubjectName, parse};
use qmq_meta::{BrokerRole, ClientKind, DatabaseError, MetaError};
use qmq_wire::{Code, NodeRole, Purpose, Refusal};

pub(super) fn role_of_table(role: NodeRole) -> BrokerRole {
    match role {
        NodeRole::Master => BrokerRole::Master,
        NodeRole::Slave => BrokerRole::Slave,
        NodeRole::DelayMaster => BrokerRole::DelayMaster,
        NodeRole::DelaySlave => BrokerRole::DelaySlave,
    }
}

/// `None`: no program of ours plays that role.
pub(super) fn role_on_wire(role: BrokerRole) -> Option<NodeRole> {
    match role {
        BrokerRole::Master => Some(NodeRole::Master),
        BrokerRole::Slave => Some(NodeRole::Slave),
        BrokerRole::DelayMaster => Some(NodeRole::DelayMaster),
        BrokerRole::DelaySlave => Some(NodeRole::DelaySlave),
        BrokerRole::Standby | BrokerRole::Backup | BrokerRole::DelayBackup => None,
    }
}

pub(super) fn client_kind(purpose: Purpose) -> ClientKind {
    match purpose {
        Purpose::Produce => ClientKind::Producer,
        Purpose::Consume => ClientKind::Consumer,
        Purpose::Delay => ClientKind::DelayProducer,
    }
}

/// Of a retry or dead-letter subject the one that was consumed: whose rights count.
pub(super) fn real_subject(name: &str) -> &str {
    let mut real = name;
    loop {
        match parse(real) {
            SubjectName::Plain(_) => return real,
            SubjectName::Retry { subject, .. } | SubjectName::DeadLetter { subject, .. } => {
                real = subject;
            }
        }
    }
}

/// What an error of the meta server is on the wire.
pub(super) fn refusal(number: u32, error: &MetaError) -> Refusal {
    Refusal::new(number, code(error), error.to_string())
}

fn code(error: &MetaError) -> Code {
    match error {
        MetaError::UnknownNode { .. } => Code::UnknownNode,
        MetaError::WrongRole { .. } | MetaError::Fenced { .. } => Code::WrongRole,
        MetaError::Unavailable { .. } | MetaError::Database(DatabaseError::Away { .. }) => {
            Code::Unavailable
        }
        MetaError::Name(_)
        | MetaError::Refused { .. }
        | MetaError::AlreadyRouted { .. }
        | MetaError::SubjectExists { .. }
        | MetaError::Database(
            DatabaseError::TooLong { .. }
            | DatabaseError::Exists { .. }
            | DatabaseError::Changed { .. }
            | DatabaseError::Decommissioned { .. },
        ) => Code::BadMessage,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_should_do_next_is_in_the_code() {
        let away = DatabaseError::Away {
            reason: "no route".to_owned(),
        };
        let unknown = MetaError::UnknownNode {
            text: "type this".to_owned(),
        };
        let fenced = MetaError::Fenced {
            group: "g".to_owned(),
            epoch: 1,
            known: 2,
        };
        for (error, expected) in [
            (MetaError::Database(away), Code::Unavailable),
            (unknown, Code::UnknownNode),
            (fenced, Code::WrongRole),
        ] {
            let refusal = refusal(7, &error);
            assert_eq!((refusal.number, refusal.code), (7, expected));
            assert_eq!(refusal.text, error.to_string());
        }
    }

    #[test]
    fn roles_come_back_and_those_that_nobody_plays_have_no_word() {
        for role in BrokerRole::ALL {
            match role_on_wire(role) {
                Some(wire) => assert_eq!(role_of_table(wire), role),
                None => assert!(!role.is_master()),
            }
        }
    }

    #[test]
    fn rights_are_those_on_the_subject_that_was_consumed() {
        let retry = qmq_message::subject::retry_subject("order.changed", "billing");
        let dead = qmq_message::subject::dead_letter_subject(&retry, "billing");
        for name in ["order.changed", &retry, &dead] {
            assert_eq!(real_subject(name), "order.changed");
        }
    }
}
