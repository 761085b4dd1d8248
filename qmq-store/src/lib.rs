//! An embeddable, crash-safe message store: one log, many subjects, consumer groups without partitions.
//!
//! It is for programs that must not lose a message and do not want to run a server for it, and it is the engine of the `qmq` servers. One
//! process writes a store; others may read it at the same time. The model is that of Qunar's QMQ: a message has a subject, consumers of a
//! group share a subject's messages, and whoever asks gets the next ones. So consumers come and go without anything to rebalance.
//!
//! ```
//! use qmq_store::{Durability, Message, Options, PullRequest, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let (path, options) = (folder.path(), Options::with_segment_bytes(1 << 20));
//! let store = Store::open(path, options)?;
//!
//! // Synced unless asked otherwise; a caller may also append buffered and wait, or be called back, later.
//! store.append(&Message::new("order.changed", "4711").tag("paid"))?;
//! let at = store.append_with(&Message::new("order.changed", "4712"), Durability::Buffered)?;
//! store.wait(at.end_offset, Durability::Synced)?;
//!
//! // Bodies are borrowed from the log: nothing is copied.
//! let batch = store.pull(&PullRequest::new("order.changed", "ticket", "host-1"))?;
//! for one in &batch {
//!     let message = one.message()?;
//!     println!("{}: {:?}", message.sequence(), message.body());
//! }
//! store.ack(&batch)?;
//! store.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it is used
//!
//! * **Append**: [`Store::append`], [`Store::append_with`], and [`Store::append_batch`] for several messages, also of different subjects,
//!   that survive and become visible together. [`Store::wait`] blocks until an offset has reached a [`Durability`]; [`Store::when`] calls
//!   back instead. [`Store::submit`] is for messages that come encoded, from a network, and for who never wants to wait.
//! * **Pull**: [`Store::pull`] returns at once, [`Store::pull_wait`] blocks, [`Store::poll_pull`] takes a waker, for async shells, and a
//!   [`Waiting`] that gives it up when it is dropped. A group comes into being with its first pull. [`Records::payloads`] are what a
//!   server sends on: bytes of the log, shared.
//! * **Settle**: [`Store::ack`], [`Store::nack`], [`Store::copy_and_ack`] (to a retry or dead-letter subject, both or neither),
//!   [`Store::consumer_gone`], [`Store::reset`]. [`Store::holders`] says who holds messages. Nobody watches consumers behind the caller's back: [`Store::expire`], called on a timer,
//!   declares those gone whose lease is over.
//! * **Read** without a group: [`Store::read`], [`Store::tail`], [`Store::sequence_at_time`], [`Store::find_by_id`]; from another process,
//!   [`Store::open_read_only`].
//! * **Operate**: [`Store::stats`], [`Store::subject_stats`], [`Store::verify`], [`Store::scrub`], [`Store::backup`], and [`offline`] for
//!   a folder that no program has open. [`Store::open_report`] says what an open found.
//!
//! * **Replicate**, without sockets of its own: a master gives [`Store::raw`] ranges, [`Store::digest`]s and a [`Store::snapshot`]; a replica
//!   ([`Store::open_replica`], [`Store::install_replica`]) takes them with [`Store::append_raw`], serves reads, and becomes the master with
//!   [`Store::promote`]. [`Store::demote`] and [`Store::cut`] are the way back, [`Store::replace_raw`] repairs from the other side.
//!
//! All calls are synchronous and none needs a runtime. A [`Store`] is a handle: clone it and share it among threads. With
//! [`Background::Threads`], the default, the store has three threads of its own; with [`Background::Manual`] it has none, and the caller calls
//! [`Store::maintain`]. Time comes from [`Options::clock`], so that tests need not sleep.
//!
//! # What it promises
//!
//! 1. **Durability is what was asked for.** [`Durability::Buffered`] survives the death of the process at any instruction,
//!    [`Durability::Synced`] a loss of power. Appends are synced by default; acks and pulls are buffered, so a loss of power may hand a
//!    message out twice, and never skips one.
//! 2. **Order.** Within a subject, sequences are dense from 0, and messages are never reordered or changed.
//! 3. **A batch is one thing**: a crash keeps all of it or nothing.
//! 4. **Damage is reported, and costs only what it hit.** Every record has checksums of header and body. A damaged message comes as
//!    [`Damaged`] in its place; it is neither skipped nor does it stop those behind it.
//! 5. **A failed write or sync poisons the store for writing** ([`Error::Poisoned`]): nothing claims success any more. Reads go on.
//! 6. **A full disk is an error value** ([`Error::DiskFull`]), never a signal: blocks are allocated before they are stored into. A reserve
//!    keeps acks and pulls going for a while when appends are refused.
//! 7. **Redelivery, not loss.** What a dead consumer held goes to the others of its group. An ack that comes too late says so
//!    ([`AckOutcome::not_owned`], [`Error::StaleIncarnation`]) and settles nothing.
//! 8. **Many subjects are cheap.** There is no file, no mapping and no descriptor per subject or group.
//! 9. **Names from outside are never paths**, and everything that can grow has a limit in [`Options`].
//! 10. **A replica has the same byte at every offset** as its master, and takes none that does not follow. A log that was cut back never revives, and
//!     what was cut off is kept in a file.
//!
//! What it does not do: it does not detect duplicates of a producer that sends again, it keeps no order among the consumers of a group, and
//! it deletes by age, size and free space only, whole segments at a time. A disk that fails to give a mapped page back kills the process
//! (`SIGBUS`), as with any store that reads through mappings; opening, verifying and repairing read by calls and get an error.
//!
//! `docs/format.md` has the files byte by byte, `docs/durability.md` what survives what, `docs/decisions` the reasons.
//!
//! # Where things are
//!
//! | module | what it is about |
//! |---|---|
//! | `store`, `append`, `submit`, `put`, `wait` | the handle: open, append, close; waiting until what was appended is safe |
//! | `options`, `error`, `clock` | limits and choices, what can go wrong, time as a parameter |
//! | `log` | who stores: the bytes of a record, segments, the one writer, group commit |
//! | `index` | who finds: subject and sequence to a place in the log, in memory and sealed |
//! | `consume` | who consumes: groups, pull logs, redelivery, waking those who wait |
//! | `keep` | who keeps house: checkpoints, recovery, sealing, retention, verification, backup, following |
//! | `replicate` | raw ranges out and in, epochs, roles, cuts, snapshots, repair from another store |
//! | `read`, `records` | reading without a group, messages on their way out |
//! | `notes` | what who submits messages had written with them, read back |
//! | [`offline`] | a folder that no program has open: inspect, verify, repair, dump |
//! | [`disk`] | what the engine asks of a disk; the mapped one has the only `unsafe`; a simulated one behind the feature `simulation` |
//!
//! The feature `simulation` adds a disk in memory that keeps after a crash only what a real one may keep. It changes nothing else, and is
//! for the tests of this crate and of those built on it.

mod append;
mod clock;
mod consume;
pub mod disk;
mod error;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod keep;
mod le;
mod log;
mod notes;
pub mod offline;
mod options;
mod put;
mod read;
mod records;
mod replicate;
mod store;
mod submit;
mod wait;

pub use append::{Appended, AppendedBatch};
pub use clock::{Clock, ManualClock, SystemClock};
pub use consume::settle::{Expired, ResetTo};
pub use consume::{
    AckOutcome, Batch, GroupKind, Holder, Member, PollPull, PullRequest, Start, Waiting,
};
pub use error::{Error, OpenError};
pub use keep::backup::BackupReport;
pub use keep::damage::{Damage, DamageKind};
pub use keep::follow::{FOLLOW_INTERVAL, ReadOnlyStore};
pub use keep::recovery::OpenReport;
pub use keep::stats::{ConsumerStats, GroupStats, StoreStats, SubjectStats};
pub use keep::verify::VerifyReport;
pub use log::commit::Watermarks;
pub use log::epochs::Epoch;
pub use notes::Noted;
pub use options::{
    Background, Durability, Options, OptionsError, Retention, RetentionHold, VisibleAt,
};
pub use qmq_message::{self as message, Message, TagFilter};
pub use read::Tail;
pub use records::{Damaged, Delivered, MessageView, Payload, Records};
pub use replicate::{
    LostTail, PRIMARY_NAME_BYTES_MAX, PrimaryFile, PrimaryFiles, PrimarySet, RawRange,
    ReplicaError, Snapshot,
};
pub use store::Store;
pub use submit::Submission;

/// The example of the README is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
