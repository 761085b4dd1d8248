//! Consumer groups: who gets what, in which order, and what an acknowledgement means.

mod support;

use std::time::{Duration, Instant};

use qmq_store::{
    AckOutcome, Durability, Error, Message, Options, PollPull, PullRequest, ResetTo, Start, Store,
    TagFilter,
};
use support::{
    Bell, House, NOON, attempts, bodies, pull_sequences, request, sequences, small_options,
};

#[test]
fn a_pull_hands_out_at_most_the_count_asked_for() {
    let house = House::new();
    house.send_numbers("s", 0..25);
    assert_eq!(sequences(&house.pull("c", 10)), (0..10).collect::<Vec<_>>());
    assert_eq!(house.pull("c", 10).len(), 10);
    assert_eq!(house.pull("c", 10).len(), 5);
    assert!(house.pull("c", 10).is_empty());
}

#[test]
fn a_pull_hands_out_at_most_the_bytes_asked_for_but_always_one_message() {
    let house = House::new();
    house.send_kilobytes("s", 10);
    let pull = |bytes| house.store().pull(&request("c").max_bytes(bytes)).unwrap();
    assert_eq!(pull(3 * 1024 + 500).len(), 3);
    assert_eq!(pull(1).len(), 1);
    assert_eq!(pull(0).len(), 1);
    assert_eq!(pull(u64::MAX).len(), 5);
}

#[test]
fn the_limit_in_bytes_holds_for_redelivered_and_resent_messages_too() {
    let mut house = House::new();
    house.send_kilobytes("s", 8);
    let sizes = |house: &House| -> Vec<usize> {
        let request = request("c").max_bytes(2 * 1024 + 500);
        std::iter::repeat_with(|| house.store().pull(&request).unwrap().len())
            .take_while(|&len| len > 0)
            .collect()
    };
    let first = house.pull("c", 100);
    let all = [0..=u64::MAX];
    house
        .store()
        .nack(first.member(), &all, Duration::ZERO, Durability::Buffered)
        .unwrap();
    assert_eq!(sizes(&house), [2, 2, 2, 2], "redelivered");
    house.kill();
    assert_eq!(sizes(&house), [2, 2, 2, 2], "resent");
}

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
fn every_consumer_of_a_broadcast_group_gets_every_message_and_keeps_its_own_account() {
    let mut house = House::new();
    house.send_numbers("s", 0..10);
    let pull = |house: &House, consumer: &str, max| {
        let request = request(consumer).broadcast(true).max(max);
        house.store().pull(&request).unwrap()
    };
    let one = pull(&house, "one", 10);
    assert_eq!(pull(&house, "two", 4).len(), 4);
    assert_eq!(one.len(), 10);
    assert_eq!(house.store().ack(&one).unwrap().acked, 10);
    // What one leaves behind is nobody else's.
    assert_eq!(house.store().consumer_gone("s", "g", "two").unwrap(), 4);
    assert!(pull(&house, "one", 10).is_empty());
    house.kill();
    assert!(pull(&house, "one", 10).is_empty());
    assert_eq!(
        sequences(&pull(&house, "two", 100)),
        (0..10).collect::<Vec<_>>()
    );
    let shared = house.store().pull(&request("three"));
    assert!(
        matches!(
            shared,
            Err(Error::KindMismatch {
                broadcast: true,
                ..
            })
        ),
        "{shared:?}"
    );
}

#[test]
fn a_group_starts_over_at_the_earliest_the_latest_a_sequence_or_a_time() {
    let mut house = House::new();
    for number in 0..100_u64 {
        house.clock.set(NOON + number * 1_000);
        house.send("s", number.to_string());
    }
    let batch = house.pull("c", 40);
    let reset = |house: &House, to| house.store().reset("s", "g", to).unwrap();
    assert_eq!(reset(&house, ResetTo::Latest), 100);
    assert!(house.pull("c", 100).is_empty());
    // What was handed out before is no longer waited for.
    assert_eq!(house.store().ack(&batch).unwrap().acked, 0);
    assert_eq!(reset(&house, ResetTo::Sequence(90)), 90);
    house.kill();
    assert_eq!(house.rest("c"), (90..100).collect::<Vec<_>>());
    assert_eq!(reset(&house, ResetTo::Time(NOON + 94_500)), 95);
    assert_eq!(house.rest("c"), (95..100).collect::<Vec<_>>());
    assert_eq!(reset(&house, ResetTo::Earliest), 0);
    assert_eq!(house.rest("c").len(), 100);
    assert_eq!(reset(&house, ResetTo::Sequence(5_000)), 100);
    assert_eq!(reset(&house, ResetTo::Time(0)), 0);
    let unknown = house.store().reset("s", "nobody", ResetTo::Latest);
    assert!(matches!(unknown, Err(Error::UnknownGroup { .. })));
}

#[test]
fn groups_do_not_disturb_each_other() {
    let mut house = House::new();
    house.send_numbers("s", 0..30);
    let pull = |house: &House, group: &str| {
        let request = PullRequest::new("s", group, "c").max(7);
        house.store().pull(&request).unwrap()
    };
    for group in ["a", "b", "c"] {
        assert_eq!(sequences(&pull(&house, group)), (0..7).collect::<Vec<_>>());
    }
    house.store().reset("s", "a", ResetTo::Latest).unwrap();
    house.store().consumer_gone("s", "b", "c").unwrap();
    house.kill();
    assert!(pull(&house, "a").is_empty());
    assert_eq!(sequences(&pull(&house, "b")), (0..7).collect::<Vec<_>>());
    assert_eq!(attempts(&pull(&house, "c")), [0; 7]);
    house.store().drop_group("s", "c").unwrap();
    assert_eq!(sequences(&pull(&house, "c")), (0..7).collect::<Vec<_>>());
}

#[test]
fn a_new_group_may_start_behind_the_newest_message() {
    let house = House::new();
    house.send_numbers("s", 0..10);
    let latest = request("c").start(Start::Latest);
    assert!(house.store().pull(&latest).unwrap().is_empty());
    house.send("s", "new");
    assert_eq!(bodies(&house.store().pull(&latest).unwrap()), ["new"]);
}

#[test]
fn a_group_holds_a_bounded_number_of_unacknowledged_messages() {
    let house = House::with(|options| options.unacked_max = 10);
    house.send_numbers("s", 0..30);
    let first = house.pull("one", 6);
    assert_eq!(house.pull("two", 100).len(), 4);
    let refused = house.store().pull(&request("three"));
    assert!(
        matches!(
            refused,
            Err(Error::TooManyUnacked {
                unacked: 10,
                max: 10,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(house.store().ack(&first).unwrap().acked, 6);
    assert_eq!(house.pull("three", 100).len(), 6);
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
fn a_filter_belongs_to_the_group() {
    let mut house = House::new();
    let any = |tag: &str| TagFilter::Any(vec![tag.into()]);
    house
        .store()
        .pull(&request("c").filter(any("pay")))
        .unwrap();
    for _ in 0..2 {
        for other in [
            any("other"),
            TagFilter::Every(vec!["pay".into()]),
            TagFilter::All,
        ] {
            let refused = house.store().pull(&request("d").filter(other));
            assert!(
                matches!(refused, Err(Error::FilterMismatch { .. })),
                "{refused:?}"
            );
        }
        house.kill();
    }
}

#[test]
fn tags_are_matched_by_or_and_by_and() {
    let house = House::new();
    let tagged: [&[&str]; 5] = [&[], &["a"], &["b"], &["a", "b"], &["b", "c", "a"]];
    for tags in tagged {
        let message = tags
            .iter()
            .fold(Message::new("s", "x"), |message, tag| message.tag(*tag));
        house.send_message(&message);
    }
    let tags = || vec!["a".to_owned(), "b".to_owned()];
    let got = |group: &str, filter| {
        let request = PullRequest::new("s", group, "c").filter(filter);
        sequences(&house.store().pull(&request).unwrap())
    };
    assert_eq!(got("or", TagFilter::Any(tags())), [1, 2, 3, 4]);
    assert_eq!(got("and", TagFilter::Every(tags())), [3, 4]);
    assert_eq!(got("all", TagFilter::All), [0, 1, 2, 3, 4]);
}

#[test]
fn a_task_is_woken_by_what_it_waits_for_and_by_nothing_else() {
    let house = House::new();
    let (bell, waker) = Bell::new();
    let poll = || house.store().poll_pull(&request("c"), &waker).unwrap();
    assert!(matches!(poll(), PollPull::Pending { next_due_ms: None }));
    house.send("another", "x");
    assert_eq!(bell.rung(), 0);
    house.send("s", "x");
    assert_eq!(bell.rung(), 1);
    let PollPull::Ready(batch) = poll() else {
        panic!("woken for nothing")
    };
    assert_eq!(batch.len(), 1);
    // Once is once: who is not waiting is not woken.
    house.send("s", "y");
    assert_eq!(bell.rung(), 1);
}

#[test]
fn a_task_is_told_when_a_refused_message_is_due_and_woken_when_one_is_left_behind() {
    let house = House::new();
    house.send_numbers("s", 0..2);
    let batch = house.pull("c", 1);
    let other = house.pull("other", 1);
    let (bell, waker) = Bell::new();
    let poll = || {
        house
            .store()
            .poll_pull(&request("waiting"), &waker)
            .unwrap()
    };
    assert!(matches!(poll(), PollPull::Pending { next_due_ms: None }));
    let all = [0..=u64::MAX];
    let delay = Duration::from_secs(5);
    house
        .store()
        .nack(batch.member(), &all, delay, Durability::Buffered)
        .unwrap();
    assert_eq!(bell.rung(), 1, "the time to wait until has changed");
    let due = NOON + 5_000;
    assert!(matches!(poll(), PollPull::Pending { next_due_ms: Some(at) } if at == due));
    house
        .store()
        .consumer_gone("s", "g", &other.member().consumer)
        .unwrap();
    assert_eq!(bell.rung(), 2);
    assert!(matches!(poll(), PollPull::Ready(left) if sequences(&left) == [1]));
}

#[test]
fn a_waiting_thread_wakes_up_when_a_refused_message_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        clock: Options::default().clock,
        ..small_options()
    };
    let store = Store::open(folder.path(), options).unwrap();
    store.append(&Message::new("s", "x")).unwrap();
    let batch = store.pull(&request("c")).unwrap();
    let start = Instant::now();
    let delay = Duration::from_millis(60);
    store
        .nack(batch.member(), &[0..=u64::MAX], delay, Durability::Buffered)
        .unwrap();
    let again = store
        .pull_wait(&request("c"), Duration::from_secs(30))
        .unwrap();
    assert_eq!(attempts(&again), [1]);
    assert!(start.elapsed() >= delay - Duration::from_millis(2));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_waiting_thread_gives_up_after_its_time() {
    let house = House::new();
    let start = Instant::now();
    let batch = house
        .store()
        .pull_wait(&request("c"), Duration::from_millis(30))
        .unwrap();
    assert!(batch.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn the_pull_of_an_empty_subject_creates_its_group_at_the_beginning() {
    let mut house = House::new();
    assert!(house.pull("c", 10).is_empty());
    house.send_numbers("s", 0..3);
    house.kill();
    assert_eq!(house.rest("c"), [0, 1, 2]);
}
