//! HELLO: the first frame in both directions of a connection's first stream.
//!
//! ```text
//! 0 4 bytes "QMQH"
//! 4 u16 oldest version spoken (in the answer: the version chosen)
//! 6 u16 newest version spoken (in the answer: the same)
//! 8 u64 features
//! 16    fields
//! ```

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::error::WireError;
use crate::fields;
use crate::frame::{Kind, put_frame};
use crate::pieces::Reader;

/// Oldest version of the protocol spoken here.
pub const VERSION_MIN: u16 = 1;
/// Newest version of the protocol spoken here.
pub const VERSION_MAX: u16 = 1;

const MAGIC: [u8; 4] = *b"QMQH";

/// Bits of [`Hello::features`]. What one side does not set the other does not use.
pub mod features {
    /// Takes [`Produce`](crate::Produce).
    pub const PRODUCE: u64 = 1;
    /// Takes [`Subscribe`](crate::Subscribe) and [`Pull`](crate::Pull).
    pub const CONSUME: u64 = 2;
    /// Takes [`ControlRequest`](crate::ControlRequest).
    pub const CONTROL: u64 = 4;
    /// Takes [`Produce`](crate::Produce) with due times, and answers [`Scheduled`](crate::Scheduled).
    pub const SCHEDULE: u64 = 8;
    /// Takes [`Interest`](crate::Interest).
    pub const ROUTES: u64 = 16;
}

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// A producer, consumer or tool.
    #[default]
    Client = 0,
    /// A broker that takes messages.
    Master = 1,
    /// A copy of a master.
    Slave = 2,
    /// A delay server.
    Delay = 3,
    /// A meta server.
    Meta = 4,
}

/// What a node takes. 0: it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest payload of a frame, in bytes.
    pub frame_bytes_max: u32,
    /// Longest body of a message, in bytes.
    pub body_bytes_max: u32,
    /// Most messages of one request.
    pub batch_messages_max: u32,
    /// Most streams that the other end may have open at a time.
    pub streams_max: u32,
    /// For how long a consumer whose connection is lost keeps what it holds, in ms.
    pub session_timeout_ms: u32,
    /// For how long a consumer keeps a message without renewing it, in ms.
    pub ack_timeout_ms: u32,
    /// Longest delay of a nack, in ms.
    pub nack_ms_max: u32,
    /// How many numbers of a producer are remembered.
    pub dedup_window: u32,
    /// How often a group gets a message before it is a dead letter, as the connection began.
    pub attempts_max: u32,
}

/// A secret that no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Oldest version spoken; in the answer the version chosen.
    pub version_min: u16,
    /// Newest version spoken; in the answer the same.
    pub version_max: u16,
    /// See [`features`].
    pub features: u64,
    /// Name of the node: of a broker its `broker.name`, of a client the host or what the application says. Empty: not said.
    pub node: String,
    /// Broker group of the node, or empty.
    pub group: String,
    /// What the node is.
    pub role: Role,
    /// Epoch of a master; 0 if it is none, or the only one.
    pub epoch: u64,
    /// Incarnation of a broker's store; what was delivered under another one is acknowledged in vain.
    pub incarnation: u32,
    /// What it takes.
    pub limits: Limits,
    /// Of a client: the node that it means to have reached. Empty: any.
    pub expected_node: String,
    /// Of a client: the broker group that it means to have reached. Empty: any.
    pub expected_group: String,
    /// Of a client: its token. Empty: none.
    pub token: Token,
    /// Program and version, for logs.
    pub agent: String,
}

impl Hello {
    /// A HELLO of this crate's versions.
    #[must_use]
    pub fn new(role: Role, agent: &str) -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            role,
            agent: agent.to_owned(),
            ..Self::default()
        }
    }

    /// The newest version that both ends speak.
    #[must_use]
    pub fn common_version(&self, other: &Self) -> Option<u16> {
        let newest = self.version_max.min(other.version_max);
        (newest >= self.version_min.max(other.version_min)).then_some(newest)
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Hello, |out| {
            out.put_slice(&MAGIC);
            out.put_u16_le(self.version_min);
            out.put_u16_le(self.version_max);
            out.put_u64_le(self.features);
            fields::put_bytes(out, 3, &[self.role as u8]);
            let texts = [
                (1, &self.node),
                (2, &self.group),
                (16, &self.expected_node),
                (17, &self.expected_group),
                (18, &self.token.0),
                (19, &self.agent),
            ];
            for (id, text) in texts {
                if !text.is_empty() {
                    fields::put_text(out, id, text);
                }
            }
            if self.epoch != 0 {
                fields::put_u64(out, 4, self.epoch);
            }
            let limits = &self.limits;
            let numbers = [
                (5, self.incarnation),
                (6, limits.frame_bytes_max),
                (7, limits.body_bytes_max),
                (8, limits.batch_messages_max),
                (9, limits.streams_max),
                (10, limits.session_timeout_ms),
                (11, limits.ack_timeout_ms),
                (12, limits.nack_ms_max),
                (13, limits.dedup_window),
                (14, limits.attempts_max),
            ];
            for (id, number) in numbers {
                if number != 0 {
                    fields::put_u32(out, id, number);
                }
            }
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError::NoHello`], and all others of a payload.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let magic = reader.u32("HELLO").map_err(|_| WireError::NoHello)?;
        if magic.to_le_bytes() != MAGIC {
            return Err(WireError::NoHello);
        }
        let mut hello = Self {
            version_min: reader.u16("HELLO's oldest version")?,
            version_max: reader.u16("HELLO's newest version")?,
            features: reader.u64("HELLO's features")?,
            ..Self::default()
        };
        fields::read(reader, |field| {
            match field.id() {
                1 => hello.node = field.text("node")?,
                2 => hello.group = field.text("group")?,
                3 => hello.role = role(field.u8("role")?)?,
                4 => hello.epoch = field.u64("epoch")?,
                5 => hello.incarnation = field.u32("incarnation")?,
                6 => hello.limits.frame_bytes_max = field.u32("frame_bytes_max")?,
                7 => hello.limits.body_bytes_max = field.u32("body_bytes_max")?,
                8 => hello.limits.batch_messages_max = field.u32("batch_messages_max")?,
                9 => hello.limits.streams_max = field.u32("streams_max")?,
                10 => hello.limits.session_timeout_ms = field.u32("session_timeout_ms")?,
                11 => hello.limits.ack_timeout_ms = field.u32("ack_timeout_ms")?,
                12 => hello.limits.nack_ms_max = field.u32("nack_ms_max")?,
                13 => hello.limits.dedup_window = field.u32("dedup_window")?,
                14 => hello.limits.attempts_max = field.u32("attempts_max")?,
                16 => hello.expected_node = field.text("expected node")?,
                17 => hello.expected_group = field.text("expected group")?,
                18 => hello.token = Token(field.text("token")?),
                19 => hello.agent = field.text("agent")?,
                _ => field.unknown()?,
            }
            Ok(())
        })?;
        Ok(hello)
    }
}

fn role(byte: u8) -> Result<Role, WireError> {
    Ok(match byte {
        0 => Role::Client,
        1 => Role::Master,
        2 => Role::Slave,
        3 => Role::Delay,
        4 => Role::Meta,
        other => {
            return Err(WireError::Value {
                what: "role",
                value: u64::from(other),
            });
        }
    })
}
