//! Frames: a length, a kind, a payload; and how they are put together from what a stream brings.
//!
//! ```text
//! 0 u32 length of the payload
//! 4 u8  kind
//! 5 u8  flags: bit 0 in NACK and END, see there; others 0 and ignored
//! 6 u16 reserved, 0, ignored
//! 8     payload
//! ```

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::WireError;
use crate::pieces::Reader;

/// Bytes before a payload.
pub const FRAME_HEADER_LEN: usize = 8;

/// Flag of NACK and END: nobody has looked at the messages that it is about. Whoever does not know it takes them for looked at.
pub(crate) const UNSEEN: u8 = 1;

/// Every receiver takes frames with payloads of so many bytes, whatever its HELLO says: HELLO itself must fit.
pub const LEAST_FRAME_BYTES_MAX: u32 = 64 << 10;

/// The kinds of frames. Numbers, not names, travel: an unknown one is answered, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`crate::Hello`], in both directions.
    Hello = 1,
    /// [`crate::Refusal`]: a request was not done.
    Refused = 2,
    /// [`crate::Produce`].
    Produce = 10,
    /// [`crate::Produced`].
    Produced = 11,
    /// [`crate::Pull`].
    Pull = 12,
    /// [`crate::Delivery`], as answer to a pull.
    Pulled = 13,
    /// [`crate::Scheduled`]: what a delay server answers to [`crate::Produce`].
    Scheduled = 14,
    /// [`crate::Subscribe`], first in its stream.
    Subscribe = 20,
    /// [`crate::Subscribed`].
    Subscribed = 21,
    /// [`crate::Delivery`], in a subscription.
    Deliver = 22,
    /// [`crate::Credit`].
    Credit = 23,
    /// [`crate::Ack`].
    Ack = 24,
    /// [`crate::Acked`], answer to an ack or nack.
    Acked = 25,
    /// [`crate::Nack`].
    Nack = 26,
    /// [`crate::Renew`].
    Renew = 27,
    /// [`crate::End`], in both directions: a subscription ends.
    End = 28,
    /// [`crate::ControlRequest`].
    Control = 40,
    /// [`crate::ControlResponse`].
    Controlled = 41,
    /// [`crate::Interest`], first in its stream.
    Watch = 50,
    /// [`crate::Unwatch`].
    Unwatch = 51,
    /// [`crate::Route`].
    Route = 52,
}

impl Kind {
    /// The kind of that number, if this version knows it.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Kind; 21] = [
            Kind::Hello,
            Kind::Refused,
            Kind::Produce,
            Kind::Produced,
            Kind::Pull,
            Kind::Pulled,
            Kind::Subscribe,
            Kind::Subscribed,
            Kind::Deliver,
            Kind::Credit,
            Kind::Ack,
            Kind::Acked,
            Kind::Nack,
            Kind::Renew,
            Kind::End,
            Kind::Control,
            Kind::Controlled,
            Kind::Scheduled,
            Kind::Watch,
            Kind::Unwatch,
            Kind::Route,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A whole frame. Its payload lies in the pieces in which it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is; see [`Kind::from_byte`].
    pub kind: u8,
    flags: u8,
    pieces: Vec<Bytes>,
    len: usize,
}

impl Frame {
    /// Length of the payload in bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.len
    }

    /// Reads the payload from its beginning.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.pieces, self.len, self.flags)
    }
}

/// A piece that is shorter is copied if it comes after another short one: it would keep a packet in memory for a few bytes.
const SHORT: usize = 1024;
/// What was copied is given on when it is so long.
const COPIED_TOGETHER: usize = 16 << 10;

/// Puts frames together from pieces. Long pieces, and a short one by itself, stay where they are. Short ones in a row are copied together, so that a
/// frame in many pieces keeps no more than about three packets of memory for each packet's worth of bytes.
#[derive(Debug)]
pub struct FrameBuffer {
    pieces: VecDeque<Bytes>,
    /// Short pieces that came after `pieces`.
    copied: BytesMut,
    buffered: usize,
    payload_bytes_max: u32,
}

impl FrameBuffer {
    /// Takes frames with payloads of at most `payload_bytes_max` bytes.
    #[must_use]
    pub fn new(payload_bytes_max: u32) -> Self {
        Self {
            pieces: VecDeque::new(),
            copied: BytesMut::new(),
            buffered: 0,
            payload_bytes_max: payload_bytes_max.max(LEAST_FRAME_BYTES_MAX),
        }
    }

    /// Adds what came next.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.buffered += piece.len();
        if piece.len() >= SHORT {
            self.give_on();
            return self.pieces.push_back(piece);
        }
        if self.copied.is_empty() {
            let Some(short) = self.pieces.pop_back_if(|last| last.len() < SHORT) else {
                return self.pieces.push_back(piece);
            };
            self.copied.extend_from_slice(&short);
        }
        self.copied.extend_from_slice(&piece);
        if self.copied.len() >= COPIED_TOGETHER {
            self.give_on();
        }
    }

    /// What was copied becomes a piece.
    fn give_on(&mut self) {
        if !self.copied.is_empty() {
            self.pieces.push_back(self.copied.split().freeze());
        }
    }

    /// Bytes that came and have not been given out.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Length of the frame that is coming, header included, once its header is here.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`].
    pub fn announced(&self) -> Result<Option<usize>, WireError> {
        Ok(self
            .header()?
            .map(|(payload, ..)| FRAME_HEADER_LEN + payload))
    }

    /// The next whole frame; `None` until more comes.
    ///
    /// # Errors
    /// [`WireError::FrameTooLong`]. There is no going on after it.
    #[expect(
        clippy::should_implement_trait,
        reason = "it fails, and goes on after None"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, WireError> {
        let Some((len, kind, flags)) = self.header()? else {
            return Ok(None);
        };
        if self.buffered < FRAME_HEADER_LEN + len {
            return Ok(None);
        }
        self.give_on();
        self.skip(FRAME_HEADER_LEN);
        let pieces = self.take(len);
        Ok(Some(Frame {
            kind,
            flags,
            pieces,
            len,
        }))
    }

    fn header(&self) -> Result<Option<(usize, u8, u8)>, WireError> {
        if self.buffered < FRAME_HEADER_LEN {
            return Ok(None);
        }
        let mut header = [0; FRAME_HEADER_LEN];
        let mut filled = 0;
        let pieces = self.pieces.iter().map(|piece| &piece[..]);
        for piece in pieces.chain([&self.copied[..]]) {
            let take = piece.len().min(FRAME_HEADER_LEN - filled);
            header[filled..filled + take].copy_from_slice(&piece[..take]);
            filled += take;
            if filled == FRAME_HEADER_LEN {
                break;
            }
        }
        let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if len > self.payload_bytes_max {
            return Err(WireError::FrameTooLong {
                bytes: u64::from(len),
                max: u64::from(self.payload_bytes_max),
            });
        }
        Ok(Some((len as usize, header[4], header[5])))
    }

    fn skip(&mut self, mut bytes: usize) {
        self.buffered -= bytes;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > bytes {
                piece.advance(bytes);
                return;
            }
            bytes -= piece.len();
            self.pieces.pop_front();
            if bytes == 0 {
                return;
            }
        }
    }

    fn take(&mut self, mut bytes: usize) -> Vec<Bytes> {
        self.buffered -= bytes;
        let mut taken = Vec::new();
        while bytes > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                break;
            };
            if piece.len() > bytes {
                taken.push(piece.split_to(bytes));
                return taken;
            }
            bytes -= piece.len();
            taken.extend(self.pieces.pop_front());
        }
        taken
    }
}

/// Appends a frame whose payload `fill` writes.
pub fn put_frame(out: &mut BytesMut, kind: Kind, fill: impl FnOnce(&mut BytesMut)) {
    put_flagged(out, kind, 0, fill);
}

/// As [`put_frame`], with flags.
pub(crate) fn put_flagged(
    out: &mut BytesMut,
    kind: Kind,
    flags: u8,
    fill: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind as u8);
    out.put_u8(flags);
    out.put_u16_le(0);
    fill(out);
    let len = u32::try_from(out.len() - start - FRAME_HEADER_LEN).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Appends the header of a frame whose payload of `len` bytes follows by other ways.
pub(crate) fn put_header(out: &mut BytesMut, kind: Kind, len: u32) {
    out.put_u32_le(len);
    out.put_u8(kind as u8);
    out.put_u8(0);
    out.put_u16_le(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two_frames() -> BytesMut {
        let mut out = BytesMut::new();
        put_frame(&mut out, Kind::Renew, |out| out.put_slice(b"first"));
        put_frame(&mut out, Kind::End, |out| out.put_slice(&[7; 300]));
        out
    }

    proptest! {
        #[test]
        fn frames_are_the_same_in_whatever_pieces_they_come(cuts in proptest::collection::vec(1_usize..40, 0..60)) {
            let mut rest = two_frames().freeze();
            let mut buffer = FrameBuffer::new(1 << 20);
            let mut frames = Vec::new();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                buffer.push(rest.split_to(cut.min(rest.len())));
                while let Some(frame) = buffer.next().unwrap() {
                    let mut reader = frame.reader();
                    let bytes = reader.bytes(frame.payload_len(), "payload").unwrap();
                    frames.push((frame.kind, bytes));
                }
            }
            prop_assert_eq!(frames.len(), 2);
            prop_assert_eq!(&frames[0], &(Kind::Renew as u8, Bytes::from_static(b"first")));
            prop_assert_eq!(&frames[1], &(Kind::End as u8, Bytes::from(vec![7; 300])));
            prop_assert_eq!(buffer.buffered(), 0);
        }
    }

    struct Packet(std::sync::Arc<[u8]>);

    impl AsRef<[u8]> for Packet {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn one_byte_of_each_packet_does_not_keep_the_packets() {
        let packet: std::sync::Arc<[u8]> = vec![7; 1_400].into();
        let mut buffer = FrameBuffer::new(1 << 20);
        let mut header = BytesMut::new();
        put_header(&mut header, Kind::Produce, 1 << 16);
        buffer.push(header.freeze());
        for pushed in 0..1 << 16 {
            assert!(buffer.next().unwrap().is_none(), "after {pushed} bytes");
            buffer.push(Bytes::from_owner(Packet(packet.clone())).slice(3..4));
            let kept = std::sync::Arc::strong_count(&packet) - 1;
            assert!(kept <= 1, "{kept} packets are kept for {pushed} bytes");
        }
        let frame = buffer.next().unwrap().unwrap();
        assert!(frame.pieces.len() <= (1 << 16) / COPIED_TOGETHER + 1);
        let payload = frame.reader().bytes(1 << 16, "payload").unwrap();
        assert!(payload.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_piece_that_is_a_whole_frame_is_not_copied() {
        let mut out = BytesMut::new();
        put_frame(&mut out, Kind::Ack, |out| out.put_slice(&[7; 100]));
        let piece = out.freeze();
        let at = piece[FRAME_HEADER_LEN..].as_ptr();
        let mut buffer = FrameBuffer::new(1 << 20);
        buffer.push(piece);
        let frame = buffer.next().unwrap().unwrap();
        let payload = frame.reader().bytes(100, "payload").unwrap();
        assert_eq!(payload.as_ptr(), at);
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_header_alone() {
        let mut buffer = FrameBuffer::new(LEAST_FRAME_BYTES_MAX);
        let mut header = BytesMut::new();
        put_header(&mut header, Kind::Produce, LEAST_FRAME_BYTES_MAX + 1);
        buffer.push(header.freeze());
        assert_eq!(
            buffer.announced(),
            Err(WireError::FrameTooLong {
                bytes: 65_537,
                max: 65_536
            })
        );
        assert!(buffer.next().is_err());
    }

    #[test]
    fn every_kind_is_found_by_its_number() {
        let known: Vec<u8> = (0..=u8::MAX)
            .filter(|byte| Kind::from_byte(*byte).is_some())
            .collect();
        assert_eq!(
            known,
            [
                1, 2, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26, 27, 28, 40, 41, 50, 51, 52
            ]
        );
    }
}
