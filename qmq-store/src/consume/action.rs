//! What a consumer did, as the bytes of an action record.
//!
//! The subject stands in the record's header; this payload names the group and the consumer.
//! Integers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | kind: 1 create, 2 pull, 3 ack, 4 nack, 5 gone, 6 reset, 7 drop, 8 ack, also of skipped, 9 release |
//! | 2 + n | group: length, UTF-8 |
//! | 2 + n | consumer: length, UTF-8; empty where the action has none |
//! | rest | see below |
//!
//! - create: kind u8 (0 shared, 1 broadcast), cursor u64, pull floor u64, filter
//! - pull: first pull sequence, cursor before, cursor after (u64 each), count u32 and that many u64
//!   (redelivered), count u32 and that many u64 + u32 (runs: first message sequence, length)
//! - ack: count u32 and that many u64 + u64 (first and last pull sequence)
//! - ack, also of skipped: as ack, twice: those that were pending, then the others
//! - nack, release: as ack, then u64, the time in ms from which they may be handed out again
//! - reset: cursor u64
//! - gone, drop: nothing
//!
//! A filter is one byte (0 none, 1 any of, 2 every one of) and, unless 0, a u16 count of
//! length-prefixed tags.

use std::borrow::Cow;

use qmq_message::TagFilter;

use super::bytes::{ActionError, Input, put_count, put_filter, put_kind, put_str, put_u64};

pub(super) const VERSION: u8 = 1;
/// Bytes of one redelivered sequence, of one run and of one range of pull sequences.
const SEQUENCE_BYTES: usize = 8;
const RUN_BYTES: usize = 12;
const RANGE_BYTES: usize = 16;

/// How a group's consumers share the messages of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Each message goes to one consumer of the group.
    Shared,
    /// Each message goes to every consumer of the group.
    Broadcast,
}

/// One thing that a consumer, or an operator, did to a group. Lists are borrowed while an action is
/// decided (nothing is allocated for a pull or an ack) and owned once decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    /// The group begins at message sequence `cursor`; or, when it exists, its filter changes.
    Create {
        group: &'a str,
        /// The consumer of a broadcast group, else empty.
        consumer: &'a str,
        kind: GroupKind,
        filter: Option<TagFilter>,
        cursor: u64,
        /// Above all pull sequences of groups of the subject that were dropped.
        pull_floor: u64,
    },
    /// Messages were handed out. Pull sequences are consecutive from `pull_first`: first
    /// `redelivered`, then `runs`.
    Pull {
        group: &'a str,
        consumer: &'a str,
        pull_first: u64,
        cursor_before: u64,
        /// What lies between the cursors and in no run did not pass the group's filter.
        cursor_after: u64,
        redelivered: Cow<'a, [u64]>,
        /// First message sequence and number of messages.
        runs: Cow<'a, [(u64, u32)]>,
    },
    /// Pull sequences, first to last inclusive, are done.
    Ack {
        group: &'a str,
        consumer: &'a str,
        ranges: Cow<'a, [(u64, u64)]>,
    },
    /// As an ack. Of `skipped`, the log's retention had taken the messages when they were acked, or
    /// they were settled before. Whoever keeps such messages must not hand them out again, and counts
    /// them as skipped, as was done where they were acked.
    AckSkipped {
        group: &'a str,
        consumer: &'a str,
        ranges: Cow<'a, [(u64, u64)]>,
        skipped: Cow<'a, [(u64, u64)]>,
    },
    /// Pull sequences, first to last inclusive, failed and may be handed out again from
    /// `available_at_ms` on.
    Nack {
        group: &'a str,
        consumer: &'a str,
        ranges: Cow<'a, [(u64, u64)]>,
        available_at_ms: u64,
    },
    /// As a nack of messages that nobody has looked at: no attempt is counted.
    Release {
        group: &'a str,
        consumer: &'a str,
        ranges: Cow<'a, [(u64, u64)]>,
        available_at_ms: u64,
    },
    /// The consumer is gone: what it has not acked goes to others at once.
    Gone { group: &'a str, consumer: &'a str },
    /// The group continues at `cursor`, whatever was handed out before.
    Reset {
        group: &'a str,
        consumer: &'a str,
        cursor: u64,
    },
    /// The group is no more.
    Drop { group: &'a str },
}

impl<'a> Action<'a> {
    /// The group that it is about.
    pub(crate) fn group(&self) -> &'a str {
        match *self {
            Self::Create { group, .. }
            | Self::Pull { group, .. }
            | Self::Ack { group, .. }
            | Self::AckSkipped { group, .. }
            | Self::Nack { group, .. }
            | Self::Release { group, .. }
            | Self::Gone { group, .. }
            | Self::Reset { group, .. }
            | Self::Drop { group } => group,
        }
    }

    /// The consumer that it names; empty where it names none.
    pub(crate) fn consumer(&self) -> &'a str {
        match *self {
            Self::Create { consumer, .. }
            | Self::Pull { consumer, .. }
            | Self::Ack { consumer, .. }
            | Self::AckSkipped { consumer, .. }
            | Self::Nack { consumer, .. }
            | Self::Release { consumer, .. }
            | Self::Gone { consumer, .. }
            | Self::Reset { consumer, .. } => consumer,
            Self::Drop { .. } => "",
        }
    }

    /// Appends its bytes to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Create { .. } => 1,
            Self::Pull { .. } => 2,
            Self::Ack { .. } => 3,
            Self::Nack { .. } => 4,
            Self::Gone { .. } => 5,
            Self::Reset { .. } => 6,
            Self::Drop { .. } => 7,
            Self::AckSkipped { .. } => 8,
            Self::Release { .. } => 9,
        };
        out.extend_from_slice(&[VERSION, kind]);
        put_str(out, self.group());
        put_str(out, self.consumer());
        match self {
            Self::Create {
                kind,
                filter,
                cursor,
                pull_floor,
                ..
            } => {
                put_kind(out, *kind);
                put_u64(out, *cursor);
                put_u64(out, *pull_floor);
                put_filter(out, filter.as_ref());
            }
            Self::Pull {
                pull_first,
                cursor_before,
                cursor_after,
                redelivered,
                runs,
                ..
            } => {
                out.reserve(32 + redelivered.len() * SEQUENCE_BYTES + runs.len() * RUN_BYTES);
                put_u64(out, *pull_first);
                put_u64(out, *cursor_before);
                put_u64(out, *cursor_after);
                put_count(out, redelivered.len());
                for sequence in redelivered.iter() {
                    put_u64(out, *sequence);
                }
                put_count(out, runs.len());
                for (first, len) in runs.iter() {
                    put_u64(out, *first);
                    out.extend_from_slice(&len.to_le_bytes());
                }
            }
            Self::Ack { ranges, .. } => put_ranges(out, ranges),
            Self::AckSkipped {
                ranges, skipped, ..
            } => {
                put_ranges(out, ranges);
                put_ranges(out, skipped);
            }
            Self::Nack {
                ranges,
                available_at_ms,
                ..
            }
            | Self::Release {
                ranges,
                available_at_ms,
                ..
            } => {
                put_ranges(out, ranges);
                put_u64(out, *available_at_ms);
            }
            Self::Reset { cursor, .. } => put_u64(out, *cursor),
            Self::Gone { .. } | Self::Drop { .. } => {}
        }
    }

    /// Reads an action that is all of `bytes`. Never panics, and allocates no more than `bytes`
    /// could hold.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, ActionError> {
        let mut input = Input(bytes);
        let version = input.u8()?;
        if version != VERSION {
            return Err(ActionError::Version { found: version });
        }
        let kind = input.u8()?;
        let group = input.str()?;
        let consumer = input.str()?;
        let action = match kind {
            1 => {
                let (kind, cursor, pull_floor) = (input.kind()?, input.u64()?, input.u64()?);
                Self::Create {
                    group,
                    consumer,
                    kind,
                    filter: input.filter()?,
                    cursor,
                    pull_floor,
                }
            }
            2 => pull(&mut input, group, consumer)?,
            3 => Self::Ack {
                group,
                consumer,
                ranges: ranges(&mut input)?,
            },
            4 => Self::Nack {
                group,
                consumer,
                ranges: ranges(&mut input)?,
                available_at_ms: input.u64()?,
            },
            5 => Self::Gone { group, consumer },
            6 => Self::Reset {
                group,
                consumer,
                cursor: input.u64()?,
            },
            7 if consumer.is_empty() => Self::Drop { group },
            7 => return Err(ActionError::Impossible("a dropped group has no consumer")),
            8 => Self::AckSkipped {
                group,
                consumer,
                ranges: ranges(&mut input)?,
                skipped: ranges(&mut input)?,
            },
            9 => Self::Release {
                group,
                consumer,
                ranges: ranges(&mut input)?,
                available_at_ms: input.u64()?,
            },
            found => {
                return Err(ActionError::Unknown {
                    what: "the kind of action",
                    found,
                });
            }
        };
        match input.0.len() {
            0 => Ok(action),
            bytes => Err(ActionError::Trailing { bytes }),
        }
    }
}

fn put_ranges(out: &mut Vec<u8>, ranges: &[(u64, u64)]) {
    out.reserve(12 + ranges.len() * RANGE_BYTES);
    put_count(out, ranges.len());
    for (first, last) in ranges {
        put_u64(out, *first);
        put_u64(out, *last);
    }
}

fn ranges<'a>(input: &mut Input<'a>) -> Result<Cow<'a, [(u64, u64)]>, ActionError> {
    let count = input.count(RANGE_BYTES)?;
    (0..count)
        .map(|_| Ok((input.u64()?, input.u64()?)))
        .collect()
}

fn pull<'a>(
    input: &mut Input<'a>,
    group: &'a str,
    consumer: &'a str,
) -> Result<Action<'a>, ActionError> {
    let (pull_first, cursor_before, cursor_after) = (input.u64()?, input.u64()?, input.u64()?);
    let count = input.count(SEQUENCE_BYTES)?;
    let redelivered = (0..count)
        .map(|_| input.u64())
        .collect::<Result<Cow<'a, [u64]>, _>>()?;
    let count = input.count(RUN_BYTES)?;
    let runs = (0..count)
        .map(|_| Ok((input.u64()?, input.u32()?)))
        .collect::<Result<Cow<'a, [_]>, _>>()?;

    // Whoever applies it may add these up without looking.
    let new = runs.iter().map(|run| u64::from(run.1)).sum::<u64>();
    let pulls = pull_first
        .checked_add(redelivered.len() as u64)
        .and_then(|next| next.checked_add(new));
    if pulls.is_none() || redelivered.contains(&u64::MAX) {
        return Err(ActionError::Impossible("its sequences go beyond 2^64"));
    }
    // Within the cursors also means that no end of a run overflows.
    let mut from = cursor_before;
    for &(first, len) in runs.iter() {
        match first.checked_add(u64::from(len)) {
            Some(end) if first >= from && end <= cursor_after => from = end,
            _ => {
                return Err(ActionError::Impossible(
                    "a run is out of order or not between its cursors",
                ));
            }
        }
    }
    if cursor_before > cursor_after {
        return Err(ActionError::Impossible("its cursor goes backwards"));
    }
    Ok(Action::Pull {
        group,
        consumer,
        pull_first,
        cursor_before,
        cursor_after,
        redelivered,
        runs,
    })
}

#[cfg(test)]
mod tests;
