//! Messages handed out.

use bytes::{BufMut, Bytes, BytesMut};

use crate::BATCH_MESSAGES_MAX;
use crate::error::WireError;
use crate::frame::{Kind, put_header};
use crate::pieces::Reader;

/// Length of what stands before each message of a delivery.
pub const DELIVERED_HEADER_LEN: usize = 36;
/// Length of what stands before the messages of a DELIVER frame, its header included; of a PULLED frame, 4 bytes more.
pub const DELIVERY_HEADER_LEN: usize = 16;
const FLAG_DAMAGED: u16 = 1;

/// Messages handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Number of the pull that this answers; `None` in a subscription.
    pub number: Option<u32>,
    /// Incarnation of the store; acks carry it.
    pub incarnation: u32,
    /// The messages.
    pub messages: Vec<Delivered>,
}

/// A message handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Position in its subject.
    pub sequence: u64,
    /// What acks name.
    pub pull_sequence: u64,
    /// When the broker took it, in ms since 1970 UTC.
    pub record_time_ms: u64,
    /// How often it was handed out before and came back.
    pub attempt: u32,
    /// It cannot be read: nothing but its place is known.
    pub damaged: bool,
    /// Its attributes, encoded.
    pub attributes: Bytes,
    /// Its body.
    pub body: Bytes,
}

impl Delivery {
    /// Reads the payload of DELIVER, or of PULLED if `pulled`.
    ///
    /// # Errors
    /// [`WireError`]. Attributes are not looked at.
    pub fn decode(reader: &mut Reader<'_>, pulled: bool) -> Result<Self, WireError> {
        let number = if pulled {
            Some(reader.u32("PULLED")?)
        } else {
            None
        };
        let incarnation = reader.u32("DELIVER")?;
        let count = reader.count(
            "messages of DELIVER",
            BATCH_MESSAGES_MAX,
            DELIVERED_HEADER_LEN,
        )?;
        let mut messages = Vec::with_capacity(count);
        for _ in 0..count {
            let sequence = reader.u64("a message")?;
            let pull_sequence = reader.u64("a message")?;
            let record_time_ms = reader.u64("a message")?;
            let attempt = reader.u32("a message")?;
            let attributes_len = reader.u16("a message")?;
            let flags = reader.u16("a message")?;
            let body_len = reader.u32("a message")?;
            let damaged = flags & FLAG_DAMAGED != 0;
            let bytes = u64::from(attributes_len) + u64::from(body_len);
            if damaged && bytes > 0 {
                return Err(WireError::TooMany {
                    what: "bytes of a damaged message",
                    value: bytes,
                    max: 0,
                });
            }
            messages.push(Delivered {
                sequence,
                pull_sequence,
                record_time_ms,
                attempt,
                damaged,
                attributes: reader.bytes(usize::from(attributes_len), "attributes")?,
                body: reader.bytes(body_len as usize, "a body")?,
            });
        }
        reader.end("DELIVER")?;
        Ok(Self {
            number,
            incarnation,
            messages,
        })
    }
}

/// Appends the beginning of a DELIVER frame, or of a PULLED frame if a number is given: `messages_bytes` bytes of `count` messages, with
/// their headers, must follow.
pub fn put_delivery_header(
    out: &mut BytesMut,
    number: Option<u32>,
    incarnation: u32,
    count: u32,
    messages_bytes: u32,
) {
    match number {
        None => put_header(out, Kind::Deliver, 8 + messages_bytes),
        Some(number) => {
            put_header(out, Kind::Pulled, 12 + messages_bytes);
            out.put_u32_le(number);
        }
    }
    out.put_u32_le(incarnation);
    out.put_u32_le(count);
}

/// Appends what stands before a message: `attributes_len` and `body_len` bytes must follow. `None`: it is damaged, nothing follows.
pub fn put_delivered_header(
    out: &mut BytesMut,
    (sequence, pull_sequence): (u64, u64),
    record_time_ms: u64,
    attempt: u32,
    lengths: Option<(u16, u32)>,
) {
    out.put_u64_le(sequence);
    out.put_u64_le(pull_sequence);
    out.put_u64_le(record_time_ms);
    out.put_u32_le(attempt);
    let (attributes_len, body_len) = lengths.unwrap_or_default();
    out.put_u16_le(attributes_len);
    out.put_u16_le(if lengths.is_none() { FLAG_DAMAGED } else { 0 });
    out.put_u32_le(body_len);
}
