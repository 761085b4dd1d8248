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
//! Bit 0 of the frame's flags in NACK and in an END with code 0: nobody has looked at these messages, so that no attempt is counted.
//!
//! In a request stream ACK, NACK and RENEW have `who` before them; in a subscription's stream they do not.

mod delivery;
mod settle;

use bytes::{BufMut, BytesMut};
use qmq_message::{TAGS_MAX, TagFilter};

pub use delivery::{
    DELIVERED_HEADER_LEN, DELIVERY_HEADER_LEN, Delivered, Delivery, put_delivered_header,
    put_delivery_header,
};
pub use settle::{Ack, AckRange, Acked, Nack, Renew};

use crate::error::WireError;
use crate::fields;
use crate::frame::{Kind, UNSEEN, put_flagged, put_frame};
use crate::pieces::Reader;
use crate::put;
use crate::refusal::Code;

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
    /// The subject is not made: without it the answer is [`crate::Code::UnknownSubject`].
    pub existing: bool,
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
            existing,
        } = self.flags;
        let first = u8::from(broadcast) | u8::from(at_most_once) << 1;
        out.put_u8(first | u8::from(fresh) << 2 | u8::from(existing) << 3);
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
                existing: flags & 8 != 0,
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

/// A subscription ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why; `None`: all is well. A consumer that says so goes for good, and what it holds is the others' at once.
    pub code: Option<Code>,
    /// Why, for a person.
    pub text: String,
    /// Of a consumer that goes for good: nobody has looked at what it still holds, and no attempt is counted.
    pub unseen: bool,
}

impl End {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let flags = if self.unseen { UNSEEN } else { 0 };
        put_flagged(out, Kind::End, flags, |out| {
            out.put_u16_le(self.code.map_or(0, Code::number));
            put::text(out, &self.text);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let unseen = reader.flags() & UNSEEN != 0;
        let code = reader.u16("END")?;
        let end = Self {
            code: (code != 0).then(|| Code::from_number(code)),
            text: reader.text("END")?,
            unseen,
        };
        reader.end("END")?;
        Ok(end)
    }
}
