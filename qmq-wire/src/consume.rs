//! Subscriptions, pulls, credit, deliveries, acks.
//!
//! ```text
//! who       u8 length and subject, u8 length and group, u8 length and consumer, u64 session,
//!           u8 flags: bit 0 broadcast, bit 1 at most once, bit 2 a fresh process (holds nothing),
//!           u8 start of a new group: 0 latest, 1 earliest, 2 sequence, 3 time; u64 of it,
//!           u8 filter: 0 all, 1 any of the tags, 2 every tag; u8 count, and for each: u8 length and tag
//!
//! SUBSCRIBE who, u32 credit in messages, u64 credit in bytes, fields
//! PULL      u32 number, u32 wait in ms, u32 most messages, u32 most bytes, who, fields
//! SUBSCRIBED u32 incarnation, fields
//! DELIVER   u32 incarnation, u32 count, and for each:
//!    0 u64 sequence in the subject
//!    8 u64 pull sequence: what acks name
//!   16 u64 record time in ms since 1970 UTC
//!   24 u32 attempt: how often it was handed out before and came back
//!   28 u16 attributes_len
//!   30 u16 flags: bit 0 damaged: it cannot be read, and has no attributes and no body
//!   32 u32 body_len
//!   36     attributes, body
//! PULLED    u32 number, then as DELIVER
//! CREDIT    u32 messages, u64 bytes: so many more
//! ACK       u32 number, u8 durability, u32 incarnation, u32 count, and for each: u64 first, u64 last pull sequence
//! NACK      u32 number, u8 durability, u32 incarnation, u32 delay in ms (all ones: the broker's), ranges as in ACK
//! ACKED     u32 number, u64 settled, u64 settled before, u64 not held (any more)
//! RENEW     u32 incarnation, ranges as in ACK
//! END       u16 code, u16 length and text; from a consumer, code 0 means: what I hold is the others' at once
//! ```
//!
//! In a request stream ACK, NACK and RENEW have `who` before them; in a subscription's stream they do not.

use bytes::{BufMut, Bytes, BytesMut};
use qmq_message::{TAGS_MAX, TagFilter};

use crate::error::WireError;
use crate::fields;
use crate::frame::{Kind, put_frame, put_header};
use crate::pieces::Reader;
use crate::refusal::Code;
use crate::{BATCH_MESSAGES_MAX, Durability, put};

/// Most ranges of an ack.
const RANGES_MAX: u32 = BATCH_MESSAGES_MAX;
const DELAY_OF_BROKER: u32 = u32::MAX;

/// Where a group begins that has never been on the subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Behind the newest message (QMQ's rule).
    #[default]
    Latest,
    /// At the oldest message kept.
    Earliest,
    /// At this sequence, or the nearest kept.
    Sequence(u64),
    /// At the first message whose record time is not before this, in ms since 1970 UTC.
    Time(u64),
}

/// How a consumer takes part in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowFlags {
    /// Every consumer of the group gets every message.
    pub broadcast: bool,
    /// Messages count as acknowledged when they are handed out.
    pub at_most_once: bool,
    /// The process is new: whatever the consumer held, it has nothing of it any more.
    pub fresh: bool,
}

/// Who consumes what: the beginning of SUBSCRIBE and PULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Subject.
    pub subject: String,
    /// Group.
    pub group: String,
    /// Consumer: the application's choice, or random for the process.
    pub consumer: String,
    /// Chosen at random by each process: a second one takes over.
    pub session: u64,
    /// How it takes part.
    pub flags: FlowFlags,
    /// Where a new group begins.
    pub start: Start,
    /// Which messages the group gets.
    pub filter: TagFilter,
}

impl Flow {
    fn put(&self, out: &mut BytesMut) {
        put::short(out, &self.subject);
        put::short(out, &self.group);
        put::short(out, &self.consumer);
        out.put_u64_le(self.session);
        let FlowFlags {
            broadcast,
            at_most_once,
            fresh,
        } = self.flags;
        out.put_u8(u8::from(broadcast) | u8::from(at_most_once) << 1 | u8::from(fresh) << 2);
        let (start, of_it) = match self.start {
            Start::Latest => (0, 0),
            Start::Earliest => (1, 0),
            Start::Sequence(sequence) => (2, sequence),
            Start::Time(time) => (3, time),
        };
        out.put_u8(start);
        out.put_u64_le(of_it);
        let (filter, tags): (u8, &[String]) = match &self.filter {
            TagFilter::All => (0, &[]),
            TagFilter::Any(tags) => (1, tags),
            TagFilter::Every(tags) => (2, tags),
        };
        out.put_u8(filter);
        out.put_u8(tags.len().min(TAGS_MAX) as u8);
        for tag in tags.iter().take(TAGS_MAX) {
            put::short(out, tag);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let subject = reader.short("a subject")?;
        let group = reader.short("a group")?;
        let consumer = reader.short("a consumer")?;
        let session = reader.u64("a session")?;
        let flags = reader.u8("flags")?;
        let start = reader.u8("a start")?;
        let of_it = reader.u64("a start")?;
        let start = match start {
            0 => Start::Latest,
            1 => Start::Earliest,
            2 => Start::Sequence(of_it),
            3 => Start::Time(of_it),
            other => {
                return Err(WireError::Value {
                    what: "start",
                    value: u64::from(other),
                });
            }
        };
        let filter = reader.u8("a filter")?;
        let count = reader.u8("a filter")?;
        if usize::from(count) > TAGS_MAX {
            return Err(WireError::TooMany {
                what: "tags of a filter",
                value: u64::from(count),
                max: TAGS_MAX as u64,
            });
        }
        let mut tags = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            tags.push(reader.short("a tag")?);
        }
        let filter = match filter {
            0 if tags.is_empty() => TagFilter::All,
            1 => TagFilter::Any(tags),
            2 => TagFilter::Every(tags),
            other => {
                return Err(WireError::Value {
                    what: "filter",
                    value: u64::from(other),
                });
            }
        };
        Ok(Self {
            subject,
            group,
            consumer,
            session,
            flags: FlowFlags {
                broadcast: flags & 1 != 0,
                at_most_once: flags & 2 != 0,
                fresh: flags & 4 != 0,
            },
            start,
            filter,
        })
    }
}

/// Opens a subscription: the first frame of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Who and what.
    pub flow: Flow,
    /// What may be delivered at once.
    pub credit: Credit,
}

impl Subscribe {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Subscribe, |out| {
            self.flow.put(out);
            self.credit.put(out);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`]. Names are not looked at.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let flow = Flow::read(reader)?;
        let credit = Credit::read(reader)?;
        fields::read(reader, |field| field.unknown())?;
        Ok(Self { flow, credit })
    }
}

/// The answer to a [`Subscribe`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Incarnation of the store. What was delivered under another one comes again if it is still held.
    pub incarnation: u32,
    /// Whether the broker knew this session: then it has delivered again what the consumer holds.
    pub resumed: bool,
}

impl Subscribed {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Subscribed, |out| {
            out.put_u32_le(self.incarnation);
            fields::put_bytes(out, 1, &[u8::from(self.resumed)]);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut subscribed = Self {
            incarnation: reader.u32("SUBSCRIBED")?,
            resumed: false,
        };
        fields::read(reader, |field| {
            match field.id() {
                1 => subscribed.resumed = field.u8("resumed")? != 0,
                _ => field.unknown()?,
            }
            Ok(())
        })?;
        Ok(subscribed)
    }
}

/// Asks for messages once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Number of the request.
    pub number: u32,
    /// How long to wait for the first message, in ms.
    pub wait_ms: u32,
    /// Most messages.
    pub messages: u32,
    /// Most bytes of attributes and bodies; one message comes whatever its size.
    pub bytes: u32,
    /// Who and what.
    pub flow: Flow,
}

impl Pull {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Pull, |out| {
            out.put_u32_le(self.number);
            out.put_u32_le(self.wait_ms);
            out.put_u32_le(self.messages);
            out.put_u32_le(self.bytes);
            self.flow.put(out);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`]. Names are not looked at.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let pull = Self {
            number: reader.u32("PULL")?,
            wait_ms: reader.u32("PULL")?,
            messages: reader.u32("PULL")?,
            bytes: reader.u32("PULL")?,
            flow: Flow::read(reader)?,
        };
        fields::read(reader, |field| field.unknown())?;
        Ok(pull)
    }
}

/// So many more messages and bytes may be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Messages.
    pub messages: u32,
    /// Bytes of attributes and bodies. One message is delivered as long as any are left, whatever its size.
    pub bytes: u64,
}

impl Credit {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(self.messages);
        out.put_u64_le(self.bytes);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            messages: reader.u32("credit")?,
            bytes: reader.u64("credit")?,
        })
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Credit, |out| self.put(out));
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let credit = Self::read(reader)?;
        reader.end("CREDIT")?;
        Ok(credit)
    }
}

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
    /// Pull sequences.
    pub ranges: Vec<AckRange>,
}

impl Nack {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Nack, |out| {
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

/// A subscription ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why; `None`: all is well. A consumer that says so goes for good, and what it holds is the others' at once.
    pub code: Option<Code>,
    /// Why, for a person.
    pub text: String,
}

impl End {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::End, |out| {
            out.put_u16_le(self.code.map_or(0, Code::number));
            put::text(out, &self.text);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let code = reader.u16("END")?;
        let end = Self {
            code: (code != 0).then(|| Code::from_number(code)),
            text: reader.text("END")?,
        };
        reader.end("END")?;
        Ok(end)
    }
}
