//! A group beside a model that keeps each message on its own, through random work, retention, checkpoints and replays.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::group as fresh;
use crate::consume::action::{Action, GroupKind};
use crate::consume::group::{AckOutcome, Group, TagFilter};

const CONSUMERS: [&str; 3] = ["a", "b", "c"];

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
                let asked: Vec<_> = ranges.iter().map(|range| self.range(range)).collect();
                let (pending, ranges) = self.settle(who, &asked);
                let skipped = self.group.maybe_skipped(CONSUMERS[who], &asked);
                self.acked += pending.len() as u64;
                for sequence in pending {
                    self.open.remove(&sequence);
                    self.attempts.remove(&sequence);
                }
                let (ranges, skipped) = (ranges.into(), skipped.into());
                // What retention took is skipped already: nothing changes here, and all in a replay.
                self.act(&Action::AckSkipped {
                    group: "ticket",
                    consumer: CONSUMERS[who],
                    ranges,
                    skipped,
                });
            }
            Step::Nack(who, ranges, delay) => {
                let ranges: Vec<_> = ranges.iter().map(|range| self.range(range)).collect();
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

    /// Also numbers of other consumers, and those around.
    fn range(&self, (place, more): &(Index, u64)) -> (u64, u64) {
        let given = if self.given.is_empty() {
            0
        } else {
            place.get(&self.given).1
        };
        (given.saturating_sub(1), given + more)
    }

    /// Message sequences that the ranges stand for, and the ranges to write; both as they are
    /// before, and checked against each other.
    fn settle(&self, who: usize, ranges: &[(u64, u64)]) -> (Vec<u64>, Vec<(u64, u64)>) {
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
            self.group.settle(CONSUMERS[who], ranges, &mut clipped),
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

fn restored(mut snapshot: &[u8]) -> Group {
    let group = Group::decode(&mut snapshot, &mut |name| name.into()).unwrap();
    assert!(snapshot.is_empty());
    group
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
        let pull_floor = 0;
        world.act(&Action::Create { group, consumer, kind, filter, cursor, pull_floor });
        if kind == GroupKind::Broadcast {
            world.owned[0] = Some((0, 0));
        }
        let checkpoint = checkpoint.index(steps.len());
        let mut saved = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            world.take(step);
            world.check();
            if at == checkpoint {
                world.group.encode(&mut saved);
                prop_assert_eq!(&restored(&saved), &world.group);
            }
        }
        prop_assert_eq!(&world.replayed(fresh()), &world.group);
        prop_assert_eq!(&world.replayed(restored(&saved)), &world.group);
    }
}
