//! Values of what meta and delay servers are asked and answer.

use proptest::collection::vec;
use proptest::prelude::*;
use qmq_wire::{
    AcceptedDelay, Acquire, Acquired, Claim, DeadLetter, DelayOutcome, DelayRequest, DelayResponse,
    DelayedMessage, Interest, NodeRole, Presence, Purpose, Register, Route, RouteGroup, Scheduled,
};

use super::{refused, text};

fn role() -> impl Strategy<Value = NodeRole> {
    prop_oneof![
        Just(NodeRole::Master),
        Just(NodeRole::Slave),
        Just(NodeRole::DelayMaster),
        Just(NodeRole::DelaySlave),
    ]
}

pub(crate) fn interest() -> impl Strategy<Value = Interest> {
    let purpose = prop_oneof![
        Just(Purpose::Produce),
        Just(Purpose::Consume),
        Just(Purpose::Delay)
    ];
    (purpose, proptest::array::uniform5(text())).prop_map(|(purpose, texts)| {
        let [subject, group, client, application, room] = texts;
        Interest {
            subject,
            purpose,
            group,
            client,
            application,
            room,
        }
    })
}

pub(crate) fn route() -> impl Strategy<Value = Route> {
    let group = (text(), text(), any::<(bool, bool, u64)>()).prop_map(
        |(name, master, (writable, readable, epoch))| RouteGroup {
            name,
            master,
            writable,
            readable,
            epoch,
        },
    );
    (any::<(u64, bool, bool)>(), vec(group, 0..4)).prop_map(|((stamp, online, stale), groups)| {
        Route {
            stamp,
            online,
            stale,
            groups,
        }
    })
}

pub(crate) fn acquire() -> impl Strategy<Value = Acquire> {
    let claim =
        (text(), role(), text(), any::<u16>()).prop_map(|(group, role, ip, sync_port)| Claim {
            group,
            role,
            ip,
            sync_port,
        });
    (text(), any::<u16>(), proptest::option::of(claim)).prop_map(|(hostname, port, claim)| {
        Acquire {
            hostname,
            port,
            claim,
        }
    })
}

pub(crate) fn acquired() -> impl Strategy<Value = Acquired> {
    let texts = proptest::array::uniform4(text());
    (texts, role(), any::<u64>()).prop_map(|(texts, role, epoch)| {
        let [group, ip, copies, differs] = texts;
        Acquired {
            group,
            role,
            ip,
            copies,
            epoch,
            differs,
        }
    })
}

pub(crate) fn register() -> impl Strategy<Value = Register> {
    let presence = prop_oneof![
        Just(Presence::Heartbeat),
        Just(Presence::Online),
        Just(Presence::Offline)
    ];
    let texts = proptest::array::uniform3(text());
    (presence, role(), texts, any::<(u16, bool, u64)>()).prop_map(
        |(presence, role, texts, (port, writable, epoch))| {
            let [hostname, group, address] = texts;
            Register {
                presence,
                hostname,
                port,
                group,
                role,
                address,
                writable,
                epoch,
            }
        },
    )
}

pub(crate) fn scheduled() -> impl Strategy<Value = Scheduled> {
    let accepted = any::<(u32, [u8; 16])>().prop_map(|(index, id)| AcceptedDelay { index, id });
    (any::<u32>(), vec(accepted, 0..4), vec(refused(), 0..4)).prop_map(
        |(number, accepted, refused)| Scheduled {
            number,
            accepted,
            refused,
        },
    )
}

pub(crate) fn delay_request() -> impl Strategy<Value = DelayRequest> {
    let numbers = || vec(any::<u64>(), 0..5);
    prop_oneof![
        any::<[u8; 16]>().prop_map(|id| DelayRequest::Cancel { id }),
        any::<([u8; 16], u64)>().prop_map(|(id, due_ms)| DelayRequest::Reschedule { id, due_ms }),
        any::<[u8; 16]>().prop_map(|id| DelayRequest::Get { id }),
        (text(), any::<(u64, u32)>(), vec(any::<u8>(), 0..40)).prop_map(
            |(subject, (from_ms, max), after)| DelayRequest::List {
                subject,
                from_ms,
                after,
                max
            }
        ),
        any::<(u64, u32)>().prop_map(|(after, max)| DelayRequest::DeadLetters { after, max }),
        numbers().prop_map(|numbers| DelayRequest::RetryDeadLetters { numbers }),
        numbers().prop_map(|numbers| DelayRequest::DropDeadLetters { numbers }),
    ]
}

fn delayed_message() -> impl Strategy<Value = DelayedMessage> {
    (text(), text(), any::<([u8; 16], u64, u32)>()).prop_map(
        |(subject, standing, (id, due_ms, body_bytes))| DelayedMessage {
            id,
            subject,
            due_ms,
            body_bytes,
            standing,
        },
    )
}

pub(crate) fn delay_response() -> impl Strategy<Value = DelayResponse> {
    let outcome = prop_oneof![
        Just(DelayOutcome::Done),
        Just(DelayOutcome::Fired),
        Just(DelayOutcome::Cancelled),
        Just(DelayOutcome::Unknown),
    ];
    let letter = (text(), text(), any::<(u64, [u8; 16], u64, u64)>()).prop_map(
        |(subject, reason, (number, id, due_ms, refused_ms))| DeadLetter {
            number,
            id,
            subject,
            due_ms,
            refused_ms,
            reason,
        },
    );
    prop_oneof![
        outcome.prop_map(DelayResponse::Changed),
        proptest::option::of(delayed_message()).prop_map(DelayResponse::Message),
        (vec(delayed_message(), 0..4), vec(any::<u8>(), 0..40))
            .prop_map(|(messages, next)| DelayResponse::Page { messages, next }),
        (vec(letter, 0..4), any::<(u64, u64)>()).prop_map(|(letters, (total, forgotten))| {
            DelayResponse::DeadLetters {
                letters,
                total,
                forgotten,
            }
        }),
        any::<u64>().prop_map(DelayResponse::Done),
    ]
}
