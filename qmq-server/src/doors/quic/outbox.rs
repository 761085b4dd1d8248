//! What waits to go out on a stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use qmq_wire::CloseCode;
use quinn::{Connection, SendStream};
use tokio::sync::Notify;

use super::progress::Progress;
use crate::rooms::Outlet;

/// Chunks that are given to the connection in one call.
const CHUNKS_TOGETHER: usize = 256;

/// See the module. Rooms fill it from their threads, one task empties it.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    waiting: AtomicUsize,
    changed: Notify,
    /// Somebody waits for room.
    wanted: AtomicBool,
    /// Some of it has left.
    left: Notify,
    /// The stream takes no more.
    lost: Notify,
    /// What waits in all outboxes of the door.
    all: Arc<AtomicU64>,
    frame_bytes_max: u32,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Small frames behind the chunks: many answers of one moment leave as one chunk.
    tail: BytesMut,
    /// Nothing comes behind what is there.
    closed: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.chunks.push_back(tail);
        }
    }
}

impl Outlet for Outbox {
    fn put(&self, chunks: &mut Vec<Bytes>) {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let mut state = self.state.lock();
        if state.closed {
            chunks.clear();
            return;
        }
        self.waiting.fetch_add(bytes, Ordering::AcqRel);
        self.all.fetch_add(bytes as u64, Ordering::Relaxed);
        let was_empty = state.is_empty();
        state.end_tail();
        state.chunks.extend(chunks.drain(..));
        drop(state);
        if was_empty {
            self.changed.notify_one();
        }
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn frame_bytes_max(&self) -> u32 {
        self.frame_bytes_max
    }

    fn want_room(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let left = *self.waiting.get_mut() as u64;
        self.all.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Outbox {
    /// One whose bytes are counted in `all` as well, to an end that takes payloads of `frame_bytes_max` bytes.
    pub(super) fn new(all: Arc<AtomicU64>, frame_bytes_max: u32) -> Self {
        Self {
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            wanted: AtomicBool::new(false),
            left: Notify::new(),
            lost: Notify::new(),
            all,
            frame_bytes_max,
        }
    }

    /// Puts one small frame, or several, encoded by `fill`, which appends, and does nothing else.
    pub(super) fn frame(&self, fill: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let was_empty = state.is_empty();
        let before = state.tail.len();
        fill(&mut state.tail);
        let bytes = state.tail.len() - before;
        self.waiting.fetch_add(bytes, Ordering::AcqRel);
        self.all.fetch_add(bytes as u64, Ordering::Relaxed);
        drop(state);
        if was_empty {
            self.changed.notify_one();
        }
    }

    /// What is there still goes out, then the stream ends.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// Takes what waits; `false`: nothing will come any more.
    async fn take(&self, into: &mut Vec<Bytes>) -> bool {
        loop {
            {
                let mut state = self.state.lock();
                state.end_tail();
                let count = state.chunks.len().min(CHUNKS_TOGETHER);
                into.extend(state.chunks.drain(..count));
                if state.chunks.is_empty() {
                    state.chunks = VecDeque::new();
                }
                if !into.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until no more than so many bytes wait. For one task at a time.
    pub(super) async fn below(&self, bytes: usize) {
        while self.waiting() > bytes {
            self.left.notified().await;
        }
    }

    /// Waits until the stream takes no more: the other end reads it no longer.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Carries what comes to the stream until the outbox is closed and all has arrived, or the stream fails. `room` is called when somebody waits
    /// for room and only `low()` bytes are left. A stream of which the other end takes nothing for `stall` takes its connection down: what it would carry
    /// is kept in memory for nothing.
    pub(super) async fn carry(
        &self,
        stream: SendStream,
        connection: &Connection,
        stall: Duration,
        low: impl Fn() -> usize,
        room: impl FnMut(),
    ) {
        let progress = Progress::default();
        tokio::select! {
            biased;
            () = self.give(stream, &progress, low, room) => {}
            () = progress.stalled(stall) => {
                let why = b"nothing was taken for connection.stall.ms";
                connection.close((CloseCode::Stalled as u32).into(), why);
                self.give_up();
            }
        }
    }

    async fn give(
        &self,
        mut stream: SendStream,
        progress: &Progress,
        low: impl Fn() -> usize,
        mut room: impl FnMut(),
    ) {
        loop {
            // Made anew each time: most streams are idle, and keep no room for many chunks.
            let (mut chunks, mut pieces) = (Vec::new(), Vec::new());
            if !self.take(&mut chunks).await {
                break;
            }
            progress.telling(&mut chunks, &mut pieces);
            drop(chunks);
            let mut at = 0;
            while at < pieces.len() {
                let Ok(written) = stream.write_chunks(&mut pieces[at..]).await else {
                    return self.give_up();
                };
                at += written.chunks;
                self.waiting.fetch_sub(written.bytes, Ordering::SeqCst);
                self.all.fetch_sub(written.bytes as u64, Ordering::Relaxed);
                self.left.notify_one();
                if self.waiting() <= low() && self.wanted.swap(false, Ordering::SeqCst) {
                    room();
                }
            }
        }
        if stream.finish().is_ok() {
            let _ = stream.stopped().await;
        }
    }

    fn give_up(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.chunks.clear();
        state.tail.clear();
        drop(state);
        self.lost.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_in_all_of_them_is_counted_until_they_are_gone() {
        let all = Arc::<AtomicU64>::default();
        let (one, other) = (
            Outbox::new(Arc::clone(&all), u32::MAX),
            Outbox::new(Arc::clone(&all), u32::MAX),
        );
        one.put(&mut vec![Bytes::from_static(b"four")]);
        other.put(&mut vec![Bytes::from_static(b"seventy")]);
        assert_eq!(all.load(Ordering::Relaxed), 11);
        drop(one);
        assert_eq!(all.load(Ordering::Relaxed), 7);
        other.close();
        other.put(&mut vec![Bytes::from_static(b"too late")]);
        assert_eq!(all.load(Ordering::Relaxed), 7);
    }
}
