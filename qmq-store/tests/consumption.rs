//! Consumer groups: who gets what, in which order, and under which limits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use qmq_store::{
    Batch, Durability, Error, Message, PollPull, PullRequest, ResetTo, Start, TagFilter, Waiting,
};
use support::{Bell, House, NOON, attempts, bodies, request, sequences};

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
fn a_new_group_may_start_at_a_sequence_or_a_time_that_is_kept() {
    let house = House::with(|options| {
        options.retention.max_bytes = Some(192 << 10);
        options.retention.max_age = None;
    });
    for _ in 0..300 {
        house.send_kilobytes("s", 1);
        house.clock.advance(10);
    }
    house.store().maintain().unwrap();
    let floor = house.store().subject_stats("s").unwrap().first_sequence;
    assert!(floor > 100, "{floor}");
    // Message n is of noon and n times 10 ms.
    let cases = [
        (Start::Sequence(0), floor),
        (Start::Sequence(floor - 1), floor),
        (Start::Sequence(290), 290),
        (Start::Sequence(300), 300),
        (Start::Sequence(u64::MAX), 300),
        (Start::Time(0), floor),
        (Start::Time(NOON), floor),
        (Start::Time(NOON + 2_900), 290),
        (Start::Time(NOON + 2_901), 291),
        (Start::Time(NOON + 2_991), 300),
        (Start::Time(u64::MAX), 300),
    ];
    for (number, (start, expected)) in cases.into_iter().enumerate() {
        for broadcast in [false, true] {
            let group = format!("g-{number}-{broadcast}");
            let request = PullRequest::new("s", &group, "c")
                .broadcast(broadcast)
                .start(start)
                .max(1);
            let first = house.store().pull(&request).unwrap();
            let expected: Vec<u64> = (expected..300).take(1).collect();
            assert_eq!(sequences(&first), expected, "{start:?}");
            let stats = house.store().subject_stats("s").unwrap();
            assert!(
                stats.groups.iter().all(|group| group.skipped == 0),
                "{start:?}"
            );
            // Only where it begins: it goes on from there, whatever is said later.
            let again = request.start(Start::Sequence(0));
            let next: Vec<u64> = expected
                .iter()
                .map(|n| n + 1)
                .filter(|n| *n < 300)
                .collect();
            assert_eq!(sequences(&house.store().pull(&again).unwrap()), next);
        }
    }
}

#[test]
fn a_group_that_comes_before_its_subject_starts_at_its_first_message() {
    let house = House::new();
    for (number, start) in [Start::Sequence(5), Start::Time(NOON + 5), Start::Latest]
        .into_iter()
        .enumerate()
    {
        let subject = format!("s-{number}");
        let request = PullRequest::new(&subject, "g", "c").start(start);
        assert!(house.store().pull(&request).unwrap().is_empty());
        house.send(&subject, "first");
        assert_eq!(bodies(&house.store().pull(&request).unwrap()), ["first"]);
    }
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
fn refused_messages_that_fill_the_limit_are_told_to_who_pulls_and_waited_for_by_who_waits() {
    let mut house = House::with(|options| options.unacked_max = 4);
    house.send_numbers("s", 0..4);
    let delay = Duration::from_secs(10);
    let all = [0..=u64::MAX];
    let first = house.pull("c", 4);
    let nack = |batch: &Batch| {
        let outcome = house
            .store()
            .nack(batch.member(), &all, delay, Durability::Buffered);
        assert_eq!(outcome.unwrap().acked, 4);
    };
    nack(&first);
    // Nothing is held back: empty is the truth.
    assert!(house.pull("c", 10).is_empty());
    house.send("s", "new");
    let refused = house.store().pull(&request("c"));
    assert!(
        matches!(
            refused,
            Err(Error::TooManyUnacked {
                unacked: 0,
                waiting: 4,
                max: 4,
                ..
            })
        ),
        "{refused:?}"
    );
    // Time alone makes room for it.
    let (_bell, waker) = Bell::new();
    let mut waiting = Waiting::default();
    let polled = house
        .store()
        .poll_pull(&request("c"), &waker, &mut waiting)
        .unwrap();
    assert!(matches!(polled, PollPull::Pending { next_due_ms: Some(at) } if at == NOON + 10_000));
    house.clock.advance(10_000);
    let again = house.pull("c", 10);
    assert_eq!(sequences(&again), [0, 1, 2, 3]);
    assert_eq!(house.store().ack(&again).unwrap().acked, 4);
    assert_eq!(bodies(&house.pull("c", 10)), ["new"]);
    house.kill();
    assert_eq!(bodies(&house.pull("c", 10)), ["new"]);
}

#[test]
fn a_pull_of_no_message_takes_none_and_its_group_is_there_all_the_same() {
    let mut house = House::new();
    house.send_numbers("s", 0..3);
    assert!(house.pull("c", 0).is_empty());
    assert_eq!(house.store().subject_stats("s").unwrap().groups.len(), 1);
    assert_eq!(sequences(&house.pull("c", 2)), [0, 1]);
    let (_bell, waker) = Bell::new();
    let none = request("c").max(0);
    let polled = house
        .store()
        .poll_pull(&none, &waker, &mut Waiting::default());
    assert!(matches!(polled.unwrap(), PollPull::Ready(batch) if batch.is_empty()));
    house.kill();
    // Asking for none is not the pull in which a consumer is given again what it holds.
    assert!(house.pull("c", 0).is_empty());
    assert_eq!(sequences(&house.pull("c", 10)), [0, 1]);
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
fn a_filter_belongs_to_a_broadcast_group_as_well() {
    let mut house = House::new();
    let any = |tag: &str| TagFilter::Any(vec![tag.into()]);
    let pull = |house: &House, consumer: &str, filter| {
        let request = request(consumer).broadcast(true).filter(filter);
        house.store().pull(&request)
    };
    pull(&house, "one", any("pay")).unwrap();
    for _ in 0..2 {
        for other in [any("other"), TagFilter::All] {
            for consumer in ["one", "two"] {
                let refused = pull(&house, consumer, other.clone());
                assert!(
                    matches!(refused, Err(Error::FilterMismatch { .. })),
                    "{refused:?}"
                );
            }
        }
        pull(&house, "three", any("pay")).unwrap();
        house.kill();
    }
    house.store().drop_group("s", "g").unwrap();
    pull(&house, "two", TagFilter::All).unwrap();
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
fn the_pull_of_an_empty_subject_creates_its_group_at_the_beginning() {
    let mut house = House::new();
    assert!(house.pull("c", 10).is_empty());
    house.send_numbers("s", 0..3);
    house.kill();
    assert_eq!(house.rest("c"), [0, 1, 2]);
}
