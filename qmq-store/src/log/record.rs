//! The bytes of a record.
//!
//! ```text
//!  0 u32 header_crc    CRC-32 of bytes 4..header_len
//!  4 u16 magic         0x514D
//!  6 u8  kind          1 message, 2 action, 3 batch, 4 epoch
//!  7 u8  flags         bit 0: inside a batch
//!  8 u64 offset        the record's own place in the log
//! 16 u64 synced_end    how far the log was known to be synced when this was written
//! 24 u64 sequence      message: position in its subject; batch: number of records inside; epoch: its number; action: 0
//! 32 u64 time_ms       record time, never decreasing along the log
//! 40 u32 incarnation
//! 44 u32 body_len      batch: bytes of all records inside
//! 48 u32 body_crc      CRC-32 of the body; batch: CRC-32 of (header_crc, body_crc) of each record inside
//! 52 u16 header_len    64 + subject + note + attributes
//! 54 u16 subject_len
//! 56 u32 tag_fingerprint
//! 60 u16 note_len
//! 62 u16 reserved, 0
//! 64     subject, note, attributes (see `qmq_message::attributes`), body, zeros up to a multiple of 8
//! ```

use crate::le::{u16_at, u32_at, u64_at};

/// Length of the fixed part of a header in bytes.
pub(crate) const HEADER_LEN: usize = 64;
/// Records start at multiples of this.
pub(crate) const ALIGN: u64 = 8;
const MAGIC: u16 = 0x514D;
const FLAG_IN_BATCH: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Message = 1,
    Action = 2,
    Batch = 3,
    /// A master's term begins: its number is the sequence, and there is no subject and no body.
    Epoch = 4,
}

/// The fixed part of a header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) in_batch: bool,
    pub(crate) offset: u64,
    pub(crate) synced_end: u64,
    pub(crate) sequence: u64,
    pub(crate) time_ms: u64,
    pub(crate) incarnation: u32,
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) header_len: u16,
    pub(crate) subject_len: u16,
    pub(crate) tag_fingerprint: u32,
    pub(crate) note_len: u16,
    pub(crate) header_crc: u32,
}

pub(crate) fn align(len: u64) -> u64 {
    len.div_ceil(ALIGN) * ALIGN
}

impl Header {
    /// Bytes that the record takes in the log. A batch's own header only: its records follow it.
    pub(crate) fn record_len(&self) -> u64 {
        match self.kind {
            Kind::Batch => align(u64::from(self.header_len)),
            Kind::Message | Kind::Action | Kind::Epoch => {
                align(u64::from(self.header_len) + u64::from(self.body_len))
            }
        }
    }

    /// Bytes of a message's attributes and body.
    #[inline]
    pub(crate) fn payload_len(&self) -> u64 {
        (usize::from(self.header_len) - self.attributes_at()) as u64 + u64::from(self.body_len)
    }

    /// Where the attributes of a message begin in its record.
    #[inline]
    pub(crate) fn attributes_at(&self) -> usize {
        HEADER_LEN + usize::from(self.subject_len) + usize::from(self.note_len)
    }

    /// The subject's bytes in the record at the start of `bytes`.
    #[inline]
    pub(crate) fn subject<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(HEADER_LEN..HEADER_LEN + usize::from(self.subject_len))
    }

    /// Bytes that the whole commit unit takes: a batch with all its records.
    pub(crate) fn frame_len(&self) -> u64 {
        match self.kind {
            Kind::Batch => self.record_len() + u64::from(self.body_len),
            Kind::Message | Kind::Action | Kind::Epoch => self.record_len(),
        }
    }

    /// Decodes and verifies a header that starts `bytes` and claims to stand at `offset`. `None` if anything does not fit:
    /// magic, kind, own offset, lengths within `bytes`' limit or checksum.
    #[inline]
    pub(crate) fn decode(bytes: &[u8], offset: u64) -> Option<Self> {
        let fixed = bytes.get(..HEADER_LEN)?;
        if u16_at(fixed, 4) != MAGIC || u64_at(fixed, 8) != offset {
            return None;
        }
        let kind = match fixed[6] {
            1 => Kind::Message,
            2 => Kind::Action,
            3 => Kind::Batch,
            4 => Kind::Epoch,
            _ => return None,
        };
        let header_len = u16_at(fixed, 52);
        let subject_len = u16_at(fixed, 54);
        let note_len = u16_at(fixed, 60);
        let least = HEADER_LEN + usize::from(subject_len) + usize::from(note_len);
        if usize::from(header_len) < least {
            return None;
        }
        let header_crc = u32_at(fixed, 0);
        if crc32fast::hash(bytes.get(4..usize::from(header_len))?) != header_crc {
            return None;
        }
        Some(Self {
            kind,
            in_batch: fixed[7] & FLAG_IN_BATCH != 0,
            offset,
            synced_end: u64_at(fixed, 16),
            sequence: u64_at(fixed, 24),
            time_ms: u64_at(fixed, 32),
            incarnation: u32_at(fixed, 40),
            body_len: u32_at(fixed, 44),
            body_crc: u32_at(fixed, 48),
            header_len,
            subject_len,
            tag_fingerprint: u32_at(fixed, 56),
            note_len,
            header_crc,
        })
    }

    /// Appends the encoded header to `out` and returns its checksum; `parts` are the variable part: subject, note, attributes.
    pub(crate) fn encode(&self, parts: [&[u8]; 3], out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        let mut fixed = [0; HEADER_LEN];
        fixed[4..6].copy_from_slice(&MAGIC.to_le_bytes());
        fixed[6] = self.kind as u8;
        fixed[7] = if self.in_batch { FLAG_IN_BATCH } else { 0 };
        fixed[8..16].copy_from_slice(&self.offset.to_le_bytes());
        fixed[16..24].copy_from_slice(&self.synced_end.to_le_bytes());
        fixed[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        fixed[32..40].copy_from_slice(&self.time_ms.to_le_bytes());
        fixed[40..44].copy_from_slice(&self.incarnation.to_le_bytes());
        fixed[44..48].copy_from_slice(&self.body_len.to_le_bytes());
        fixed[48..52].copy_from_slice(&self.body_crc.to_le_bytes());
        fixed[52..54].copy_from_slice(&self.header_len.to_le_bytes());
        fixed[54..56].copy_from_slice(&self.subject_len.to_le_bytes());
        fixed[56..60].copy_from_slice(&self.tag_fingerprint.to_le_bytes());
        fixed[60..62].copy_from_slice(&self.note_len.to_le_bytes());
        out.extend_from_slice(&fixed);
        for part in parts {
            out.extend_from_slice(part);
        }
        let crc = crc32fast::hash(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        crc
    }
}

/// A verified record: its header and its variable parts, borrowed from the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) header: Header,
    pub(crate) subject: &'a str,
    /// Of who submitted it, for who submitted it; of a batch, about all of it.
    pub(crate) note: &'a [u8],
    pub(crate) attributes: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> Record<'a> {
    #[cfg(test)]
    /// Decodes and verifies the record at the start of `bytes`, header and body. For a batch the body is empty here: its records
    /// verify themselves.
    pub(crate) fn decode(bytes: &'a [u8], offset: u64) -> Option<Self> {
        let header = Header::decode(bytes, offset)?;
        let record = Self::assemble(bytes, header)?;
        if header.kind != Kind::Batch && crc32fast::hash(record.body) != header.body_crc {
            return None;
        }
        Some(record)
    }

    /// Cuts the parts of a record whose header has been verified; the body is not verified.
    pub(crate) fn assemble(bytes: &'a [u8], header: Header) -> Option<Self> {
        let body_at = usize::from(header.header_len);
        let subject_end = HEADER_LEN + usize::from(header.subject_len);
        let body = match header.kind {
            Kind::Batch => &[],
            Kind::Message | Kind::Action | Kind::Epoch => {
                bytes.get(body_at..body_at + header.body_len as usize)?
            }
        };
        Some(Self {
            header,
            subject: std::str::from_utf8(bytes.get(HEADER_LEN..subject_end)?).ok()?,
            note: bytes.get(subject_end..header.attributes_at())?,
            attributes: bytes.get(header.attributes_at()..body_at)?,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use qmq_message::{Attributes, Message};

    use super::*;

    const NOTE: &[u8] = b"who sent it";

    fn header(message: &Message, attributes: &[u8]) -> Header {
        Header {
            kind: Kind::Message,
            in_batch: false,
            offset: 4096,
            synced_end: 17,
            sequence: 3,
            time_ms: 9,
            incarnation: 2,
            body_len: u32::try_from(message.body().len()).unwrap(),
            body_crc: crc32fast::hash(message.body()),
            header_len: u16::try_from(
                HEADER_LEN + message.subject().len() + NOTE.len() + attributes.len(),
            )
            .unwrap(),
            subject_len: u16::try_from(message.subject().len()).unwrap(),
            tag_fingerprint: 5,
            note_len: u16::try_from(NOTE.len()).unwrap(),
            header_crc: 0,
        }
    }

    fn encoded() -> (Message, Vec<u8>) {
        let message = Message::new("order.changed", "body")
            .with_id("id-1")
            .tag("pay")
            .tag("vip")
            .with_create_time_ms(77)
            .with_due_time_ms(78)
            .with_order_key(vec![1, 2])
            .property("trace", "00-4bf9");
        let mut attributes = Vec::new();
        Attributes::encode(&message, &mut attributes).unwrap();
        let mut out = Vec::new();
        let parts = [message.subject().as_bytes(), NOTE, &attributes];
        header(&message, &attributes).encode(parts, &mut out);
        out.extend_from_slice(message.body());
        (message, out)
    }

    #[test]
    fn a_record_decodes_to_what_was_encoded() {
        let (message, bytes) = encoded();
        let record = Record::decode(&bytes, 4096).unwrap();
        let attributes = Attributes::decode(record.attributes).unwrap();
        assert_eq!(record.subject, message.subject());
        assert_eq!(record.body, &message.body()[..]);
        assert_eq!(record.note, NOTE);
        let subject = record.subject;
        assert_eq!(
            attributes.to_message(subject, record.body.to_vec()),
            message
        );
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let (_, bytes) = encoded();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(
                    Record::decode(&flipped, 4096).is_none(),
                    "byte {at} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn zeros_and_a_record_of_another_place_are_no_records() {
        let (_, bytes) = encoded();
        assert!(Record::decode(&[0; 4096], 0).is_none());
        assert!(Record::decode(&bytes, 4104).is_none());
    }
}
