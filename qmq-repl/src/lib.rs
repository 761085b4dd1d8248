//! Master and slaves of one log as a state machine: bytes and time in, bytes out.
//!
//! A [`Node`] is one member of a broker group. It has no socket, no thread and no clock, and it queues little: the log itself is read when a
//! connection has room. Whoever drives it passes in frames, the time, and word that the log has moved; and takes out frames, the time of
//! the next call, and events. The same code runs over QUIC and in a test with a virtual network.
//!
//! ```
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use qmq_repl::{Event, MasterLog, Node, Peer, SlaveLog};
//!
//! /// One turn of the loop that drives a member. Answers when the next one is due at the latest.
//! fn turn<L: MasterLog + SlaveLog>(
//!     node: &mut Node<L>,
//!     now: Duration,
//!     received: Vec<(Peer, Bytes)>,
//!     mut send: impl FnMut(Peer, Bytes),
//!     mut tell: impl FnMut(Event),
//! ) -> Option<Duration> {
//!     for (peer, frame) in received {
//!         node.handle(now, peer, &frame);
//!     }
//!     if node.poll_timeout().is_some_and(|at| at <= now) {
//!         node.handle_timeout(now);
//!     }
//!     while let Some((peer, frame)) = node.poll_transmit(now) {
//!         send(peer, frame);
//!     }
//!     while let Some(event) = node.poll_event() {
//!         tell(event);
//!     }
//!     node.poll_timeout()
//! }
//! ```
//!
//! A real connection has a limit: ask [`Node::poll_transmit_to`] for a peer while its connection takes more. Take in several frames before
//! [`Node::handle_timeout`]: a slave syncs there, once for all that has come.
//!
//! # The log
//!
//! A member works on anything that offers [`Log`], [`MasterLog`] and [`SlaveLog`]. Raw, verified bytes go over, so a slave's log is byte for byte
//! its master's; what is derived from the log each side builds by itself. Callers wait for the log's own watermarks:
//! [`MasterLog::advance_replicated`] moves the replicated one.
//!
//! Files that belong to the log and cannot be made from it ([`Log::files`]) are sent beside it.
//!
//! # Roles
//!
//! A member begins as a slave. Masters make themselves known, so a slave needs not be told whom to follow. [`Node::stand`] makes it a
//! candidate, which asks for an epoch ([`Event::EpochWanted`]): an authority grants each number once, and tells a member with an empty disk which was the
//! latest ([`Event::LatestEpochWanted`]). It becomes master when enough members
//! have promised that epoch, durably, and it has what the most advanced of them has. A master that hears of a greater epoch stops at once
//! ([`Event::Deposed`]) and follows. [`Node::switch_to`] hands the role over without loss.
//!
//! # What it promises
//!
//! 1. What was acknowledged as replicated is in the log of every later master, unless somebody promoted one with `accept_loss`, or more disks
//!    than `min_insync` were lost.
//! 2. No two members are master of one epoch, and one of an older epoch acknowledges nothing new as replicated. With
//!    [`Options::fence_lease`] it soon accepts nothing at all, and before another one does.
//! 3. A slave's log is a prefix of its master's before it counts. What it had beyond goes into a file, and is told ([`Event::LostTail`]).
//! 4. An end counts once the end of the record is there, as the slave has said in its present session, and as [`Options::ack_policy`] asks.
//! 5. A slave that is slow, stuck or gone costs a window of [`Options::window_bytes`], holds back [`Options::hold_bytes_max`] of the log, and
//!    blocks nobody. Too few of them are told after [`Options::slave_sync_timeout`], never passed off as success.
//! 6. Frames may be lost, doubled, late or forged: nothing is done twice, and what breaks a rule is refused. Lengths are checked
//!    before room is made.
//!
//! Why this holds: `docs/decisions/0014-replication.md`. The frames: `docs/protocol.md`.
//!
//! # Modules
//!
//! `node` (the calls), `core` (what every role has), `master` and its folder (letting slaves in, sending, snapshots, switching), `link` (one
//! slave), `lag` (who waits since when, rates), `slave` and its folder (following, intake, installing), `files` in both (what is beside the log), `candidate` (promotion), `scrub` and
//! `units` (comparing, healing), `history` (where logs part), `frame`, `message`, `wire` and `codec` (what is said, and its bytes), `log`, `store` and `place` (a store as a
//! member's log, and where it lives), `options`, `event`.

mod candidate;
mod codec;
mod core;
mod event;
mod frame;
mod history;
mod lag;
mod link;
mod log;
mod master;
mod message;
mod node;
mod options;
mod place;
mod scrub;
mod slave;
mod store;
mod units;
mod wire;

pub use event::{Event, NotAccepting, PromotionError, Scrubbed, SwitchError};
pub use frame::{BODY_BYTES_MAX, Frame, FrameError, FrameReader, HEADER_BYTES, VERSION};
pub use lag::SlaveLag;
pub use log::{Epoch, Log, LogError, MasterLog, SlaveLog, Snapshot};
pub use message::{FilePart, Found, Hello, Memory, Message, Range, Refused, Standing};
pub use node::{Node, Role};
pub use options::{
    AckPolicy, FRAME_DATA_MAX, Group, MEMBERS_MAX, NAME_BYTES_MAX, Options, OptionsError, Peer,
};
pub use place::Place;
pub use slave::MasterMarks;
pub use store::StoreLog;
