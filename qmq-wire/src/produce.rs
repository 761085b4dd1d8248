//! Messages in.
//!
//! ```text
//! PRODUCE   0 u32  number of the request
//!           4 u32  deadline in ms, 0: none; a broker that comes to it later drops it and says so
//!           8 u8   durability: 0 as configured, 1 buffered, 2 synced, 3 replicated
//!           9 u8   flags: bit 0 ordered
//!          10 u16  reserved, 0
//!          12 u128 producer
//!          28 u64  number of the first message; the others count up from it
//!          36 u32  count, 10,000 at most
//!          40      and for each:
//!             u16 subject_len, 0: the subject of the message before
//!             u16 attributes_len
//!             u32 body_len
//!             subject, attributes (as in docs/format.md), body
//!
//! PRODUCED  0 u32  number of the request
//!           4 u32  runs of accepted messages, and for each: u32 index of its first in the request, u32 length, u64 sequence of its first
//!             u32  refused messages, and for each: u32 index, u16 code, u16 length and text (empty: as of the one before, if that has the same code)
//! ```

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use qmq_message::SUBJECT_BYTES_MAX;

use crate::error::WireError;
use crate::frame::{Kind, put_frame, put_header};
use crate::pieces::Reader;
use crate::refusal::Code;
use crate::{BATCH_MESSAGES_MAX, Durability, put};

const HEADER_LEN: u32 = 40;
const MESSAGE_HEADER_LEN: usize = 8;
const FLAG_ORDERED: u8 = 1;

/// What a [`Produce`] says before its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProduceHeader {
    /// Number of the request in its stream.
    pub number: u32,
    /// How long the producer waits, in ms; 0: as long as it takes.
    pub deadline_ms: u32,
    /// What the messages must survive before the answer.
    pub durability: Durability,
    /// Whether each must follow the one before: a broker refuses what comes after a gap.
    pub ordered: bool,
    /// The producer, chosen at random by each process. 0: numbers mean nothing, repeats are not detected.
    pub producer: u128,
    /// Number of the first message. A repeat carries the number of the first try.
    pub first: u64,
}

/// A request to append messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produce {
    /// Who sends, and how.
    pub header: ProduceHeader,
    /// The messages.
    pub messages: Vec<Incoming>,
    /// Bodies, in the pieces in which they came.
    pub pieces: Vec<Bytes>,
}

/// A message of a [`Produce`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its subject: 1 to 255 bytes, not checked otherwise.
    pub subject: Bytes,
    /// Its attributes, encoded, not checked.
    pub attributes: Bytes,
    /// Where its body is in [`Produce::pieces`].
    pub body: Range<usize>,
    /// Length of its body in bytes.
    pub body_len: u32,
}

impl Produce {
    /// Reads the payload. Bodies are shared with it.
    ///
    /// # Errors
    /// [`WireError`]. Names and attributes are not looked at: one bad message is refused, not the frame.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let number = reader.u32("PRODUCE")?;
        let deadline_ms = reader.u32("PRODUCE")?;
        let durability = Durability::from_byte(reader.u8("PRODUCE")?)?;
        let flags = reader.u8("PRODUCE")?;
        reader.u16("PRODUCE")?;
        let header = ProduceHeader {
            number,
            deadline_ms,
            durability,
            ordered: flags & FLAG_ORDERED != 0,
            producer: reader.u128("PRODUCE")?,
            first: reader.u64("PRODUCE")?,
        };
        let count = reader.count(
            "messages of PRODUCE",
            BATCH_MESSAGES_MAX,
            MESSAGE_HEADER_LEN,
        )?;
        let mut messages: Vec<Incoming> = Vec::with_capacity(count);
        let mut pieces = Vec::with_capacity(count);
        for _ in 0..count {
            let subject_len = usize::from(reader.u16("a message")?);
            let attributes_len = usize::from(reader.u16("a message")?);
            let body_len = reader.u32("a message")?;
            if subject_len > SUBJECT_BYTES_MAX {
                return Err(WireError::TooMany {
                    what: "bytes of a subject",
                    value: subject_len as u64,
                    max: SUBJECT_BYTES_MAX as u64,
                });
            }
            let subject = match (subject_len, messages.last()) {
                (0, Some(before)) => before.subject.clone(),
                (0, None) => {
                    return Err(WireError::Missing {
                        what: "subject of the first message",
                    });
                }
                (len, _) => reader.bytes(len, "a subject")?,
            };
            let attributes = reader.bytes(attributes_len, "attributes")?;
            let start = pieces.len();
            reader.share(body_len as usize, &mut pieces, "a body")?;
            messages.push(Incoming {
                subject,
                attributes,
                body: start..pieces.len(),
                body_len,
            });
        }
        reader.end("PRODUCE")?;
        Ok(Self {
            header,
            messages,
            pieces,
        })
    }

    /// The body of a message, in pieces.
    #[must_use]
    pub fn body(&self, message: &Incoming) -> &[Bytes] {
        self.pieces.get(message.body.clone()).unwrap_or_default()
    }
}

/// Appends the beginning of a PRODUCE frame: `messages_bytes` bytes of `count` messages must follow.
pub fn put_produce_header(
    out: &mut BytesMut,
    header: &ProduceHeader,
    count: u32,
    messages_bytes: u32,
) {
    put_header(out, Kind::Produce, HEADER_LEN + messages_bytes);
    out.put_u32_le(header.number);
    out.put_u32_le(header.deadline_ms);
    out.put_u8(header.durability as u8);
    out.put_u8(if header.ordered { FLAG_ORDERED } else { 0 });
    out.put_u16_le(0);
    out.put_u128_le(header.producer);
    out.put_u64_le(header.first);
    out.put_u32_le(count);
}

/// Appends a message without its body, whose `body_len` bytes must follow. `attributes` are encoded as `qmq_message::attributes` does; `subject`
/// is empty if it is that of the message before.
pub fn put_message(out: &mut BytesMut, subject: &str, attributes: &[u8], body_len: u32) {
    out.put_u16_le(u16::try_from(subject.len()).unwrap_or(u16::MAX));
    out.put_u16_le(u16::try_from(attributes.len()).unwrap_or(u16::MAX));
    out.put_u32_le(body_len);
    out.put_slice(subject.as_bytes());
    out.put_slice(attributes);
}

/// Bytes that [`put_message`] appends, with the body behind them.
#[must_use]
pub fn message_len(subject: &str, attributes: &[u8], body_len: u32) -> usize {
    MESSAGE_HEADER_LEN + subject.len() + attributes.len() + body_len as usize
}

/// What became of a [`Produce`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    /// Number of the request.
    pub number: u32,
    /// Messages that are in the log, at the durability that was asked for.
    pub accepted: Vec<Accepted>,
    /// Messages that are not.
    pub refused: Vec<Refused>,
}

/// A run of messages that were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Index of the first in the request.
    pub index: u32,
    /// How many.
    pub len: u32,
    /// Sequence of the first in its subject; the others count up from it.
    pub sequence: u64,
}

/// A message that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its index in the request.
    pub index: u32,
    /// Why.
    pub code: Code,
    /// Why, for a person. In a frame an empty one behind a refusal of the same code is that one's.
    pub text: String,
}

impl Refused {
    fn says_the_same(&self, other: &Self) -> bool {
        self.code == other.code && self.text == other.text
    }
}

impl Produced {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Produced, |out| {
            out.put_u32_le(self.number);
            out.put_u32_le(self.accepted.len() as u32);
            for run in &self.accepted {
                out.put_u32_le(run.index);
                out.put_u32_le(run.len);
                out.put_u64_le(run.sequence);
            }
            put_refused(out, &self.refused);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let number = reader.u32("PRODUCED")?;
        let count = reader.count("accepted runs", BATCH_MESSAGES_MAX, 16)?;
        let mut accepted = Vec::with_capacity(count);
        for _ in 0..count {
            accepted.push(Accepted {
                index: reader.u32("a run")?,
                len: reader.u32("a run")?,
                sequence: reader.u64("a run")?,
            });
        }
        let refused = read_refused(reader)?;
        reader.end("PRODUCED")?;
        Ok(Self {
            number,
            accepted,
            refused,
        })
    }
}

/// Appends what was refused: a count, and each.
pub(crate) fn put_refused(out: &mut BytesMut, refused: &[Refused]) {
    out.put_u32_le(refused.len() as u32);
    let mut before: Option<&Refused> = None;
    for refused in refused {
        out.put_u32_le(refused.index);
        out.put_u16_le(refused.code.number());
        // Many are often refused for one reason: an answer must not be longer than the request.
        let same = before.is_some_and(|before| before.says_the_same(refused));
        put::text(out, if same { "" } else { &refused.text });
        before = Some(refused);
    }
}

/// Reads what [`put_refused`] wrote.
pub(crate) fn read_refused(reader: &mut Reader<'_>) -> Result<Vec<Refused>, WireError> {
    let count = reader.count("refused messages", BATCH_MESSAGES_MAX, 8)?;
    let mut refused = Vec::with_capacity(count);
    for _ in 0..count {
        let mut one = Refused {
            index: reader.u32("a refusal")?,
            code: Code::from_number(reader.u16("a refusal")?),
            text: reader.text("a refusal")?,
        };
        let before: Option<&Refused> = refused.last();
        if let Some(before) = before.filter(|before| before.code == one.code)
            && one.text.is_empty()
        {
            one.text.clone_from(&before.text);
        }
        refused.push(one);
    }
    Ok(refused)
}
