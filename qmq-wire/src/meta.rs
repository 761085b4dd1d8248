//! What is said to a meta server: routes of subjects by clients, who lives by brokers.
//!
//! ```text
//! WATCH    0 u32 number, chosen by the client, of this interest in its stream; then a control payload: Interest
//! UNWATCH  0 u32 number
//! ROUTE    0 u32 number; then a control payload: Route
//! ```
//!
//! A stream whose first frame is WATCH carries WATCH and UNWATCH to the meta server, and ROUTE back: one at once for each interest, and another each
//! time that its answer changes. Being connected is the heartbeat of a client.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use crate::control::{put_control, read_control};
use crate::error::WireError;
use crate::frame::{Kind, put_frame};
use crate::pieces::Reader;

/// What a client wants a subject's brokers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// To produce.
    Produce,
    /// To consume.
    Consume,
    /// To produce delayed messages: answered with delay servers.
    Delay,
}

/// What a client wants to know, and go on knowing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interest {
    /// The subject; of a retry or dead-letter subject, its own name.
    pub subject: String,
    /// What for.
    pub purpose: Purpose,
    /// Consumer group; empty for producers.
    pub group: String,
    /// Name of the client; of a consumer the one by which operators switch it off.
    pub client: String,
    /// What the application is called.
    pub application: String,
    /// Its room (data centre), or empty.
    pub room: String,
}

/// A broker group in a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteGroup {
    /// Its name.
    pub name: String,
    /// `host:port` of its master.
    pub master: String,
    /// Whether producers use it.
    pub writable: bool,
    /// Whether consumers use it.
    pub readable: bool,
    /// Grows with each change of master.
    pub epoch: u64,
}

/// The brokers of a subject, as far as a client may use them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// When it was so, by the database's clock in ms: never falls. An answer with a lesser one is older.
    pub stamp: u64,
    /// Whether operators let this consumer consume.
    pub online: bool,
    /// The meta server cannot reach its database: this is what it knew last.
    pub stale: bool,
    /// The groups. An empty list is one that is empty, not an error.
    pub groups: Vec<RouteGroup>,
}

/// A WATCH or ROUTE frame's number and payload.
macro_rules! framed {
    ($payload:ident, $kind:ident, $name:literal) => {
        impl $payload {
            /// Appends the frame.
            ///
            /// # Errors
            /// [`WireError::TooMany`] if it is too long.
            pub fn encode(&self, number: u32, out: &mut BytesMut) -> Result<(), WireError> {
                put_control(out, Kind::$kind, number, self)
            }

            /// Reads the payload: number and content.
            ///
            /// # Errors
            /// [`WireError`].
            pub fn decode(reader: &mut Reader<'_>) -> Result<(u32, Self), WireError> {
                Ok((reader.u32($name)?, read_control(reader)?))
            }
        }
    };
}

framed!(Interest, Watch, "WATCH");
framed!(Route, Route, "ROUTE");

/// An interest that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwatch {
    /// Its number.
    pub number: u32,
}

impl Unwatch {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        use bytes::BufMut as _;
        put_frame(out, Kind::Unwatch, |out| out.put_u32_le(self.number));
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let number = reader.u32("UNWATCH")?;
        reader.end("UNWATCH")?;
        Ok(Self { number })
    }
}

/// What a node is in its group; QMQ's numbers (`BrokerRole`) are 0, 1, 5 and 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeRole {
    /// A real-time broker that takes messages.
    Master,
    /// Its copy.
    Slave,
    /// A delay server that takes messages.
    DelayMaster,
    /// Its copy.
    DelaySlave,
}

/// A node that asks what it is, by the name under which operators have entered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// Its host name (`qmq.host`).
    pub hostname: String,
    /// Its port for clients.
    pub port: u16,
    /// What it enters itself as if nobody has: only a node's principal may.
    pub claim: Option<Claim>,
}

/// What a node would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its group (`broker.group`).
    pub group: String,
    /// Its role (`broker.role`).
    pub role: NodeRole,
    /// What it advertises (`qmq.ip`).
    pub ip: String,
    /// Its port for slaves.
    pub sync_port: u16,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquired {
    /// Its group.
    pub group: String,
    /// Its role.
    pub role: NodeRole,
    /// The address that the table has for it.
    pub ip: String,
    /// `host:port` of what it copies; empty for a master.
    pub copies: String,
    /// The group's epoch.
    pub epoch: u64,
    /// In what the table differs from the claim, in words; empty: in nothing.
    pub differs: String,
}

/// What a node says when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It lives.
    Heartbeat,
    /// It has started.
    Online,
    /// It ends.
    Offline,
}

/// A node that says how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// What it says.
    pub presence: Presence,
    /// Its host name, as in [`Acquire`].
    pub hostname: String,
    /// Its port for clients.
    pub port: u16,
    /// Its group.
    pub group: String,
    /// Its role.
    pub role: NodeRole,
    /// `host:port` at which clients reach it.
    pub address: String,
    /// Whether it takes messages.
    pub writable: bool,
    /// Its epoch; 0: it has none.
    pub epoch: u64,
}

/// That a meta server has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Whether the database has it; if not, try another meta server, if there is one.
    pub stored: bool,
    /// After so many ms at the latest it should be heard of again.
    pub again_ms: u32,
}
