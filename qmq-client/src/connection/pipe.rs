//! A stream of frames in both directions.

use std::time::Duration;

use bytes::Bytes;
use qmq_wire::{Frame, FrameBuffer, WireError};
use quinn::{RecvStream, SendStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::link::Link;

/// Most bytes that a stream is asked for at once.
const READ_BYTES: usize = 1 << 20;
/// Most chunks that are written at once.
const WRITE_CHUNKS: usize = 1_024;

/// Why no more frames come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// The stream or its connection ended.
    #[error("{0}")]
    Stream(String),
    /// What came is no frame.
    #[error("the broker does not follow the protocol: {0}")]
    Wire(#[from] WireError),
}

enum Write {
    Chunks(Vec<Bytes>),
    Finish(oneshot::Sender<()>),
}

/// Sends frames. When it is dropped, the stream ends.
#[derive(Clone, Debug)]
pub(crate) struct PipeWriter {
    writes: mpsc::UnboundedSender<Write>,
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Write")
    }
}

impl PipeWriter {
    /// Sends bytes of whole frames behind all that were sent before. Whether they arrive shows in the answers.
    pub(crate) fn send(&self, chunks: Vec<Bytes>) {
        // A writer that is gone shows at the reader.
        let _ = self.writes.send(Write::Chunks(chunks));
    }

    /// Ends the stream and waits until the broker has everything, up to the limit.
    pub(crate) async fn finish(&self, limit: Duration) {
        let (done, finished) = oneshot::channel();
        let _ = self.writes.send(Write::Finish(done));
        let _ = timeout(limit, finished).await;
    }
}

/// Takes frames.
#[derive(Debug)]
pub(crate) struct PipeReader {
    stream: RecvStream,
    frames: FrameBuffer,
}

impl PipeReader {
    pub(crate) fn new(stream: RecvStream, frame_bytes_max: u32) -> Self {
        Self {
            stream,
            frames: FrameBuffer::new(frame_bytes_max),
        }
    }

    /// The next frame. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Frame, Lost> {
        loop {
            if let Some(frame) = self.frames.next()? {
                return Ok(frame);
            }
            match self.stream.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.frames.push(chunk.bytes),
                Ok(None) => return Err(Lost::Stream("the broker ended the stream".to_owned())),
                Err(error) => return Err(Lost::Stream(error.to_string())),
            }
        }
    }
}

/// Opens a stream for what one of the features is about.
pub(crate) async fn open(
    link: &Link,
    feature: u64,
    limit: Duration,
    frame_bytes_max: u32,
) -> Result<(PipeWriter, PipeReader), Lost> {
    if link.hello().features & feature == 0 {
        let node = &link.hello().node;
        return Err(Lost::Stream(format!(
            "node {node:?} does not do this; is it a broker?"
        )));
    }
    let (send, receive) = timeout(limit, link.connection().open_bi())
        .await
        .map_err(|_| Lost::Stream(format!("no stream was free within {limit:?}")))?
        .map_err(|error| Lost::Stream(error.to_string()))?;
    let (writes, queued) = mpsc::unbounded_channel();
    tokio::spawn(write(send, queued));
    Ok((
        PipeWriter { writes },
        PipeReader::new(receive, frame_bytes_max),
    ))
}

async fn write(mut stream: SendStream, mut queued: mpsc::UnboundedReceiver<Write>) {
    let mut chunks: Vec<Bytes> = Vec::new();
    while let Some(write) = queued.recv().await {
        let mut next = Some(write);
        while let Some(write) = next.take() {
            match write {
                Write::Chunks(more) => chunks.extend(more),
                Write::Finish(done) => {
                    if stream.write_all_chunks(&mut chunks).await.is_ok() && stream.finish().is_ok()
                    {
                        let _ = stream.stopped().await;
                    }
                    let _ = done.send(());
                    return;
                }
            }
            if chunks.len() < WRITE_CHUNKS {
                next = queued.try_recv().ok();
            }
        }
        // A lost stream is seen, and told, by the reader.
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        chunks.clear();
    }
}
