//! What becomes of messages: acks, nacks, renewals.

use bytes::{BufMut, BytesMut};

use super::Flow;
use crate::error::WireError;
use crate::frame::{Kind, UNSEEN, put_flagged, put_frame};
use crate::pieces::Reader;
use crate::{BATCH_MESSAGES_MAX, Durability};

/// Most ranges of an ack.
const RANGES_MAX: u32 = BATCH_MESSAGES_MAX;
const DELAY_OF_BROKER: u32 = u32::MAX;

/// Pull sequences, first and last.
pub type AckRange = (u64, u64);

fn put_ranges(out: &mut BytesMut, ranges: &[AckRange]) {
    let ranges = &ranges[..ranges.len().min(RANGES_MAX as usize)];
    out.put_u32_le(ranges.len() as u32);
    for (first, last) in ranges {
        out.put_u64_le(*first);
        out.put_u64_le(*last);
    }
}

fn read_ranges(reader: &mut Reader<'_>) -> Result<Vec<AckRange>, WireError> {
    let count = reader.count("ranges", RANGES_MAX, 16)?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let range = (reader.u64("a range")?, reader.u64("a range")?);
        if range.0 > range.1 {
            return Err(WireError::Value {
                what: "end of a range, before its begin,",
                value: range.1,
            });
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn put_flow(out: &mut BytesMut, flow: Option<&Flow>) {
    if let Some(flow) = flow {
        flow.put(out);
    }
}

fn read_flow(reader: &mut Reader<'_>, of_request: bool) -> Result<Option<Flow>, WireError> {
    if of_request {
        Flow::read(reader).map(Some)
    } else {
        Ok(None)
    }
}

/// Acknowledges messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who; `None` in a subscription's stream.
    pub flow: Option<Flow>,
    /// Number of the request.
    pub number: u32,
    /// What it must survive before the answer.
    pub durability: Durability,
    /// Incarnation under which the messages were delivered.
    pub incarnation: u32,
    /// Pull sequences.
    pub ranges: Vec<AckRange>,
}

impl Ack {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Ack, |out| {
            put_flow(out, self.flow.as_ref());
            out.put_u32_le(self.number);
            out.put_u8(self.durability as u8);
            out.put_u32_le(self.incarnation);
            put_ranges(out, &self.ranges);
        });
    }

    /// Reads the payload; `of_request`: from a request stream.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>, of_request: bool) -> Result<Self, WireError> {
        let ack = Self {
            flow: read_flow(reader, of_request)?,
            number: reader.u32("ACK")?,
            durability: Durability::from_byte(reader.u8("ACK")?)?,
            incarnation: reader.u32("ACK")?,
            ranges: read_ranges(reader)?,
        };
        reader.end("ACK")?;
        Ok(ack)
    }
}

/// Refuses messages: they come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Who; `None` in a subscription's stream.
    pub flow: Option<Flow>,
    /// Number of the request.
    pub number: u32,
    /// What it must survive before the answer.
    pub durability: Durability,
    /// Incarnation under which the messages were delivered.
    pub incarnation: u32,
    /// When they come again, in ms from now, 2^32 - 2 at most; `None`: after `message.retry.delay.seconds` of the broker.
    pub delay_ms: Option<u32>,
    /// Nobody has looked at them: no attempt is counted.
    pub unseen: bool,
    /// Pull sequences.
    pub ranges: Vec<AckRange>,
}

impl Nack {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let flags = if self.unseen { UNSEEN } else { 0 };
        put_flagged(out, Kind::Nack, flags, |out| {
            put_flow(out, self.flow.as_ref());
            out.put_u32_le(self.number);
            out.put_u8(self.durability as u8);
            out.put_u32_le(self.incarnation);
            let delay = self.delay_ms.map(|delay| delay.min(DELAY_OF_BROKER - 1));
            out.put_u32_le(delay.unwrap_or(DELAY_OF_BROKER));
            put_ranges(out, &self.ranges);
        });
    }

    /// Reads the payload; `of_request`: from a request stream.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>, of_request: bool) -> Result<Self, WireError> {
        let unseen = reader.flags() & UNSEEN != 0;
        let flow = read_flow(reader, of_request)?;
        let number = reader.u32("NACK")?;
        let durability = Durability::from_byte(reader.u8("NACK")?)?;
        let incarnation = reader.u32("NACK")?;
        let delay_ms = Some(reader.u32("NACK")?).filter(|delay| *delay != DELAY_OF_BROKER);
        let ranges = read_ranges(reader)?;
        reader.end("NACK")?;
        Ok(Self {
            flow,
            number,
            durability,
            incarnation,
            delay_ms,
            unseen,
            ranges,
        })
    }
}

/// What an ack or nack did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acked {
    /// Number of the request.
    pub number: u32,
    /// Messages settled by it.
    pub settled: u64,
    /// Messages that were settled before.
    pub already: u64,
    /// Messages that the consumer does not hold (any more): somebody else has them, or had.
    pub not_held: u64,
}

impl Acked {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Acked, |out| {
            out.put_u32_le(self.number);
            out.put_u64_le(self.settled);
            out.put_u64_le(self.already);
            out.put_u64_le(self.not_held);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let acked = Self {
            number: reader.u32("ACKED")?,
            settled: reader.u64("ACKED")?,
            already: reader.u64("ACKED")?,
            not_held: reader.u64("ACKED")?,
        };
        reader.end("ACKED")?;
        Ok(acked)
    }
}

/// Says that messages are still being worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    /// Who; `None` in a subscription's stream.
    pub flow: Option<Flow>,
    /// Incarnation under which the messages were delivered.
    pub incarnation: u32,
    /// Pull sequences.
    pub ranges: Vec<AckRange>,
}

impl Renew {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Renew, |out| {
            put_flow(out, self.flow.as_ref());
            out.put_u32_le(self.incarnation);
            put_ranges(out, &self.ranges);
        });
    }

    /// Reads the payload; `of_request`: from a request stream.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>, of_request: bool) -> Result<Self, WireError> {
        let renew = Self {
            flow: read_flow(reader, of_request)?,
            incarnation: reader.u32("RENEW")?,
            ranges: read_ranges(reader)?,
        };
        reader.end("RENEW")?;
        Ok(renew)
    }
}
