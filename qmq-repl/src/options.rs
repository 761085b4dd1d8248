//! Who is in the group, and what can be set.

use std::time::Duration;

use thiserror::Error;

use crate::scrub::STRIDE_BYTES;

/// A member of the group: its place in [`Group::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u16);

impl Peer {
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Most members that a group may have.
pub const MEMBERS_MAX: usize = 32;
/// Longest lease that a member grants or asks for: a day.
pub(crate) const LEASE_MAX: Duration = Duration::from_secs(86_400);
/// Longest name of a group or a member, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The members of a broker group: one of them is the master at a time, the others are slaves. All members must be told the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Names of all members, in the same order everywhere.
    pub members: Vec<String>,
    /// Which of them this one is.
    pub me: Peer,
    /// How many slaves must hold a message before it counts as replicated.
    pub min_insync: usize,
}

impl Group {
    /// How many members are slaves when one is master.
    #[must_use]
    pub fn slaves(&self) -> usize {
        self.members.len() - 1
    }

    /// How many members a candidate must hear from, itself included: slaves - `min_insync` + 1.
    ///
    /// A replicated message is on the master and on `min_insync` slaves, so on all but slaves - `min_insync` members. Of any
    /// slaves - `min_insync` + 1 members one has it.
    #[must_use]
    pub fn promotion_quorum(&self) -> usize {
        self.slaves() - self.min_insync + 1
    }

    /// A checksum of its name and its members, which every frame carries: whoever was told otherwise is refused before anything else is looked at.
    #[must_use]
    pub fn tag(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        for name in std::iter::once(&self.name).chain(&self.members) {
            crc.update(&(name.len() as u32).to_le_bytes());
            crc.update(name.as_bytes());
        }
        crc.finalize()
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = Peer> + use<> {
        let me = self.me;
        (0..self.members.len() as u16)
            .map(Peer)
            .filter(move |&peer| peer != me)
    }
}

/// Which of a slave's two ends counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPolicy {
    /// What it has written, though a loss of its power may take it.
    Buffered,
    /// What it has synced.
    #[default]
    Synced,
}

/// What can be set. Times are of the clock that the caller passes in as `now`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which end of a slave counts.
    pub ack_policy: AckPolicy,
    /// Bytes on their way to a slave: sent, and not acknowledged as written. One record more may be on its way.
    pub window_bytes: u64,
    /// Bytes of the log in a frame. 1 MiB at most.
    pub frame_bytes: usize,
    /// Longest record or batch, in bytes, that is taken from a peer.
    pub unit_bytes_max: u32,
    /// Longest snapshot, in bytes, that is taken from a peer. It is in memory while it comes.
    pub snapshot_bytes_max: u64,
    /// A replicated append that has not got there after this time finds [`crate::Event::TooFewInSync`].
    pub slave_sync_timeout: Duration,
    /// How often each side says how far it is.
    pub heartbeat: Duration,
    /// A peer that has not been heard of for this time is gone.
    pub silence: Duration,
    /// After this time without an answer a question is asked again.
    pub retry: Duration,
    /// How long a slave leaves what it has written unsynced. Zero: it syncs whenever it has taken in what has come.
    pub slave_flush: Duration,
    /// A promotion that has not found enough answers after this time has failed.
    pub promotion_timeout: Duration,
    /// A planned switch that has not come about after this time is called off, and the master goes on.
    pub switch_timeout: Duration,
    /// With a lease, a master that `min_insync` slaves (one at least) have not answered for this time refuses appends of any durability.
    pub fence_lease: Option<Duration>,
    /// Most bytes a second for slaves that are more than a window behind. All of them share it.
    pub catch_up_bytes_per_second: Option<u64>,
    /// So much of the log is kept for slaves that are behind or away. Who is further behind gets a snapshot.
    pub hold_bytes_max: u64,
    /// How much of the common end is compared before a slave follows, in bytes. 16 MiB at most.
    pub check_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ack_policy: AckPolicy::Synced,
            window_bytes: 8 << 20,
            frame_bytes: FRAME_DATA_MAX,
            unit_bytes_max: 64 << 20,
            snapshot_bytes_max: 256 << 20,
            slave_sync_timeout: Duration::from_secs(3),
            heartbeat: Duration::from_millis(500),
            silence: Duration::from_secs(3),
            retry: Duration::from_millis(500),
            slave_flush: Duration::ZERO,
            promotion_timeout: Duration::from_secs(5),
            switch_timeout: Duration::from_millis(900),
            fence_lease: None,
            catch_up_bytes_per_second: None,
            hold_bytes_max: 4 << 30,
            check_bytes: 1 << 20,
        }
    }
}

/// Most bytes of a log or a snapshot in one frame.
pub const FRAME_DATA_MAX: usize = 1 << 20;

/// An option or the group is out of its range.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{name} is {value}, and {low} to {high} are allowed")]
pub struct OptionsError {
    /// Which one.
    pub name: &'static str,
    /// What was given. Times are in ms.
    pub value: u64,
    /// Least allowed.
    pub low: u64,
    /// Most allowed.
    pub high: u64,
}

pub(crate) fn check(group: &Group, options: &Options) -> Result<(), OptionsError> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let members = group.members.len() as u64;
    let longest = (group.members.iter().chain([&group.name]))
        .map(String::len)
        .max()
        .unwrap_or(0);
    let day = ms(LEASE_MAX);
    let rules = [
        ("members", members, 2, MEMBERS_MAX as u64),
        ("me", u64::from(group.me.0), 0, members.saturating_sub(1)),
        (
            "min_insync",
            group.min_insync as u64,
            0,
            members.saturating_sub(1),
        ),
        ("length of a name", longest as u64, 0, NAME_BYTES_MAX as u64),
        ("window_bytes", options.window_bytes, 64, 1 << 30),
        (
            "frame_bytes",
            options.frame_bytes as u64,
            64,
            FRAME_DATA_MAX as u64,
        ),
        (
            "unit_bytes_max",
            u64::from(options.unit_bytes_max),
            64,
            1 << 30,
        ),
        (
            "snapshot_bytes_max",
            options.snapshot_bytes_max,
            64,
            1 << 40,
        ),
        ("check_bytes", options.check_bytes, 0, STRIDE_BYTES),
        ("slave_sync_timeout", ms(options.slave_sync_timeout), 1, day),
        ("heartbeat", ms(options.heartbeat), 1, day),
        (
            "silence",
            ms(options.silence),
            ms(options.heartbeat) + 1,
            day,
        ),
        ("retry", ms(options.retry), 1, day),
        ("promotion_timeout", ms(options.promotion_timeout), 1, day),
        ("switch_timeout", ms(options.switch_timeout), 1, day),
        (
            "fence_lease",
            options.fence_lease.map_or(day, ms),
            ms(options.heartbeat) + 1,
            day,
        ),
        (
            "catch_up_bytes_per_second",
            options.catch_up_bytes_per_second.unwrap_or(1),
            1,
            u64::MAX,
        ),
    ];
    for (name, value, low, high) in rules {
        if value < low || value > high {
            return Err(OptionsError {
                name,
                value,
                low,
                high,
            });
        }
    }
    Ok(())
}
