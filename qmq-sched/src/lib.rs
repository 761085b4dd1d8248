//! A delay scheduler on [`qmq_store`]: messages for any later time, with memory that follows the near future.
//!
//! ```
//! use qmq_sched::{Cancelled, Message, Options, Scheduler};
//! use qmq_store::{RetentionHold, Store, disk::MappedDisk};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let (log, index) = (folder.path().join("log"), folder.path().join("index"));
//! # let now = 1_800_000_000_000;
//! // What is pending is held back from the store's retention.
//! let hold = Some(RetentionHold::default());
//! let options = qmq_store::Options { retention_hold: hold, ..qmq_store::Options::with_segment_bytes(1 << 20) };
//! let store = Store::open(log, options)?;
//! let scheduler = Scheduler::open(store, MappedDisk::open(&index, true)?, Options::default())?;
//!
//! let reminder = scheduler.schedule(now, &Message::new("reminder", "check in"))?;
//! let payment = scheduler.schedule(now + 900_000, &Message::new("order.timeout", "4711"))?;
//! assert_eq!(scheduler.cancel(payment)?, Cancelled::Done);
//!
//! for fired in scheduler.due(now, 100)? {
//!     assert_eq!(fired.id, reminder);
//!     println!("{}: {:?}", fired.due_ms, fired.message?.body());
//!     scheduler.dispatched(&[fired.id])?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! Everything that happens is a message of one subject of the store's log, [`SUBJECT`]: scheduled, cancelled, rescheduled, handed out,
//! dispatched. The rest is derived from it: 32 bytes for each message in *runs*, files sorted by due time; two bits for each in its *bucket*
//! ([`Options::segment_scale_minute`]); and a *window* of the next entries in memory. A checkpoint lets an open begin where the last run ended.
//! Runs are never evidence: a damaged one is made anew from the log.
//!
//! # What it promises
//!
//! 1. What has been scheduled at some durability is handed out, at least once, unless it was cancelled.
//! 2. Never early, by the clock that the caller of [`Scheduler::due`] goes by.
//! 3. What was cancelled is not handed out afterwards, and what was recorded as dispatched is not handed out again. [`Scheduler::cancel`] and
//!    [`Scheduler::reschedule`] answer exactly: done, already fired (handed out), or unknown.
//! 4. Memory is bounded by [`Options`], whatever is pending; but for some 200 bytes for each bucket that has messages, and two bits for each message
//!    of a bucket in which some are no longer pending.
//!
//! All calls are synchronous. As the store, a scheduler has a thread for what may take longer, `qmq-spill`; with
//! [`qmq_store::Background::Manual`] it has none, and whoever fills the stage writes the run.

mod alarm;
mod apply;
mod backup;
mod bodies;
mod bucket;
mod change;
mod checkpoint;
mod core;
mod dispatch;
mod entry;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod keeper;
mod look;
mod needed;
mod options;
mod outlive;
mod pace;
mod primary;
mod rebuild;
mod recovery;
mod run;
mod scheduler;
mod spill;
mod stage;
mod totals;
mod window;

pub use dispatch::{Choice, Fired};
pub use error::Error;
pub use event::SUBJECT;
pub use id::{DelayId, ParseIdError};
pub use look::{Listed, Page, Scheduled, Standing};
pub use options::{Options, OptionsError};
pub use primary::IndexFiles;
pub use qmq_store::{BackupReport, Message};
pub use recovery::OpenReport;
pub use scheduler::{Cancelled, Scheduler};
pub use totals::Totals;
