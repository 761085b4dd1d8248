//! Frames from a stream.

use bytes::Bytes;
use qmq_wire::{Frame, FrameBuffer, WireError};
use quinn::{ReadError, RecvStream};

/// Chunks that are asked for at a time.
const CHUNKS: usize = 32;

/// Reads a stream's frames.
#[derive(Debug)]
pub(super) struct Frames {
    stream: RecvStream,
    buffer: FrameBuffer,
    chunks: Vec<Bytes>,
}

/// Why there are no more frames.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoFrame {
    /// The other end broke it off, or the connection is lost.
    #[error("the stream broke off: {0}")]
    Lost(#[from] ReadError),
    /// It does not follow the protocol.
    #[error(transparent)]
    Malformed(#[from] WireError),
}

impl Frames {
    pub(super) fn new(stream: RecvStream, frame_bytes_max: u32) -> Self {
        Self {
            stream,
            buffer: FrameBuffer::new(frame_bytes_max),
            chunks: vec![Bytes::new(); CHUNKS],
        }
    }

    /// The next frame; `None` when the other end has finished.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, NoFrame> {
        loop {
            if let Some(frame) = self.buffer.next()? {
                return Ok(Some(frame));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Length of the next frame, as soon as its header is here; `None` when the other end has finished.
    pub(super) async fn announced(&mut self) -> Result<Option<usize>, NoFrame> {
        loop {
            if let Some(len) = self.buffer.announced()? {
                return Ok(Some(len));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Bytes that have come and have not been given out.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.buffered()
    }

    /// Waits for more; `false` when the other end has finished.
    pub(super) async fn more(&mut self) -> Result<bool, NoFrame> {
        let Some(count) = self.stream.read_chunks(&mut self.chunks).await? else {
            return Ok(false);
        };
        for chunk in &mut self.chunks[..count] {
            self.buffer.push(std::mem::take(chunk));
        }
        Ok(true)
    }
}
