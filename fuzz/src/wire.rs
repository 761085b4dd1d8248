//! The native protocol: frames as they come, and payloads of each kind.

#[path = "../../qmq-wire/tests/any_frame/mod.rs"]
mod any_frame;

use any_frame::{AnyFrame, framed, kinds, with_payload};
use bytes::Bytes;
use qmq_wire::{FRAME_HEADER_LEN, Frame, FrameBuffer, Kind, LEAST_FRAME_BYTES_MAX, WireError};

use crate::Input;

/// Name of the target that is given payloads of this kind. A new kind does not compile until it has one.
#[must_use]
pub fn wire_target(kind: Kind) -> &'static str {
    match kind {
        Kind::Hello | Kind::Refused => "wire_hello",
        Kind::Produce | Kind::Produced | Kind::Scheduled => "wire_produce",
        Kind::Pull
        | Kind::Pulled
        | Kind::Subscribe
        | Kind::Subscribed
        | Kind::Deliver
        | Kind::Credit
        | Kind::Ack
        | Kind::Acked
        | Kind::Nack
        | Kind::Renew
        | Kind::End => "wire_consume",
        Kind::Control | Kind::Controlled | Kind::Watch | Kind::Unwatch | Kind::Route => {
            "wire_control"
        }
    }
}

/// A stream of any bytes, cut as the first ones say: the same frames as in one piece, and no byte of them lost or counted twice. What is refused is
/// refused in whatever pieces it comes.
pub fn wire_frames(bytes: &[u8]) {
    let mut input = Input(bytes);
    let cuts: Vec<usize> = (0..input.byte() % 16)
        .map(|_| usize::from(input.byte()).max(1))
        .collect();
    let stream = input.0;
    let whole = frames_of([stream]);
    let mut pieces = Vec::new();
    let mut rest = stream;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let cut = cuts.next().map_or(rest.len(), |cut| rest.len().min(*cut));
        let (piece, behind) = rest.split_at(cut);
        pieces.push(piece);
        rest = behind;
    }
    let cut = frames_of(pieces);
    assert_eq!(whole, cut);
}

type Read = (Vec<(u8, Bytes)>, Option<WireError>);

/// Kinds and payloads of the whole frames in these pieces, and why there are no more.
fn frames_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut buffer = FrameBuffer::new(0);
    let mut frames = Vec::new();
    let (mut came, mut given) = (0, 0);
    for piece in pieces {
        came += piece.len();
        buffer.push(Bytes::copy_from_slice(piece));
        loop {
            let announced = buffer.announced();
            match buffer.next() {
                Ok(Some(frame)) => {
                    given += FRAME_HEADER_LEN + frame.payload_len();
                    assert_eq!(announced, Ok(Some(FRAME_HEADER_LEN + frame.payload_len())));
                    assert!(frame.payload_len() <= LEAST_FRAME_BYTES_MAX as usize);
                    frames.push((frame.kind, payload(&frame)));
                    assert_eq!(buffer.buffered(), came - given);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert_eq!(buffer.buffered(), came - given);
    }
    (frames, None)
}

fn payload(frame: &Frame) -> Bytes {
    if let Some(kind) = Kind::from_byte(frame.kind) {
        let _ = AnyFrame::decode(kind, frame.reader(), false);
    }
    let mut reader = frame.reader();
    let payload = reader.bytes(frame.payload_len(), "payload");
    assert_eq!(reader.remaining(), 0);
    payload.unwrap_or_default()
}

/// HELLO and REFUSED: the first byte says which, the payload follows.
pub fn wire_hello(bytes: &[u8]) {
    of_target("wire_hello", bytes);
}

/// PRODUCE, PRODUCED and SCHEDULED.
pub fn wire_produce(bytes: &[u8]) {
    of_target("wire_produce", bytes);
}

/// All frames of subscriptions, pulls and acks.
pub fn wire_consume(bytes: &[u8]) {
    of_target("wire_consume", bytes);
}

/// CONTROL and CONTROLLED, and what is said of routes.
pub fn wire_control(bytes: &[u8]) {
    of_target("wire_control", bytes);
}

fn of_target(target: &str, bytes: &[u8]) {
    let Some((first, payload)) = bytes.split_first() else {
        return;
    };
    let kinds: Vec<Kind> = kinds()
        .filter(|kind| wire_target(*kind) == target)
        .collect();
    let named = kinds.iter().find(|kind| **kind as u8 == *first);
    let kind = named.unwrap_or(&kinds[usize::from(*first) % kinds.len()]);
    let _taken = wire_payload(*kind, payload);
}

/// Whether that payload is taken. In one piece or many, it is the same; what is taken encodes, and decodes again to the same.
#[must_use]
pub fn wire_payload(kind: Kind, payload: &[u8]) -> bool {
    let bytes = with_payload(kind, payload);
    let mut taken = false;
    for of_request in [false, true] {
        let read = |bytes: &Bytes, piece: usize| {
            let frame = framed(bytes, piece);
            assert_eq!(frame.kind, kind as u8);
            AnyFrame::decode(kind, frame.reader(), of_request)
        };
        let whole = read(&bytes, usize::MAX);
        assert_eq!(whole, read(&bytes, 7));
        let Ok(frame) = whole else {
            continue;
        };
        let encoded = frame.encode();
        assert_eq!(read(&encoded, usize::MAX).as_ref(), Ok(&frame));
        taken = true;
    }
    taken
}
