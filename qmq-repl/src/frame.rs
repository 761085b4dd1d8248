//! Frames: what members send each other. `docs/protocol.md`, section "Replication", has the layout.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::codec::{Reader, put_u32, put_u64};
use crate::message::Message;
use crate::options::FRAME_DATA_MAX;

/// The version of the protocol that is written here.
pub const VERSION: u8 = 1;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 36;
/// Most bytes of a frame's body: the longest piece of a log, and room for what stands before it.
pub const BODY_BYTES_MAX: usize = FRAME_DATA_MAX + 64 * 1024;

const MAGIC: [u8; 2] = *b"QR";

/// One message, and under which epoch and in which session it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The sender's epoch: of a master its own, of the others the greatest that they have promised.
    pub epoch: u64,
    /// The session that master and slave have agreed on; 0 outside of one.
    pub session: u64,
    /// [`crate::Group::tag`] of the sender's group.
    pub group: u32,
    /// What is said.
    pub message: Message,
}

/// Bytes that are no frame. Whoever gets one closes the connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// It does not begin as a frame does.
    #[error(
        "this is no frame of replication: it begins with {found:02x?}; is the other side a qmq member?"
    )]
    Magic {
        /// The first bytes.
        found: [u8; 2],
    },
    /// A version that is not known here.
    #[error("a frame of version {found}, and {VERSION} is spoken here; update the older member")]
    Version {
        /// Its version.
        found: u8,
    },
    /// Longer than allowed.
    #[error("a frame of {found} bytes, and {BODY_BYTES_MAX} are allowed")]
    TooLong {
        /// Length of its body.
        found: u32,
    },
    /// Header or body have another checksum than they say.
    #[error("a frame's checksum does not fit; the connection has changed its bytes")]
    Checksum,
    /// The body is not what its kind asks for.
    #[error("a frame of kind {kind} breaks the layout of its kind; the other side has a defect")]
    Layout {
        /// Its kind.
        kind: u8,
    },
}

impl Frame {
    /// The frame's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.message.size_hint());
        out.resize(HEADER_BYTES, 0);
        let kind = self.message.encode(&mut out);
        let body_len = (out.len() - HEADER_BYTES) as u32;
        let body_crc = crc32fast::hash(&out[HEADER_BYTES..]);
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&[VERSION, kind]);
        put_u32(&mut header, body_len);
        put_u64(&mut header, self.epoch);
        put_u64(&mut header, self.session);
        put_u32(&mut header, self.group);
        put_u32(&mut header, body_crc);
        let header_crc = crc32fast::hash(&header);
        put_u32(&mut header, header_crc);
        out[..HEADER_BYTES].copy_from_slice(&header);
        out.freeze()
    }

    /// Reads one whole frame. Pieces of a log in it are slices of `bytes`.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let header = Header::decode(bytes)?;
        if bytes.len() != HEADER_BYTES + header.body_len {
            return Err(FrameError::Layout { kind: header.kind });
        }
        let body = bytes.slice(HEADER_BYTES..);
        if crc32fast::hash(&body) != header.body_crc {
            return Err(FrameError::Checksum);
        }
        let message =
            Message::decode(header.kind, body).ok_or(FrameError::Layout { kind: header.kind })?;
        Ok(Self {
            epoch: header.epoch,
            session: header.session,
            group: header.group,
            message,
        })
    }
}

struct Header {
    kind: u8,
    body_len: usize,
    epoch: u64,
    session: u64,
    group: u32,
    body_crc: u32,
}

impl Header {
    fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else {
            return Err(FrameError::Layout { kind: 0 });
        };
        if bytes[..2] != MAGIC {
            let found = [bytes[0], bytes[1]];
            return Err(FrameError::Magic { found });
        }
        // The length and the checksum of the header are where they are in every version.
        let mut fields = Reader::new(Bytes::copy_from_slice(&bytes[4..]));
        let mut next = || fields.u32().unwrap_or(0);
        let body_len = next();
        let mut long = || u64::from(next()) | u64::from(next()) << 32;
        let (epoch, session) = (long(), long());
        let (group, body_crc, header_crc) = (next(), next(), next());
        if crc32fast::hash(&bytes[..HEADER_BYTES - 4]) != header_crc {
            return Err(FrameError::Checksum);
        }
        if bytes[2] != VERSION {
            return Err(FrameError::Version { found: bytes[2] });
        }
        if body_len as usize > BODY_BYTES_MAX {
            return Err(FrameError::TooLong { found: body_len });
        }
        Ok(Self {
            kind: bytes[3],
            body_len: body_len as usize,
            epoch,
            session,
            group,
            body_crc,
        })
    }
}

/// Finds the frames in a stream of bytes. Holds one frame at most, and what was read behind it.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// Takes what was read. Frames should be taken out before more is put in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes of a frame that has begun are missing: never more than one frame has.
    ///
    /// # Errors
    /// If what comes is no frame. The stream is of no use from then on.
    pub fn missing(&self) -> Result<usize, FrameError> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(HEADER_BYTES - self.buffer.len());
        }
        let whole = HEADER_BYTES + Header::decode(&self.buffer)?.body_len;
        Ok(whole.saturating_sub(self.buffer.len()))
    }

    /// The next whole frame, as the bytes that [`crate::Node::handle`] takes.
    ///
    /// # Errors
    /// As [`FrameReader::missing`].
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.buffer.len() < HEADER_BYTES || self.missing()? > 0 {
            return Ok(None);
        }
        let whole = HEADER_BYTES + Header::decode(&self.buffer)?.body_len;
        Ok(Some(self.buffer.split_to(whole).freeze()))
    }
}
