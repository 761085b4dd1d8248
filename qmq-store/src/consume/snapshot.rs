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

use super::action::{ActionError, Input, put_count, put_filter, put_kind, put_str, put_u64};
use super::group::{Extra, Group, Member};
use super::pull_log::{PullLog, Run};
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
                .is_some_and(|last: &Member| last.name >= member.name)
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
) -> Result<Member, ActionError> {
    let name = intern(input.str()?);
    let (first_pull, next_pull) = (input.u64()?, input.u64()?);
    let count = input.count(RUN_BYTES)?;
    let mut pull_log = None;
    for _ in 0..count {
        let log: &mut Box<PullLog> = pull_log.get_or_insert_default();
        let (pull_first, sequence_first, len) = (input.u64()?, input.u64()?, input.u64()?);
        let run = Run {
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
    Ok(Member {
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
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use qmq_message::TagFilter;

    use super::super::action::{Action, GroupKind};
    use super::super::group::AckOutcome;
    use super::*;

    const CONSUMERS: [&str; 3] = ["a", "b", "c"];

    fn snapshot(group: &Group) -> Vec<u8> {
        let mut bytes = Vec::new();
        group.encode(&mut bytes);
        bytes
    }

    fn restore(bytes: &[u8]) -> Result<Group, ActionError> {
        let mut rest = bytes;
        let group = Group::decode(&mut rest, &mut |name| name.into())?;
        assert!(rest.is_empty());
        Ok(group)
    }

    fn fresh() -> Group {
        Group::new("ticket".into(), GroupKind::Shared, None, 0)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish(u64),
        /// Consumer, at most so many that wait, so many new ones; the bits pass the filter.
        Pull(usize, usize, u64, u64),
        /// Consumer, and ranges: a place in the list of all numbers given, and how many more.
        Ack(usize, Vec<(Index, u64)>),
        /// The same, and after how many ms.
        Nack(usize, Vec<(Index, u64)>, u64),
        Gone(usize),
        Reset(u64),
        RaiseFloor(u64),
        RaiseIncarnation,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let who = || 0..CONSUMERS.len();
        let ranges = || vec((any::<Index>(), 0..6_u64), 1..4);
        prop_oneof![
            3 => (1..12_u64).prop_map(Step::Publish),
            6 => (who(), 0..5_usize, 0..10_u64, any::<u64>())
                .prop_map(|(who, old, new, pass)| Step::Pull(who, old, new, pass | pass >> 9)),
            5 => (who(), ranges()).prop_map(|(who, ranges)| Step::Ack(who, ranges)),
            3 => (who(), ranges(), 0..5_u64)
                .prop_map(|(who, ranges, delay)| Step::Nack(who, ranges, delay)),
            2 => who().prop_map(Step::Gone),
            1 => (0..30_u64).prop_map(Step::Reset),
            2 => (1..6_u64).prop_map(Step::RaiseFloor),
            1 => Just(Step::RaiseIncarnation),
            2 => (1..4_u64).prop_map(Step::Wait),
        ]
    }

    /// Of a message below the cursor; one that is in no map is settled.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum State {
        Unacked { who: usize, pull: u64 },
        Waiting { until: u64 },
    }

    /// A group, what the store keeps for it, and beside it each message on its own.
    struct World {
        group: Group,
        /// Encoded actions and the offsets where they end.
        log: Vec<(Vec<u8>, u64)>,
        floor: u64,
        end: u64,
        now_ms: u64,
        incarnation: u32,
        open: BTreeMap<u64, State>,
        attempts: BTreeMap<u64, u32>,
        acked: u64,
        filtered: u64,
        /// Messages below the floor that nobody acked, since the last reset.
        skipped: u64,
        /// The cursor of the last reset: what counts was handed out from there on.
        start: u64,
        given: Vec<(usize, u64)>,
        /// Which numbers are each consumer's: from its joining, or the last reset, to its next.
        owned: [Option<(u64, u64)>; 3],
        /// Above all numbers of members that went.
        pull_floor: u64,
    }

    impl World {
        fn new() -> Self {
            Self {
                group: fresh(),
                log: Vec::new(),
                floor: 0,
                end: 0,
                now_ms: 0,
                incarnation: 0,
                open: BTreeMap::new(),
                attempts: BTreeMap::new(),
                acked: 0,
                filtered: 0,
                skipped: 0,
                start: 0,
                given: Vec::new(),
                owned: [None; 3],
                pull_floor: 0,
            }
        }

        /// As the store: into the log, then into memory.
        fn act(&mut self, action: &Action<'_>) {
            let mut bytes = Vec::new();
            action.encode(&mut bytes);
            let before = self.log.last().map_or(0, |(_, end)| *end);
            let end = before + 50 + bytes.len() as u64;
            self.group.apply(action, end, &mut |name| name.into());
            self.log.push((bytes, end));
        }

        /// What the log makes of `group`, after retention as it is now.
        fn replayed(&self, mut group: Group) -> Group {
            for (bytes, end) in &self.log {
                let action = Action::decode(bytes).unwrap();
                group.apply(&action, *end, &mut |name| name.into());
            }
            group.raise_floor(self.floor);
            group
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Publish(count) => self.end += count,
                Step::Wait(ms) => self.now_ms += ms,
                Step::RaiseIncarnation => self.incarnation += 1,
                Step::Pull(who, old, new, pass) => self.pull(who, old, new, pass),
                Step::Ack(who, ranges) => {
                    let (pending, ranges) = self.settle(who, &ranges);
                    self.acked += pending.len() as u64;
                    for sequence in pending {
                        self.open.remove(&sequence);
                        self.attempts.remove(&sequence);
                    }
                    let ranges = ranges.into();
                    self.act(&Action::Ack {
                        group: "ticket",
                        consumer: CONSUMERS[who],
                        ranges,
                    });
                }
                Step::Nack(who, ranges, delay) => {
                    let (pending, ranges) = self.settle(who, &ranges);
                    let available_at_ms = self.now_ms + delay;
                    self.fail(pending, available_at_ms);
                    let (ranges, consumer) = (ranges.into(), CONSUMERS[who]);
                    self.act(&Action::Nack {
                        group: "ticket",
                        consumer,
                        ranges,
                        available_at_ms,
                    });
                }
                Step::Gone(who) => {
                    let its = |state| matches!(state, State::Unacked { who: by, .. } if by == who);
                    let held = self.open.iter().filter(|(_, state)| its(**state));
                    let held = held.map(|(sequence, _)| *sequence).collect();
                    self.fail(held, 0);
                    if self.group.kind == GroupKind::Broadcast {
                        self.owned[who] = self.owned[who].map(|(_, next)| (next, next));
                    } else if let Some((_, next)) = self.owned[who].take() {
                        self.pull_floor = self.pull_floor.max(next);
                    }
                    self.act(&Action::Gone {
                        group: "ticket",
                        consumer: CONSUMERS[who],
                    });
                }
                Step::Reset(cursor) => {
                    let cursor = cursor.clamp(self.floor, self.end);
                    self.act(&Action::Reset {
                        group: "ticket",
                        consumer: "",
                        cursor,
                    });
                    self.open.clear();
                    self.attempts.clear();
                    (self.acked, self.filtered, self.skipped) = (0, 0, 0);
                    self.start = cursor;
                    for owned in self.owned.iter_mut().flatten() {
                        owned.0 = owned.1;
                    }
                }
                Step::RaiseFloor(count) => {
                    let floor = (self.floor + count).min(self.end);
                    self.skipped += floor.saturating_sub(self.group.cursor);
                    self.skipped += self.open.extract_if(..floor, |_, _| true).count() as u64;
                    self.attempts.retain(|sequence, _| *sequence >= floor);
                    self.floor = floor;
                    self.group.raise_floor(floor);
                }
            }
        }

        fn fail(&mut self, sequences: Vec<u64>, until: u64) {
            for sequence in sequences {
                *self.attempts.entry(sequence).or_default() += 1;
                self.open.insert(sequence, State::Waiting { until });
            }
        }

        fn pull(&mut self, who: usize, old: usize, new: u64, pass: u64) {
            let consumer = CONSUMERS[who];
            let redelivered = self.group.due(self.now_ms, old);
            for sequence in &redelivered {
                let state = self.open.remove(sequence);
                assert!(matches!(state, Some(State::Waiting { until }) if until <= self.now_ms));
            }
            let cursor_before = self.group.cursor();
            let cursor_after = (cursor_before + new).min(self.end);
            let passes = |sequence: &u64| pass >> (sequence - cursor_before) & 1 == 1;
            let fresh: Vec<u64> = (cursor_before..cursor_after).filter(passes).collect();
            self.filtered += cursor_after - cursor_before - fresh.len() as u64;

            let pull_first = self.group.next_pull_sequence(consumer, self.incarnation);
            let next = self.owned[who].map_or(self.pull_floor, |(_, next)| next);
            assert_eq!(pull_first, next.max(u64::from(self.incarnation) << 40));
            for (pull, &sequence) in (pull_first..).zip(redelivered.iter().chain(&fresh)) {
                assert!(
                    !self.given.contains(&(who, pull)),
                    "{consumer} was given {pull} twice"
                );
                self.given.push((who, pull));
                assert_eq!(
                    self.open.insert(sequence, State::Unacked { who, pull }),
                    None
                );
            }
            let owned = self.owned[who].get_or_insert((pull_first, 0));
            if owned.0 == owned.1 {
                owned.0 = pull_first;
            }
            owned.1 = pull_first + (redelivered.len() + fresh.len()) as u64;

            let runs = fresh
                .chunk_by(|a, b| a + 1 == *b)
                .map(|run| (run[0], run.len() as u32));
            self.act(&Action::Pull {
                group: "ticket",
                consumer,
                pull_first,
                cursor_before,
                cursor_after,
                redelivered: redelivered.into(),
                runs: runs.collect::<Vec<_>>().into(),
            });
        }

        /// Message sequences that the ranges stand for, and the ranges to write; both as they are
        /// before, and checked against each other.
        fn settle(&self, who: usize, places: &[(Index, u64)]) -> (Vec<u64>, Vec<(u64, u64)>) {
            let range = |(place, more): &(Index, u64)| {
                // Also numbers of other consumers, and those around.
                let given = if self.given.is_empty() {
                    0
                } else {
                    place.get(&self.given).1
                };
                (given.saturating_sub(1), given + more)
            };
            let ranges: Vec<_> = places.iter().map(range).collect();
            let numbers: BTreeSet<u64> = ranges
                .iter()
                .flat_map(|(first, last)| *first..=*last)
                .collect();
            let mut pending = BTreeMap::new();
            for (sequence, state) in &self.open {
                if let State::Unacked { who: by, pull } = state
                    && *by == who
                    && numbers.contains(pull)
                {
                    pending.insert(*pull, *sequence);
                }
            }
            let (first, next) = self.owned[who].unwrap_or((0, 0));
            let owned = numbers
                .iter()
                .filter(|pull| (first..next).contains(pull))
                .count();
            let expected = AckOutcome {
                acked: pending.len() as u64,
                already: (owned - pending.len()) as u64,
                not_owned: (numbers.len() - owned) as u64,
            };
            let mut clipped = Vec::new();
            assert_eq!(
                self.group.settle(CONSUMERS[who], &ranges, &mut clipped),
                expected
            );
            let named: Vec<u64> = clipped
                .iter()
                .flat_map(|(first, last)| *first..=*last)
                .collect();
            assert_eq!(named, pending.keys().copied().collect::<Vec<_>>());
            (pending.into_values().collect(), clipped)
        }

        fn check(&self) {
            let group = &self.group;
            let mut open = BTreeMap::new();
            for (who, consumer) in CONSUMERS.into_iter().enumerate() {
                for (pull, sequence, attempt) in group.pending_of(consumer, None, usize::MAX) {
                    let twice = open.insert(sequence, State::Unacked { who, pull });
                    assert_eq!(twice, None, "two hold {sequence}");
                    assert_eq!(group.sequence_of(consumer, pull), Some(sequence));
                    assert_eq!(attempt, self.attempts.get(&sequence).copied().unwrap_or(0));
                }
            }
            assert_eq!(group.unacked(), open.len() as u64);
            for (sequence, until) in group.extra.iter().flat_map(|extra| extra.redelivery.iter()) {
                let twice = open.insert(sequence, State::Waiting { until });
                assert_eq!(twice, None, "{sequence} waits and is held");
            }
            assert_eq!(open, self.open);
            let attempts = group
                .extra
                .iter()
                .flat_map(|extra| extra.redelivery.attempts());
            assert_eq!(attempts.collect::<BTreeMap<_, _>>(), self.attempts);

            // Each message below the cursor is in exactly one state: none is lost.
            assert_eq!(group.skipped(), self.skipped);
            let settled = self.acked + self.filtered + self.skipped;
            assert_eq!(settled + open.len() as u64, group.cursor() - self.start);
            let lowest = open.keys().next().copied().unwrap_or(group.cursor());
            assert_eq!(group.lowest_unsettled(), lowest.min(group.cursor()));
            assert_eq!(group.lag(self.end), self.end - group.cursor());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
        #[test]
        fn no_message_is_lost_and_every_replay_comes_to_the_same(
            steps in vec(step(), 1..80),
            checkpoint in any::<Index>(),
            kind in prop_oneof![Just(GroupKind::Shared), Just(GroupKind::Broadcast)],
        ) {
            let mut world = World::new();
            let filter = Some(TagFilter::Every(vec!["pay".into()]));
            let (group, consumer, cursor) = ("ticket", "a", 0);
            world.act(&Action::Create { group, consumer, kind, filter, cursor });
            if kind == GroupKind::Broadcast {
                world.owned[0] = Some((0, 0));
            }
            let checkpoint = checkpoint.index(steps.len());
            let mut saved = Vec::new();
            for (at, step) in steps.into_iter().enumerate() {
                world.take(step);
                world.check();
                if at == checkpoint {
                    saved = snapshot(&world.group);
                    prop_assert_eq!(&restore(&saved).unwrap(), &world.group);
                }
            }
            prop_assert_eq!(&world.replayed(fresh()), &world.group);
            prop_assert_eq!(&world.replayed(restore(&saved).unwrap()), &world.group);
        }

        #[test]
        fn decoding_a_damaged_snapshot_never_panics(
            flips in vec((any::<Index>(), any::<u8>()), 1..5),
            noise in vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = snapshot(&busy());
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            for bytes in [bytes, noise] {
                if let Ok(mut group) = Group::decode(&mut &*bytes, &mut |name| name.into()) {
                    let _ = group.settle("a", &[(0, u64::MAX)], &mut Vec::new());
                    group.clamp(group.cursor(), u64::MAX);
                    group.raise_floor(group.cursor() / 2);
                }
            }
        }
    }

    /// One with everything that a group can have.
    fn busy() -> Group {
        let mut group = fresh();
        let tags = vec!["pay".to_owned(), "refund".to_owned()];
        group.extra = Some(Box::new(Extra {
            filter: Some(TagFilter::Any(tags)),
            ..Extra::default()
        }));
        let pull = |consumer, cursor: u64| Action::Pull {
            group: "ticket",
            consumer,
            pull_first: 0,
            cursor_before: cursor + 5,
            cursor_after: cursor + 20,
            redelivered: Vec::new().into(),
            runs: vec![(cursor + 5, 3), (cursor + 10, 10)].into(),
        };
        let ranges = vec![(4, 5)].into();
        let nack = Action::Nack {
            group: "ticket",
            consumer: "b",
            ranges,
            available_at_ms: 99,
        };
        for (action, end) in [(pull("b", 0), 100), (pull("a", 20), 200), (nack, 300)] {
            group.apply(&action, end, &mut |name| name.into());
        }
        group
    }

    #[test]
    fn groups_stand_one_after_another_and_a_shortened_one_is_refused() {
        let mut bytes = snapshot(&busy());
        assert_eq!(restore(&bytes).unwrap(), busy());
        for len in 0..bytes.len() {
            assert!(Group::decode(&mut &bytes[..len], &mut |name| name.into()).is_err());
        }
        fresh().encode(&mut bytes);
        let mut rest = &*bytes;
        let both = [(); 2].map(|()| Group::decode(&mut rest, &mut |name| name.into()).unwrap());
        assert_eq!(both, [busy(), fresh()]);
        assert!(rest.is_empty());
    }

    #[test]
    fn names_are_asked_of_the_interner() {
        let bytes = snapshot(&busy());
        let mut asked = Vec::new();
        let shared: Arc<str> = "a".into();
        let group = Group::decode(&mut &*bytes, &mut |name| {
            asked.push(name.to_owned());
            if name == "a" {
                Arc::clone(&shared)
            } else {
                name.into()
            }
        });
        assert_eq!(asked, ["ticket", "a", "b"]);
        assert!(Arc::ptr_eq(&group.unwrap().members[0].name, &shared));
    }

    #[test]
    #[ignore = "a measurement: run it with --release -- --ignored --nocapture"]
    fn decoding_120_000_idle_groups() {
        let mut bytes = Vec::new();
        for subject in 0..40_000_u64 {
            for name in ["ticket", "refund", "search"] {
                let mut group = Group::new(name.into(), GroupKind::Shared, None, subject);
                let (redelivered, runs) = (Vec::new().into(), Vec::new().into());
                let (pull_first, cursor_before, cursor_after) = (subject, subject, subject);
                let pull = Action::Pull {
                    group: name,
                    consumer: "host-1",
                    pull_first,
                    cursor_before,
                    cursor_after,
                    redelivered,
                    runs,
                };
                group.apply(&pull, subject + 1, &mut |name| name.into());
                group.encode(&mut bytes);
            }
        }
        for _ in 0..5 {
            let mut names = std::collections::HashMap::<String, Arc<str>>::new();
            let (mut rest, mut groups) = (&*bytes, Vec::with_capacity(120_000));
            let started = std::time::Instant::now();
            while !rest.is_empty() {
                let group = Group::decode(&mut rest, &mut |name| match names.get(name) {
                    Some(known) => Arc::clone(known),
                    None => Arc::clone(names.entry(name.into()).or_insert(name.into())),
                });
                groups.push(group.unwrap());
            }
            let took = started.elapsed();
            eprintln!("{} groups, {} bytes: {took:?}", groups.len(), bytes.len());
        }
    }
}
