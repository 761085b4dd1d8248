//! The rooms: what a broker does, whichever door a request came through.
//!
//! A room knows nothing of QUIC, of HTTP or of a runtime. It takes requests with a way to answer them, works on threads of its own, since the store
//! may touch the disk, and hands back bytes that lie in the log.
//!
//! | room | what it does | who owns what |
//! |---|---|---|
//! | [`produce`] | messages in | one thread owns the appends and what is remembered of producers |
//! | [`consumers`] | who consumes, what it holds, until when; acks and nacks | one thread owns the table |
//! | [`deliver`] | messages out, groups sharing fairly | worker threads take groups in turn |
//! | [`administer`] | what operators ask | the caller's thread, which must be one that may block |

pub mod administer;
mod caller;
pub mod consumers;
pub mod deliver;
mod histogram;
pub mod produce;
pub mod refusals;

use bytes::Bytes;

pub use caller::Caller;
pub use histogram::{Histogram, Observed};

/// Where a room puts what a stream is to carry.
pub trait Outlet: Send + Sync {
    /// Puts chunks behind what is there already; they are drained from `chunks`. Never blocks.
    fn put(&self, chunks: &mut Vec<Bytes>);

    /// Bytes that are waiting to be taken by the connection.
    fn waiting(&self) -> usize;

    /// Longest payload of a frame that the other end takes, in bytes.
    fn frame_bytes_max(&self) -> u32 {
        u32::MAX
    }

    /// Somebody waits for room: whoever empties the outlet says so once there is some.
    fn want_room(&self);

    /// Whether `max` bytes or more wait. If so, it is said when there is room again.
    fn is_full(&self, max: usize) -> bool {
        if self.waiting() < max {
            return false;
        }
        self.want_room();
        // It may have been emptied before that.
        self.waiting() >= max
    }
}
