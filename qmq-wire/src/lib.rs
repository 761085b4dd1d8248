//! The native protocol of qmq: requests, responses and their bytes, without I/O.
//!
//! Bytes in, bytes out: a [`FrameBuffer`] takes what a stream brought and gives whole [`Frame`]s; each kind of frame has a type with `encode` and
//! `decode`. Nothing here knows of sockets, of time or of a runtime, so that clients and servers, and tests of both, share it.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use qmq_wire::{Credit, FrameBuffer, Kind};
//!
//! let mut out = BytesMut::new();
//! Credit { messages: 100, bytes: 1 << 20 }.encode(&mut out);
//!
//! let mut arrived = FrameBuffer::new(1 << 20);
//! arrived.push(out.freeze());
//! let frame = arrived.next()?.ok_or("not whole yet")?;
//! assert_eq!(frame.kind, Kind::Credit as u8);
//! assert_eq!(Credit::decode(&mut frame.reader())?.messages, 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `docs/protocol.md` has it byte by byte, for those who write a client in another language.
//!
//! # Rules
//!
//! * A frame says its length first; a receiver refuses what is above its limit before it makes room for it. Every count and length inside is checked
//!   against the bytes that are there before anything is allocated.
//! * Times are durations, never clock times: two machines' clocks do not agree. (A message's own times are data.)
//! * Optional fields that a receiver does not know are skipped, requests that it does not know are answered with [`Refusal`].
//!
//! | module | what it is about |
//! |---|---|
//! | `frame`, `pieces`, `put`, `fields` | frames from bytes that come in pieces; reading, writing, optional fields |
//! | `hello` | who is there, what both speak, and the limits |
//! | `produce` | messages in, and what became of each |
//! | `consume` | subscriptions, pulls, credit, deliveries, acks |
//! | `delay` | what a delay server answers, and is asked |
//! | `meta` | what is said to a meta server: routes, and who lives |
//! | `control` | what operators ask; the one place that uses `bincode` |
//! | `refusal` | why not, and whether to try again; why a connection ends |

mod consume;
mod control;
mod delay;
mod error;
mod fields;
mod frame;
mod hello;
mod meta;
mod pieces;
mod produce;
mod put;
mod refusal;

pub use consume::{
    Ack, AckRange, Acked, Credit, DELIVERED_HEADER_LEN, DELIVERY_HEADER_LEN, Delivered, Delivery,
    End, Flow, FlowFlags, Nack, Pull, Renew, Start, Subscribe, Subscribed, put_delivered_header,
    put_delivery_header,
};
pub use control::{
    CONTROL_BYTES_MAX, ConsumerStatus, ControlRequest, ControlResponse, Controlled, GroupStatus,
    NodeStatus, ResetTo, SubjectStatus,
};
pub use delay::{
    AcceptedDelay, DeadLetter, DelayOutcome, DelayRequest, DelayResponse, DelayedMessage, Scheduled,
};
pub use error::WireError;
pub use frame::{FRAME_HEADER_LEN, Frame, FrameBuffer, Kind, LEAST_FRAME_BYTES_MAX, put_frame};
pub use hello::{Hello, Limits, Role, Token, VERSION_MAX, VERSION_MIN, features};
pub use meta::{
    Acquire, Acquired, Claim, Interest, NodeRole, Presence, Purpose, Register, Registered, Route,
    RouteGroup, Unwatch,
};
pub use pieces::Reader;
pub use produce::{
    Accepted, Incoming, Produce, ProduceHeader, Produced, Refused, message_len, put_message,
    put_produce_header,
};
pub use refusal::{CloseCode, Code, Refusal, Retry};

/// The ALPN name of the protocol.
pub const ALPN: &[u8] = b"qmq/1";

/// Most messages in one frame.
pub const BATCH_MESSAGES_MAX: u32 = 10_000;

/// What an append, an ack or a nack must survive before it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// What the broker is configured for (`flush.mode`); for acks and nacks, buffered.
    #[default]
    Default = 0,
    /// The death of the broker's process.
    Buffered = 1,
    /// A loss of power.
    Synced = 2,
    /// The loss of the machine.
    Replicated = 3,
}

impl Durability {
    /// From its byte.
    pub(crate) fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            0 => Self::Default,
            1 => Self::Buffered,
            2 => Self::Synced,
            3 => Self::Replicated,
            other => {
                return Err(WireError::Value {
                    what: "durability",
                    value: u64::from(other),
                });
            }
        })
    }
}
