//! What members say to each other.

use std::time::Duration;

use bytes::Bytes;
use qmq_store::{PrimaryFile, PrimarySet};

use crate::log::Epoch;

/// See the variants. "m" and "s" in their first word say who sends it: master, slave, or any member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// s: would follow.
    Hello(Hello),
    /// m: the master's log, for the slave to find where the two part.
    Welcome {
        /// Of the [`Hello`] that this answers.
        nonce: u64,
        /// [`crate::Log::id`] of the master's log.
        log_id: u128,
        /// Start of the master's log.
        start: u64,
        /// Its end.
        written: u64,
        /// Its epochs.
        epochs: Vec<Epoch>,
    },
    /// any: no, and why.
    Refused(Refused),
    /// s: follows from here on.
    Follow {
        /// End of what both have.
        at: u64,
        /// Where the compared part of it begins.
        from: u64,
        /// The slave's digest of that part.
        digest: u64,
    },
    /// m: the digests are equal; what the slave has behind `at` is to go.
    Start {
        /// As in [`Message::Follow`].
        at: u64,
    },
    /// m: bytes of the log.
    Data {
        /// Where they belong.
        offset: u64,
        /// So many bytes of a long unit follow in the next frames; 0 at the end of a unit.
        rest: u32,
        /// Whole units, or a piece of a long one.
        bytes: Bytes,
    },
    /// s: how far it is.
    Ack {
        /// End of what it has written.
        buffered: u64,
        /// End of what it has synced.
        synced: u64,
        /// End of what has come: pieces of a long unit stand between `buffered` and this.
        received: u64,
        /// `sent` of the latest heartbeat; 0 before the first. With a lease this grants it.
        echo: Duration,
        /// Something came that does not fit to `buffered`: the master goes back there.
        gap: bool,
        /// Files beside the log are missing that have what the log has not: so nothing counts yet.
        partial: bool,
    },
    /// m: how far the master is. In session 0 it tells a member that there is this master.
    Heartbeat {
        /// The master's clock.
        sent: Duration,
        /// End of what it has written.
        written: u64,
        /// End of what it has synced.
        synced: u64,
        /// End of what enough slaves have.
        replicated: u64,
        /// The lease that it asks for; zero without one.
        lease: Duration,
        /// Version of its set of files beside the log; 0 if it keeps none.
        files: u64,
    },
    /// s: wants a snapshot, or has so much of it.
    SnapshotAsk {
        /// Which one; 0 for any.
        base: u64,
        /// Checksum of that one.
        crc: u32,
        /// So many bytes of it are there.
        have: u64,
    },
    /// m: a piece of a snapshot.
    SnapshotPiece {
        /// The log that belongs to it begins here.
        base: u64,
        /// CRC-32 of the whole.
        crc: u32,
        /// Bytes of the whole.
        total: u64,
        /// Where the piece belongs.
        offset: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// m: you have everything, be master.
    HandOver {
        /// The end of the log.
        end: u64,
        /// By the master's clock: too late then.
        until: Duration,
    },
    /// s: which files are beside the log?
    FilesAsk,
    /// m: these.
    Files(PrimarySet),
    /// s: wants a part of a file.
    PartAsk {
        /// Answered with it.
        ticket: u64,
        /// Which.
        file: PrimaryFile,
        /// Where the part begins.
        offset: u64,
        /// Bytes of it.
        len: u32,
        /// CRC-32 of what the slave has there.
        crc: Option<u32>,
    },
    /// m: the part.
    Part {
        /// Of the question.
        ticket: u64,
        /// What there is.
        found: FilePart,
    },
    /// any: a candidate asks for the promise of the frame's epoch.
    PromiseAsk,
    /// any: promised, durably.
    Promised(Standing),
    /// any: what is the digest of this range?
    DigestAsk(Range),
    /// any: the digest.
    DigestSay {
        /// Of the question.
        ticket: u64,
        /// `None` if the bytes are not there or cannot be read.
        digest: Option<u64>,
    },
    /// any: look whether your copy of this range is whole, and heal it if not.
    CheckAsk(Range),
    /// any: whether it is whole.
    CheckSay {
        /// Of the question.
        ticket: u64,
        /// What was found.
        found: Found,
    },
    /// any: send the units at this offset.
    UnitsAsk {
        /// Answered with it.
        ticket: u64,
        /// Where they begin.
        offset: u64,
        /// So many bytes of a long unit are there already.
        skip: u32,
        /// As many units as fit into so many bytes, and one at least.
        max: u32,
    },
    /// any: units, or a piece of a long one.
    Units {
        /// Of the question.
        ticket: u64,
        /// Where the units begin.
        offset: u64,
        /// So many bytes stand before the piece.
        skip: u32,
        /// Bytes of the units; 0 if they are not there.
        total: u32,
        /// The piece.
        bytes: Bytes,
    },
}

/// A part of a file beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilePart {
    /// The file is gone; ask which there are now.
    Gone,
    /// The slave has the same.
    Same,
    /// The bytes.
    Bytes(Bytes),
}

/// Who a slave is and what its log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest version of the protocol that it speaks.
    pub version_min: u8,
    /// Newest one.
    pub version_max: u8,
    /// [`crate::Log::id`] of its log; 0 if there is nothing in it.
    pub log_id: u128,
    /// [`crate::Group::name`].
    pub group: String,
    /// Its name.
    pub node: String,
    /// Told back in the answer.
    pub nonce: u64,
    /// Start of its log.
    pub start: u64,
    /// End of what it has written.
    pub written: u64,
    /// End of what it has synced.
    pub synced: u64,
    /// The epochs of its log.
    pub epochs: Vec<Epoch>,
}

/// How far a member is, and what it has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// [`crate::Log::id`] of its log; 0 if there is nothing in it.
    pub log_id: u128,
    /// Start of its log.
    pub start: u64,
    /// Its end; everything before is synced.
    pub end: u64,
    /// So long the lease may last that it has granted.
    pub lease_left: Duration,
    /// What its answer is worth.
    pub memory: Memory,
    /// The epochs of its log.
    pub epochs: Vec<Epoch>,
}

impl Standing {
    /// What decides who is the most advanced.
    #[must_use]
    pub fn rank(&self) -> (u64, u64) {
        // Epochs that begin behind the end are told by a snapshot: the log has nothing of them.
        let last = self.epochs.iter().rfind(|epoch| epoch.start < self.end);
        (last.map_or(0, |epoch| epoch.number), self.end)
    }
}

/// Whether a member still has what it ever acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// It has all of it.
    Whole,
    /// It is beginning anew with another member's log, and has not caught up yet.
    Partial,
    /// It has never promised anything: it is new, or has lost its disk.
    Blank,
}

/// A question about a range of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Answered with it.
    pub ticket: u64,
    /// Its first byte.
    pub from: u64,
    /// One behind its last.
    pub to: u64,
}

/// What a member found when it looked at its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// All units are good.
    Good,
    /// Some are not; it fetches them.
    Damaged,
    /// It does not have that range.
    NotHere,
}

/// Why a member says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// No version that both speak.
    Version {
        /// Oldest that is spoken here.
        min: u8,
        /// Newest one.
        max: u8,
    },
    /// Another group.
    OtherGroup,
    /// Another log.
    OtherLog,
    /// Another name than the group has in that place.
    OtherName,
    /// A greater epoch has been promised.
    OldEpoch {
        /// That one.
        promised: u64,
    },
    /// No master here.
    NotMaster,
    /// The session is over; begin with a hello.
    NoSession,
    /// The digests of what should be common differ.
    Differs,
    /// The slave has more of the master's own epoch than the master, or asks for what its log cannot have.
    Conflict,
}
