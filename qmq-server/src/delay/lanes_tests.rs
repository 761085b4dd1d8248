//! The rules of lanes, without messages, brokers or clocks.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use super::*;

fn limits() -> Limits {
    Limits {
        in_flight_max: 256,
        bytes_max: 1_000,
        lane_max: 20,
        outstanding_max: 10_000,
        back_off: (Duration::from_secs(1), Duration::from_secs(4)),
    }
}

fn id(n: u64) -> DelayId {
    DelayId::from_bytes(u128::from(n).to_be_bytes())
}

/// Sends as many messages of a subject as may go, 100 at most.
fn fill(lanes: &mut Lanes, subject: &str, len: u32, now: Instant) -> Vec<Flight> {
    let mut chosen = Chosen::default();
    let mut count = 0;
    while count < 100 && lanes.choose(subject, len, &mut chosen, now) == Choice::Take {
        count += 1;
    }
    (0..count)
        .map(|n| lanes.send(subject, id(n), 0, len as usize))
        .collect()
}

fn land(lanes: &mut Lanes, flights: &[Flight], landed: Landed, now: Instant) {
    for flight in flights {
        lanes.landed(flight, landed, now);
    }
}

#[test]
fn a_lane_begins_with_one_and_grows_with_what_arrives() {
    let (mut lanes, now) = (Lanes::new(limits()), Instant::now());
    let mut sizes = Vec::new();
    for _ in 0..7 {
        let flights = fill(&mut lanes, "s", 1, now);
        sizes.push(flights.len());
        land(&mut lanes, &flights, Landed::Answered, now);
    }
    assert_eq!(sizes, [1, 2, 4, 8, 16, 20, 20]);
    assert_eq!((lanes.in_flight, lanes.bytes), (0, 0));
}

#[test]
fn many_greedy_lanes_leave_room_for_another() {
    let (mut lanes, now) = (
        Lanes::new(Limits {
            lane_max: 64,
            ..limits()
        }),
        Instant::now(),
    );
    for n in 0..10 {
        let subject = format!("s{n}");
        for _ in 0..8 {
            let flights = fill(&mut lanes, &subject, 0, now);
            land(&mut lanes, &flights, Landed::Answered, now);
        }
    }
    let all: Vec<usize> = (0..10)
        .map(|n| fill(&mut lanes, &format!("s{n}"), 0, now).len())
        .collect();
    assert!(all.iter().all(|&count| count > 0), "{all:?}");
    assert!(all.iter().sum::<usize>() < 200, "{all:?}");
    assert!(all[0] <= 32 && all[9] >= 8, "{all:?}");
}

#[test]
fn a_failed_lane_keeps_its_messages_back_and_tries_one_after_growing_pauses() {
    let (mut lanes, mut now) = (Lanes::new(limits()), Instant::now());
    for _ in 0..5 {
        let flights = fill(&mut lanes, "s", 1, now);
        land(&mut lanes, &flights, Landed::Answered, now);
    }
    let flights = fill(&mut lanes, "s", 1, now);
    assert_eq!(flights.len(), 20);
    land(&mut lanes, &flights, Landed::NotNow, now);
    assert_eq!((lanes.waiting(), lanes.stuck()), (20, 1));
    for pause in [1, 2, 4, 4] {
        assert!(fill(&mut lanes, "s", 1, now).is_empty());
        assert_eq!(lanes.next_retry(), Some(now + Duration::from_secs(pause)));
        let almost = now + Duration::from_secs(pause) - Duration::from_millis(1);
        assert!(lanes.retry(almost).is_none());
        now += Duration::from_secs(pause);
        let (name, ids) = lanes.retry(now).unwrap();
        assert_eq!(ids.len(), 1);
        assert!(lanes.retry(now).is_none());
        let flight = lanes.send(&name, ids[0], 0, 1);
        lanes.landed(&flight, Landed::NotNow, now);
    }
    // It arrives: the others follow, faster and faster, and then what is new.
    now += Duration::from_secs(4);
    let mut sizes = Vec::new();
    while let Some((name, ids)) = lanes.retry(now) {
        sizes.push(ids.len());
        let each = ids.iter().map(|&id| lanes.send(&name, id, 0, 1));
        let flights: Vec<_> = each.collect();
        land(&mut lanes, &flights, Landed::Answered, now);
        lanes.tried(&name, now);
    }
    assert_eq!(sizes, [1, 2, 4, 8, 5]);
    assert_eq!((lanes.waiting(), lanes.stuck()), (0, 0));
    assert!(!fill(&mut lanes, "s", 1, now).is_empty());
}

#[test]
fn subjects_that_are_stuck_leave_room_for_what_is_known_to_arrive_and_for_what_is_new() {
    let (mut lanes, mut now) = (Lanes::new(limits()), Instant::now());
    let known = fill(&mut lanes, "known", 1, now);
    land(&mut lanes, &known, Landed::Answered, now);
    let mut flying = Vec::new();
    for n in 0..1_000 {
        flying.extend(fill(&mut lanes, &format!("away{n}"), 1, now));
    }
    assert_eq!(flying.len(), 64, "a quarter");
    let known = fill(&mut lanes, "known", 1, now);
    assert!(!known.is_empty());
    land(&mut lanes, &known, Landed::Answered, now);
    for n in 0..30 {
        land(&mut lanes, &flying, Landed::NotNow, now);
        flying.clear();
        for m in 0..64 {
            flying.extend(fill(&mut lanes, &format!("away{}", n * 64 + m), 1, now));
        }
    }
    land(&mut lanes, &flying, Landed::NotNow, now);
    assert!(lanes.stuck() > 1_000);
    now += Duration::from_secs(10);
    let mut tried = Vec::new();
    while let Some((name, ids)) = lanes.retry(now) {
        tried.push(lanes.send(&name, ids[0], 0, 1));
    }
    assert_eq!(tried.len(), 32, "an eighth");
    assert!(!fill(&mut lanes, "known", 1, now).is_empty());
    assert_eq!(fill(&mut lanes, "new", 1, now).len(), 1);
}

#[test]
fn what_was_passed_over_is_looked_at_again_once_there_is_room() {
    let (mut lanes, now) = (Lanes::new(limits()), Instant::now());
    let flights = fill(&mut lanes, "s", 1, now);
    assert!(!lanes.reopened());
    land(&mut lanes, &flights, Landed::Answered, now);
    assert!(lanes.reopened());
    lanes.begin_walk();
    assert!(!lanes.reopened());
    // A lane that is away says nothing before something arrives.
    let flights = fill(&mut lanes, "s", 1, now);
    land(&mut lanes, &flights, Landed::NotNow, now);
    lanes.begin_walk();
    let mut chosen = Chosen::default();
    assert_eq!(lanes.choose("s", 1, &mut chosen, now), Choice::PassOver);
    assert!(!lanes.reopened());
}

#[test]
fn bodies_are_bounded_and_one_always_goes() {
    let (mut lanes, now) = (Lanes::new(limits()), Instant::now());
    for _ in 0..5 {
        let flights = fill(&mut lanes, "s", 1, now);
        land(&mut lanes, &flights, Landed::Answered, now);
    }
    let flights = fill(&mut lanes, "s", 200, now);
    assert_eq!(
        flights.len(),
        3,
        "one more would take what is left for others"
    );
    let huge = fill(&mut lanes, "huge", 5_000, now);
    assert_eq!(huge.len(), 1);
    assert_eq!(fill(&mut lanes, "other", 1, now).len(), 0);
    land(&mut lanes, &huge, Landed::Answered, now);
    assert_eq!(fill(&mut lanes, "other", 1, now).len(), 1);
}

#[test]
fn lanes_go_when_nothing_comes_any_more() {
    let (mut lanes, now) = (Lanes::new(limits()), Instant::now());
    for n in 0..5_000 {
        let flights = fill(&mut lanes, &format!("s{n}"), 1, now);
        land(&mut lanes, &flights, Landed::Answered, now);
        lanes.begin_walk();
    }
    assert!(lanes.lanes.len() <= LANES_MIN + 1, "{}", lanes.lanes.len());
}
