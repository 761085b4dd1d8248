//! Frames of meta and delay servers, as recorded.

use qmq_wire::{
    AcceptedDelay, Acquire, Acquired, Claim, Code, ControlRequest, ControlResponse, Controlled,
    DeadLetter, DelayOutcome, DelayRequest, DelayResponse, DelayedMessage, Interest, NodeRole,
    Presence, Purpose, Refused, Register, Registered, Route, RouteGroup, Scheduled, Unwatch,
};

use super::any_frame::AnyFrame;

const ID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const TIME: u64 = 1_700_000_000_000;

pub(crate) fn frames() -> Vec<(&'static str, AnyFrame)> {
    let mut reversed = ID;
    reversed.reverse();
    let scheduled = Scheduled {
        number: 7,
        accepted: vec![
            AcceptedDelay { index: 0, id: ID },
            AcceptedDelay {
                index: 2,
                id: reversed,
            },
        ],
        refused: vec![Refused {
            index: 1,
            code: Code::NotDelayed,
            text: "no due time".into(),
        }],
    };
    let interest = Interest {
        subject: "order.changed".into(),
        purpose: Purpose::Consume,
        group: "ticket".into(),
        client: "host-1".into(),
        application: "billing".into(),
        room: String::new(),
    };
    let route = Route {
        stamp: TIME,
        online: true,
        stale: false,
        groups: vec![RouteGroup {
            name: "group-1".into(),
            master: "10.0.0.1:20881".into(),
            writable: false,
            readable: true,
            epoch: 4,
        }],
    };
    let mut frames = vec![
        ("scheduled", AnyFrame::Scheduled(scheduled)),
        ("watch", AnyFrame::Watch(3, interest)),
        ("unwatch", AnyFrame::Unwatch(Unwatch { number: 3 })),
        ("route", AnyFrame::Route(3, route)),
    ];
    let requests = requests().into_iter();
    frames.extend(requests.map(|(name, request)| (name, AnyFrame::Control(21, request))));
    frames.extend(responses().into_iter().map(|(name, response)| {
        let answer = Controlled {
            number: 21,
            response,
        };
        (name, AnyFrame::Controlled(answer))
    }));
    frames
}

fn requests() -> Vec<(&'static str, ControlRequest)> {
    let acquire = Acquire {
        hostname: "host-1".into(),
        port: 20_881,
        claim: Some(Claim {
            group: "group-1".into(),
            role: NodeRole::Slave,
            ip: "10.0.0.1".into(),
            sync_port: 20_882,
        }),
    };
    let register = Register {
        presence: Presence::Online,
        hostname: "host-1".into(),
        port: 20_801,
        group: "delay-1".into(),
        role: NodeRole::DelayMaster,
        address: "10.0.0.1:20801".into(),
        writable: true,
        epoch: 4,
    };
    let list = DelayRequest::List {
        subject: "order.changed".into(),
        from_ms: 5,
        after: vec![1, 2],
        max: 100,
    };
    let letters = DelayRequest::DeadLetters { after: 9, max: 100 };
    let again = DelayRequest::RetryDeadLetters {
        numbers: vec![10, 11],
    };
    let forget = DelayRequest::DropDeadLetters {
        numbers: Vec::new(),
    };
    let at = DelayRequest::Reschedule {
        id: ID,
        due_ms: TIME,
    };
    let delay = ControlRequest::Delay;
    vec![
        ("control_acquire", ControlRequest::Acquire(acquire)),
        ("control_register", ControlRequest::Register(register)),
        (
            "control_delay_cancel",
            delay(DelayRequest::Cancel { id: ID }),
        ),
        ("control_delay_reschedule", delay(at)),
        ("control_delay_get", delay(DelayRequest::Get { id: ID })),
        ("control_delay_list", delay(list)),
        ("control_delay_dead_letters", delay(letters)),
        ("control_delay_retry_dead_letters", delay(again)),
        ("control_delay_drop_dead_letters", delay(forget)),
    ]
}

fn responses() -> Vec<(&'static str, ControlResponse)> {
    let acquired = Acquired {
        group: "group-1".into(),
        role: NodeRole::Master,
        ip: "10.0.0.1".into(),
        copies: String::new(),
        epoch: 4,
        differs: String::new(),
    };
    let registered = Registered {
        stored: true,
        again_ms: 10_000,
    };
    let message = || DelayedMessage {
        id: ID,
        subject: "order.changed".into(),
        due_ms: TIME,
        body_bytes: 5,
        standing: "pending".into(),
    };
    let letter = DeadLetter {
        number: 10,
        id: ID,
        subject: "order.changed".into(),
        due_ms: TIME,
        refused_ms: TIME + 1,
        reason: "BadMessage".into(),
    };
    let delay = ControlResponse::Delay;
    vec![
        ("controlled_acquired", ControlResponse::Acquired(acquired)),
        (
            "controlled_registered",
            ControlResponse::Registered(registered),
        ),
        (
            "controlled_delay_changed",
            delay(DelayResponse::Changed(DelayOutcome::Fired)),
        ),
        (
            "controlled_delay_message",
            delay(DelayResponse::Message(Some(message()))),
        ),
        (
            "controlled_delay_page",
            delay(DelayResponse::Page {
                messages: vec![message()],
                next: vec![1, 2],
            }),
        ),
        (
            "controlled_delay_dead_letters",
            delay(DelayResponse::DeadLetters {
                letters: vec![letter],
                total: 1,
                forgotten: 0,
            }),
        ),
        ("controlled_delay_done", delay(DelayResponse::Done(2))),
    ]
}
