//! A frame of any kind as a value: what the tests of this crate and the fuzz targets encode and decode.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::{BufMut, Bytes, BytesMut};
use qmq_wire::{
    Ack, Acked, ControlRequest, Controlled, Credit, DELIVERED_HEADER_LEN, Delivery, End, Frame,
    FrameBuffer, Hello, Interest, Kind, Nack, Produce, ProduceHeader, Produced, Pull, Reader,
    Refusal, Renew, Route, Scheduled, Subscribe, Subscribed, Unwatch, WireError, message_len,
    put_delivered_header, put_delivery_header, put_frame, put_message, put_produce_header,
};

/// Every kind that this version knows.
pub(crate) fn kinds() -> impl Iterator<Item = Kind> {
    (0..=u8::MAX).filter_map(Kind::from_byte)
}

/// A frame of any kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AnyFrame {
    Hello(Hello),
    Refused(Refusal),
    Produce(ProduceHeader, Vec<Sent>),
    Produced(Produced),
    Pull(Pull),
    Subscribe(Subscribe),
    Subscribed(Subscribed),
    Delivery(Delivery),
    Credit(Credit),
    Ack(Ack),
    Acked(Acked),
    Nack(Nack),
    Renew(Renew),
    End(End),
    Control(u32, ControlRequest),
    Controlled(Controlled),
    Scheduled(Scheduled),
    Watch(u32, Interest),
    Unwatch(Unwatch),
    Route(u32, Route),
}

/// A message of a PRODUCE, wherever the pieces of its body lay.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) subject: Bytes,
    pub(crate) attributes: Bytes,
    pub(crate) body: Bytes,
}

impl AnyFrame {
    /// The whole frame, header included.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Hello(frame) => frame.encode(&mut out),
            Self::Refused(frame) => frame.encode(&mut out),
            Self::Produce(header, messages) => encode_produce(header, messages, &mut out),
            Self::Produced(frame) => frame.encode(&mut out),
            Self::Pull(frame) => frame.encode(&mut out),
            Self::Subscribe(frame) => frame.encode(&mut out),
            Self::Subscribed(frame) => frame.encode(&mut out),
            Self::Delivery(frame) => encode_delivery(frame, &mut out),
            Self::Credit(frame) => frame.encode(&mut out),
            Self::Ack(frame) => frame.encode(&mut out),
            Self::Acked(frame) => frame.encode(&mut out),
            Self::Nack(frame) => frame.encode(&mut out),
            Self::Renew(frame) => frame.encode(&mut out),
            Self::End(frame) => frame.encode(&mut out),
            Self::Control(number, request) => request.encode(*number, &mut out).unwrap(),
            Self::Controlled(frame) => frame.encode(&mut out).unwrap(),
            Self::Scheduled(frame) => frame.encode(&mut out),
            Self::Watch(number, interest) => interest.encode(*number, &mut out).unwrap(),
            Self::Unwatch(frame) => frame.encode(&mut out),
            Self::Route(number, route) => route.encode(*number, &mut out).unwrap(),
        }
        out.freeze()
    }

    /// Reads a payload; `of_request`: as in a request stream.
    pub(crate) fn decode(
        kind: Kind,
        mut reader: Reader<'_>,
        of_request: bool,
    ) -> Result<Self, WireError> {
        let reader = &mut reader;
        Ok(match kind {
            Kind::Hello => Self::Hello(Hello::decode(reader)?),
            Kind::Refused => Self::Refused(Refusal::decode(reader)?),
            Kind::Produce => decode_produce(reader)?,
            Kind::Produced => Self::Produced(Produced::decode(reader)?),
            Kind::Pull => Self::Pull(Pull::decode(reader)?),
            Kind::Pulled => Self::Delivery(Delivery::decode(reader, true)?),
            Kind::Subscribe => Self::Subscribe(Subscribe::decode(reader)?),
            Kind::Subscribed => Self::Subscribed(Subscribed::decode(reader)?),
            Kind::Deliver => Self::Delivery(Delivery::decode(reader, false)?),
            Kind::Credit => Self::Credit(Credit::decode(reader)?),
            Kind::Ack => Self::Ack(Ack::decode(reader, of_request)?),
            Kind::Acked => Self::Acked(Acked::decode(reader)?),
            Kind::Nack => Self::Nack(Nack::decode(reader, of_request)?),
            Kind::Renew => Self::Renew(Renew::decode(reader, of_request)?),
            Kind::End => Self::End(End::decode(reader)?),
            Kind::Control => {
                let (number, request) = ControlRequest::decode(reader)?;
                Self::Control(number, request)
            }
            Kind::Controlled => Self::Controlled(Controlled::decode(reader)?),
            Kind::Scheduled => Self::Scheduled(Scheduled::decode(reader)?),
            Kind::Watch => {
                let (number, interest) = Interest::decode(reader)?;
                Self::Watch(number, interest)
            }
            Kind::Unwatch => Self::Unwatch(Unwatch::decode(reader)?),
            Kind::Route => {
                let (number, route) = Route::decode(reader)?;
                Self::Route(number, route)
            }
        })
    }

    /// Reads a frame of a kind that is known here.
    pub(crate) fn of(frame: &Frame, of_request: bool) -> Result<Self, WireError> {
        Self::decode(
            Kind::from_byte(frame.kind).unwrap(),
            frame.reader(),
            of_request,
        )
    }

    /// Whether it is one of those that name their consumer in a request stream only, and does.
    pub(crate) fn of_request(&self) -> bool {
        match self {
            Self::Ack(frame) => frame.flow.is_some(),
            Self::Nack(frame) => frame.flow.is_some(),
            Self::Renew(frame) => frame.flow.is_some(),
            _ => false,
        }
    }
}

/// The one frame that `bytes` are, come in pieces of at most `piece` bytes.
pub(crate) fn framed(bytes: &Bytes, piece: usize) -> Frame {
    let mut buffer = FrameBuffer::new(u32::MAX);
    for piece in bytes.chunks(piece.max(1)) {
        buffer.push(Bytes::copy_from_slice(piece));
    }
    let frame = buffer.next().unwrap().unwrap();
    assert_eq!(buffer.buffered(), 0);
    frame
}

/// A frame of that payload.
pub(crate) fn with_payload(kind: Kind, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put_frame(&mut out, kind, |out| out.put_slice(payload));
    out.freeze()
}

fn encode_produce(header: &ProduceHeader, messages: &[Sent], out: &mut BytesMut) {
    let mut encoded = BytesMut::new();
    let mut before: &[u8] = b"";
    for message in messages {
        let subject = if message.subject == before {
            b""
        } else {
            &message.subject[..]
        };
        let body_len = message.body.len() as u32;
        let start = encoded.len();
        if let Ok(subject) = std::str::from_utf8(subject) {
            put_message(&mut encoded, subject, &message.attributes, body_len);
            let whole = message_len(subject, &message.attributes, body_len);
            assert_eq!(
                encoded.len() - start + message.body.len(),
                whole,
                "message_len tells what follows"
            );
        } else {
            // Nobody sends it, but a decoder hands it on: one bad name does not refuse the frame.
            encoded.put_u16_le(subject.len() as u16);
            encoded.put_u16_le(message.attributes.len() as u16);
            encoded.put_u32_le(body_len);
            encoded.put_slice(subject);
            encoded.put_slice(&message.attributes);
        }
        encoded.put_slice(&message.body);
        before = &message.subject;
    }
    put_produce_header(out, header, messages.len() as u32, encoded.len() as u32);
    out.put_slice(&encoded);
}

fn decode_produce(reader: &mut Reader<'_>) -> Result<AnyFrame, WireError> {
    let produce = Produce::decode(reader)?;
    let messages = produce.messages.iter().map(|message| {
        let body = Bytes::from(produce.body(message).concat());
        assert_eq!(body.len(), message.body_len as usize);
        Sent {
            subject: message.subject.clone(),
            attributes: message.attributes.clone(),
            body,
        }
    });
    Ok(AnyFrame::Produce(produce.header, messages.collect()))
}

fn encode_delivery(delivery: &Delivery, out: &mut BytesMut) {
    let mut encoded = BytesMut::new();
    for message in &delivery.messages {
        let lengths = (message.attributes.len() as u16, message.body.len() as u32);
        let start = encoded.len();
        put_delivered_header(
            &mut encoded,
            (message.sequence, message.pull_sequence),
            message.record_time_ms,
            message.attempt,
            (!message.damaged).then_some(lengths),
        );
        assert_eq!(encoded.len() - start, DELIVERED_HEADER_LEN);
        encoded.put_slice(&message.attributes);
        encoded.put_slice(&message.body);
    }
    let count = delivery.messages.len() as u32;
    let len = encoded.len() as u32;
    put_delivery_header(out, delivery.number, delivery.incarnation, count, len);
    out.put_slice(&encoded);
}
