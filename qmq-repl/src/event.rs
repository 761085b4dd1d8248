//! What a member tells whoever drives it.

use thiserror::Error;

use crate::frame::FrameError;
use crate::log::LogError;
use crate::message::Refused;
use crate::options::Peer;

/// What has happened, or is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A candidate wants an epoch of the authority: one greater than this, and granted to nobody else. Answer with
    /// [`crate::Node::epoch_granted`] or [`crate::Node::epoch_denied`].
    EpochWanted {
        /// The greatest that is known here.
        above: u64,
    },
    /// A member with nothing on its disk, which may have held a promise, wants to know the greatest epoch that the authority has ever granted, or 0. Answer with
    /// [`crate::Node::latest_epoch`]; it is asked again after `retry`.
    LatestEpochWanted,
    /// This member is master from now on. The log takes appends.
    Promoted {
        /// Its epoch.
        epoch: u64,
        /// End of the epoch's record.
        end: u64,
    },
    /// This member was to become master and did not.
    PromotionFailed(PromotionError),
    /// This member is master no more: a greater epoch has been promised. The log refuses appends, nothing more is acknowledged.
    Deposed {
        /// The greater epoch.
        by: u64,
    },
    /// This slave follows.
    Following {
        /// Whom.
        master: Peer,
        /// In which epoch.
        epoch: u64,
        /// From where on.
        at: u64,
    },
    /// What this log had and the master's has not went into a file.
    LostTail {
        /// Its begin.
        from: u64,
        /// Its end.
        to: u64,
    },
    /// This slave has begun anew with a snapshot.
    Installed {
        /// The log begins here.
        base: u64,
    },
    /// Files beside the log, for a slave that asks for them, could not be read.
    FilesNotRead {
        /// Why.
        error: String,
    },
    /// Files beside the log could not be taken. They are fetched again, a while later.
    FilesNotTaken {
        /// Why.
        error: String,
    },
    /// The master has not been heard of. This slave goes on asking.
    MasterGone {
        /// Which member.
        master: Peer,
    },
    /// A slave has come, and gets the log.
    SlaveCame {
        /// Which member.
        slave: Peer,
        /// From where on.
        at: u64,
    },
    /// A slave wants a snapshot, and none can be made: the slave stays out until one can. It is tried again after `silence`.
    NoSnapshot {
        /// Which member.
        slave: Peer,
        /// Why.
        error: LogError,
    },
    /// A slave has not been heard of.
    SlaveGone {
        /// Which member.
        slave: Peer,
    },
    /// Something written, the epoch's own record too, has waited for slaves for longer than `slave_sync_timeout`. Until [`Event::EnoughInSync`] the log
    /// refuses whoever waits for them ([`crate::MasterLog::too_few_in_sync`]; a store with [`qmq_store::Error::TooFewInSync`]), so that nobody waits
    /// longer than this for slaves that do not come. Better refuse appends that would before they are written.
    TooFewInSync {
        /// Slaves that keep up.
        in_sync: usize,
        /// How many must.
        needed: usize,
        /// What was written before this has waited too long.
        before: u64,
    },
    /// Enough slaves keep up again.
    EnoughInSync,
    /// The lease has run out, or a switch has begun: the log refuses appends.
    Paused,
    /// The log takes appends again.
    Resumed,
    /// A planned switch: the other member has everything and was asked to be master.
    HandedOver {
        /// To whom.
        to: Peer,
        /// The end of the log.
        end: u64,
    },
    /// A planned switch did not come about in time. This member goes on as master.
    SwitchFailed {
        /// Who was to be master.
        to: Peer,
    },
    /// Damaged units, which are fetched from another member.
    Damaged {
        /// Begin of the first.
        from: u64,
        /// Begin of the next good one.
        to: u64,
    },
    /// Damaged units have been replaced.
    Healed {
        /// Begin of the first.
        from: u64,
        /// End of the last.
        to: u64,
    },
    /// Damaged units could not be fetched: no member that can be reached has them whole.
    NotHealed {
        /// Begin of the first.
        from: u64,
        /// Begin of the next good one.
        to: u64,
    },
    /// A comparison is over.
    Scrubbed {
        /// With whom.
        peer: Peer,
        /// What became of it.
        outcome: Scrubbed,
    },
    /// Two members have different bytes where they should have the same, and both are whole. Somebody must decide which is right.
    Conflict {
        /// The other member.
        peer: Peer,
        /// The first such offset that is known.
        offset: u64,
    },
    /// A member has refused.
    Refused {
        /// Which.
        peer: Peer,
        /// Why.
        reason: Refused,
    },
    /// Bytes came that are no frame. Close the connection.
    BadFrame {
        /// From whom.
        peer: Peer,
        /// What is wrong.
        error: FrameError,
    },
    /// The log has refused what the master sent. It is fetched again, a while later.
    AppendRefused {
        /// Why.
        error: LogError,
    },
    /// The log has failed. This member acknowledges and promises nothing more; open the log anew.
    LogFailed {
        /// Why.
        error: LogError,
    },
}

/// How a comparison ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// Both have the same bytes, after as many ranges were healed here.
    Equal {
        /// Ranges replaced here.
        healed: u32,
    },
    /// The first byte that differs; both sides are whole.
    Differs {
        /// Its offset, to the granule.
        offset: u64,
    },
    /// The other side does not answer, or has not that range.
    GaveUp,
}

/// Why a member did not become master.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PromotionError {
    /// The authority granted no epoch that is great enough.
    #[error("the authority has granted no epoch above {above}; ask again")]
    NoEpoch {
        /// The greatest that is known here.
        above: u64,
    },
    /// This member is new, or has lost its disk.
    #[error(
        "this member's log is new, so it cannot say what was acknowledged; let it follow a master, promote another one, or, in a new group, promote with accept_loss"
    )]
    Blank,
    /// Too few members answered.
    #[error(
        "{answered} of {needed} members have answered (itself included), so what was acknowledged may be on others; bring them back, or promote with accept_loss"
    )]
    TooFewAnswers {
        /// How many answered, this one included.
        answered: usize,
        /// How many must.
        needed: usize,
    },
    /// Another member has more of the log, and it could not be fetched.
    #[error(
        "member {peer:?} has the log up to {end} in epoch {epoch}, further than this one; promote that one"
    )]
    Behind {
        /// Which.
        peer: Peer,
        /// The last epoch in its log.
        epoch: u64,
        /// The end of its log.
        end: u64,
    },
    /// The log begins anew and the files beside it have not come.
    #[error(
        "the files beside this member's log have not all come; let it follow its master, promote another one, or accept that what is in them is lost with accept_loss"
    )]
    FilesMissing,
    /// This member began anew with a snapshot, and its log has not come as far as that.
    #[error(
        "this member began anew with a snapshot as of {needed}, and its log ends at {end}; let it follow a master, or promote another one"
    )]
    Unfinished {
        /// End of the log.
        end: u64,
        /// Where it must reach.
        needed: u64,
    },
    /// A greater epoch has been promised meanwhile.
    #[error("epoch {by} has been promised meanwhile; follow its master, or ask again")]
    Overtaken {
        /// That epoch.
        by: u64,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why the master takes no appends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotAccepting {
    /// This member is no master.
    #[error("this member is no master; ask for the group's master again")]
    NotMaster,
    /// Its lease has run out.
    #[error(
        "too few slaves have answered within fence_lease; another master may have been made, ask for the group's master again"
    )]
    LeaseRanOut,
    /// A planned switch is under way.
    #[error("the role of master is handed to another member; try again in a second")]
    Switching,
}

/// Why a planned switch does not begin.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SwitchError {
    /// This member is no master.
    #[error("this member is no master; ask the master to switch")]
    NotMaster,
    /// The other does not follow.
    #[error("that member does not follow in this epoch; start it, and wait until it has caught up")]
    NotFollowing,
    /// The other is too far behind.
    #[error("that member is {bytes} bytes behind, more than a window; wait until it has caught up")]
    Behind {
        /// By so much.
        bytes: u64,
    },
}
