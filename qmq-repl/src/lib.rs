//! Replication.

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
mod scrub;
mod slave;
mod units;

pub use event::{Event, NotAccepting, PromotionError, Scrubbed, SwitchError};
pub use frame::{BODY_BYTES_MAX, Frame, FrameError, FrameReader, HEADER_BYTES, VERSION};
pub use lag::SlaveLag;
pub use log::{Epoch, Log, LogError, MasterLog, SlaveLog, Snapshot};
pub use message::{Found, Hello, Memory, Message, Range, Refused, Standing};
pub use node::{Node, Role};
pub use options::{
    AckPolicy, FRAME_DATA_MAX, Group, MEMBERS_MAX, NAME_BYTES_MAX, Options, OptionsError, Peer,
};
pub use slave::MasterMarks;
