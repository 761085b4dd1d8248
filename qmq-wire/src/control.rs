//! What operators ask of a node. The payloads are `bincode` 2's with integers of fixed length, limited in size: the one place that uses it.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::{BufMut, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::delay::{DelayRequest, DelayResponse};
use crate::error::WireError;
use crate::frame::{Kind, put_frame};
use crate::meta::{Acquire, Acquired, Register, Registered, RouteGroup};
use crate::pieces::Reader;

/// Longest control payload in bytes, its number not counted.
pub const CONTROL_BYTES_MAX: usize = 16 << 20;

fn configuration<const MAX: usize>() -> Configuration<LittleEndian, Fixint, Limit<MAX>> {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_limit()
}

/// A question or command, with the number of its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ControlRequest {
    /// How is the node?
    Status,
    /// How are subjects, from the one after `after` on, in the order of their names?
    Subjects {
        /// A pattern with `*`; empty: all.
        pattern: String,
        /// The last name that is known already; empty: from the beginning.
        after: String,
        /// Most subjects.
        max: u32,
    },
    /// Lets a group go on at another place.
    Reset {
        /// Subject.
        subject: String,
        /// Group.
        group: String,
        /// Where.
        to: ResetTo,
    },
    /// Deletes a group.
    DropGroup {
        /// Subject.
        subject: String,
        /// Group.
        group: String,
    },
    /// Of a meta server: what am I?
    Acquire(Acquire),
    /// To a meta server: how I am.
    Register(Register),
    /// Of a delay server.
    Delay(DelayRequest),
    /// Of a meta server: where is the master of the broker group of that name, of brokers or of delay servers?
    FindGroup {
        /// Its name.
        name: String,
    },
}

/// Where a group goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetTo {
    /// At the oldest message kept.
    Earliest,
    /// Behind the newest message.
    Latest,
    /// At this sequence, or the nearest kept.
    Sequence(u64),
    /// At the first message whose record time is not before this, in ms since 1970 UTC.
    Time(u64),
}

/// The answer to a [`ControlRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ControlResponse {
    /// To [`ControlRequest::Status`].
    Status(NodeStatus),
    /// To [`ControlRequest::Subjects`].
    Subjects(Vec<SubjectStatus>),
    /// To [`ControlRequest::Reset`]: the sequence that comes next.
    Reset(u64),
    /// To [`ControlRequest::DropGroup`].
    Dropped,
    /// To [`ControlRequest::Acquire`].
    Acquired(Acquired),
    /// To [`ControlRequest::Register`].
    Registered(Registered),
    /// To [`ControlRequest::Delay`].
    Delay(DelayResponse),
    /// To [`ControlRequest::FindGroup`]; `None`: there is no such group, or it has no master.
    Group(Option<RouteGroup>),
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// Its broker group.
    pub group: String,
    /// Version of the program.
    pub version: String,
    /// For how long it has run, in ms.
    pub uptime_ms: u64,
    /// Open connections.
    pub connections: u64,
    /// Open subscriptions.
    pub subscriptions: u64,
    /// Subjects.
    pub subjects: u64,
    /// Bytes of the log that are kept.
    pub log_bytes: u64,
    /// Bytes written and not synced.
    pub unsynced_bytes: u64,
    /// Free bytes of the disk.
    pub free_bytes: u64,
    /// Messages taken since the start.
    pub produced: u64,
    /// Messages handed out since the start.
    pub delivered: u64,
    /// Messages acknowledged since the start.
    pub acked: u64,
    /// Whether it is shutting down.
    pub draining: bool,
    /// What keeps it from taking messages; empty: nothing.
    pub trouble: String,
}

/// A subject of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectStatus {
    /// Its name.
    pub subject: String,
    /// Sequence of the oldest message kept.
    pub first_sequence: u64,
    /// Sequence of the next message.
    pub next_sequence: u64,
    /// Its groups.
    pub groups: Vec<GroupStatus>,
}

/// A group on a subject; of a broadcast group, the part of one consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub group: String,
    /// Whether every consumer gets every message.
    pub broadcast: bool,
    /// Next message to be handed out for the first time.
    pub cursor: u64,
    /// Messages not handed out yet.
    pub lag: u64,
    /// Messages handed out and not settled.
    pub unacked: u64,
    /// Messages that wait to be handed out again.
    pub waiting: u64,
    /// Messages that retention took before they were acknowledged.
    pub skipped: u64,
    /// Its consumers.
    pub consumers: Vec<ConsumerStatus>,
}

/// A consumer of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerStatus {
    /// Its name.
    pub consumer: String,
    /// Messages that it holds.
    pub unacked: u64,
    /// Whether it is connected.
    pub online: bool,
}

impl ControlRequest {
    /// Appends the frame.
    ///
    /// # Errors
    /// [`WireError::TooMany`] if it is too long.
    pub fn encode(&self, number: u32, out: &mut BytesMut) -> Result<(), WireError> {
        put_control(out, Kind::Control, number, self)
    }

    /// Reads the payload: number and request.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<(u32, Self), WireError> {
        Ok((reader.u32("CONTROL")?, read_control(reader)?))
    }
}

/// The answer to a control request, with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controlled {
    /// Number of the request.
    pub number: u32,
    /// The answer.
    pub response: ControlResponse,
}

impl Controlled {
    /// Appends the frame.
    ///
    /// # Errors
    /// [`WireError::TooMany`] if it is too long.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), WireError> {
        put_control(out, Kind::Controlled, self.number, &self.response)
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            number: reader.u32("CONTROLLED")?,
            response: read_control(reader)?,
        })
    }
}

pub(crate) fn put_control(
    out: &mut BytesMut,
    kind: Kind,
    number: u32,
    payload: &impl Serialize,
) -> Result<(), WireError> {
    let encoded = bincode::serde::encode_to_vec(payload, configuration::<CONTROL_BYTES_MAX>())
        .map_err(|error| WireError::Control(error.to_string()))?;
    check_len(encoded.len())?;
    put_frame(out, kind, |out| {
        out.put_u32_le(number);
        out.put_slice(&encoded);
    });
    Ok(())
}

pub(crate) fn read_control<T: DeserializeOwned>(reader: &mut Reader<'_>) -> Result<T, WireError> {
    check_len(reader.remaining())?;
    let payload = reader.bytes(reader.remaining(), "a control payload")?;
    // Room is made for what a text claims to have, up to the limit, before its bytes are looked for: so the limit follows what is there.
    match payload.len() {
        0..=0x1000 => decode::<T, 0x1000>(&payload),
        0x1001..=0x4_0000 => decode::<T, 0x4_0000>(&payload),
        _ => decode::<T, CONTROL_BYTES_MAX>(&payload),
    }
}

fn decode<T: DeserializeOwned, const MAX: usize>(payload: &[u8]) -> Result<T, WireError> {
    let (value, read) = bincode::serde::decode_from_slice(payload, configuration::<MAX>())
        .map_err(|error| WireError::Control(error.to_string()))?;
    if read == payload.len() {
        Ok(value)
    } else {
        Err(WireError::Trailing {
            what: "a control payload",
            bytes: payload.len() - read,
        })
    }
}

fn check_len(bytes: usize) -> Result<(), WireError> {
    if bytes <= CONTROL_BYTES_MAX {
        Ok(())
    } else {
        Err(WireError::TooMany {
            what: "bytes of a control payload",
            value: bytes as u64,
            max: CONTROL_BYTES_MAX as u64,
        })
    }
}
