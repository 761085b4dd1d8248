//! A record to be put: what it says, and its body, which may lie in several pieces.

use bytes::Bytes;

use super::record::{HEADER_LEN, Kind, align};

/// A body: one piece, then several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'a> {
    len: usize,
    first: &'a [u8],
    then: &'a [Bytes],
}

impl<'a> Body<'a> {
    #[inline]
    pub(crate) fn one(bytes: &'a [u8]) -> Self {
        Self {
            len: bytes.len(),
            first: bytes,
            then: &[],
        }
    }

    /// Of pieces that can be shared: they need not be copied to be kept for a moment.
    #[inline]
    pub(crate) fn shared(pieces: &'a [Bytes]) -> Self {
        Self {
            len: pieces.iter().map(Bytes::len).sum(),
            first: &[],
            then: pieces,
        }
    }

    /// Of all pieces together.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What cannot be shared of it, and what can.
    #[inline]
    pub(super) fn parts(&self) -> (&'a [u8], &'a [Bytes]) {
        (self.first, self.then)
    }

    /// The pieces, in order.
    #[inline]
    pub(super) fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let first = Some(self.first).filter(|first| !first.is_empty());
        first
            .into_iter()
            .chain(self.then.iter().map(|piece| &**piece))
    }

    #[inline]
    fn crc(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for piece in self.pieces() {
            hasher.update(piece);
        }
        hasher.finalize()
    }
}

/// A record to be put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) subject: &'a str,
    pub(crate) note: &'a [u8],
    pub(crate) attributes: &'a [u8],
    pub(crate) tag_fingerprint: u32,
    pub(crate) body: Body<'a>,
    pub(crate) body_crc: u32,
}

impl<'a> Part<'a> {
    /// A record without note and attributes; of a message, its sequence is not known yet.
    #[inline]
    pub(crate) fn new(kind: Kind, subject: &'a str, body: Body<'a>) -> Self {
        Self {
            kind,
            sequence: 0,
            subject,
            note: &[],
            attributes: &[],
            tag_fingerprint: 0,
            body,
            body_crc: body.crc(),
        }
    }

    #[inline]
    pub(super) fn header_len(&self) -> usize {
        HEADER_LEN + self.subject.len() + self.note.len() + self.attributes.len()
    }

    /// Bytes that the record will take.
    #[inline]
    pub(crate) fn record_len(&self) -> u64 {
        align((self.header_len() + self.body.len()) as u64)
    }
}

/// Bytes that a record takes in the log.
#[inline]
pub(crate) fn record_len(subject: &str, attributes: &[u8], body: usize) -> u64 {
    align((HEADER_LEN + subject.len() + attributes.len() + body) as u64)
}
