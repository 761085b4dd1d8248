//! A group as bytes within a checkpoint.
//!
//! The checkpoint as a whole has the version and the checksum. Integers are little-endian, names
//! are a u16 length and UTF-8:
//!
//! - group name; kind u8 (0 shared, 1 broadcast); cursor, applied log end, pull floor (u64 each)
//! - u32 count of members; each: name, first and next pull sequence (u64 each), u32 count of runs
//!   of unacked messages; each run: pull sequence, message sequence, length (u64 each)
//! - u8: 0 when nothing follows, else 1 and: filter (as in an action); skipped messages u64; u32
//!   count of waiting messages, each sequence u64 and time in ms u64; u32 count of messages that
//!   failed, each sequence u64 and how often u32

use std::sync::Arc;

use super::bytes::{ActionError, Input, put_count, put_filter, put_kind, put_str, put_u64};
use super::group::{Extra, Group};
use super::member::MemberState;
use super::pull_log::{PullLog, PullRun};
use super::redelivery::Redelivery;

/// The least bytes of a member, a run, a waiting message and a failed one.
const MEMBER_BYTES: usize = 2 + 8 + 8 + 4;
const RUN_BYTES: usize = 24;
const WAITING_BYTES: usize = 16;
const FAILED_BYTES: usize = 12;

impl Group {
    /// Appends its bytes to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_str(out, &self.name);
        put_kind(out, self.kind);
        put_u64(out, self.cursor);
        put_u64(out, self.applied);
        put_u64(out, self.pull_floor);
        put_count(out, self.members.len());
        for member in &self.members {
            put_str(out, &member.name);
            put_u64(out, member.first_pull);
            put_u64(out, member.next_pull);
            put_count(out, member.pull_log.as_ref().map_or(0, |log| log.pieces()));
            for run in member.pull_log.iter().flat_map(|log| log.iter()) {
                put_u64(out, run.pull_first);
                put_u64(out, run.sequence_first);
                put_u64(out, run.len);
            }
        }
        let Some(extra) = &self.extra else {
            return out.push(0);
        };
        out.push(1);
        put_filter(out, extra.filter.as_ref());
        put_u64(out, extra.skipped);
        put_count(out, extra.redelivery.len());
        for (sequence, available_at_ms) in extra.redelivery.iter() {
            put_u64(out, sequence);
            put_u64(out, available_at_ms);
        }
        put_count(out, extra.redelivery.attempts().len());
        for (sequence, attempts) in extra.redelivery.attempts() {
            put_u64(out, sequence);
            out.extend_from_slice(&attempts.to_le_bytes());
        }
    }

    /// Takes one group off the front of `from`. `intern` turns names into shared ones.
    pub(crate) fn decode(
        from: &mut &[u8],
        intern: &mut dyn FnMut(&str) -> Arc<str>,
    ) -> Result<Self, ActionError> {
        let mut input = Input(from);
        let name = intern(input.str()?);
        let kind = input.kind()?;
        let mut group = Self::new(name, kind, None, input.u64()?);
        group.applied = input.u64()?;
        group.pull_floor = input.u64()?;
        let count = input.count(MEMBER_BYTES)?;
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let member = member(&mut input, intern)?;
            if members
                .last()
                .is_some_and(|last: &MemberState| last.name >= member.name)
            {
                return Err(ActionError::Impossible("its members are not in order"));
            }
            let unacked = member.pull_log.as_ref().map_or(0, |log| log.count());
            // Below 2^64 for each, but not for all.
            let Some(sum) = group.unacked.checked_add(unacked) else {
                return Err(ActionError::Impossible(
                    "its members hold more than 2^64 messages",
                ));
            };
            group.unacked = sum;
            members.push(member);
        }
        group.members = members.into_boxed_slice();
        match input.u8()? {
            0 => {}
            1 => group.extra = Some(Box::new(extra(&mut input)?)),
            found => {
                return Err(ActionError::Unknown {
                    what: "the mark of more",
                    found,
                });
            }
        }
        *from = input.0;
        Ok(group)
    }
}

fn member(
    input: &mut Input<'_>,
    intern: &mut dyn FnMut(&str) -> Arc<str>,
) -> Result<MemberState, ActionError> {
    let name = intern(input.str()?);
    let (first_pull, next_pull) = (input.u64()?, input.u64()?);
    let count = input.count(RUN_BYTES)?;
    let mut pull_log = None;
    for _ in 0..count {
        let log: &mut Box<PullLog> = pull_log.get_or_insert_default();
        let (pull_first, sequence_first, len) = (input.u64()?, input.u64()?, input.u64()?);
        let run = PullRun {
            pull_first,
            sequence_first,
            len,
        };
        if pull_first < first_pull || !log.push(run) || run.pull_end() > next_pull {
            return Err(ActionError::Impossible(
                "a run is out of order or not its member's",
            ));
        }
    }
    Ok(MemberState {
        name,
        first_pull,
        next_pull,
        pull_log,
        seen: 0,
    })
}

fn extra(input: &mut Input<'_>) -> Result<Extra, ActionError> {
    let filter = input.filter()?;
    let skipped = input.u64()?;
    let mut redelivery = Redelivery::default();
    for _ in 0..input.count(WAITING_BYTES)? {
        let (sequence, available_at_ms) = (input.u64()?, input.u64()?);
        redelivery.insert(sequence, available_at_ms);
    }
    for _ in 0..input.count(FAILED_BYTES)? {
        let (sequence, attempts) = (input.u64()?, input.u32()?);
        redelivery.set_attempts(sequence, attempts);
    }
    Ok(Extra {
        filter,
        skipped,
        redelivery,
        ..Extra::default()
    })
}

#[cfg(test)]
mod tests;
