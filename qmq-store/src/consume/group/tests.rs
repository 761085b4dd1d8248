//! One group on its own: what each action changes.

mod model;

use super::*;
use crate::consume::member::MemberView;

fn group() -> Group {
    Group::new("ticket".into(), GroupKind::Shared, None, 0)
}

/// Applies it the way recovery does: from bytes.
fn act(group: &mut Group, action: &Action<'_>) {
    let mut bytes = Vec::new();
    action.encode(&mut bytes);
    let action = Action::decode(&bytes).unwrap();
    let end_offset = group.applied + bytes.len() as u64;
    group.apply(&action, end_offset, &mut |name| name.into());
}

/// Hands out all that waits at `now_ms`, then `count` new messages, as the store would.
fn pull(group: &mut Group, consumer: &str, incarnation: u32, count: u32, now_ms: u64) {
    let cursor = group.cursor;
    let action = Action::Pull {
        group: "ticket",
        consumer,
        pull_first: group.next_pull_sequence(consumer, incarnation),
        cursor_before: cursor,
        cursor_after: cursor + u64::from(count),
        redelivered: group.due(now_ms, usize::MAX).into(),
        runs: vec![(cursor, count)].into(),
    };
    act(group, &action);
}

fn settle(group: &Group, consumer: &str, ranges: &[(u64, u64)]) -> (AckOutcome, Vec<(u64, u64)>) {
    let mut pending = vec![(77, 77)];
    let outcome = group.settle(consumer, ranges, &mut pending);
    (outcome, pending)
}

fn ack(group: &mut Group, consumer: &str, ranges: &[(u64, u64)]) -> AckOutcome {
    let (outcome, _) = settle(group, consumer, ranges);
    act(
        group,
        &Action::Ack {
            group: "ticket",
            consumer,
            ranges: ranges.into(),
        },
    );
    outcome
}

fn nack(group: &mut Group, consumer: &str, ranges: &[(u64, u64)], available_at_ms: u64) {
    let ranges = ranges.into();
    act(
        group,
        &Action::Nack {
            group: "ticket",
            consumer,
            ranges,
            available_at_ms,
        },
    );
}

fn gone(group: &mut Group, consumer: &str) {
    act(
        group,
        &Action::Gone {
            group: "ticket",
            consumer,
        },
    );
}

fn outcome(acked: u64, already: u64, not_owned: u64) -> AckOutcome {
    AckOutcome {
        acked,
        already,
        not_owned,
    }
}

fn held(group: &Group, consumer: &str) -> Vec<(u64, u64)> {
    let pending = group.pending_of(consumer, None, usize::MAX);
    pending
        .into_iter()
        .map(|(pull, sequence, _)| (pull, sequence))
        .collect()
}

#[test]
fn an_idle_group_with_one_consumer_takes_at_most_128_bytes() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 100, 0);
    ack(&mut group, "host-1", &[(0, 99)]);
    assert!(group.extra.is_none());
    assert!(group.members[0].pull_log.is_none());
    assert!(size_of::<Group>() + size_of_val(&*group.members) <= 128);
}

/// QMQ acks them itself, and nobody gets them again.
#[test]
fn qmq_a1_a_dead_consumers_unacked_messages_are_redelivered_not_acked() {
    let mut group = group();
    pull(&mut group, "dead", 0, 10, 0);
    ack(&mut group, "dead", &[(2, 4)]);
    gone(&mut group, "dead");
    assert_eq!(
        (group.unacked(), group.waiting(), group.lowest_unsettled()),
        (0, 7, 0)
    );

    pull(&mut group, "alive", 0, 1, 0);
    let sequences: Vec<u64> = held(&group, "alive").iter().map(|held| held.1).collect();
    assert_eq!(sequences, [0, 1, 5, 6, 7, 8, 9, 10]);
    assert_eq!(
        [0, 2, 9, 10].map(|sequence| group.attempt(sequence)),
        [1, 0, 1, 0]
    );
    assert_eq!(group.skipped(), 0);
}

/// QMQ starts again at numbers that its clients still hold; their acks hit other messages.
#[test]
fn qmq_a5_pull_sequences_are_never_used_again_after_a_restart() {
    let mut group = group();
    pull(&mut group, "host-1", 1, 10, 0);
    assert_eq!(held(&group, "host-1")[0], (1 << 40, 0));
    // The pulls of sequences 10..20 were buffered only, and power was lost.
    assert_eq!(group.next_pull_sequence("host-1", 1), (1 << 40) + 10);
    pull(&mut group, "host-1", 2, 10, 0);
    assert_eq!(held(&group, "host-1")[10], (2 << 40, 10));

    let lost = ((1 << 40) + 10, (1 << 40) + 19);
    assert_eq!(ack(&mut group, "host-1", &[lost]), outcome(0, 10, 0));
    assert_eq!(group.unacked(), 20);
    assert_eq!(group.next_pull_sequence("another", 2), 2 << 40);
    assert_eq!(
        group.next_pull_sequence("another", 1 << 24),
        ((1 << 24) - 1) << 40
    );
}

#[test]
fn a_broadcast_consumer_finds_its_messages_when_it_comes_back_after_it_was_gone() {
    let (kind, filter) = (GroupKind::Broadcast, None);
    let mut group = Group::new("ticket".into(), kind, None, 0);
    let (consumer, cursor) = ("host-1", 30);
    let create = Action::Create {
        group: "ticket",
        consumer,
        kind,
        filter,
        cursor,
        pull_floor: 0,
    };
    act(&mut group, &create);
    assert!(group.members().eq([MemberView {
        name: &"host-1".into(),
        next_pull: 0,
        unacked: 0,
        seen_ms: 0
    }]));
    pull(&mut group, "host-1", 1, 2, 0);
    assert_eq!(ack(&mut group, "host-1", &[(0, 9)]), outcome(0, 0, 10));
    gone(&mut group, "host-1");
    assert_eq!((group.waiting(), group.members().count()), (2, 1));
    let given = [(1 << 40, (1 << 40) + 1)];
    assert_eq!(ack(&mut group, "host-1", &given), outcome(0, 0, 2));
    assert!(group.idle_members(u64::MAX, 0).is_empty());
    pull(&mut group, "host-1", 1, 0, 0);
    let again = [((1 << 40) + 2, 30), ((1 << 40) + 3, 31)];
    assert_eq!(held(&group, "host-1"), again);
}

#[test]
fn one_who_comes_back_after_it_was_gone_does_not_meet_its_old_numbers() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    gone(&mut group, "host-1");
    assert_eq!(group.next_pull_sequence("host-1", 0), 10);
    assert_eq!(group.next_pull_sequence("host-2", 0), 10);
    pull(&mut group, "host-1", 0, 0, 0);
    assert_eq!(ack(&mut group, "host-1", &[(0, 9)]), outcome(0, 0, 10));
    assert_eq!(group.unacked(), 10);
    assert_eq!(ack(&mut group, "host-1", &[(0, 14)]), outcome(5, 0, 10));
}

/// QMQ answers with another consumer's message.
#[test]
fn qmq_a6_a_lookup_past_a_consumers_block_finds_nothing() {
    let mut group = group();
    pull(&mut group, "a", 0, 5, 0);
    pull(&mut group, "b", 0, 5, 0);
    assert_eq!(group.sequence_of("a", 4), Some(4));
    assert_eq!(group.sequence_of("b", 4), Some(9));
    assert_eq!(
        [5, 9, u64::MAX].map(|pull| group.sequence_of("a", pull)),
        [None; 3]
    );
    assert_eq!(group.sequence_of("c", 0), None);
    assert_eq!(ack(&mut group, "a", &[(5, 9)]), outcome(0, 0, 5));
    assert_eq!(group.unacked(), 10);
}

/// QMQ acks a whole range when it cannot find out what the range stands for.
#[test]
fn qmq_a7_what_cannot_be_found_is_not_acked() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    // A pull whose record is damaged: its numbers are in no log.
    let action = Action::Pull {
        group: "ticket",
        consumer: "host-1",
        pull_first: 20,
        cursor_before: 10,
        cursor_after: 15,
        redelivered: Vec::new().into(),
        runs: vec![(10, 5)].into(),
    };
    act(&mut group, &action);
    let (found, pending) = settle(&group, "host-1", &[(10, 19)]);
    assert_eq!((found, pending), (outcome(0, 10, 0), vec![]));
    ack(&mut group, "host-1", &[(10, 19)]);
    ack(&mut group, "unknown", &[(0, u64::MAX)]);
    assert!(group.pending_of("unknown", None, 10).is_empty());
    assert_eq!((group.unacked(), group.lowest_unsettled()), (15, 0));
}

#[test]
fn acks_in_any_order_leave_holes_and_repeat_harmlessly() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    assert_eq!(
        ack(&mut group, "host-1", &[(4, 5), (8, 8)]),
        outcome(3, 0, 0)
    );
    assert_eq!(ack(&mut group, "host-1", &[(4, 8)]), outcome(2, 3, 0));
    assert_eq!(ack(&mut group, "host-1", &[(0, 9)]), outcome(5, 5, 0));
    assert_eq!((group.unacked(), group.lowest_unsettled()), (0, 10));
}

#[test]
fn the_ranges_to_write_are_those_pending() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    ack(&mut group, "host-1", &[(3, 4)]);
    nack(&mut group, "host-1", &[(5, 5)], 0);
    pull(&mut group, "host-1", 0, 1, 0);
    // 10 and 11 are neighbours as pulls though not as messages: they stand for 5 and 10.
    let (found, pending) = settle(&group, "host-1", &[(2, 8), (10, 20)]);
    assert_eq!(
        (found, pending),
        (outcome(6, 3, 9), vec![(2, 2), (6, 8), (10, 11)])
    );
}

#[test]
fn a_pull_sequence_given_before_does_not_come_to_stand_for_another_message() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    ack(&mut group, "host-1", &[(0, 8)]);
    // The store does not write this; a log that says so must still lose no message.
    let action = Action::Pull {
        group: "ticket",
        consumer: "host-1",
        pull_first: 5,
        cursor_before: 10,
        cursor_after: 12,
        redelivered: Vec::new().into(),
        runs: vec![(10, 2)].into(),
    };
    act(&mut group, &action);
    assert_eq!(held(&group, "host-1"), [(9, 9), (10, 10), (11, 11)]);
    assert_eq!(ack(&mut group, "host-1", &[(5, 6)]), outcome(0, 2, 0));
}

#[test]
fn a_number_named_twice_counts_once_and_a_backward_range_names_none() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    let (twice, pending) = settle(&group, "host-1", &[(5, 12), (9, 2), (0, 6), (5, 5)]);
    assert_eq!((twice, pending), (outcome(10, 0, 3), vec![(0, 9)]));
    nack(&mut group, "host-1", &[(9, 2)], 0);
    assert_eq!(ack(&mut group, "host-1", &[(9, 2)]), AckOutcome::default());
    assert_eq!(group.unacked(), 10);
}

#[test]
fn a_range_of_all_numbers_is_no_more_work_than_what_is_pending() {
    let mut group = group();
    assert_eq!(
        ack(&mut group, "host-1", &[(0, u64::MAX)]),
        outcome(0, 0, u64::MAX)
    );
    pull(&mut group, "host-1", 1, 10, 0);
    let all = outcome(10, 0, u64::MAX - 9);
    assert_eq!(ack(&mut group, "host-1", &[(0, u64::MAX)]), all);
    assert_eq!(group.unacked(), 0);
}

#[test]
fn a_refused_message_waits_for_its_time_and_counts_its_attempts() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 3, 0);
    nack(&mut group, "host-1", &[(1, 1)], 500);
    assert_eq!((group.due(499, 10), group.due(500, 10)), (vec![], vec![1]));
    assert_eq!((group.next_due(), group.unacked()), (Some(500), 2));
    pull(&mut group, "host-2", 0, 0, 500);
    assert_eq!(group.pending_of("host-2", None, 10), [(0, 1, 1)]);
    nack(&mut group, "host-2", &[(0, 0)], 900);
    pull(&mut group, "host-2", 0, 0, 900);
    assert_eq!(group.pending_of("host-2", None, 10), [(1, 1, 2)]);
    ack(&mut group, "host-2", &[(1, 1)]);
    assert_eq!(group.attempt(1), 0);
    assert!(group.extra.is_none());
}

#[test]
fn one_who_returns_is_given_what_it_holds_once_under_its_old_numbers() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 5, 0);
    ack(&mut group, "host-1", &[(1, 1)]);
    assert_eq!(group.pending_of("host-1", Some(2), 1), [(3, 3, 0)]);
    assert_eq!(group.pending_of("host-1", Some(u64::MAX), 1), []);
    let first = [(0, 0, 0), (2, 2, 0), (3, 3, 0)];
    assert_eq!(group.to_resend("host-1", 3), first);
    // Asking changes nothing; giving does.
    assert_eq!(group.to_resend("host-1", 3), first);
    group.resent("host-1", 3);
    ack(&mut group, "host-1", &[(2, 2)]);
    group.raise_floor(1);
    assert_eq!(group.to_resend("host-1", 3), [(4, 4, 0)]);
    group.resent("host-1", 4);
    assert_eq!(group.to_resend("host-1", 3), []);
    // One who joined after the open holds nothing that it does not know of, unless it says so.
    pull(&mut group, "host-2", 0, 2, 0);
    group.touch_pulled("host-2", 0);
    assert_eq!(group.to_resend("host-2", 3), []);
    group.came_back("host-2");
    assert_eq!(group.to_resend("host-2", 3), [(0, 5, 0), (1, 6, 0)]);
}

#[test]
fn a_reset_takes_everything_back() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    nack(&mut group, "host-1", &[(0, 0)], 0);
    act(
        &mut group,
        &Action::Reset {
            group: "ticket",
            consumer: "",
            cursor: 4,
        },
    );
    assert_eq!(
        (group.cursor(), group.unacked(), group.waiting()),
        (4, 0, 0)
    );
    assert_eq!(ack(&mut group, "host-1", &[(0, 9)]), outcome(0, 0, 10));
    pull(&mut group, "host-1", 0, 1, 0);
    assert_eq!(held(&group, "host-1"), [(10, 4)]);
}

#[test]
fn what_retention_took_counts_as_skipped_never_as_acked() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    nack(&mut group, "host-1", &[(0, 1), (8, 8)], 0);
    for _ in 0..2 {
        group.raise_floor(5);
        assert_eq!(
            (group.skipped(), group.unacked(), group.waiting()),
            (5, 4, 1)
        );
        assert_eq!(
            (group.attempt(1), group.attempt(8), group.lowest_unsettled()),
            (0, 1, 5)
        );
    }
    assert_eq!(ack(&mut group, "host-1", &[(2, 5)]), outcome(1, 3, 0));
    group.raise_floor(20);
    assert_eq!(
        (group.skipped(), group.cursor(), group.lag(25)),
        (5 + 4 + 10, 20, 5)
    );
}

#[test]
fn messages_that_a_pull_found_gone_count_as_skipped() {
    let mut group = group();
    let action = Action::Pull {
        group: "ticket",
        consumer: "c",
        pull_first: 0,
        cursor_before: 30,
        cursor_after: 40,
        redelivered: Vec::new().into(),
        runs: vec![(30, 1), (35, 2)].into(),
    };
    act(&mut group, &action);
    assert_eq!(
        (group.skipped(), group.cursor(), group.unacked()),
        (30, 40, 3)
    );
    assert_eq!(held(&group, "c"), [(0, 30), (1, 35), (2, 36)]);
}

#[test]
fn nothing_refers_beyond_a_recovered_end() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    nack(&mut group, "host-1", &[(1, 1), (9, 9)], 0);
    group.clamp(5, u64::MAX);
    assert_eq!(
        (group.cursor(), group.unacked(), group.waiting()),
        (5, 4, 1)
    );
    assert_eq!((group.skipped(), group.attempt(9)), (0, 0));
    assert_eq!(group.next_pull_sequence("host-1", 0), 10);
}

#[test]
fn an_action_is_applied_once() {
    let mut group = group();
    pull(&mut group, "host-1", 0, 10, 0);
    let end = group.applied();
    let reset = Action::Reset {
        group: "ticket",
        consumer: "",
        cursor: 0,
    };
    group.apply(&reset, end, &mut |name| name.into());
    assert_eq!((group.cursor(), group.applied()), (10, end));
    group.apply(&reset, end + 1, &mut |name| name.into());
    assert_eq!((group.cursor(), group.applied()), (0, end + 1));
}

#[test]
fn a_second_creation_changes_the_filter_and_nothing_else() {
    let create = |filter| Action::Create {
        group: "ticket",
        consumer: "",
        kind: GroupKind::Shared,
        filter,
        cursor: 40,
        pull_floor: 0,
    };
    let mut group = group();
    act(&mut group, &create(None));
    assert_eq!(group.cursor(), 40);
    pull(&mut group, "host-1", 0, 10, 0);
    let filter = TagFilter::Any(vec!["pay".into()]);
    act(&mut group, &create(Some(filter.clone())));
    assert_eq!((group.cursor(), group.filter()), (50, Some(&filter)));
    act(&mut group, &create(Some(TagFilter::All)));
    assert!(group.filter().is_none() && group.extra.is_none());
}

#[test]
fn a_lease_ends_only_for_the_silent_who_hold_messages() {
    let mut group = group();
    pull(&mut group, "holds", 0, 10, 0);
    pull(&mut group, "idle", 0, 0, 0);
    group.touch_all(1_000);
    assert!(group.expired(1_500, 500).is_empty());
    assert_eq!(group.expired(1_501, 500), ["holds".into()]);
    assert_eq!(group.idle_members(1_501, 500), ["idle".into()]);
    group.touch("holds", 1_400);
    assert!(group.expired(1_501, 500).is_empty());
    assert_eq!((group.room(12), group.room(5)), (2, 0));
    let states = group.members().map(|m| (m.unacked, m.next_pull, m.seen_ms));
    assert_eq!(states.collect::<Vec<_>>(), [(10, 10, 1_400), (0, 0, 1_000)]);
}
