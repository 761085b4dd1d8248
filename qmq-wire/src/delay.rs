//! What a delay server answers, and is asked. Messages come to it as PRODUCE; each must have a due time.
//!
//! ```text
//! SCHEDULED 0 u32  number of the request
//!           4 u32  accepted messages, and for each: u32 index in the request, 16 bytes id
//!             u32  refused messages, as in PRODUCED
//! ```

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use crate::BATCH_MESSAGES_MAX;
use crate::error::WireError;
use crate::frame::{Kind, put_frame};
use crate::pieces::Reader;
use crate::produce::{Refused, put_refused, read_refused};

/// What became of a PRODUCE at a delay server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// Number of the request.
    pub number: u32,
    /// Messages that wait for their time, at the durability that was asked for.
    pub accepted: Vec<AcceptedDelay>,
    /// Messages that do not.
    pub refused: Vec<Refused>,
}

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedDelay {
    /// Its index in the request.
    pub index: u32,
    /// Its id, of which only its delay server makes sense.
    pub id: [u8; 16],
}

impl Scheduled {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Scheduled, |out| {
            out.put_u32_le(self.number);
            out.put_u32_le(self.accepted.len() as u32);
            for one in &self.accepted {
                out.put_u32_le(one.index);
                out.put_slice(&one.id);
            }
            put_refused(out, &self.refused);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let number = reader.u32("SCHEDULED")?;
        let count = reader.count("accepted messages", BATCH_MESSAGES_MAX, 20)?;
        let mut accepted = Vec::with_capacity(count);
        for _ in 0..count {
            let index = reader.u32("an accepted message")?;
            let id = reader.u128("an accepted message")?.to_le_bytes();
            accepted.push(AcceptedDelay { index, id });
        }
        let refused = read_refused(reader)?;
        reader.end("SCHEDULED")?;
        Ok(Self {
            number,
            accepted,
            refused,
        })
    }
}

/// What a delay server is asked about what waits in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DelayRequest {
    /// Do not deliver it.
    Cancel {
        /// Its id.
        id: [u8; 16],
    },
    /// Deliver it at another time.
    Reschedule {
        /// Its id.
        id: [u8; 16],
        /// When, in ms since 1970 UTC.
        due_ms: u64,
    },
    /// How is it?
    Get {
        /// Its id.
        id: [u8; 16],
    },
    /// What waits, in the order of due times?
    List {
        /// Only this subject; empty: all.
        subject: String,
        /// From this due time on, in ms since 1970 UTC.
        from_ms: u64,
        /// Where the page before ended; empty: at the beginning.
        after: Vec<u8>,
        /// Most messages.
        max: u32,
    },
    /// What did brokers refuse for good?
    DeadLetters {
        /// Behind this number; 0: from the beginning.
        after: u64,
        /// Most messages.
        max: u32,
    },
    /// Gives dead letters to their brokers again.
    RetryDeadLetters {
        /// Numbers; empty: all.
        numbers: Vec<u64>,
    },
    /// Forgets dead letters.
    DropDeadLetters {
        /// Numbers; empty: all.
        numbers: Vec<u64>,
    },
}

/// The answer to a [`DelayRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DelayResponse {
    /// To a cancel or reschedule.
    Changed(DelayOutcome),
    /// To [`DelayRequest::Get`].
    Message(Option<DelayedMessage>),
    /// To [`DelayRequest::List`].
    Page {
        /// Messages.
        messages: Vec<DelayedMessage>,
        /// What to ask for the next page with; empty: this is the last.
        next: Vec<u8>,
    },
    /// To [`DelayRequest::DeadLetters`].
    DeadLetters {
        /// The letters.
        letters: Vec<DeadLetter>,
        /// How many there are in all.
        total: u64,
        /// How many were forgotten because there were too many.
        forgotten: u64,
    },
    /// To those that change dead letters: how many.
    Done(u64),
}

/// What became of a cancel or reschedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DelayOutcome {
    /// Done, now or before.
    Done,
    /// Too late: it has been handed out.
    Fired,
    /// Of a reschedule: it had been cancelled.
    Cancelled,
    /// There is no such message here.
    Unknown,
}

/// A message that waits, or has waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedMessage {
    /// Its id.
    pub id: [u8; 16],
    /// Its subject.
    pub subject: String,
    /// Its due time, in ms since 1970 UTC.
    pub due_ms: u64,
    /// Length of its body in bytes.
    pub body_bytes: u32,
    /// In one word: `pending`, or `fired` once it is handed out.
    pub standing: String,
}

/// A message that brokers refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: [u8; 16],
    /// Its subject.
    pub subject: String,
    /// When it was due, in ms since 1970 UTC.
    pub due_ms: u64,
    /// When it was refused, in ms since 1970 UTC.
    pub refused_ms: u64,
    /// Why.
    pub reason: String,
}
