//! What is encoded decodes to the same, in whatever pieces it comes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod any_frame;
mod cluster;

use any_frame::{AnyFrame, Sent, kinds};
use bytes::{Bytes, BytesMut};
use cluster::{
    acquire, acquired, delay_request, delay_response, interest, register, route, scheduled,
};
use proptest::collection::vec;
use proptest::prelude::*;
use qmq_message::TagFilter;
use qmq_wire::{
    Accepted, Ack, AckRange, Acked, Code, ConsumerStatus, ControlRequest, ControlResponse,
    Controlled, Credit, Delivered, Delivery, Durability, End, Flow, FlowFlags, FrameBuffer,
    GroupStatus, Hello, Kind, Limits, Nack, NodeStatus, ProduceHeader, Produced, Pull, Refusal,
    Refused, Registered, Renew, ResetTo, Role, Start, SubjectStatus, Subscribe, Subscribed, Token,
    Unwatch,
};

pub(crate) fn text() -> impl Strategy<Value = String> {
    ".{0,40}"
}

fn bytes(len_max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=len_max).prop_map(Bytes::from)
}

fn code() -> impl Strategy<Value = Code> {
    prop_oneof![1_u16..60, 1..=u16::MAX].prop_map(Code::from_number)
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![
        Just(Durability::Default),
        Just(Durability::Buffered),
        Just(Durability::Synced),
        Just(Durability::Replicated),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Client),
        Just(Role::Master),
        Just(Role::Slave),
        Just(Role::Delay),
        Just(Role::Meta),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    any::<[u32; 9]>().prop_map(|numbers| {
        let [
            frame,
            body,
            batch,
            streams,
            session,
            ack,
            nack,
            dedup,
            attempts,
        ] = numbers;
        Limits {
            frame_bytes_max: frame,
            body_bytes_max: body,
            batch_messages_max: batch,
            streams_max: streams,
            session_timeout_ms: session,
            ack_timeout_ms: ack,
            nack_ms_max: nack,
            dedup_window: dedup,
            attempts_max: attempts,
        }
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    let numbers = any::<(u16, u16, u64, u64, u32)>();
    let texts = proptest::array::uniform6(text());
    (
        numbers,
        texts,
        role(),
        prop_oneof![Just(Limits::default()), limits()],
    )
        .prop_map(
            |((version_min, version_max, features, epoch, incarnation), texts, role, limits)| {
                let [node, group, expected_node, expected_group, token, agent] = texts;
                Hello {
                    version_min,
                    version_max,
                    features,
                    node,
                    group,
                    role,
                    epoch,
                    incarnation,
                    limits,
                    expected_node,
                    expected_group,
                    token: Token(token),
                    agent,
                }
            },
        )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (any::<(u32, u32)>(), code(), text()).prop_map(|((number, retry_after_ms), code, text)| {
        Refusal {
            number,
            code,
            retry_after_ms,
            text,
        }
    })
}

fn produce() -> impl Strategy<Value = AnyFrame> {
    let numbers = any::<(u32, u32, bool, u128, u64)>();
    let subject = prop_oneof!["[ab]", ".{1,63}"].prop_map(Bytes::from);
    let message = (subject, bytes(30), bytes(300)).prop_map(|(subject, attributes, body)| Sent {
        subject,
        attributes,
        body,
    });
    (numbers, durability(), vec(message, 0..8)).prop_map(
        |((number, deadline_ms, ordered, producer, first), durability, messages)| {
            let header = ProduceHeader {
                number,
                deadline_ms,
                durability,
                ordered,
                producer,
                first,
            };
            AnyFrame::Produce(header, messages)
        },
    )
}

/// There is always a reason; an empty text in a frame stands for the one before.
pub(crate) fn refused() -> impl Strategy<Value = Refused> {
    (any::<u32>(), code(), text()).prop_map(|(index, code, text)| Refused {
        index,
        code,
        text: if text.is_empty() {
            "why".to_owned()
        } else {
            text
        },
    })
}

fn produced() -> impl Strategy<Value = Produced> {
    let accepted = any::<(u32, u32, u64)>().prop_map(|(index, len, sequence)| Accepted {
        index,
        len,
        sequence,
    });
    (any::<u32>(), vec(accepted, 0..8), vec(refused(), 0..8)).prop_map(
        |(number, accepted, refused)| Produced {
            number,
            accepted,
            refused,
        },
    )
}

fn flow() -> impl Strategy<Value = Flow> {
    let name = || ".{0,63}";
    let start = prop_oneof![
        Just(Start::Latest),
        Just(Start::Earliest),
        any::<u64>().prop_map(Start::Sequence),
        any::<u64>().prop_map(Start::Time),
    ];
    let filter = prop_oneof![
        Just(TagFilter::All),
        vec(name(), 0..=64).prop_map(TagFilter::Any),
        vec(name(), 0..5).prop_map(TagFilter::Every),
    ];
    let flags =
        any::<[bool; 4]>().prop_map(|[broadcast, at_most_once, fresh, existing]| FlowFlags {
            existing,
            broadcast,
            at_most_once,
            fresh,
        });
    let names = (name(), name(), name());
    (names, any::<u64>(), flags, start, filter).prop_map(
        |((subject, group, consumer), session, flags, start, filter)| Flow {
            subject,
            group,
            consumer,
            session,
            flags,
            start,
            filter,
        },
    )
}

fn credit() -> impl Strategy<Value = Credit> {
    any::<(u32, u64)>().prop_map(|(messages, bytes)| Credit { messages, bytes })
}

fn delivered() -> impl Strategy<Value = Delivered> {
    let numbers = any::<(u64, u64, u64, u32)>();
    let content = prop_oneof![
        1 => Just((true, Bytes::new(), Bytes::new())),
        4 => (Just(false), bytes(30), bytes(300)),
    ];
    (numbers, content).prop_map(
        |((sequence, pull_sequence, record_time_ms, attempt), (damaged, attributes, body))| {
            Delivered {
                sequence,
                pull_sequence,
                record_time_ms,
                attempt,
                damaged,
                attributes,
                body,
            }
        },
    )
}

fn delivery(pulled: bool) -> impl Strategy<Value = Delivery> {
    (any::<u32>(), any::<u32>(), vec(delivered(), 0..8)).prop_map(
        move |(number, incarnation, messages)| Delivery {
            number: pulled.then_some(number),
            incarnation,
            messages,
        },
    )
}

fn ranges() -> impl Strategy<Value = Vec<AckRange>> {
    let range = any::<(u64, u64)>().prop_map(|(a, b)| (a.min(b), a.max(b)));
    vec(range, 0..20)
}

fn ack() -> impl Strategy<Value = Ack> {
    let flow = proptest::option::of(flow());
    (flow, any::<(u32, u32)>(), durability(), ranges()).prop_map(
        |(flow, (number, incarnation), durability, ranges)| Ack {
            flow,
            number,
            durability,
            incarnation,
            ranges,
        },
    )
}

fn nack() -> impl Strategy<Value = Nack> {
    let delay = proptest::option::of(0..u32::MAX);
    (ack(), delay, any::<bool>()).prop_map(|(ack, delay_ms, unseen)| Nack {
        flow: ack.flow,
        number: ack.number,
        durability: ack.durability,
        incarnation: ack.incarnation,
        delay_ms,
        unseen,
        ranges: ack.ranges,
    })
}

fn control() -> impl Strategy<Value = ControlRequest> {
    let to = prop_oneof![
        Just(ResetTo::Earliest),
        Just(ResetTo::Latest),
        any::<u64>().prop_map(ResetTo::Sequence),
        any::<u64>().prop_map(ResetTo::Time),
    ];
    prop_oneof![
        Just(ControlRequest::Status),
        (text(), text(), any::<u32>()).prop_map(|(pattern, after, max)| {
            ControlRequest::Subjects {
                pattern,
                after,
                max,
            }
        }),
        (text(), text(), to).prop_map(|(subject, group, to)| ControlRequest::Reset {
            subject,
            group,
            to
        }),
        (text(), text()).prop_map(|(subject, group)| ControlRequest::DropGroup { subject, group }),
        acquire().prop_map(ControlRequest::Acquire),
        register().prop_map(ControlRequest::Register),
        delay_request().prop_map(ControlRequest::Delay),
    ]
}

fn node_status() -> impl Strategy<Value = NodeStatus> {
    let texts = proptest::array::uniform4(text());
    (texts, any::<[u64; 10]>(), any::<bool>()).prop_map(|(texts, numbers, draining)| {
        let [node, group, version, trouble] = texts;
        NodeStatus {
            node,
            group,
            version,
            uptime_ms: numbers[0],
            connections: numbers[1],
            subscriptions: numbers[2],
            subjects: numbers[3],
            log_bytes: numbers[4],
            unsynced_bytes: numbers[5],
            free_bytes: numbers[6],
            produced: numbers[7],
            delivered: numbers[8],
            acked: numbers[9],
            draining,
            trouble,
        }
    })
}

fn subject_status() -> impl Strategy<Value = SubjectStatus> {
    let consumer =
        (text(), any::<(u64, bool)>()).prop_map(|(consumer, (unacked, online))| ConsumerStatus {
            consumer,
            unacked,
            online,
        });
    let group = (text(), any::<(bool, [u64; 5])>(), vec(consumer, 0..3)).prop_map(
        |(group, (broadcast, [cursor, lag, unacked, waiting, skipped]), consumers)| GroupStatus {
            group,
            broadcast,
            cursor,
            lag,
            unacked,
            waiting,
            skipped,
            consumers,
        },
    );
    (text(), any::<(u64, u64)>(), vec(group, 0..3)).prop_map(
        |(subject, (first_sequence, next_sequence), groups)| SubjectStatus {
            subject,
            first_sequence,
            next_sequence,
            groups,
        },
    )
}

fn controlled() -> impl Strategy<Value = Controlled> {
    let response = prop_oneof![
        node_status().prop_map(ControlResponse::Status),
        vec(subject_status(), 0..4).prop_map(ControlResponse::Subjects),
        any::<u64>().prop_map(ControlResponse::Reset),
        Just(ControlResponse::Dropped),
        acquired().prop_map(ControlResponse::Acquired),
        any::<(bool, u32)>()
            .prop_map(|(stored, again_ms)| Registered { stored, again_ms })
            .prop_map(ControlResponse::Registered),
        delay_response().prop_map(ControlResponse::Delay),
    ];
    (any::<u32>(), response).prop_map(|(number, response)| Controlled { number, response })
}

/// A frame of that kind. A new kind does not compile until it is here.
fn frame(kind: Kind) -> BoxedStrategy<AnyFrame> {
    match kind {
        Kind::Hello => hello().prop_map(AnyFrame::Hello).boxed(),
        Kind::Refused => refusal().prop_map(AnyFrame::Refused).boxed(),
        Kind::Produce => produce().boxed(),
        Kind::Produced => produced().prop_map(AnyFrame::Produced).boxed(),
        Kind::Pull => (any::<[u32; 4]>(), flow())
            .prop_map(|([number, wait_ms, messages, bytes], flow)| {
                AnyFrame::Pull(Pull {
                    number,
                    wait_ms,
                    messages,
                    bytes,
                    flow,
                })
            })
            .boxed(),
        Kind::Pulled => delivery(true).prop_map(AnyFrame::Delivery).boxed(),
        Kind::Subscribe => (flow(), credit())
            .prop_map(|(flow, credit)| AnyFrame::Subscribe(Subscribe { flow, credit }))
            .boxed(),
        Kind::Subscribed => any::<(u32, bool)>()
            .prop_map(|(incarnation, resumed)| {
                AnyFrame::Subscribed(Subscribed {
                    incarnation,
                    resumed,
                })
            })
            .boxed(),
        Kind::Deliver => delivery(false).prop_map(AnyFrame::Delivery).boxed(),
        Kind::Credit => credit().prop_map(AnyFrame::Credit).boxed(),
        Kind::Ack => ack().prop_map(AnyFrame::Ack).boxed(),
        Kind::Acked => any::<(u32, [u64; 3])>()
            .prop_map(|(number, [settled, already, not_held])| {
                AnyFrame::Acked(Acked {
                    number,
                    settled,
                    already,
                    not_held,
                })
            })
            .boxed(),
        Kind::Nack => nack().prop_map(AnyFrame::Nack).boxed(),
        Kind::Renew => ack()
            .prop_map(|ack| {
                AnyFrame::Renew(Renew {
                    flow: ack.flow,
                    incarnation: ack.incarnation,
                    ranges: ack.ranges,
                })
            })
            .boxed(),
        Kind::End => (proptest::option::of(code()), text(), any::<bool>())
            .prop_map(|(code, text, unseen)| AnyFrame::End(End { code, text, unseen }))
            .boxed(),
        Kind::Control => (any::<u32>(), control())
            .prop_map(|(number, request)| AnyFrame::Control(number, request))
            .boxed(),
        Kind::Controlled => controlled().prop_map(AnyFrame::Controlled).boxed(),
        Kind::Scheduled => scheduled().prop_map(AnyFrame::Scheduled).boxed(),
        Kind::Watch => (any::<u32>(), interest())
            .prop_map(|(number, interest)| AnyFrame::Watch(number, interest))
            .boxed(),
        Kind::Unwatch => any::<u32>()
            .prop_map(|number| AnyFrame::Unwatch(Unwatch { number }))
            .boxed(),
        Kind::Route => (any::<u32>(), route())
            .prop_map(|(number, route)| AnyFrame::Route(number, route))
            .boxed(),
    }
}

/// A few frames, of any kinds.
fn frames() -> impl Strategy<Value = Vec<AnyFrame>> {
    let kinds: Vec<Kind> = kinds().collect();
    vec(proptest::sample::select(kinds).prop_flat_map(frame), 1..5)
}

/// What comes out of a stream that brings `bytes` cut into pieces of these lengths, again and again.
fn arrived(bytes: &Bytes, cuts: &[usize], of_request: &[bool]) -> Vec<AnyFrame> {
    let mut rest = bytes.clone();
    let mut buffer = FrameBuffer::new(u32::MAX);
    let mut frames = Vec::new();
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let cut = cuts.next().map_or(rest.len(), |cut| rest.len().min(*cut));
        // A piece of its own, as a socket would give it.
        buffer.push(Bytes::copy_from_slice(&rest.split_to(cut)));
        while let Some(frame) = buffer.next().unwrap() {
            frames.push(AnyFrame::of(&frame, of_request[frames.len()]).unwrap());
        }
    }
    assert_eq!(buffer.buffered(), 0);
    frames
}

fn check(frames: &[AnyFrame], cuts: &[usize]) {
    let mut stream = BytesMut::new();
    for frame in frames {
        stream.extend_from_slice(&frame.encode());
    }
    let of_request: Vec<bool> = frames.iter().map(AnyFrame::of_request).collect();
    let arrived = arrived(&stream.freeze(), cuts, &of_request);
    assert_eq!(arrived, frames);
}

proptest! {
    #[test]
    fn frames_of_every_kind_come_back_in_whatever_pieces(
        frames in frames(),
        cuts in vec(prop_oneof![1_usize..9, 1_usize..400], 1..20),
    ) {
        check(&frames, &cuts);
    }

    #[test]
    fn each_kind_comes_back_byte_by_byte_and_whole(
        frames in kinds().map(frame).collect::<Vec<_>>(),
    ) {
        check(&frames, &[1]);
        check(&frames, &[usize::MAX]);
    }
}

#[test]
fn the_longest_names_and_texts_come_back() {
    let name = || "n".repeat(255);
    let flow = Flow {
        subject: name(),
        group: name(),
        consumer: name(),
        session: u64::MAX,
        flags: FlowFlags::default(),
        start: Start::Time(u64::MAX),
        filter: TagFilter::Every(vec![name(); 64]),
    };
    let credit = Credit {
        messages: u32::MAX,
        bytes: u64::MAX,
    };
    let end = End {
        code: Some(Code::Fenced),
        text: "t".repeat(usize::from(u16::MAX)),
        unseen: false,
    };
    let frames = [
        AnyFrame::Subscribe(Subscribe { flow, credit }),
        AnyFrame::End(end),
    ];
    check(&frames, &[7, 1000]);
}

#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let end = End {
        code: None,
        text: "é".repeat(40_000),
        unseen: false,
    };
    let frame = any_frame::framed(&AnyFrame::End(end).encode(), 1 << 20);
    let AnyFrame::End(end) = AnyFrame::of(&frame, false).unwrap() else {
        panic!("another kind");
    };
    assert_eq!(end.text, "é".repeat(32_767));
}

#[test]
fn a_delay_that_cannot_be_written_is_the_longest_and_not_the_brokers_own() {
    let nack = |delay_ms| Nack {
        flow: None,
        number: 1,
        durability: Durability::Default,
        incarnation: 1,
        delay_ms,
        unseen: false,
        ranges: vec![(1, 1)],
    };
    let frame = any_frame::framed(&AnyFrame::Nack(nack(Some(u32::MAX))).encode(), 64);
    let decoded = AnyFrame::of(&frame, false).unwrap();
    assert_eq!(decoded, AnyFrame::Nack(nack(Some(u32::MAX - 1))));
}

#[test]
fn the_most_ranges_and_runs_come_back() {
    let ranges: Vec<AckRange> = (0..10_000).map(|n| (n * 2, n * 2)).collect();
    let renew = Renew {
        flow: None,
        incarnation: 1,
        ranges,
    };
    let run = Accepted {
        index: 1,
        len: 1,
        sequence: 1,
    };
    let produced = Produced {
        number: 1,
        accepted: vec![run; 10_000],
        refused: Vec::new(),
    };
    check(
        &[AnyFrame::Renew(renew), AnyFrame::Produced(produced)],
        &[4_096],
    );
}
