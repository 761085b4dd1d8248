//! placeholder

mod clock;
mod consume;
pub mod disk;
mod error;
mod index;
mod keep;
mod log;
pub mod offline;
mod options;
mod read;
mod records;
mod store;

pub use clock::{Clock, ManualClock, SystemClock};
pub use consume::pull::{Batch, Member, PollPull, PullRequest, Start};
pub use consume::settle::{Expired, ResetTo};
pub use consume::{AckOutcome, GroupKind};
pub use error::{Error, OpenError};
pub use keep::backup::BackupReport;
pub use keep::damage::{Damage, DamageKind};
pub use keep::follow::{FOLLOW_INTERVAL, ReadOnlyStore};
pub use keep::recovery::OpenReport;
pub use keep::stats::{ConsumerStats, GroupStats, StoreStats, SubjectStats};
pub use keep::verify::VerifyReport;
pub use log::commit::Watermarks;
pub use options::{Background, Durability, Options, OptionsError, Retention, VisibleAt};
pub use qmq_message::{self as message, Message, TagFilter};
pub use read::Tail;
pub use records::{Damaged, Delivered, MessageView, Records};
pub use store::{Appended, AppendedBatch, Store};
