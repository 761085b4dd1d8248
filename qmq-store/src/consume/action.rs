//! What a consumer did, as the bytes of an action record.
//!
//! The subject stands in the record's header; this payload names the group and the consumer.
//! Integers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | kind: 1 create, 2 pull, 3 ack, 4 nack, 5 gone, 6 reset, 7 drop |
//! | 2 + n | group: length, UTF-8 |
//! | 2 + n | consumer: length, UTF-8; empty where the action has none |
//! | rest | see below |
//!
//! - create: kind u8 (0 shared, 1 broadcast), cursor u64, filter
//! - pull: first pull sequence, cursor before, cursor after (u64 each), count u32 and that many u64
//!   (redelivered), count u32 and that many u64 + u32 (runs: first message sequence, length)
//! - ack: count u32 and that many u64 + u64 (first and last pull sequence)
//! - nack: as ack, then u64, the time in ms from which they may be handed out again
//! - reset: cursor u64
//! - gone, drop: nothing
//!
//! A filter is one byte (0 none, 1 any of, 2 every one of) and, unless 0, a u16 count of
//! length-prefixed tags.

use std::borrow::Cow;

use qmq_message::TagFilter;

const VERSION: u8 = 1;
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

/// Why bytes are not an action, or not the snapshot of a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ActionError {
    #[error("it ends {missing} bytes too early")]
    Truncated { missing: usize },
    #[error("{bytes} bytes follow its end")]
    Trailing { bytes: usize },
    #[error("its version is {found}; this program reads version {VERSION}")]
    Version { found: u8 },
    #[error("{what} is {found}, which has no meaning")]
    Unknown { what: &'static str, found: u8 },
    #[error("it announces {count} entries, but only {left} bytes follow")]
    TooMany { count: usize, left: usize },
    #[error("a name in it is not UTF-8")]
    NotUtf8,
    #[error("{0}")]
    Impossible(&'static str),
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
    /// Pull sequences, first to last inclusive, failed and may be handed out again from
    /// `available_at_ms` on.
    Nack {
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
            | Self::Nack { group, .. }
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
            | Self::Nack { consumer, .. }
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
        };
        out.extend_from_slice(&[VERSION, kind]);
        put_str(out, self.group());
        put_str(out, self.consumer());
        match self {
            Self::Create {
                kind,
                filter,
                cursor,
                ..
            } => {
                put_kind(out, *kind);
                put_u64(out, *cursor);
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
            Self::Nack {
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
                let (kind, cursor) = (input.kind()?, input.u64()?);
                Self::Create {
                    group,
                    consumer,
                    kind,
                    filter: input.filter()?,
                    cursor,
                }
            }
            2 => input.pull(group, consumer)?,
            3 => Self::Ack {
                group,
                consumer,
                ranges: input.ranges()?,
            },
            4 => Self::Nack {
                group,
                consumer,
                ranges: input.ranges()?,
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

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A count of things in memory: 2^32 of the smallest, 8 bytes each, would be 32 GiB in one action.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    debug_assert!(u32::try_from(count).is_ok());
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

/// Names and tags are at most 255 bytes (checked at the door), so their length always fits.
pub(super) fn put_str(out: &mut Vec<u8>, text: &str) {
    debug_assert!(u16::try_from(text.len()).is_ok());
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_kind(out: &mut Vec<u8>, kind: GroupKind) {
    out.push(match kind {
        GroupKind::Shared => 0,
        GroupKind::Broadcast => 1,
    });
}

pub(super) fn put_filter(out: &mut Vec<u8>, filter: Option<&TagFilter>) {
    let (kind, tags) = match filter {
        None | Some(TagFilter::All) => return out.push(0),
        Some(TagFilter::Any(tags)) => (1, tags),
        Some(TagFilter::Every(tags)) => (2, tags),
    };
    out.push(kind);
    debug_assert!(u16::try_from(tags.len()).is_ok());
    out.extend_from_slice(&(tags.len() as u16).to_le_bytes());
    for tag in tags {
        put_str(out, tag);
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

/// Bytes not read yet.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ActionError> {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(ActionError::Truncated {
                missing: N - self.0.len(),
            });
        };
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ActionError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, ActionError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ActionError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ActionError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, ActionError> {
        let len = usize::from(self.u16()?);
        let Some((head, rest)) = self.0.split_at_checked(len) else {
            return Err(ActionError::Truncated {
                missing: len - self.0.len(),
            });
        };
        self.0 = rest;
        std::str::from_utf8(head).map_err(|_| ActionError::NotUtf8)
    }

    /// A count of entries of at least `each` bytes, checked against what is left before anyone
    /// allocates for it.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, ActionError> {
        let count = self.u32()? as usize;
        self.fits(count, each)
    }

    fn fits(&self, count: usize, each: usize) -> Result<usize, ActionError> {
        if count > self.0.len() / each {
            return Err(ActionError::TooMany {
                count,
                left: self.0.len(),
            });
        }
        Ok(count)
    }

    pub(super) fn kind(&mut self) -> Result<GroupKind, ActionError> {
        match self.u8()? {
            0 => Ok(GroupKind::Shared),
            1 => Ok(GroupKind::Broadcast),
            found => Err(ActionError::Unknown {
                what: "the kind of group",
                found,
            }),
        }
    }

    pub(super) fn filter(&mut self) -> Result<Option<TagFilter>, ActionError> {
        let kind = self.u8()?;
        if kind == 0 {
            return Ok(None);
        }
        let count = usize::from(self.u16()?);
        let count = self.fits(count, 2)?;
        let tags = (0..count)
            .map(|_| self.str().map(str::to_owned))
            .collect::<Result<Vec<_>, _>>()?;
        match kind {
            1 => Ok(Some(TagFilter::Any(tags))),
            2 => Ok(Some(TagFilter::Every(tags))),
            found => Err(ActionError::Unknown {
                what: "the kind of filter",
                found,
            }),
        }
    }

    fn ranges(&mut self) -> Result<Cow<'a, [(u64, u64)]>, ActionError> {
        let count = self.count(RANGE_BYTES)?;
        (0..count).map(|_| Ok((self.u64()?, self.u64()?))).collect()
    }

    fn pull(&mut self, group: &'a str, consumer: &'a str) -> Result<Action<'a>, ActionError> {
        let (pull_first, cursor_before, cursor_after) = (self.u64()?, self.u64()?, self.u64()?);
        let count = self.count(SEQUENCE_BYTES)?;
        let redelivered = (0..count)
            .map(|_| self.u64())
            .collect::<Result<Cow<'a, [u64]>, _>>()?;
        let count = self.count(RUN_BYTES)?;
        let runs = (0..count)
            .map(|_| Ok((self.u64()?, self.u32()?)))
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
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(action: &Action<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        action.encode(&mut out);
        out
    }

    fn one_of_each() -> Vec<Action<'static>> {
        let (group, consumer) = ("ticket", "host-1");
        let any = Some(TagFilter::Any(vec!["pay".into(), "refund".into()]));
        let every = Some(TagFilter::Every(vec!["pay".into()]));
        vec![
            Action::Create {
                group,
                consumer: "",
                kind: GroupKind::Shared,
                filter: any,
                cursor: 7,
            },
            Action::Create {
                group,
                consumer,
                kind: GroupKind::Broadcast,
                filter: every,
                cursor: 0,
            },
            Action::Create {
                group,
                consumer,
                kind: GroupKind::Broadcast,
                filter: None,
                cursor: 0,
            },
            Action::Pull {
                group,
                consumer,
                pull_first: 1 << 40,
                cursor_before: 10,
                cursor_after: 20,
                redelivered: vec![3, 4, 9].into(),
                runs: vec![(10, 2), (15, 5)].into(),
            },
            Action::Ack {
                group,
                consumer,
                ranges: vec![(0, 4), (6, u64::MAX)].into(),
            },
            Action::Nack {
                group,
                consumer,
                ranges: vec![(5, 5)].into(),
                available_at_ms: 1_700_000_000_000,
            },
            Action::Gone { group, consumer },
            Action::Reset {
                group,
                consumer: "",
                cursor: 99,
            },
            Action::Drop { group },
        ]
    }

    #[test]
    fn every_action_reads_back_as_written() {
        for action in one_of_each() {
            assert_eq!(Action::decode(&bytes_of(&action)), Ok(action));
        }
    }

    #[test]
    fn a_shortened_or_lengthened_action_is_refused() {
        for action in one_of_each() {
            let mut bytes = bytes_of(&action);
            for len in 0..bytes.len() {
                assert!(
                    Action::decode(&bytes[..len]).is_err(),
                    "{action:?} cut to {len}"
                );
            }
            bytes.push(0);
            assert_eq!(
                Action::decode(&bytes),
                Err(ActionError::Trailing { bytes: 1 })
            );
        }
    }

    #[test]
    fn a_count_is_checked_before_memory_is_taken_for_it() {
        let mut bytes = bytes_of(&Action::Ack {
            group: "g",
            consumer: "c",
            ranges: Cow::Borrowed(&[]),
        });
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            Action::decode(&bytes),
            Err(ActionError::TooMany {
                count: u32::MAX as usize,
                left: 0
            })
        );
    }

    #[test]
    fn zeros_and_unknown_versions_and_kinds_are_refused() {
        assert_eq!(
            Action::decode(&[0; 64]),
            Err(ActionError::Version { found: 0 })
        );
        assert_eq!(
            Action::decode(&[2; 64]),
            Err(ActionError::Version { found: 2 })
        );
        let unknown = Err(ActionError::Unknown {
            what: "the kind of action",
            found: 8,
        });
        assert_eq!(Action::decode(&[1, 8, 0, 0, 0, 0]), unknown);
    }

    #[test]
    fn a_pull_that_cannot_have_happened_is_refused() {
        let pull = |pull_first, cursor_after, runs: &'static [(u64, u32)]| Action::Pull {
            group: "g",
            consumer: "c",
            pull_first,
            cursor_before: 10,
            cursor_after,
            redelivered: Cow::Borrowed(&[]),
            runs: Cow::Borrowed(runs),
        };
        assert!(Action::decode(&bytes_of(&pull(0, 20, &[(10, 5), (17, 3)]))).is_ok());
        for impossible in [
            pull(0, 9, &[]),
            pull(0, 20, &[(9, 2)]),
            pull(0, 20, &[(19, 2)]),
            pull(0, 20, &[(15, 2), (10, 2)]),
            pull(0, u64::MAX, &[(u64::MAX, 2)]),
            pull(u64::MAX, 20, &[(10, 2)]),
        ] {
            assert!(
                Action::decode(&bytes_of(&impossible)).is_err(),
                "{impossible:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics_and_what_it_accepts_is_canonical(
            which in 0..9_usize,
            flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            noise in vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = bytes_of(&one_of_each()[which]);
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            for bytes in [bytes, noise] {
                if let Ok(action) = Action::decode(&bytes) {
                    prop_assert_eq!(bytes_of(&action), bytes);
                }
            }
        }
    }
}
