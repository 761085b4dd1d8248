//! What members say to each other, and its bytes.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{Reader, put_epochs, put_name, put_u32, put_u64, put_u128};
use crate::log::Epoch;
use crate::options::FRAME_DATA_MAX;

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

/// Who a slave is and what its log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest version of the protocol that it speaks.
    pub version_min: u8,
    /// Newest one.
    pub version_max: u8,
    /// [`crate::Group::log_id`].
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
        (self.epochs.last().map_or(0, |epoch| epoch.number), self.end)
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

impl Refused {
    fn numbers(self) -> (u8, u64, u64) {
        match self {
            Self::Version { min, max } => (1, u64::from(min), u64::from(max)),
            Self::OtherGroup => (2, 0, 0),
            Self::OtherLog => (3, 0, 0),
            Self::OtherName => (4, 0, 0),
            Self::OldEpoch { promised } => (5, promised, 0),
            Self::NotMaster => (6, 0, 0),
            Self::NoSession => (7, 0, 0),
            Self::Differs => (8, 0, 0),
            Self::Conflict => (9, 0, 0),
        }
    }

    fn from_numbers(reason: u8, first: u64, second: u64) -> Option<Self> {
        Some(match reason {
            1 => Self::Version {
                min: u8::try_from(first).ok()?,
                max: u8::try_from(second).ok()?,
            },
            2 => Self::OtherGroup,
            3 => Self::OtherLog,
            4 => Self::OtherName,
            5 => Self::OldEpoch { promised: first },
            6 => Self::NotMaster,
            7 => Self::NoSession,
            8 => Self::Differs,
            9 => Self::Conflict,
            _ => return None,
        })
    }
}

impl Message {
    pub(crate) fn size_hint(&self) -> usize {
        match self {
            Self::Data { bytes, .. }
            | Self::SnapshotPiece { bytes, .. }
            | Self::Units { bytes, .. } => 64 + bytes.len(),
            Self::Hello(Hello { epochs, .. })
            | Self::Promised(Standing { epochs, .. })
            | Self::Welcome { epochs, .. } => 640 + epochs.len() * 16,
            _ => 64,
        }
    }

    /// Writes the body and answers the kind.
    pub(crate) fn encode(&self, out: &mut BytesMut) -> u8 {
        match self {
            Self::Hello(hello) => {
                out.put_slice(&[hello.version_min, hello.version_max]);
                put_u128(out, hello.log_id);
                put_name(out, &hello.group);
                put_name(out, &hello.node);
                put_all(
                    out,
                    &[hello.nonce, hello.start, hello.written, hello.synced],
                );
                put_epochs(out, &hello.epochs);
                1
            }
            Self::Welcome {
                nonce,
                start,
                written,
                epochs,
            } => {
                put_all(out, &[*nonce, *start, *written]);
                put_epochs(out, epochs);
                2
            }
            Self::Refused(refused) => {
                let (reason, first, second) = refused.numbers();
                out.put_u8(reason);
                put_all(out, &[first, second]);
                3
            }
            Self::Follow { at, from, digest } => {
                put_all(out, &[*at, *from, *digest]);
                4
            }
            Self::Start { at } => {
                put_u64(out, *at);
                5
            }
            Self::Data {
                offset,
                rest,
                bytes,
            } => {
                put_u64(out, *offset);
                put_u32(out, *rest);
                out.put_slice(bytes);
                6
            }
            Self::Ack {
                buffered,
                synced,
                received,
                echo,
                gap,
            } => {
                put_all(out, &[*buffered, *synced, *received, micros(*echo)]);
                out.put_u8(u8::from(*gap));
                7
            }
            Self::Heartbeat {
                sent,
                written,
                synced,
                replicated,
                lease,
            } => {
                put_all(
                    out,
                    &[
                        micros(*sent),
                        *written,
                        *synced,
                        *replicated,
                        micros(*lease),
                    ],
                );
                8
            }
            Self::SnapshotAsk { base, crc, have } => {
                put_u64(out, *base);
                put_u32(out, *crc);
                put_u64(out, *have);
                9
            }
            Self::SnapshotPiece {
                base,
                crc,
                total,
                offset,
                bytes,
            } => {
                put_u64(out, *base);
                put_u32(out, *crc);
                put_all(out, &[*total, *offset]);
                out.put_slice(bytes);
                10
            }
            Self::HandOver { end } => {
                put_u64(out, *end);
                11
            }
            Self::PromiseAsk => 12,
            Self::Promised(standing) => {
                put_all(
                    out,
                    &[standing.start, standing.end, micros(standing.lease_left)],
                );
                out.put_u8(standing.memory as u8);
                put_epochs(out, &standing.epochs);
                13
            }
            Self::DigestAsk(range) => {
                put_all(out, &[range.ticket, range.from, range.to]);
                14
            }
            Self::DigestSay { ticket, digest } => {
                put_u64(out, *ticket);
                out.put_u8(u8::from(digest.is_some()));
                put_u64(out, digest.unwrap_or(0));
                15
            }
            Self::CheckAsk(range) => {
                put_all(out, &[range.ticket, range.from, range.to]);
                16
            }
            Self::CheckSay { ticket, found } => {
                put_u64(out, *ticket);
                out.put_u8(*found as u8);
                17
            }
            Self::UnitsAsk {
                ticket,
                offset,
                skip,
                max,
            } => {
                put_all(out, &[*ticket, *offset]);
                put_u32(out, *skip);
                put_u32(out, *max);
                18
            }
            Self::Units {
                ticket,
                offset,
                skip,
                total,
                bytes,
            } => {
                put_all(out, &[*ticket, *offset]);
                put_u32(out, *skip);
                put_u32(out, *total);
                out.put_slice(bytes);
                19
            }
        }
    }

    pub(crate) fn decode(kind: u8, body: Bytes) -> Option<Self> {
        let r = &mut Reader::new(body);
        let message = match kind {
            1 => Self::Hello(Hello {
                version_min: r.u8()?,
                version_max: r.u8()?,
                log_id: r.u128()?,
                group: r.name()?,
                node: r.name()?,
                nonce: r.u64()?,
                start: r.u64()?,
                written: r.u64()?,
                synced: r.u64()?,
                epochs: r.epochs()?,
            }),
            2 => Self::Welcome {
                nonce: r.u64()?,
                start: r.u64()?,
                written: r.u64()?,
                epochs: r.epochs()?,
            },
            3 => Self::Refused(Refused::from_numbers(r.u8()?, r.u64()?, r.u64()?)?),
            4 => Self::Follow {
                at: r.u64()?,
                from: r.u64()?,
                digest: r.u64()?,
            },
            5 => Self::Start { at: r.u64()? },
            6 => Self::Data {
                offset: r.u64()?,
                rest: r.u32()?,
                bytes: piece(r)?,
            },
            7 => Self::Ack {
                buffered: r.u64()?,
                synced: r.u64()?,
                received: r.u64()?,
                echo: Duration::from_micros(r.u64()?),
                gap: r.flag()?,
            },
            8 => Self::Heartbeat {
                sent: Duration::from_micros(r.u64()?),
                written: r.u64()?,
                synced: r.u64()?,
                replicated: r.u64()?,
                lease: Duration::from_micros(r.u64()?),
            },
            9 => Self::SnapshotAsk {
                base: r.u64()?,
                crc: r.u32()?,
                have: r.u64()?,
            },
            10 => Self::SnapshotPiece {
                base: r.u64()?,
                crc: r.u32()?,
                total: r.u64()?,
                offset: r.u64()?,
                bytes: piece(r)?,
            },
            11 => Self::HandOver { end: r.u64()? },
            12 => Self::PromiseAsk,
            13 => Self::Promised(Standing {
                start: r.u64()?,
                end: r.u64()?,
                lease_left: Duration::from_micros(r.u64()?),
                memory: match r.u8()? {
                    0 => Memory::Whole,
                    1 => Memory::Partial,
                    2 => Memory::Blank,
                    _ => return None,
                },
                epochs: r.epochs()?,
            }),
            14 => Self::DigestAsk(range(r)?),
            15 => Self::DigestSay {
                ticket: r.u64()?,
                digest: match (r.flag()?, r.u64()?) {
                    (there, digest) => there.then_some(digest),
                },
            },
            16 => Self::CheckAsk(range(r)?),
            17 => Self::CheckSay {
                ticket: r.u64()?,
                found: match r.u8()? {
                    0 => Found::Good,
                    1 => Found::Damaged,
                    2 => Found::NotHere,
                    _ => return None,
                },
            },
            18 => Self::UnitsAsk {
                ticket: r.u64()?,
                offset: r.u64()?,
                skip: r.u32()?,
                max: r.u32()?,
            },
            19 => Self::Units {
                ticket: r.u64()?,
                offset: r.u64()?,
                skip: r.u32()?,
                total: r.u32()?,
                bytes: piece(r)?,
            },
            _ => return None,
        };
        r.done()?;
        Some(message)
    }
}

fn put_all(out: &mut BytesMut, values: &[u64]) {
    for &value in values {
        put_u64(out, value);
    }
}

fn piece(reader: &mut Reader) -> Option<Bytes> {
    let bytes = reader.rest();
    (bytes.len() <= FRAME_DATA_MAX).then_some(bytes)
}

fn range(reader: &mut Reader) -> Option<Range> {
    let range = Range {
        ticket: reader.u64()?,
        from: reader.u64()?,
        to: reader.u64()?,
    };
    (range.from <= range.to).then_some(range)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
