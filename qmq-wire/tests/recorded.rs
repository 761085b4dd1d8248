//! The frames in `recorded/v1` were put together field by field from `docs/protocol.md`, not by this crate. They stay as they are for ever: as long
//! as a program speaks version 1, it reads and writes exactly these bytes. What changes one of them is a new version of the protocol.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod any_frame;
#[path = "recorded/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;
use std::path::PathBuf;

use any_frame::{AnyFrame, Sent, framed, kinds};
use bytes::Bytes;
use qmq_message::TagFilter;
use qmq_wire::{
    Accepted, Ack, Acked, Code, ConsumerStatus, ControlRequest, ControlResponse, Controlled,
    Credit, Delivered, Delivery, Durability, End, Flow, FlowFlags, GroupStatus, Hello, Limits,
    Nack, NodeStatus, ProduceHeader, Produced, Pull, Refusal, Refused, Renew, ResetTo, Role, Start,
    SubjectStatus, Subscribe, Subscribed, Token,
};

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "recorded", "v1"]
        .iter()
        .collect()
}

/// Hexadecimal bytes; `#` begins a comment.
fn recorded(name: &str) -> Bytes {
    let path = folder().join(name).with_extension("hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split(' '))
        .filter(|byte| !byte.is_empty())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|e| panic!("{name}: {byte}: {e}")))
        .collect()
}

fn flow() -> Flow {
    Flow {
        subject: "order.changed".into(),
        group: "ticket".into(),
        consumer: "host-1".into(),
        session: 0x1122_3344_5566_7788,
        flags: FlowFlags::default(),
        start: Start::Latest,
        filter: TagFilter::All,
    }
}

fn greetings() -> Vec<(&'static str, AnyFrame)> {
    let client = Hello {
        node: "host-1".into(),
        expected_node: "broker-1".into(),
        expected_group: "group-1".into(),
        token: Token("secret".into()),
        limits: Limits {
            frame_bytes_max: 4 << 20,
            ..Limits::default()
        },
        ..Hello::new(Role::Client, "qmq-client 1")
    };
    let broker = Hello {
        features: 7,
        node: "broker-1".into(),
        group: "group-1".into(),
        epoch: 3,
        incarnation: 9,
        limits: Limits {
            frame_bytes_max: 5 << 20,
            body_bytes_max: 4 << 20,
            batch_messages_max: 10_000,
            streams_max: 256,
            session_timeout_ms: 30_000,
            ack_timeout_ms: 60_000,
            nack_ms_max: 86_400_000,
            dedup_window: 8_192,
            ..Limits::default()
        },
        ..Hello::new(Role::Master, "qmq 0.1.0")
    };
    let refused = Refusal {
        retry_after_ms: 250,
        ..Refusal::new(7, Code::Busy, "the queue is full")
    };
    let other = Refusal::new(8, Code::Other(1_000), "");
    vec![
        ("hello_client", AnyFrame::Hello(client)),
        ("hello_broker", AnyFrame::Hello(broker)),
        ("refused", AnyFrame::Refused(refused)),
        ("refused_other", AnyFrame::Refused(other)),
    ]
}

fn messages_in() -> Vec<(&'static str, AnyFrame)> {
    let header = ProduceHeader {
        number: 5,
        deadline_ms: 2_000,
        durability: Durability::Synced,
        ordered: true,
        producer: 0x0F0E_0D0C_0B0A_0908_0706_0504_0302_0100,
        first: 41,
    };
    let sent = |subject: &'static str, attributes: &'static [u8], body: &'static str| Sent {
        subject: subject.into(),
        attributes: attributes.into(),
        body: body.into(),
    };
    let three = vec![
        sent("order.changed", b"\x02\x03pay", "first"),
        sent("order.changed", b"", "second"),
        sent("%RETRY", b"\x01\x02id", ""),
    ];
    let empty = ProduceHeader {
        number: 6,
        ..ProduceHeader::default()
    };
    let run = |index, len, sequence| Accepted {
        index,
        len,
        sequence,
    };
    let produced = Produced {
        number: 5,
        accepted: vec![run(0, 2, 1_000), run(3, 1, 77)],
        refused: vec![Refused {
            index: 2,
            code: Code::BadMessage,
            text: "a tag is empty".into(),
        }],
    };
    vec![
        ("produce", AnyFrame::Produce(header, three)),
        ("produce_empty", AnyFrame::Produce(empty, Vec::new())),
        ("produced", AnyFrame::Produced(produced)),
    ]
}

fn subscriptions() -> Vec<(&'static str, AnyFrame)> {
    let new = Subscribe {
        flow: Flow {
            flags: FlowFlags {
                fresh: true,
                ..FlowFlags::default()
            },
            start: Start::Earliest,
            filter: TagFilter::Every(vec!["a".into(), "b".into()]),
            ..flow()
        },
        credit: Credit {
            messages: 1_000,
            bytes: 8 << 20,
        },
    };
    let broadcast = Subscribe {
        flow: Flow {
            subject: "s".into(),
            group: "g".into(),
            consumer: "c".into(),
            session: 1,
            flags: FlowFlags {
                broadcast: true,
                ..FlowFlags::default()
            },
            start: Start::Sequence(5),
            ..flow()
        },
        credit: Credit {
            messages: 1,
            bytes: 0,
        },
    };
    let subscribed = |incarnation, resumed| {
        AnyFrame::Subscribed(Subscribed {
            incarnation,
            resumed,
        })
    };
    let credit = Credit {
        messages: 50,
        bytes: 65_536,
    };
    let end = |code, text: &str| {
        AnyFrame::End(End {
            code,
            text: text.into(),
            unseen: false,
        })
    };
    let unseen = AnyFrame::End(End {
        code: None,
        text: String::new(),
        unseen: true,
    });
    vec![
        ("end_unseen", unseen),
        ("subscribe", AnyFrame::Subscribe(new)),
        ("subscribe_broadcast", AnyFrame::Subscribe(broadcast)),
        ("subscribed", subscribed(3, true)),
        ("subscribed_new", subscribed(4, false)),
        ("credit", AnyFrame::Credit(credit)),
        ("end", end(None, "")),
        (
            "end_fenced",
            end(Some(Code::Fenced), "taken over by host-2"),
        ),
    ]
}

fn messages_out() -> Vec<(&'static str, AnyFrame)> {
    let pull = Pull {
        number: 9,
        wait_ms: 5_000,
        messages: 100,
        bytes: 1 << 20,
        flow: Flow {
            flags: FlowFlags {
                at_most_once: true,
                ..FlowFlags::default()
            },
            start: Start::Time(1_700_000_000_000),
            filter: TagFilter::Any(vec!["a".into(), "bé".into()]),
            ..flow()
        },
    };
    let plain = Delivered {
        sequence: 12,
        pull_sequence: 4,
        record_time_ms: 1_700_000_000_123,
        attempt: 0,
        damaged: false,
        attributes: Bytes::from_static(b"\x02\x01a"),
        body: "hello".into(),
    };
    let third = Delivered {
        sequence: 100,
        pull_sequence: 7,
        record_time_ms: 1_700_000_000_456,
        attempt: 2,
        attributes: Bytes::new(),
        ..plain.clone()
    };
    let damaged = Delivered {
        sequence: 101,
        pull_sequence: 8,
        record_time_ms: 1_700_000_000_457,
        attempt: 0,
        damaged: true,
        attributes: Bytes::new(),
        body: Bytes::new(),
    };
    let delivery = |number, messages| {
        AnyFrame::Delivery(Delivery {
            number,
            incarnation: 3,
            messages,
        })
    };
    vec![
        ("pull", AnyFrame::Pull(pull)),
        ("pulled", delivery(Some(9), vec![plain])),
        ("pulled_nothing", delivery(Some(10), Vec::new())),
        ("deliver", delivery(None, vec![third, damaged])),
    ]
}

fn acks() -> Vec<(&'static str, AnyFrame)> {
    let ack = |flow, ranges| Ack {
        flow,
        number: 11,
        durability: Durability::Buffered,
        incarnation: 3,
        ranges,
    };
    let nack = |flow, delay_ms, ranges| Nack {
        flow,
        number: 11,
        durability: Durability::Buffered,
        incarnation: 3,
        delay_ms,
        unseen: false,
        ranges,
    };
    let renew = |flow, ranges| Renew {
        flow,
        incarnation: 3,
        ranges,
    };
    let acked = Acked {
        number: 11,
        settled: 2,
        already: 1,
        not_held: 0,
    };
    vec![
        ("ack", AnyFrame::Ack(ack(None, vec![(7, 8), (10, 10)]))),
        (
            "ack_request",
            AnyFrame::Ack(ack(Some(flow()), vec![(4, 4)])),
        ),
        ("acked", AnyFrame::Acked(acked)),
        (
            "nack",
            AnyFrame::Nack(nack(None, Some(1_500), vec![(9, 9)])),
        ),
        (
            "nack_unseen",
            AnyFrame::Nack(Nack {
                unseen: true,
                ..nack(None, Some(0), vec![(9, 9)])
            }),
        ),
        (
            "nack_request",
            AnyFrame::Nack(nack(Some(flow()), None, vec![(4, 5)])),
        ),
        ("renew", AnyFrame::Renew(renew(None, vec![(7, 20)]))),
        (
            "renew_request",
            AnyFrame::Renew(renew(Some(flow()), vec![(4, 4)])),
        ),
    ]
}

fn questions() -> Vec<(&'static str, AnyFrame)> {
    let reset = |to| ControlRequest::Reset {
        subject: "order.changed".into(),
        group: "ticket".into(),
        to,
    };
    let subjects = ControlRequest::Subjects {
        pattern: "order.*".into(),
        after: "order.a".into(),
        max: 100,
    };
    let drop_group = ControlRequest::DropGroup {
        subject: "order.changed".into(),
        group: "ticket".into(),
    };
    [
        ("control_status", ControlRequest::Status),
        ("control_subjects", subjects),
        ("control_reset_earliest", reset(ResetTo::Earliest)),
        ("control_reset_latest", reset(ResetTo::Latest)),
        ("control_reset_sequence", reset(ResetTo::Sequence(5))),
        (
            "control_reset_time",
            reset(ResetTo::Time(1_700_000_000_000)),
        ),
        ("control_drop_group", drop_group),
    ]
    .map(|(name, request)| (name, AnyFrame::Control(21, request)))
    .to_vec()
}

fn answers() -> Vec<(&'static str, AnyFrame)> {
    let status = NodeStatus {
        node: "broker-1".into(),
        group: "group-1".into(),
        version: "0.1.0".into(),
        uptime_ms: 1,
        connections: 2,
        subscriptions: 3,
        subjects: 4,
        log_bytes: 5,
        unsynced_bytes: 6,
        free_bytes: 7,
        produced: 8,
        delivered: 9,
        acked: 10,
        draining: true,
        trouble: "the disk is full".into(),
    };
    let consumer = ConsumerStatus {
        consumer: "host-1".into(),
        unacked: 7,
        online: true,
    };
    let group = GroupStatus {
        group: "ticket".into(),
        broadcast: false,
        cursor: 400,
        lag: 100,
        unacked: 7,
        waiting: 2,
        skipped: 1,
        consumers: vec![consumer],
    };
    let busy = SubjectStatus {
        subject: "order.changed".into(),
        first_sequence: 10,
        next_sequence: 500,
        groups: vec![group],
    };
    let idle = SubjectStatus {
        subject: "t".into(),
        ..SubjectStatus::default()
    };
    [
        ("controlled_status", ControlResponse::Status(status)),
        (
            "controlled_subjects",
            ControlResponse::Subjects(vec![busy, idle]),
        ),
        ("controlled_reset", ControlResponse::Reset(400)),
        ("controlled_dropped", ControlResponse::Dropped),
    ]
    .map(|(name, response)| {
        (
            name,
            AnyFrame::Controlled(Controlled {
                number: 21,
                response,
            }),
        )
    })
    .to_vec()
}

/// What each recorded frame says.
fn expected() -> Vec<(&'static str, AnyFrame)> {
    [
        greetings(),
        messages_in(),
        subscriptions(),
        messages_out(),
        acks(),
        questions(),
        answers(),
        cluster::frames(),
    ]
    .concat()
}

#[test]
fn recorded_frames_say_what_they_always_said() {
    for (name, value) in expected() {
        let bytes = recorded(name);
        for piece in [1, 7, bytes.len()] {
            let frame = framed(&bytes, piece);
            let decoded = AnyFrame::of(&frame, value.of_request());
            assert_eq!(decoded.as_ref(), Ok(&value), "{name}");
        }
    }
}

#[test]
fn the_same_bytes_are_written_for_ever() {
    for (name, value) in expected() {
        let (ours, recorded) = (value.encode(), recorded(name));
        assert_eq!(format!("{ours:02x?}"), format!("{recorded:02x?}"), "{name}");
    }
}

#[test]
fn every_kind_is_recorded_and_every_record_is_looked_at() {
    let names: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let expected: BTreeSet<String> = expected().iter().map(|(name, _)| (*name).into()).collect();
    assert_eq!(names, expected);
    let recorded: BTreeSet<u8> = names.iter().map(|name| recorded(name)[4]).collect();
    let known: BTreeSet<u8> = kinds().map(|kind| kind as u8).collect();
    assert_eq!(recorded, known);
}

#[test]
fn every_durability_role_and_code_keeps_its_number() {
    let numbers: Vec<u16> = Code::ALL.iter().map(|code| code.number()).collect();
    assert_eq!(numbers[..32], (1..=32).collect::<Vec<u16>>());
    let durabilities = [
        Durability::Default,
        Durability::Buffered,
        Durability::Synced,
        Durability::Replicated,
    ];
    assert_eq!(durabilities.map(|one| one as u8), [0, 1, 2, 3]);
    let roles = [
        Role::Client,
        Role::Master,
        Role::Slave,
        Role::Delay,
        Role::Meta,
    ];
    assert_eq!(roles.map(|one| one as u8), [0, 1, 2, 3, 4]);
}
