//! Acknowledging, refusing, going away and coming back: what each means for a message.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qmq_store::disk::CrashImage;
use qmq_store::{AckOutcome, Durability, Error, Message, PullRequest, Waiting};
use support::{Bell, House, NOON, attempts, pull_sequences, request, sequences};

#[test]
fn acks_come_in_any_order_and_with_holes_and_survive_a_crash() {
    let mut house = House::new();
    house.send_numbers("s", 0..100);
    let batch = house.pull("c", 100);
    let first = batch.iter().next().unwrap().pull_sequence();
    let at = |from: u64, to: u64| first + from..=first + to;
    assert_eq!(house.ack(&batch, &[at(90, 99), at(10, 19)]), 20);
    assert_eq!(house.ack(&batch, &[at(50, 50)]), 1);
    assert_eq!(house.ack(&batch, &[at(45, 55)]), 10);
    let open: Vec<u64> = (0..10).chain(20..45).chain(56..90).collect();
    for _ in 0..2 {
        house.kill();
        assert_eq!(house.rest("c"), open);
    }
    house.restart();
    assert_eq!(house.rest("c"), open);
    house.store().consumer_gone("s", "g", "c").unwrap();
    assert_eq!(house.rest("other"), open);
}

#[test]
fn an_ack_says_what_was_acked_what_was_settled_before_and_what_is_somebody_elses() {
    let house = House::new();
    house.send_numbers("s", 0..10);
    let batch = house.pull("c", 10);
    let first = batch.iter().next().unwrap().pull_sequence();
    assert_eq!(house.ack(&batch, &[first..=first + 3]), 4);
    let outcome = house
        .store()
        .ack_ranges(
            batch.member(),
            &[first + 2..=first + 5, first + 10..=first + 12],
            Durability::Buffered,
        )
        .unwrap();
    let expected = AckOutcome {
        acked: 2,
        already: 2,
        not_owned: 3,
    };
    assert_eq!(outcome, expected);
}

#[test]
fn a_refused_message_comes_again_in_place_after_its_delay_with_its_attempts_counted() {
    let mut house = House::new();
    house.send_numbers("s", 0..5);
    let delay = Duration::from_secs(10);
    for round in 0..4_u32 {
        let batch = house.pull("c", 2);
        assert_eq!(sequences(&batch), [0, 1], "round {round}");
        assert_eq!(attempts(&batch), [round, round]);
        let all = [0..=u64::MAX];
        let outcome = house
            .store()
            .nack(batch.member(), &all, delay, Durability::Buffered)
            .unwrap();
        assert_eq!(outcome.acked, 2);
        // The count is kept through every kind of restart.
        match round {
            0 => {}
            1 => house.restart(),
            2 => house.kill(),
            _ => {
                house.store().sync().unwrap();
                house.lose_power(7);
            }
        }
        house.clock.advance(9_999);
        let early = house.pull("early", 1);
        assert!(sequences(&early).iter().all(|sequence| *sequence >= 2));
        house.clock.advance(1);
    }
    let last = house.pull("c", 2);
    assert_eq!(
        (sequences(&last), attempts(&last)),
        (vec![0, 1], vec![4, 4])
    );
    assert_eq!(house.store().ack(&last).unwrap().acked, 2);
}

#[test]
fn a_consumer_declared_gone_leaves_its_messages_to_the_others_at_once() {
    let house = House::new();
    house.send_numbers("s", 0..20);
    let dead = house.pull("dead", 8);
    let alive = house.pull("alive", 100);
    assert_eq!(alive.len(), 12);
    assert_eq!(house.store().consumer_gone("s", "g", "dead").unwrap(), 8);
    let again = house.pull("alive", 100);
    assert_eq!(sequences(&again), (0..8).collect::<Vec<_>>());
    assert_eq!(attempts(&again), [1; 8]);
    // Whoever comes back late is told so, and settles nothing.
    let late = house.store().ack(&dead).unwrap();
    assert_eq!((late.acked, late.not_owned), (0, 8));
    assert_eq!(house.store().ack(&again).unwrap().acked, 8);
}

#[test]
fn a_consumer_that_stays_silent_for_its_lease_expires_and_one_that_speaks_does_not() {
    let house = House::with(|options| options.lease = Duration::from_secs(30));
    house.send_numbers("s", 0..10);
    let silent = house.pull("silent", 3);
    let busy = house.pull("busy", 3);
    house.clock.advance(30_000);
    assert_eq!(house.store().expire(NOON + 30_000).unwrap(), []);
    let first = busy.iter().next().unwrap().pull_sequence();
    house.ack(&busy, &[first..=first]);
    house.clock.advance(1);
    let expired = house.store().expire(NOON + 30_001).unwrap();
    assert_eq!(expired.len(), 1);
    assert_eq!(
        (expired[0].consumer.as_str(), expired[0].messages),
        ("silent", 3)
    );
    assert_eq!(sequences(&house.pull("busy", 3)), sequences(&silent));
}

/// A message that kills whoever has it must reach its most attempts, also when nobody lives to refuse it.
#[test]
fn each_consumer_that_goes_counts_as_an_attempt_whether_declared_or_expired_and_after_every_restart()
 {
    let mut house = House::with(|options| options.lease = Duration::from_secs(30));
    house.send_numbers("s", 0..3);
    for round in 0..6_u32 {
        let consumer = format!("c-{round}");
        let batch = house.pull(&consumer, 2);
        assert_eq!(
            (sequences(&batch), attempts(&batch)),
            (vec![0, 1], vec![round; 2])
        );
        if round % 2 == 0 {
            assert_eq!(house.store().consumer_gone("s", "g", &consumer).unwrap(), 2);
        } else {
            house.clock.advance(30_001);
            let now = NOON + u64::from(round / 2 + 1) * 30_001;
            assert_eq!(house.store().expire(now).unwrap().len(), 1);
        }
        match round {
            1 => house.restart(),
            2 => house.kill(),
            3 => house.store().checkpoint().unwrap(),
            4 => {
                house.store().sync().unwrap();
                house.lose_power(5);
            }
            _ => {}
        }
    }
    // The third was never handed out; the others begin anew once they are settled.
    let last = house.pull("last", 10);
    assert_eq!(attempts(&last), [6, 6, 0]);
}

#[test]
fn a_broadcast_consumer_that_goes_counts_as_an_attempt_too() {
    let mut house = House::new();
    house.send_numbers("s", 0..2);
    let all = request("host").broadcast(true);
    for round in 0..3_u32 {
        let batch = house.store().pull(&all).unwrap();
        assert_eq!(attempts(&batch), [round; 2]);
        house.store().consumer_gone("s", "g", "host").unwrap();
        house.kill();
    }
}

#[test]
fn whoever_holds_messages_is_named_after_every_restart_and_nobody_else() {
    let mut house = House::new();
    let held = |house: &House| -> Vec<(String, String, String, u64)> {
        let holders = house.store().holders().into_iter();
        let mut held: Vec<_> = holders
            .map(|one| {
                let names = [one.subject, one.group, one.consumer].map(|name| name.to_string());
                let [subject, group, consumer] = names;
                (subject, group, consumer, one.unacked)
            })
            .collect();
        held.sort();
        held
    };
    assert_eq!(held(&house), []);
    for subject in ["s", "t", "u"] {
        house.send_numbers(subject, 0..10);
    }
    let pull = |house: &House, subject: &str, group: &str, consumer: &str, broadcast| {
        let request = PullRequest::new(subject, group, consumer).max(3);
        let batch = house.store().pull(&request.broadcast(broadcast));
        assert_eq!(batch.as_ref().unwrap().len(), 3);
        batch.unwrap()
    };
    pull(&house, "s", "g", "a", false);
    let settled = pull(&house, "s", "g", "b", false);
    house.store().ack(&settled).unwrap();
    pull(&house, "s", "h", "a", false);
    let some = pull(&house, "t", "all", "a", true);
    let first = pull_sequences(&some)[0];
    house.ack(&some, &[first..=first]);
    pull(&house, "t", "all", "b", true);
    let refused = pull(&house, "u", "g", "a", false);
    let all = [0..=u64::MAX];
    let delay = Duration::from_secs(1);
    house
        .store()
        .nack(refused.member(), &all, delay, Durability::Buffered)
        .unwrap();
    let expected = [
        ("s", "g", "a", 3),
        ("s", "h", "a", 3),
        ("t", "all", "a", 2),
        ("t", "all", "b", 3),
    ]
    .map(|(subject, group, consumer, unacked)| {
        (
            subject.to_owned(),
            group.to_owned(),
            consumer.to_owned(),
            unacked,
        )
    });
    assert_eq!(held(&house), expected);
    house.kill();
    assert_eq!(held(&house), expected);
    house.restart();
    assert_eq!(held(&house), expected);
    for one in house.store().holders() {
        let gone = house
            .store()
            .consumer_gone(&one.subject, &one.group, &one.consumer);
        assert_eq!(gone.unwrap(), one.unacked);
    }
    assert_eq!(held(&house), []);
}

#[test]
fn a_lease_starts_anew_when_the_store_is_opened() {
    let mut house = House::with(|options| options.lease = Duration::from_secs(30));
    house.send_numbers("s", 0..3);
    house.pull("c", 3);
    house.clock.advance(3_600_000);
    house.kill();
    assert_eq!(house.store().expire(NOON + 3_600_000).unwrap(), []);
    assert_eq!(house.store().expire(NOON + 3_630_001).unwrap().len(), 1);
}

#[test]
fn a_returning_consumer_gets_its_unacked_messages_under_their_original_pull_sequences() {
    let mut house = House::new();
    house.send_numbers("s", 0..50);
    let before = house.pull("c", 30);
    let numbers = pull_sequences(&before);
    house.ack(&before, &[numbers[5]..=numbers[9]]);
    house.kill();
    let old = house.store().ack(&before);
    assert!(
        matches!(old, Err(Error::StaleIncarnation { .. })),
        "{old:?}"
    );
    let mut again = Vec::new();
    for _ in 0..3 {
        let batch = house.pull("c", 10);
        again.extend(pull_sequences(&batch).into_iter().zip(sequences(&batch)));
        assert_eq!(house.store().ack(&batch).unwrap().acked, batch.len() as u64);
    }
    let expected: Vec<(u64, u64)> = numbers.iter().copied().zip(0..30).collect();
    assert_eq!(again[..5], expected[..5]);
    assert_eq!(again[5..25], expected[10..]);
    assert_eq!(house.rest("c"), (30..50).collect::<Vec<_>>());
}

#[test]
fn a_consumer_that_says_it_returns_gets_what_it_holds_once_more_while_the_store_is_open() {
    let house = House::new();
    house.send_numbers("s", 0..10);
    let before = house.pull("c", 6);
    let numbers = pull_sequences(&before);
    house.ack(&before, &[numbers[1]..=numbers[2]]);
    let request = request("c").max(3);
    let again = house
        .store()
        .pull(&request.clone().returning(true))
        .unwrap();
    assert_eq!(pull_sequences(&again), [numbers[0], numbers[3], numbers[4]]);
    assert_eq!(sequences(&house.store().pull(&request).unwrap()), [5]);
    assert_eq!(sequences(&house.store().pull(&request).unwrap()), [6, 7, 8]);
    // Unless it was given to somebody else meanwhile.
    house.store().consumer_gone("s", "g", "c").unwrap();
    assert_eq!(house.pull("other", 4).len(), 4);
    let late = house.store().pull(&request.returning(true)).unwrap();
    assert_eq!(sequences(&late), [6, 7, 8]);
    assert!(
        pull_sequences(&late)
            .iter()
            .all(|number| !numbers.contains(number))
    );
    assert_eq!(house.store().ack(&before).unwrap().not_owned, 6);
}

#[test]
fn after_a_clean_restart_a_consumer_may_ack_what_it_pulled_before() {
    let mut house = House::new();
    house.send_numbers("s", 0..5);
    let batch = house.pull("c", 5);
    let (member, numbers) = (batch.member().clone(), pull_sequences(&batch));
    drop(batch);
    house.restart();
    let range = numbers[0]..=numbers[4];
    let outcome = house
        .store()
        .ack_ranges(&member, &[range], Durability::Buffered);
    assert_eq!(outcome.unwrap().acked, 5);
    assert_eq!(house.rest("c"), []);
}

#[test]
fn a_pull_sequence_never_stands_for_a_second_message() {
    let mut house = House::new();
    let mut given = std::collections::HashMap::new();
    for round in 0..12_u64 {
        house.send_numbers("s", 0..5);
        for consumer in ["a", "b"] {
            let batch = house.pull(consumer, 4);
            for one in &batch {
                let key = (consumer, one.pull_sequence());
                let meant = *given.entry(key).or_insert(one.sequence());
                assert_eq!(meant, one.sequence(), "round {round}, {key:?}");
            }
            if round % 3 == 0 {
                house.store().ack(&batch).unwrap();
            }
        }
        match round % 4 {
            0 => house.kill(),
            1 => house.restart(),
            2 => {
                // Messages survive, the pulls may not: their numbers must not be given again.
                house.lose_power(round);
                given.retain(|_, sequence| *sequence < next(&house));
            }
            _ => {
                house.store().consumer_gone("s", "g", "a").unwrap();
            }
        }
    }
}

/// The sequence that the next message gets.
fn next(house: &House) -> u64 {
    house
        .store()
        .read("s", 0, usize::MAX)
        .map_or(0, |all| all.len() as u64)
}

#[test]
fn a_message_goes_to_its_retry_subject_and_is_acknowledged_both_or_neither_whenever_the_power_goes()
{
    let retry = qmq_store::message::retry_subject("s", "g");
    let mut seen = (false, false);
    for cut in 0..24 {
        let mut house = House::new();
        house.send_message(&Message::new("s", "body").with_id("id").tag("t"));
        let batch = house.pull("c", 1);
        house.store().sync().unwrap();
        house.disk.power_off_after(house.disk.operations() + cut);
        let number = batch.iter().next().unwrap().pull_sequence();
        let moved = house
            .store()
            .copy_and_ack(batch.member(), number, &retry, Durability::Synced);
        house.lose_power(cut);
        let copies = house.store().read(&retry, 0, 10).map_or(0, |all| all.len());
        let held = house.pull("c", 1).len();
        assert_eq!(copies + held, 1, "cut {cut}: {copies} copies, {held} held");
        assert!(
            moved.is_err() || copies == 1,
            "cut {cut}: acknowledged and lost"
        );
        seen = (seen.0 || copies == 1, seen.1 || held == 1);
        if copies == 1 {
            let read = house.store().read(&retry, 0, 1).unwrap();
            let copy = read.iter().next().unwrap().message().unwrap();
            assert_eq!((copy.id(), copy.body()), (Some("id"), &b"body"[..]));
        }
    }
    assert_eq!(seen, (true, true), "both ends were seen");
}

#[test]
fn only_a_message_that_is_held_can_be_moved() {
    let house = House::new();
    house.send_numbers("s", 0..2);
    let batch = house.pull("c", 2);
    let number = batch.iter().next().unwrap().pull_sequence();
    let move_it = || {
        house
            .store()
            .copy_and_ack(batch.member(), number, "dead", Durability::Buffered)
    };
    move_it().unwrap();
    let again = move_it();
    assert!(matches!(again, Err(Error::NotHeld { .. })), "{again:?}");
    assert_eq!(house.store().read("dead", 0, 10).unwrap().len(), 1);
}

#[test]
fn pull_sequences_whose_pulls_a_loss_of_power_took_are_not_given_again() {
    let mut house = House::new();
    house.send_numbers("s", 0..10);
    house.pull("a", 1);
    house.store().sync().unwrap();
    let lost = pull_sequences(&house.pull("a", 4));
    house.disk = house.disk.crash_as(CrashImage::Oldest, 0);
    house.open_again();
    assert_eq!(sequences(&house.pull("b", 4)), [1, 2, 3, 4]);
    house.pull("a", 1);
    let after = house.pull("a", 4);
    assert_eq!(sequences(&after), [5, 6, 7, 8]);
    assert!(pull_sequences(&after)[0] > lost[3]);
}

#[test]
fn an_action_that_no_segment_can_take_is_refused_and_changes_nothing() {
    let mut house = House::with(|options| options.segment_bytes = 8 << 20);
    for _ in 0..10_000 {
        house.send("s", vec![b'm'; 200]);
    }
    let batch = house.pull("c", 10_000);
    assert_eq!(batch.len(), 10_000);
    // More than is replayed at an open: the close seals it, and the next open begins with an empty segment.
    house.options.segment_bytes = 64 << 10;
    house.restart();
    let numbers = pull_sequences(&batch);
    let holes: Vec<_> = numbers.iter().step_by(2).map(|&one| one..=one).collect();
    let ack = |holes: &[_]| {
        house
            .store()
            .ack_ranges(batch.member(), holes, Durability::Buffered)
    };
    let before = house.store().watermarks();
    let error = ack(&holes).unwrap_err();
    assert!(
        matches!(error, Error::RecordTooLarge { bytes, max: 65_536 } if bytes > 80_000),
        "{error:?}"
    );
    assert_eq!(house.store().watermarks(), before);
    assert_eq!(
        house.store().subject_stats("s").unwrap().groups[0].unacked,
        10_000
    );
    // Nor is it taken behind others, where a segment of its own would be long enough.
    assert_eq!(ack(&holes[..1]).unwrap().acked, 1);
    assert!(matches!(ack(&holes), Err(Error::RecordTooLarge { .. })));
    for piece in holes.chunks(1_000) {
        ack(piece).unwrap();
    }
    house.kill();
    assert_eq!(house.store().open_report().damages, []);
    assert_eq!(
        house.store().subject_stats("s").unwrap().groups[0].unacked,
        5_000
    );
}

#[test]
fn an_ack_of_a_batch_from_before_a_group_was_dropped_settles_nothing_of_the_new_group() {
    for broadcast in [false, true] {
        for checkpoint in [false, true] {
            let mut house = House::new();
            house.send_numbers("s", 0..10);
            let request = request("c").broadcast(broadcast).max(4);
            let pull = |house: &House| house.store().pull(&request).unwrap();
            let old = pull(&house);
            house.store().drop_group("s", "g").unwrap();
            if checkpoint {
                // The floor must not depend on the record of the drop.
                house.store().checkpoint().unwrap();
                house.restart();
            }
            let new = pull(&house);
            assert_eq!(sequences(&new), [0, 1, 2, 3]);
            let (olds, news) = (pull_sequences(&old), pull_sequences(&new));
            assert!(olds[3] < news[0], "{olds:?} and {news:?}");
            let late = house.store().ack(&old).unwrap();
            assert_eq!((late.acked, late.not_owned), (0, 4));
            house.kill();
            // Under the same numbers, which a replay comes to as well.
            let again = pull(&house);
            assert_eq!(pull_sequences(&again), news);
            assert_eq!(house.store().ack(&again).unwrap().acked, 4);
        }
    }
}

#[test]
fn a_pull_sequence_is_not_given_again_however_often_its_group_is_dropped() {
    let mut house = House::new();
    house.send_numbers("s", 0..10);
    let mut last = 0;
    for round in 0..12 {
        for consumer in ["a", "b"] {
            let batch = house.store().pull(&request(consumer).max(3)).unwrap();
            let numbers = pull_sequences(&batch);
            if consumer == "a" {
                assert!(last < numbers[0], "round {round}: {numbers:?} after {last}");
                last = numbers[2];
            }
        }
        match round % 4 {
            0 => house
                .store()
                .consumer_gone("s", "g", "a")
                .map(drop)
                .unwrap(),
            1 => house.restart(),
            2 => house.store().checkpoint().unwrap(),
            _ => house.kill(),
        }
        house.store().drop_group("s", "g").unwrap();
    }
}

#[test]
fn a_consumer_that_only_moves_messages_elsewhere_keeps_its_lease() {
    let house = House::with(|options| options.lease = Duration::from_secs(30));
    house.send_numbers("s", 0..3);
    let batch = house.pull("c", 3);
    for (step, number) in (1..).zip(pull_sequences(&batch)) {
        house.clock.advance(20_000);
        house
            .store()
            .copy_and_ack(batch.member(), number, "dead", Durability::Buffered)
            .unwrap();
        assert_eq!(house.store().expire(NOON + step * 20_000).unwrap(), []);
    }
    assert_eq!(house.store().read("dead", 0, 10).unwrap().len(), 3);
}

#[test]
fn a_refusal_wakes_those_who_wait_even_if_it_does_not_become_durable() {
    let house = House::new();
    house.send("s", "x");
    let batch = house.pull("c", 1);
    let (bell, waker) = Bell::new();
    let mut waiting = Waiting::default();
    assert!(house.poll("waits", &waker, &mut waiting).is_none());
    house.disk.faults(|faults| faults.fail_sync(1));
    let refused = house.store().nack(
        batch.member(),
        &[0..=u64::MAX],
        Duration::ZERO,
        Durability::Synced,
    );
    assert!(
        matches!(refused, Err(Error::Poisoned { .. })),
        "{refused:?}"
    );
    let stats = house.store().subject_stats("s").unwrap();
    assert_eq!(stats.groups[0].waiting, 1, "it was applied");
    assert_eq!(bell.rung(), 1);
}

#[test]
fn what_a_consumer_holds_is_said_by_its_pull_sequences() {
    let mut house = House::new();
    house.send_numbers("s", 0..10);
    let request = PullRequest::new("s", "g", "a");
    let batch = house.store().pull(&request).unwrap();
    let member = batch.member().clone();
    let first = pull_sequences(&batch)[0];
    let at = |from: u64, to: u64| first + from..=first + to;
    assert_eq!(house.store().held_by("s", "g", "a"), [at(0, 9)]);
    house
        .store()
        .ack_ranges(&member, &[at(2, 3), at(7, 7)], Durability::Buffered)
        .unwrap();
    let left = [at(0, 1), at(4, 6), at(8, 9)];
    assert_eq!(house.store().held_by("s", "g", "a"), left);
    house.restart();
    assert_eq!(house.store().held_by("s", "g", "a"), left);
    for (subject, group, consumer) in [("t", "g", "a"), ("s", "h", "a"), ("s", "g", "b")] {
        assert_eq!(house.store().held_by(subject, group, consumer), []);
    }
}

#[test]
fn a_request_that_has_ended_takes_nothing_from_the_group() {
    let house = House::new();
    house.send_numbers("s", 0..10);
    let ended = Arc::<AtomicBool>::default();
    let request = PullRequest::new("s", "g", "a")
        .max(4)
        .unless(Arc::clone(&ended));
    assert_eq!(house.store().pull(&request).unwrap().len(), 4);
    ended.store(true, Ordering::SeqCst);
    assert_eq!(house.store().consumer_gone("s", "g", "a").unwrap(), 4);
    assert_eq!(house.store().pull(&request).unwrap().len(), 0);
    assert_eq!(house.store().held_by("s", "g", "a"), []);
    let other = PullRequest::new("s", "g", "b");
    assert_eq!(house.store().pull(&other).unwrap().len(), 10);
}

#[test]
fn what_nobody_has_looked_at_comes_again_without_an_attempt_counted() {
    let mut house = House::new();
    house.send_numbers("s", 0..4);
    let batch = house.pull("c", 4);
    let (member, first) = (batch.member().clone(), pull_sequences(&batch)[0]);
    let store = house.store();
    let buffered = Durability::Buffered;
    store
        .nack(&member, &[first..=first], Duration::ZERO, buffered)
        .unwrap();
    let given = store
        .release(&member, &[first..=first + 1], Duration::ZERO, buffered)
        .unwrap();
    assert_eq!((given.acked, given.already), (1, 1));
    store
        .release(
            &member,
            &[first + 2..=first + 2],
            Duration::from_secs(5),
            buffered,
        )
        .unwrap();
    let again = house.pull("d", 4);
    assert_eq!(
        (sequences(&again), attempts(&again)),
        (vec![0, 1], vec![1, 0])
    );
    let first = pull_sequences(&again)[0];
    house
        .store()
        .release(
            again.member(),
            &[first..=first + 1],
            Duration::ZERO,
            buffered,
        )
        .unwrap();
    house.restart();
    let once_more = house.pull("e", 4);
    assert_eq!(
        (sequences(&once_more), attempts(&once_more)),
        (vec![0, 1], vec![1, 0])
    );
    house.clock.advance(5_000);
    assert_eq!(attempts(&house.pull("e", 4)), [0]);
}
