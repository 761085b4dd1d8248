//! Records on their way into a file in one piece.
//!
//! Headers and short bodies are gathered in memory; a long piece of a body stays where it lies, and is written from there.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::part::Body;
use super::segment::ActiveFile;

/// From so many bytes on a piece is written from where it lies. Of shorter ones, to name each to the system gained nothing over copying them.
const PIECE_WORTH: usize = 1 << 10;
/// Memory is kept for the next time up to this.
const KEPT: usize = 4 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// All but the long pieces.
    bytes: Vec<u8>,
    /// Long pieces, and how many of `bytes` stand before each.
    pieces: Vec<(usize, Bytes)>,
    /// Bytes in both.
    len: usize,
}

impl Gather {
    #[inline]
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
        self.len = 0;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Bytes gathered by now.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Lets `write` append to what is gathered.
    #[inline]
    pub(super) fn add<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.bytes.len();
        let result = write(&mut self.bytes);
        self.len += self.bytes.len() - before;
        result
    }

    #[inline]
    pub(super) fn add_body(&mut self, body: &Body<'_>) {
        let (own, shared) = body.parts();
        self.bytes.extend_from_slice(own);
        for piece in shared {
            if piece.len() >= PIECE_WORTH {
                self.pieces.push((self.bytes.len(), piece.clone()));
            } else {
                self.bytes.extend_from_slice(piece);
            }
        }
        self.len += body.len();
    }

    /// Fills up with zeros to a length of `len`.
    #[inline]
    pub(super) fn pad(&mut self, len: usize) {
        let missing = len.saturating_sub(self.len);
        self.add(|bytes| bytes.resize(bytes.len() + missing, 0));
    }

    /// The first bytes gathered, to be written over.
    pub(super) fn head(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[..len]
    }

    /// Writes all to position `at`, by a call, and lets go of it.
    pub(super) fn write(&mut self, active: &ActiveFile, at: u64) -> io::Result<()> {
        let outcome = if self.pieces.is_empty() {
            active.file.write_at(&self.bytes, at)
        } else {
            let mut slices: Vec<IoSlice<'_>> = self.runs().map(IoSlice::new).collect();
            active.file.write_pieces_at(&mut slices, at)
        };
        self.clear();
        outcome
    }

    /// Stores all at position `at`, through memory, and lets go of it.
    #[inline]
    pub(super) fn store(&mut self, active: &ActiveFile, at: u64) {
        if self.pieces.is_empty() {
            active.file.store(&active.region, at, &self.bytes);
        } else {
            let mut at = at;
            for run in self.runs() {
                active.file.store(&active.region, at, run);
                at += run.len() as u64;
            }
        }
        self.clear();
    }

    /// What is gathered, in order.
    fn runs(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let cut = self.pieces.iter().flat_map(move |(until, piece)| {
            let before = &self.bytes[from..*until];
            from = *until;
            [before, &piece[..]]
        });
        let last = self.pieces.last().map_or(0, |(until, _)| *until);
        cut.chain([&self.bytes[last..]])
            .filter(|run| !run.is_empty())
    }
}
