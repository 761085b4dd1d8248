//! Reading a payload that lies in pieces.

use bytes::{Bytes, BytesMut};

use crate::error::WireError;

/// Reads a payload from front to back. What lies in one piece is shared, not copied.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    pieces: &'a [Bytes],
    /// Where the rest begins in the first piece.
    at: usize,
    left: usize,
    /// Of the frame.
    flags: u8,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(pieces: &'a [Bytes], len: usize, flags: u8) -> Self {
        Self {
            pieces,
            at: 0,
            left: len,
            flags,
        }
    }

    /// The flags of the frame. Those that are not known mean nothing.
    pub(crate) fn flags(&self) -> u8 {
        self.flags
    }

    /// Bytes that have not been read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.left
    }

    fn need(&self, bytes: usize, what: &'static str) -> Result<(), WireError> {
        if bytes > self.left {
            Err(WireError::Short { what })
        } else {
            Ok(())
        }
    }

    /// Hands the next `bytes` bytes to `each`, piece by piece. There are so many.
    fn each(&mut self, mut bytes: usize, mut each: impl FnMut(&Bytes, usize, usize)) {
        self.left -= bytes;
        while bytes > 0 {
            let Some(piece) = self.pieces.first() else {
                return;
            };
            let take = bytes.min(piece.len() - self.at);
            each(piece, self.at, self.at + take);
            bytes -= take;
            self.at += take;
            if self.at == piece.len() {
                self.pieces = &self.pieces[1..];
                self.at = 0;
            }
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        self.need(N, what)?;
        let mut array = [0; N];
        let mut filled = 0;
        self.each(N, |piece, from, to| {
            array[filled..filled + to - from].copy_from_slice(&piece[from..to]);
            filled += to - from;
        });
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Short`], as with all that read.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Sixteen bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u128(&mut self, what: &'static str) -> Result<u128, WireError> {
        Ok(u128::from_le_bytes(self.array(what)?))
    }

    /// A u32 that counts things of at least `least` bytes each, at most `max` of them.
    ///
    /// # Errors
    /// [`WireError::TooMany`], [`WireError::Short`] if so many cannot follow.
    pub fn count(
        &mut self,
        what: &'static str,
        max: u32,
        least: usize,
    ) -> Result<usize, WireError> {
        let count = self.u32(what)?;
        if count > max {
            return Err(WireError::TooMany {
                what,
                value: u64::from(count),
                max: u64::from(max),
            });
        }
        let count = count as usize;
        self.need(count.saturating_mul(least), what)?;
        Ok(count)
    }

    /// The next `len` bytes; copied only if they lie in more than one piece.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn bytes(&mut self, len: usize, what: &'static str) -> Result<Bytes, WireError> {
        self.need(len, what)?;
        let within_one = self
            .pieces
            .first()
            .is_some_and(|piece| piece.len() - self.at >= len);
        if within_one || len == 0 {
            let mut shared = Bytes::new();
            self.each(len, |piece, from, to| shared = piece.slice(from..to));
            return Ok(shared);
        }
        let mut copied = BytesMut::with_capacity(len);
        self.each(len, |piece, from, to| {
            copied.extend_from_slice(&piece[from..to]);
        });
        Ok(copied.freeze())
    }

    /// The next `len` bytes as they lie, appended to `out`.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn share(
        &mut self,
        len: usize,
        out: &mut Vec<Bytes>,
        what: &'static str,
    ) -> Result<(), WireError> {
        self.need(len, what)?;
        self.each(len, |piece, from, to| out.push(piece.slice(from..to)));
        Ok(())
    }

    /// `u8 length, text`.
    ///
    /// # Errors
    /// [`WireError::Short`], [`WireError::NotUtf8`].
    pub fn short(&mut self, what: &'static str) -> Result<String, WireError> {
        let len = usize::from(self.u8(what)?);
        self.utf8(len, what)
    }

    /// `u16 length, text`.
    ///
    /// # Errors
    /// [`WireError::Short`], [`WireError::NotUtf8`].
    pub fn text(&mut self, what: &'static str) -> Result<String, WireError> {
        let len = usize::from(self.u16(what)?);
        self.utf8(len, what)
    }

    fn utf8(&mut self, len: usize, what: &'static str) -> Result<String, WireError> {
        let bytes = self.bytes(len, what)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| WireError::NotUtf8 { what })?;
        Ok(text.to_owned())
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn end(&self, what: &'static str) -> Result<(), WireError> {
        match self.left {
            0 => Ok(()),
            bytes => Err(WireError::Trailing { what, bytes }),
        }
    }
}
