//! Why not, and whether to try again.

use std::fmt::{self, Write as _};

use bytes::{BufMut, BytesMut};

use crate::error::WireError;
use crate::frame::{Kind, put_frame};
use crate::pieces::Reader;
use crate::put;

/// What a producer or consumer does best about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing will change by itself.
    Never,
    /// Try again here, after a pause.
    Later,
    /// Another broker may take it at once.
    Elsewhere,
    /// It may have been done: try again only with the same producer and number.
    Unknown,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $retry:ident;)*) => {
        /// Why a request, or a message of one, was refused. Numbers from 1,000 on are for applications' own brokers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code that this version does not know.
            Other(u16),
        }

        impl Code {
            /// Its number in a frame.
            #[must_use]
            pub fn number(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// The code of that number.
            #[must_use]
            pub fn from_number(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other(_) => "Other",
                }
            }

            /// What to do about it.
            #[must_use]
            pub fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)*
                    Self::Other(_) => Retry::Never,
                }
            }

            /// All that this version knows.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

codes! {
    /// Something failed that should not; the broker's log has more.
    Internal = 1, Unknown;
    /// The request does not follow the protocol.
    Malformed = 2, Never;
    /// A request of this kind is not known here.
    UnknownRequest = 3, Never;
    /// The principal has no right to do this.
    Denied = 4, Never;
    /// A name or attribute breaks a rule.
    BadMessage = 5, Never;
    /// A body or a batch is too large.
    TooLarge = 6, Never;
    /// The subject does not exist, and `subject.auto.create` is off.
    UnknownSubject = 7, Never;
    /// There are as many subjects or groups as allowed.
    TooMany = 8, Never;
    /// The broker takes no messages at the moment.
    ReadOnly = 9, Elsewhere;
    /// The broker is shutting down.
    Draining = 10, Elsewhere;
    /// A queue or budget is full.
    Busy = 11, Later;
    /// The disk is full.
    DiskFull = 12, Elsewhere;
    /// A write or sync of the store failed; it takes no more.
    StoreFailed = 13, Unknown;
    /// The deadline passed before the request was looked at; nothing was done.
    TooLate = 14, Later;
    /// Too few slaves have it. It is in the log.
    TooFewInSync = 15, Unknown;
    /// An ordered producer skipped a number: an earlier message was refused or is missing.
    OutOfOrder = 16, Later;
    /// The number is older than the broker remembers: it may have been done.
    Forgotten = 17, Unknown;
    /// Another session has taken over the consumer.
    Fenced = 18, Never;
    /// The group does not exist on the subject.
    UnknownGroup = 19, Never;
    /// The group has another tag filter.
    FilterMismatch = 20, Never;
    /// The group is, or is not, a broadcast group.
    KindMismatch = 21, Never;
    /// It was delivered under another incarnation of the store.
    StaleIncarnation = 22, Never;
    /// The group has too many messages that are not settled.
    TooManyUnacked = 23, Later;
    /// This node is not the master of its group.
    NotMaster = 24, Elsewhere;
    /// A real-time broker takes no delayed messages.
    Delayed = 25, Never;
    /// Nothing replicates this broker's store.
    NotReplicated = 26, Never;
    /// The delay of a nack is longer than the broker keeps a message back.
    DelayTooLong = 27, Never;
    /// A delay server takes only messages with a due time.
    NotDelayed = 28, Never;
    /// The due time is later than the delay server keeps messages for.
    DueTooFar = 29, Never;
    /// Nobody has entered this node; the text says what to type.
    UnknownNode = 30, Later;
    /// The node is entered in another group or role than it says.
    WrongRole = 31, Never;
    /// What the answer needs cannot be reached at the moment.
    Unavailable = 32, Later;
}

/// A request was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Number of the request.
    pub number: u32,
    /// Why.
    pub code: Code,
    /// When to try again at the earliest, in ms; 0: the broker does not say.
    pub retry_after_ms: u32,
    /// Why, for a person.
    pub text: String,
}

impl Refusal {
    /// A refusal of the request with that number.
    pub fn new(number: u32, code: Code, text: impl Into<String>) -> Self {
        Self {
            number,
            code,
            retry_after_ms: 0,
            text: text.into(),
        }
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, Kind::Refused, |out| {
            out.put_u32_le(self.number);
            out.put_u16_le(self.code.number());
            out.put_u32_le(self.retry_after_ms);
            put::text(out, &self.text);
        });
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let refusal = Self {
            number: reader.u32("REFUSED")?,
            code: Code::from_number(reader.u16("REFUSED")?),
            retry_after_ms: reader.u32("REFUSED")?,
            text: reader.text("REFUSED")?,
        };
        reader.end("REFUSED")?;
        Ok(refusal)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "code {number}"),
            known => words(known.name(), f),
        }
    }
}

/// A name such as `NotMaster`, as people write it.
fn words(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            f.write_char(' ')?;
        }
        f.write_char(letter.to_ascii_lowercase())?;
    }
    Ok(())
}

/// Why a connection was closed: the application's error code of QUIC's CONNECTION_CLOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// All done.
    Done = 0,
    /// The other end does not follow the protocol.
    Malformed = 1,
    /// No version of the protocol is common.
    NoCommonVersion = 2,
    /// The credentials are no good.
    Unauthorized = 3,
    /// Not the node that was expected.
    WrongNode = 4,
    /// The node is shutting down: go elsewhere, or come back.
    ShuttingDown = 5,
    /// Nothing was taken for too long.
    Stalled = 6,
    /// There are too many connections.
    TooManyConnections = 7,
    /// HELLO did not come in time.
    NoHello = 8,
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        words(&format!("{self:?}"), f)
    }
}

impl CloseCode {
    /// The reason of that number, if this version knows it.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        [
            Self::Done,
            Self::Malformed,
            Self::NoCommonVersion,
            Self::Unauthorized,
            Self::WrongNode,
            Self::ShuttingDown,
            Self::Stalled,
            Self::TooManyConnections,
            Self::NoHello,
        ]
        .into_iter()
        .find(|code| *code as u64 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_number() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), *code);
        }
        assert_eq!(Code::from_number(999), Code::Other(999));
        assert_eq!(Code::Other(999).number(), 999);
    }

    #[test]
    fn codes_are_shown_in_words() {
        assert_eq!(Code::NotReplicated.to_string(), "not replicated");
        assert_eq!(Code::Busy.to_string(), "busy");
        assert_eq!(Code::Other(1_001).to_string(), "code 1001");
        assert_eq!(CloseCode::ShuttingDown.to_string(), "shutting down");
    }
}
