//! Bytes that do not follow the protocol are refused, with an error that says what is wrong; what is new and optional is skipped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod any_frame;

use std::collections::BTreeSet;
use std::path::Path;

use any_frame::{AnyFrame, framed, kinds, with_payload};
use bytes::{BufMut, Bytes, BytesMut};
use qmq_message::TagFilter;
use qmq_wire::{
    Accepted, Ack, BATCH_MESSAGES_MAX, CONTROL_BYTES_MAX, ControlRequest, ControlResponse,
    Controlled, Credit, Delivered, Delivery, Durability, End, Flow, FlowFlags, FrameBuffer, Hello,
    Kind, LEAST_FRAME_BYTES_MAX, ProduceHeader, Produced, Refusal, Role, Start, Subscribe,
    Subscribed, WireError,
};

/// Payloads of the recorded frames, with their kinds.
fn recorded() -> Vec<(String, Kind, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/v1");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes: Vec<u8> = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .flat_map(|line| line.split('#').next().unwrap_or_default().split(' '))
            .filter(|byte| !byte.is_empty())
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let kind = Kind::from_byte(bytes[4]).unwrap();
        all.push((name, kind, bytes[8..].to_vec()));
    }
    assert!(all.len() > 30);
    all
}

fn decode(kind: Kind, payload: &[u8], of_request: bool) -> Result<AnyFrame, WireError> {
    AnyFrame::of(&framed(&with_payload(kind, payload), 64), of_request)
}

fn refused(kind: Kind, payload: &[u8]) -> WireError {
    decode(kind, payload, false).unwrap_err()
}

/// The payload of that frame.
fn payload(frame: &AnyFrame) -> BytesMut {
    BytesMut::from(&frame.encode()[8..])
}

fn flow() -> Flow {
    Flow {
        subject: "subject".into(),
        group: "group".into(),
        consumer: "consumer".into(),
        session: 1,
        flags: FlowFlags::default(),
        start: Start::Latest,
        filter: TagFilter::All,
    }
}

fn subscribe() -> AnyFrame {
    let credit = Credit {
        messages: 1,
        bytes: 1,
    };
    let flow = flow();
    AnyFrame::Subscribe(Subscribe { flow, credit })
}

/// Lengths of the payload at which a frame may end: behind its fixed part, and behind each of its optional fields.
fn ends(kind: Kind, payload: &[u8]) -> Vec<usize> {
    let fixed = match kind {
        Kind::Hello => 16,
        Kind::Subscribed => 4,
        _ => return Vec::new(),
    };
    let mut ends = vec![fixed];
    while let Some(field) = payload.get(ends[ends.len() - 1]..).filter(|f| f.len() > 3) {
        let len = usize::from(u16::from_le_bytes([field[1], field[2]]));
        ends.push(ends[ends.len() - 1] + 3 + len);
    }
    ends
}

#[test]
fn a_frame_cut_at_any_byte_is_refused() {
    for (name, kind, payload) in recorded() {
        let ends = ends(kind, &payload);
        for len in 0..payload.len() {
            let of_request = name.ends_with("_request");
            let cut = decode(kind, &payload[..len], of_request);
            assert_eq!(
                cut.is_ok(),
                ends.contains(&len),
                "{name} cut at {len}: {cut:?}"
            );
        }
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    for (name, kind, mut payload) in recorded() {
        let of_request = name.ends_with("_request");
        assert!(decode(kind, &payload, of_request).is_ok(), "{name}");
        // One byte is no optional field either: that has three at least.
        payload.push(0);
        let error = decode(kind, &payload, of_request).unwrap_err();
        let expected = match kind {
            Kind::Hello | Kind::Subscribe | Kind::Subscribed | Kind::Pull => {
                matches!(error, WireError::Short { .. })
            }
            _ => matches!(error, WireError::Trailing { bytes: 1, .. }),
        };
        assert!(expected, "{name}: {error}");
    }
}

#[test]
fn a_field_that_is_not_known_is_skipped_below_128_and_refused_from_there_on() {
    let mut with_fields = BTreeSet::new();
    for (name, kind, payload) in recorded() {
        let fields = matches!(
            kind,
            Kind::Hello | Kind::Subscribe | Kind::Subscribed | Kind::Pull
        );
        if !fields {
            continue;
        }
        with_fields.insert(kind as u8);
        let with = |id: u8| [&payload[..], &[id, 3, 0], b"new"].concat();
        assert_eq!(
            decode(kind, &with(127), false),
            decode(kind, &payload, false),
            "{name}"
        );
        for id in [128, 255] {
            assert_eq!(refused(kind, &with(id)), WireError::UnknownField { id });
        }
    }
    assert_eq!(with_fields.len(), 4);
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    let resumed = [1, 1, 0, 1];
    let payload = [&[0; 4][..], &resumed, &resumed].concat();
    assert_eq!(
        refused(Kind::Subscribed, &payload),
        WireError::RepeatedField { id: 1 }
    );
}

#[test]
fn a_field_of_another_length_is_refused() {
    for (field, len) in [(3_u8, 2_u16), (4, 4), (5, 8), (13, 0)] {
        let mut hello = payload(&AnyFrame::Hello(Hello {
            role: Role::Client,
            ..Hello::default()
        }));
        hello.truncate(16);
        hello.put_u8(field);
        hello.put_u16_le(len);
        hello.put_bytes(0, usize::from(len));
        let error = refused(Kind::Hello, &hello);
        assert!(matches!(error, WireError::Short { .. }), "{field}: {error}");
    }
}

#[test]
fn what_is_no_hello_is_called_so() {
    for other in [&b""[..], b"QMQ", b"GET / HTTP/1.1\r\n", b"qmqh\x01\0\x01\0"] {
        assert_eq!(refused(Kind::Hello, other), WireError::NoHello);
    }
}

#[test]
fn counts_above_their_limits_are_refused_though_the_bytes_are_there() {
    let above = BATCH_MESSAGES_MAX + 1;
    // 1 MiB of zeros holds 10,001 of anything.
    let zeros = vec![0; 1 << 20];
    let counted = |before: usize| {
        let mut payload = vec![0; before];
        payload.put_u32_le(above);
        payload.extend_from_slice(&zeros);
        payload
    };
    let places = [
        (Kind::Produce, 36),
        (Kind::Produced, 4),
        (Kind::Produced, 8),
        (Kind::Pulled, 8),
        (Kind::Deliver, 4),
        (Kind::Ack, 9),
        (Kind::Nack, 13),
        (Kind::Renew, 4),
    ];
    for (kind, before) in places {
        let error = refused(kind, &counted(before));
        let expected = matches!(
            error,
            WireError::TooMany { value, max, .. }
                if value == u64::from(above) && max == u64::from(BATCH_MESSAGES_MAX)
        );
        assert!(expected, "{kind:?}: {error}");
    }
}

#[test]
fn a_filter_of_65_tags_is_refused() {
    // Flow: three names with their lengths, session, flags, start and its number, kind of the filter.
    let at = 8 + 6 + 9 + 8 + 1 + 9 + 1;
    let mut subscribe = payload(&subscribe());
    subscribe[at - 1] = 1;
    subscribe[at] = 65;
    let error = refused(Kind::Subscribe, &subscribe);
    assert!(
        matches!(
            error,
            WireError::TooMany {
                value: 65,
                max: 64,
                ..
            }
        ),
        "{error}"
    );
    subscribe[at - 1] = 0;
    subscribe[at] = 1;
    let error = refused(Kind::Subscribe, &subscribe);
    assert!(matches!(error, WireError::Value { .. }), "{error}");
}

#[test]
fn a_subject_of_256_bytes_and_one_that_follows_nothing_are_refused() {
    let produce = |len: usize| {
        let mut payload = vec![0; 36];
        payload.put_u32_le(1);
        payload.put_u16_le(len as u16);
        payload.put_bytes(0, 6 + len);
        payload
    };
    assert!(decode(Kind::Produce, &produce(255), false).is_ok());
    let error = refused(Kind::Produce, &produce(256));
    assert!(
        matches!(
            error,
            WireError::TooMany {
                value: 256,
                max: 255,
                ..
            }
        ),
        "{error}"
    );
    let error = refused(Kind::Produce, &produce(0));
    assert!(matches!(error, WireError::Missing { .. }), "{error}");
}

#[test]
fn counts_of_what_cannot_be_there_are_refused_before_anything_is_read() {
    let places = [
        (Kind::Produce, 36),
        (Kind::Produced, 4),
        (Kind::Pulled, 8),
        (Kind::Deliver, 4),
        (Kind::Ack, 9),
        (Kind::Renew, 4),
    ];
    for (kind, before) in places {
        let mut payload = vec![0; before];
        payload.put_u32_le(2);
        // One byte less than one of the shortest of them and a half.
        payload.put_bytes(0, 7);
        let error = refused(kind, &payload);
        assert!(
            matches!(error, WireError::Short { .. }),
            "{kind:?}: {error}"
        );
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let header = ProduceHeader::default();
    let mut produce = payload(&AnyFrame::Produce(header, Vec::new()));
    produce[8] = 4;
    let mut ack = payload(&AnyFrame::Ack(Ack {
        flow: None,
        number: 1,
        durability: Durability::Default,
        incarnation: 1,
        ranges: Vec::new(),
    }));
    ack[4] = 255;
    let names = 8 + 6 + 9;
    let (mut start, mut filter) = (payload(&subscribe()), payload(&subscribe()));
    start[names + 9] = 4;
    filter[names + 18] = 3;
    let mut role = payload(&AnyFrame::Hello(Hello::new(Role::Meta, "")));
    role[19] = 5;
    let cases = [
        (Kind::Produce, produce, "durability", 4),
        (Kind::Ack, ack, "durability", 255),
        (Kind::Subscribe, start, "start", 4),
        (Kind::Subscribe, filter, "filter", 3),
        (Kind::Hello, role, "role", 5),
    ];
    for (kind, payload, what, value) in cases {
        assert_eq!(refused(kind, &payload), WireError::Value { what, value });
    }
}

#[test]
fn bits_that_are_not_known_are_ignored() {
    let header = ProduceHeader {
        ordered: true,
        ..ProduceHeader::default()
    };
    let mut produce = payload(&AnyFrame::Produce(header, Vec::new()));
    produce[9] |= 0xFE;
    produce[10..12].copy_from_slice(&[0xFF; 2]);
    assert_eq!(
        decode(Kind::Produce, &produce, false),
        Ok(AnyFrame::Produce(header, Vec::new()))
    );
    let mut flags = payload(&subscribe());
    flags[8 + 6 + 9 + 8] |= 0xF0;
    assert_eq!(decode(Kind::Subscribe, &flags, false), Ok(subscribe()));
    let mut frame = BytesMut::from(&subscribe().encode()[..]);
    frame[5..8].copy_from_slice(&[0xFF; 3]);
    let frame = framed(&frame.freeze(), 64);
    assert_eq!(AnyFrame::of(&frame, false), Ok(subscribe()));
}

#[test]
fn text_that_is_not_utf_8_is_refused_wherever_it_stands() {
    let refusal = |text: &str| AnyFrame::Refused(Refusal::new(1, qmq_wire::Code::Busy, text));
    let end = |text: &str| {
        AnyFrame::End(End {
            code: None,
            text: text.into(),
            unseen: false,
        })
    };
    let hello = |text: &str| AnyFrame::Hello(Hello::new(Role::Client, text));
    let tagged = |text: &str| {
        let flow = Flow {
            filter: TagFilter::Any(vec![text.into()]),
            ..flow()
        };
        let credit = Credit::default();
        AnyFrame::Subscribe(Subscribe { flow, credit })
    };
    let named = |text: &str| {
        let flow = Flow {
            subject: text.into(),
            ..flow()
        };
        let credit = Credit::default();
        AnyFrame::Subscribe(Subscribe { flow, credit })
    };
    let cases = [
        (Kind::Refused, refusal("~~~")),
        (Kind::End, end("~~~")),
        (Kind::Hello, hello("~~~")),
        (Kind::Subscribe, tagged("~~~")),
        (Kind::Subscribe, named("~~~")),
    ];
    for (kind, frame) in cases {
        let mut payload = payload(&frame);
        let at = payload.windows(3).position(|three| three == b"~~~");
        payload[at.unwrap()] = 0xFF;
        let error = refused(kind, &payload);
        assert!(
            matches!(error, WireError::NotUtf8 { .. }),
            "{kind:?}: {error}"
        );
    }
    let drop_group = ControlRequest::DropGroup {
        subject: "~~~".into(),
        group: String::new(),
    };
    let mut payload = payload(&AnyFrame::Control(1, drop_group));
    let at = payload.windows(3).position(|three| three == b"~~~");
    payload[at.unwrap()] = 0xFF;
    let error = refused(Kind::Control, &payload);
    assert!(matches!(error, WireError::Control(_)), "{error}");
}

#[test]
fn a_subject_of_a_message_that_is_not_utf_8_refuses_the_message_and_not_the_frame() {
    let sent = any_frame::Sent {
        subject: Bytes::from_static(b"\xFF\xFE"),
        attributes: Bytes::new(),
        body: Bytes::from_static(b"body"),
    };
    let produce = AnyFrame::Produce(ProduceHeader::default(), vec![sent]);
    assert_eq!(
        decode(Kind::Produce, &payload(&produce), false),
        Ok(produce)
    );
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    for kind in [Kind::Ack, Kind::Nack, Kind::Renew] {
        let before = match kind {
            Kind::Ack => 9,
            Kind::Nack => 13,
            _ => 4,
        };
        let range = |first: u64, last: u64| {
            let mut payload = vec![0; before];
            payload.put_u32_le(1);
            payload.put_u64_le(first);
            payload.put_u64_le(last);
            payload
        };
        assert!(decode(kind, &range(8, 8), false).is_ok());
        let error = refused(kind, &range(8, 7));
        assert!(
            matches!(error, WireError::Value { value: 7, .. }),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_message_with_bytes_is_refused() {
    let message = Delivered {
        sequence: 1,
        pull_sequence: 2,
        record_time_ms: 3,
        attempt: 4,
        damaged: false,
        attributes: Bytes::new(),
        body: Bytes::from_static(b"body"),
    };
    let delivery = Delivery {
        number: None,
        incarnation: 1,
        messages: vec![message],
    };
    let mut payload = payload(&AnyFrame::Delivery(delivery));
    payload[8 + 30] = 1;
    let error = refused(Kind::Deliver, &payload);
    assert!(
        matches!(
            error,
            WireError::TooMany {
                value: 4,
                max: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_control_payload_above_its_limit_is_neither_written_nor_read() {
    // Variant, and two texts with their lengths.
    let fixed = 4 + 8 + 8;
    let drop_group = |len: usize| ControlRequest::DropGroup {
        subject: "s".repeat(len - fixed),
        group: String::new(),
    };
    for len in [4_096, 4_097, 262_144, 262_145, CONTROL_BYTES_MAX] {
        let longest = AnyFrame::Control(1, drop_group(len));
        let frame = longest.encode();
        assert_eq!(frame.len(), 8 + 4 + len);
        assert_eq!(AnyFrame::of(&framed(&frame, 1 << 20), false), Ok(longest));
    }
    let mut out = BytesMut::new();
    let error = drop_group(CONTROL_BYTES_MAX + 1).encode(1, &mut out);
    let expected = WireError::TooMany {
        what: "bytes of a control payload",
        value: CONTROL_BYTES_MAX as u64 + 1,
        max: CONTROL_BYTES_MAX as u64,
    };
    assert_eq!(error, Err(expected.clone()));
    assert!(out.is_empty(), "nothing of it is written");
    let mut payload = vec![0; 4];
    payload.put_u32_le(3);
    payload.put_bytes(0, CONTROL_BYTES_MAX - 3);
    let frame = framed(&with_payload(Kind::Control, &payload), 1 << 20);
    assert_eq!(AnyFrame::of(&frame, false), Err(expected));
}

#[test]
fn control_payloads_of_claimed_lengths_variants_and_bools_that_cannot_be_are_refused() {
    let request = |variant: u32, rest: &[u8]| {
        let mut payload = vec![0; 4];
        payload.put_u32_le(variant);
        payload.put_slice(rest);
        payload
    };
    let cases = [
        request(4, b""),
        request(u32::MAX, b""),
        request(3, &u64::MAX.to_le_bytes()),
        request(3, &(CONTROL_BYTES_MAX as u64).to_le_bytes()),
        request(3, &1_u64.to_le_bytes()),
    ];
    for payload in cases {
        let error = refused(Kind::Control, &payload);
        assert!(matches!(error, WireError::Control(_)), "{error}");
    }
    let status = Controlled {
        number: 1,
        response: ControlResponse::Status(qmq_wire::NodeStatus::default()),
    };
    let mut payload = payload(&AnyFrame::Controlled(status));
    let draining = payload.len() - 9;
    payload[draining] = 2;
    let error = refused(Kind::Controlled, &payload);
    assert!(matches!(error, WireError::Control(_)), "{error}");
}

#[test]
fn a_frame_longer_than_the_limit_is_refused_and_hello_always_fits() {
    let mut buffer = FrameBuffer::new(0);
    let mut frame = vec![0; 8];
    frame[..4].copy_from_slice(&LEAST_FRAME_BYTES_MAX.to_le_bytes());
    buffer.push(frame.clone().into());
    assert_eq!(
        buffer.announced(),
        Ok(Some(8 + LEAST_FRAME_BYTES_MAX as usize))
    );
    assert_eq!(buffer.next(), Ok(None), "not whole yet");
    let mut buffer = FrameBuffer::new(0);
    frame[0] = 1;
    buffer.push(frame.into());
    assert!(matches!(buffer.next(), Err(WireError::FrameTooLong { .. })));
}

#[test]
fn frames_of_kinds_that_are_not_known_come_out_whole() {
    let known: Vec<u8> = kinds().map(|kind| kind as u8).collect();
    let mut frame = BytesMut::from(&with_payload(Kind::End, b"whatever it is")[..]);
    for kind in (0..=u8::MAX).filter(|kind| !known.contains(kind)) {
        frame[4] = kind;
        let frame = framed(&frame.clone().freeze(), 3);
        assert_eq!((frame.kind, frame.payload_len()), (kind, 14));
        assert_eq!(Kind::from_byte(kind), None);
    }
}

#[test]
fn no_token_is_ever_shown() {
    let hello = Hello {
        token: qmq_wire::Token("secret".into()),
        ..Hello::new(Role::Client, "agent")
    };
    assert!(!format!("{hello:?}").contains("secret"));
}

#[test]
fn what_is_too_much_for_a_frame_is_seen_by_its_reader() {
    let run = Accepted {
        index: 0,
        len: 1,
        sequence: 1,
    };
    let produced = Produced {
        number: 1,
        accepted: vec![run; BATCH_MESSAGES_MAX as usize + 1],
        refused: Vec::new(),
    };
    let error = refused(Kind::Produced, &payload(&AnyFrame::Produced(produced)));
    assert!(matches!(error, WireError::TooMany { .. }), "{error}");
    let subscribed = Subscribed::default();
    assert_eq!(
        decode(Kind::Subscribed, &[0; 4], false),
        Ok(AnyFrame::Subscribed(subscribed)),
        "and what an older program leaves out is not there"
    );
}
