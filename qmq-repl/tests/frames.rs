//! Frames that nobody sane has sent: they never panic, never cost more memory than a limit, and never change a log.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Rng, Setup, Sim};
use proptest::prelude::*;
use qmq_repl::{
    BODY_BYTES_MAX, Epoch, FilePart, Found, Frame, FrameError, FrameReader, HEADER_BYTES, Hello,
    Memory, Message, Peer, Range, Refused, Standing,
};

use qmq_store::{PrimaryFile, PrimarySet};

fn epochs() -> impl Strategy<Value = Vec<Epoch>> {
    prop::collection::btree_map(any::<u64>(), any::<u64>(), 0..20).prop_map(|map| {
        let mut starts: Vec<u64> = map.values().copied().collect();
        starts.sort_unstable();
        starts.dedup();
        (map.keys().zip(starts))
            .map(|(&number, start)| Epoch { number, start })
            .collect()
    })
}

fn piece() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn file() -> impl Strategy<Value = PrimaryFile> {
    ("[a-z0-9-]{1,64}", 1..u64::MAX, any::<u32>()).prop_map(|(name, len, tag)| PrimaryFile {
        name,
        len,
        tag,
    })
}

fn part() -> impl Strategy<Value = FilePart> {
    prop_oneof![
        Just(FilePart::Gone),
        Just(FilePart::Same),
        piece().prop_map(FilePart::Bytes),
    ]
}

fn micros() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn lease() -> impl Strategy<Value = Duration> {
    (0..=86_400_000_000_u64).prop_map(Duration::from_micros)
}

fn range() -> impl Strategy<Value = Range> {
    any::<(u64, u64, u64)>().prop_map(|(ticket, a, b)| Range {
        ticket,
        from: a.min(b),
        to: a.max(b),
    })
}

fn message() -> impl Strategy<Value = Message> {
    let n = any::<u64>;
    let refused = prop_oneof![
        any::<(u8, u8)>().prop_map(|(min, max)| Refused::Version { min, max }),
        n().prop_map(|promised| Refused::OldEpoch { promised }),
        Just(Refused::NotMaster),
        Just(Refused::NoSession),
        Just(Refused::Differs),
        Just(Refused::Conflict),
        Just(Refused::OtherGroup),
        Just(Refused::OtherLog),
        Just(Refused::OtherName),
    ];
    let memory = prop_oneof![
        Just(Memory::Whole),
        Just(Memory::Partial),
        Just(Memory::Blank)
    ];
    let found = prop_oneof![
        Just(Found::Good),
        Just(Found::Damaged),
        Just(Found::NotHere)
    ];
    let hello = (
        any::<(u8, u8, u128)>(),
        ".{0,40}",
        ".{0,40}",
        any::<[u64; 4]>(),
        epochs(),
    );
    prop_oneof![
        hello.prop_map(
            |((version_min, version_max, log_id), group, node, n, epochs)| {
                Message::Hello(Hello {
                    version_min,
                    version_max,
                    log_id,
                    group,
                    node,
                    nonce: n[0],
                    start: n[1],
                    written: n[2],
                    synced: n[3],
                    epochs,
                })
            }
        ),
        (any::<[u64; 3]>(), any::<u128>(), epochs()).prop_map(|(n, log_id, epochs)| {
            Message::Welcome {
                nonce: n[0],
                log_id,
                start: n[1],
                written: n[2],
                epochs,
            }
        }),
        refused.prop_map(Message::Refused),
        any::<[u64; 3]>().prop_map(|n| Message::Follow {
            at: n[0],
            from: n[1],
            digest: n[2],
        }),
        n().prop_map(|at| Message::Start { at }),
        (n(), any::<u32>(), piece()).prop_map(|(offset, rest, bytes)| Message::Data {
            offset,
            rest,
            bytes,
        }),
        (any::<[u64; 3]>(), micros(), any::<[bool; 2]>()).prop_map(|(n, echo, [gap, partial])| {
            Message::Ack {
                partial,
                buffered: n[0],
                synced: n[1],
                received: n[2],
                echo,
                gap,
            }
        }),
        (any::<[u64; 4]>(), micros(), lease()).prop_map(|(n, sent, lease)| {
            Message::Heartbeat {
                sent,
                written: n[0],
                synced: n[1],
                replicated: n[2],
                lease,
                files: n[3],
            }
        }),
        any::<(u64, u32, u64)>().prop_map(|(base, crc, have)| Message::SnapshotAsk {
            base,
            crc,
            have,
        }),
        (any::<(u64, u32, u64, u64)>(), piece()).prop_map(|((base, crc, total, offset), bytes)| {
            Message::SnapshotPiece {
                base,
                crc,
                total,
                offset,
                bytes,
            }
        }),
        (n(), micros()).prop_map(|(end, until)| Message::HandOver { end, until }),
        Just(Message::FilesAsk),
        (any::<[u64; 3]>(), prop::collection::vec(file(), 0..20)).prop_map(|(n, files)| {
            Message::Files(PrimarySet {
                version: n[0],
                hold: n[1],
                end: n[2],
                files,
            })
        }),
        (
            file(),
            any::<[u64; 2]>(),
            any::<u32>(),
            any::<Option<u32>>()
        )
            .prop_map(|(file, [ticket, offset], len, crc)| {
                Message::PartAsk {
                    ticket,
                    file,
                    offset,
                    len,
                    crc,
                }
            }),
        (n(), part()).prop_map(|(ticket, found)| Message::Part { ticket, found }),
        Just(Message::PromiseAsk),
        (any::<([u64; 2], u128)>(), lease(), memory, epochs()).prop_map(
            |((n, log_id), lease_left, memory, epochs)| Message::Promised(Standing {
                log_id,
                start: n[0],
                end: n[1],
                lease_left,
                memory,
                epochs,
            })
        ),
        range().prop_map(Message::DigestAsk),
        (n(), any::<Option<u64>>())
            .prop_map(|(ticket, digest)| Message::DigestSay { ticket, digest }),
        range().prop_map(Message::CheckAsk),
        (n(), found).prop_map(|(ticket, found)| Message::CheckSay { ticket, found }),
        any::<(u64, u64, u32, u32)>().prop_map(|(ticket, offset, skip, max)| {
            Message::UnitsAsk {
                ticket,
                offset,
                skip,
                max,
            }
        }),
        (any::<(u64, u64, u32, u32)>(), piece()).prop_map(
            |((ticket, offset, skip, total), bytes)| Message::Units {
                ticket,
                offset,
                skip,
                total,
                bytes,
            }
        ),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    (0..5_u64, 0..5_u64, message()).prop_map(|(epoch, session, message)| Frame {
        epoch,
        session,
        group: common::group(3, 0, 1).tag(),
        message,
    })
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_was_sent(frame in frame(), cut in any::<prop::sample::Index>()) {
        let bytes = frame.encode();
        prop_assert!(bytes.len() <= HEADER_BYTES + BODY_BYTES_MAX);
        prop_assert_eq!(&Frame::decode(&bytes).unwrap(), &frame);
        // In a stream, in two parts and with another frame behind.
        let cut = cut.index(bytes.len());
        let mut reader = FrameReader::default();
        reader.push(&bytes[..cut]);
        prop_assert_eq!(reader.next_frame().unwrap(), None);
        prop_assert!(reader.missing().unwrap() <= bytes.len() - cut);
        reader.push(&bytes[cut..]);
        reader.push(&bytes);
        for _ in 0..2 {
            prop_assert_eq!(reader.next_frame().unwrap(), Some(bytes.clone()));
        }
        prop_assert_eq!(reader.next_frame().unwrap(), None);
    }

    #[test]
    fn a_changed_frame_is_refused(frame in frame(), at in any::<prop::sample::Index>(), bits in 1..=255_u8) {
        let mut bytes = frame.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        prop_assert!(Frame::decode(&bytes.into()).is_err());
    }

    #[test]
    fn a_cut_frame_is_refused(frame in frame(), at in any::<prop::sample::Index>()) {
        let bytes = frame.encode();
        let cut = bytes.slice(..at.index(bytes.len()));
        prop_assert!(Frame::decode(&cut).is_err());
    }

    #[test]
    fn any_body_under_good_checksums_is_read_or_refused(kind in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Frame::decode(&sealed(kind, &body));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Frame::decode(&bytes.clone().into());
        let mut reader = FrameReader::default();
        reader.push(&bytes);
        let _ = reader.next_frame();
        if let Ok(missing) = reader.missing() {
            prop_assert!(missing <= HEADER_BYTES + BODY_BYTES_MAX);
        }
    }

    #[test]
    fn frames_of_a_stranger_change_no_log(frames in prop::collection::vec(frame(), 1..30), seed in any::<u64>()) {
        let mut sim = Sim::with_master(Setup::new(3, 1));
        for _ in 0..5 {
            sim.produce(0, 100, true);
            sim.sync(0);
        }
        sim.run_for(500);
        let before: Vec<_> = (0..3).map(|n| sim.log(n).content()).collect();
        let mut rng = Rng::new(seed);
        for frame in frames {
            let (to, from) = (rng.below(3) as usize, Peer(rng.below(3) as u16));
            // Without its answers: the others are not drawn in.
            let now = sim.now;
            sim.node(to).handle(now, from, &frame.encode());
            while sim.node(to).poll_transmit(now).is_some() {}
            while sim.node(to).poll_event().is_some() {}
        }
        for (n, before) in before.iter().enumerate() {
            prop_assert_eq!(&sim.log(n).content(), before);
        }
    }
}

/// A frame of any kind and body with good checksums.
fn sealed(kind: u8, body: &[u8]) -> Bytes {
    let mut bytes = b"QR\x01".to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&common::group(3, 0, 1).tag().to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.into()
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_made_room_for() {
    let mut bytes = sealed(6, &[0; 12]).to_vec();
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..32]);
    bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    let mut reader = FrameReader::default();
    reader.push(&bytes);
    let long = FrameError::TooLong { found: u32::MAX };
    assert_eq!(reader.missing(), Err(long.clone()));
    assert_eq!(reader.next_frame(), Err(long));
}

#[test]
fn a_list_of_epochs_that_says_more_than_it_holds_is_refused() {
    let mut body = vec![0; 24];
    body.extend_from_slice(&u32::MAX.to_le_bytes());
    let refused = Frame::decode(&sealed(2, &body));
    assert_eq!(refused, Err(FrameError::Layout { kind: 2 }));
}

#[test]
fn a_lease_of_ages_is_no_frame() {
    let day = Duration::from_secs(86_400);
    for (lease, is_good) in [(day, true), (day + Duration::from_micros(1), false)] {
        let message = Message::Heartbeat {
            sent: Duration::ZERO,
            written: 0,
            synced: 0,
            replicated: 0,
            lease,
            files: 0,
        };
        let frame = Frame {
            epoch: 1,
            session: 1,
            group: 0,
            message,
        };
        assert_eq!(Frame::decode(&frame.encode()).is_ok(), is_good);
    }
}
