//! Whether what was given to a stream gets to the other end.
//!
//! A connection takes bytes long before the other end does, and keeps them until they are acknowledged. It does not say when that is, but it lets go of
//! them: so some of the pieces tell when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

/// Of so many bytes at least one piece tells. Whoever takes that much in the time for which it may stand still is not taken for one that has stalled.
const TELLING_BYTES: usize = 16 << 10;
/// A stream with something under way is looked at so often in the time for which it may stand still.
const LOOKS: u32 = 4;

/// See the module. For one stream, and the task that fills it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Pieces that will tell.
    given: AtomicU64,
    /// Those that have told.
    taken: Arc<AtomicU64>,
    /// Somebody looks, until nothing is under way.
    watched: AtomicBool,
    begun: Notify,
}

impl Progress {
    /// Moves `chunks` to `pieces`, which are for the stream; the last of them tells when it is taken.
    pub(super) fn telling(&self, chunks: &mut Vec<Bytes>, pieces: &mut Vec<Bytes>) {
        let mut silent = 0;
        for mut chunk in chunks.drain(..) {
            while chunk.len() > TELLING_BYTES {
                pieces.push(self.tells(chunk.split_to(TELLING_BYTES)));
                silent = 0;
            }
            silent += chunk.len();
            if silent >= TELLING_BYTES {
                chunk = self.tells(chunk);
                silent = 0;
            }
            pieces.push(chunk);
        }
        if silent > 0
            && let Some(last) = pieces.pop()
        {
            pieces.push(self.tells(last));
        }
        if !self.watched.swap(true, Ordering::Relaxed) {
            self.begun.notify_one();
        }
    }

    fn tells(&self, bytes: Bytes) -> Bytes {
        self.given.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Telling {
            bytes,
            taken: Arc::clone(&self.taken),
        })
    }

    /// Ends when something is under way of which nothing has been taken for `limit`, or little more. While nothing is, no timer runs.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            self.begun.notified().await;
            let mut looks = Looks::default();
            loop {
                tokio::time::sleep(limit / LOOKS).await;
                match looks.at(self) {
                    Seen::Nothing => {
                        self.watched.store(false, Ordering::Relaxed);
                        break;
                    }
                    Seen::GettingOn => {}
                    Seen::Stalled => return,
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing is under way.
    Nothing,
    GettingOn,
    Stalled,
}

/// What was seen. Looks are counted, not time: whoever was stopped for a while has not seen what came meanwhile.
#[derive(Debug, Default)]
struct Looks {
    before: (u64, u64),
    alike: u32,
}

impl Looks {
    fn at(&mut self, progress: &Progress) -> Seen {
        let given = progress.given.load(Ordering::Relaxed);
        let taken = progress.taken.load(Ordering::Acquire);
        if given == taken {
            return Seen::Nothing;
        }
        let now = (given, taken);
        self.alike = if now == self.before {
            self.alike + 1
        } else {
            0
        };
        self.before = now;
        if self.alike < LOOKS {
            Seen::GettingOn
        } else {
            Seen::Stalled
        }
    }
}

/// Tells when it is dropped.
struct Telling {
    bytes: Bytes,
    taken: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Telling {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.taken.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(progress: &Progress, mut chunks: Vec<Bytes>) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        progress.telling(&mut chunks, &mut pieces);
        pieces
    }

    fn under_way(progress: &Progress) -> u64 {
        progress.given.load(Ordering::Relaxed) - progress.taken.load(Ordering::Acquire)
    }

    #[test]
    fn pieces_are_the_bytes_that_came_and_tell_one_by_one() {
        let progress = Progress::default();
        let large = Bytes::from(vec![7; 3 * TELLING_BYTES + 5]);
        let mut pieces = telling(&progress, vec![Bytes::from_static(b"head"), large.clone()]);
        assert_eq!(pieces.concat(), [b"head", &large[..]].concat());
        assert_eq!(under_way(&progress), 4);
        pieces.drain(..2);
        assert_eq!(under_way(&progress), 3);
        // A part of a piece is not all of it.
        let rest = pieces[0].split_off(9);
        pieces.clear();
        assert_eq!(under_way(&progress), 1);
        drop(rest);
        assert_eq!(under_way(&progress), 0);
    }

    #[test]
    fn small_chunks_tell_together() {
        let progress = Progress::default();
        let pieces = telling(&progress, vec![Bytes::from_static(b"small"); 256]);
        assert_eq!((pieces.len(), under_way(&progress)), (256, 1));
    }

    #[test]
    fn what_is_not_taken_stalls_and_what_is_taken_bit_by_bit_does_not() {
        let progress = Progress::default();
        let mut looks = Looks::default();
        assert_eq!(looks.at(&progress), Seen::Nothing);
        let mut pieces = telling(&progress, vec![Bytes::from(vec![0; 10 * TELLING_BYTES])]);
        while !pieces.is_empty() {
            for _ in 0..LOOKS {
                assert_eq!(looks.at(&progress), Seen::GettingOn);
            }
            pieces.pop();
        }
        assert_eq!(looks.at(&progress), Seen::Nothing);
        let _pieces = telling(&progress, vec![Bytes::from_static(b"late")]);
        for _ in 0..LOOKS {
            assert_eq!(looks.at(&progress), Seen::GettingOn);
        }
        assert_eq!(looks.at(&progress), Seen::Stalled);
    }
}
