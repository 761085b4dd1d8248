//! Why bytes are no frame.

/// Bytes that do not follow the protocol. Whoever sent them is wrong or speaks something else: the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A frame is longer than the receiver takes.
    #[error("frame of {bytes} bytes; at most {max} are taken here (frame_bytes_max of its HELLO)")]
    FrameTooLong {
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A frame ends before what it says it has.
    #[error("the frame ends inside {what}")]
    Short {
        /// What was being read.
        what: &'static str,
    },
    /// A frame goes on behind its end.
    #[error("{bytes} bytes behind the end of {what}")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A count or length is above its limit.
    #[error("{what}: {value}, and at most {max} are allowed")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The number given.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// A field has a value that means nothing.
    #[error("{what} has the value {value}, which this version does not know")]
    Value {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Text is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// The field.
        what: &'static str,
    },
    /// A field that must be there is not.
    #[error("{what} is missing")]
    Missing {
        /// The field.
        what: &'static str,
    },
    /// A field is there that must be understood, and is not known here.
    #[error(
        "field {id} must be understood and is not known here; use an older version of the protocol"
    )]
    UnknownField {
        /// Its number, 128 or more.
        id: u8,
    },
    /// An optional field is there twice.
    #[error("field {id} is there twice")]
    RepeatedField {
        /// Its number.
        id: u8,
    },
    /// The first frame of a connection is no HELLO.
    #[error(
        "the first frame of a connection is HELLO, and this is none; does the other end speak qmq/1?"
    )]
    NoHello,
    /// A frame came in a stream that frames of its kind do not belong to.
    #[error("a frame of kind {kind} has no place in this stream")]
    Misplaced {
        /// Its kind.
        kind: u8,
    },
    /// A control payload does not decode.
    #[error("control payload: {0}")]
    Control(String),
}
