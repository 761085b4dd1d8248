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
//! | [`schedule`] | messages in that have a time | one thread schedules, and knows what it scheduled last |
//! | [`administer`] | what operators ask | the caller's thread, which must be one that may block |

pub mod administer;
mod caller;
pub mod consumers;
pub mod deliver;
mod gate;
mod histogram;
pub mod meta;
pub mod produce;
pub mod refusals;
pub mod schedule;

use std::any::Any;
use std::pin::Pin;

use bytes::Bytes;
use qmq_wire::{
    ControlRequest, ControlResponse, Interest, Produce, Produced, Refusal, Route, Scheduled,
};
use tokio::sync::watch;

pub use caller::Caller;
pub use gate::Gate;
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

/// What became of a PRODUCE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Appended, by a real-time broker.
    Produced(Produced),
    /// Kept until its time, by a delay server.
    Scheduled(Scheduled),
}

/// A room that takes messages.
pub trait TakesMessages: Send + Sync {
    /// Takes a request. `held` is dropped once it needs no memory of the door any more; `reply` is called once, from any thread, and does not block.
    fn submit(
        &self,
        produce: Produce,
        caller: &Caller,
        held: Box<dyn Any + Send>,
        reply: Box<dyn FnOnce(Taken) + Send>,
    );
}

/// A room that answers operators and other nodes.
pub trait AnswersControl: Send + Sync {
    /// Answers. Called on a thread that may block.
    ///
    /// # Errors
    /// A refusal with that number.
    fn answer(
        &self,
        number: u32,
        request: &ControlRequest,
        caller: &Caller,
    ) -> Result<ControlResponse, Refusal>;
}

/// A route that is being found.
pub type FindingRoute<'a> = Pin<Box<dyn Future<Output = Result<Route, Refusal>> + Send + 'a>>;

/// A room that knows the routes of subjects.
pub trait TellsRoutes: Send + Sync {
    /// A number that grows when a route may have changed.
    fn changes(&self) -> watch::Receiver<u64>;

    /// The answer to an interest, as it is now. May ask a database.
    fn route<'a>(&'a self, interest: &'a Interest, caller: &'a Caller) -> FindingRoute<'a>;
}
