//! Each byte of a small index, and of the bodies in the log, is flipped in turn: what is pending is served as it was, or said to be damaged.
//!
//! `QMQ_FLIP_STEP=1` takes every byte; the default takes every 29th, from a start that differs with each file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::desk::{Desk, content, drain, files, ids, message, retire};
use common::{DAY, MINUTE, NOON, Rng, small_options};
use qmq_sched::{Cancelled, DelayId, Fired};

/// What must come, by due time: each with its id and body.
type Expected = Vec<(u64, DelayId, String)>;

/// A scheduler with messages in several runs and in none: pending, rescheduled, cancelled, handed out, dispatched.
fn some_messages() -> (Desk, Expected) {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    let (mut rng, mut expected) = (Rng(5), Expected::new());
    for number in 0..60_u64 {
        let due = NOON + 1 + rng.below(3 * MINUTE);
        let body = format!("body {number:02}");
        let id = scheduler.schedule(due, &message(body.clone())).unwrap();
        match number % 6 {
            0 => assert_eq!(scheduler.cancel(id).unwrap(), Cancelled::Done),
            1 => {
                let later = due + DAY;
                assert_eq!(scheduler.reschedule(id, later).unwrap(), Cancelled::Done);
                expected.push((later, id, body));
            }
            _ => expected.push((due, id, body)),
        }
    }
    expected.sort();
    let fired = scheduler.due(expected[9].0, 10).unwrap();
    scheduler.dispatched(&ids(&fired[..5])).unwrap();
    expected.drain(..5);
    scheduler.checkpoint().unwrap();
    for number in 0..5 {
        let (due, body) = (NOON + DAY / 2 + number, format!("late {number}"));
        let id = scheduler.schedule(due, &message(body.clone())).unwrap();
        expected.push((due, id, body));
    }
    expected.sort();
    drop(scheduler);
    (desk.killed(), expected)
}

/// Takes everything, the first five of which had been handed out before.
fn served(desk: &Desk) -> Vec<Fired> {
    let scheduler = desk.open();
    let fired = drain(&scheduler, NOON + 9 * DAY);
    assert_eq!(scheduler.totals().count, 0);
    fired
}

fn assert_served(fired: &[Fired], expected: &Expected) {
    let got = fired.iter().map(|one| {
        let body = one.message.as_ref().unwrap().body().to_vec();
        (one.due_ms, one.id, String::from_utf8(body).unwrap())
    });
    assert!(got.eq(expected.iter().cloned()));
}

fn step() -> usize {
    std::env::var("QMQ_FLIP_STEP").map_or(29, |text| text.parse().unwrap())
}

#[test]
fn a_flipped_byte_of_the_index_changes_nothing_that_is_served() {
    let (desk, expected) = some_messages();
    assert_served(&served(&desk.killed()), &expected);
    let (mut flips, mut rebuilt) = (0, 0);
    for (number, name) in files(&desk.index, "").into_iter().enumerate() {
        let len = content(&desk.index, &name).len();
        for at in (number % step()..len).step_by(step()) {
            let left = desk.killed();
            left.index
                .flip_bit(&name, at as u64, (at % 8) as u8)
                .unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                assert_served(&served(&left), &expected);
            }));
            assert!(outcome.is_ok(), "byte {at} of {name}");
            rebuilt += u64::from(left.open().open_report().rebuilt.is_some());
            flips += 1;
        }
    }
    assert!(flips > 50, "{flips}");
    assert_eq!(rebuilt, 0, "what was made anew is not damaged again");
}

/// The index is looked at while it is open, too: a run is read long after its header.
#[test]
fn a_byte_that_flips_while_the_index_is_open_changes_nothing_that_is_served() {
    let (desk, expected) = some_messages();
    for name in files(&desk.index, "run-") {
        let len = content(&desk.index, &name).len();
        for at in (0..len).step_by(step()) {
            let left = desk.killed();
            let scheduler = left.open();
            left.index
                .flip_bit(&name, at as u64, (at % 8) as u8)
                .unwrap();
            let page = scheduler.list(None, 0, u64::MAX, None, 1_000).unwrap();
            assert_eq!(
                page.messages.len() + scheduler.outstanding(),
                expected.len()
            );
            let (due, id, _) = expected.last().unwrap();
            assert_eq!(scheduler.get(*id).unwrap().unwrap().due_ms, *due);
            let fired = drain(&scheduler, NOON + 9 * DAY);
            let outcome = catch_unwind(AssertUnwindSafe(|| assert_served(&fired, &expected)));
            assert!(outcome.is_ok(), "byte {at} of {name}");
        }
    }
}

#[test]
fn a_flipped_byte_of_a_body_in_the_log_costs_that_message_alone_and_is_said() {
    let (desk, expected) = some_messages();
    // Those that a run stands for: an open does not read their records.
    let in_runs = expected
        .iter()
        .filter(|(_, _, body)| body.starts_with("body"));
    for (_, damaged, body) in in_runs {
        let left = desk.killed();
        left.damage_log(body.as_bytes());
        let fired = served(&left);
        let (lost, whole): (Vec<_>, Vec<_>) =
            fired.into_iter().partition(|one| one.message.is_err());
        assert_eq!(ids(&lost), [*damaged], "{body}");
        assert!(lost[0].message.as_ref().unwrap_err().offset.is_some());
        let others = expected.iter().filter(|(_, id, _)| id != damaged).cloned();
        assert_served(&whole, &others.collect());
    }
}

#[test]
fn a_record_that_cannot_be_read_when_the_index_is_made_anew_is_counted() {
    use qmq_store::disk::Disk;
    let (desk, expected) = some_messages();
    let (_, damaged, body) = expected.last().unwrap();
    desk.damage_log(body.as_bytes());
    for name in files(&desk.index, "") {
        desk.index.remove(&name).unwrap();
    }
    let scheduler = desk.open();
    assert_eq!(scheduler.open_report().damaged, 1);
    let fired = drain(&scheduler, NOON + 9 * DAY);
    let others = expected.iter().filter(|(_, id, _)| id != damaged).cloned();
    assert_served(&fired, &others.collect());
    assert_ne!(scheduler.cancel(*damaged).unwrap(), Cancelled::AlreadyFired);
}

#[test]
fn the_id_of_a_message_that_damage_took_names_no_other() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    let due = NOON + DAY;
    scheduler.schedule(due, &message("whole")).unwrap();
    let lost = scheduler.schedule(due, &message("damaged")).unwrap();
    let alone = scheduler.schedule(due + DAY, &message("damaged")).unwrap();
    // In order, so that nothing is cut and the next open makes ids as this one did.
    Desk::close(scheduler);
    desk.damage_log(b"damaged");
    let scheduler = desk.open();
    assert_eq!(scheduler.open_report().damaged, 2);
    for (due, lost) in [(due, lost), (due + DAY, alone)] {
        let next = scheduler.schedule(due, &message("next")).unwrap();
        assert_ne!(next, lost);
        assert!(scheduler.get(lost).unwrap().is_none());
        assert_ne!(scheduler.cancel(lost).unwrap(), Cancelled::AlreadyFired);
        assert!(scheduler.get(next).unwrap().is_some());
    }
}

/// The bytes of a record of the log, of which the first says what it is, and what follows.
fn record(kind: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![kind];
    rest.iter().for_each(|some| bytes.extend_from_slice(some));
    bytes
}

#[test]
fn what_was_dispatched_stays_so_though_the_record_of_its_hand_out_is_damaged() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    for number in 0..10 {
        scheduler
            .schedule(NOON, &message(format!("{number}")))
            .unwrap();
    }
    let fired = scheduler.due(NOON, 10).unwrap();
    assert_eq!(scheduler.dispatched(&ids(&fired[..7])).unwrap(), 7);
    Desk::close(scheduler);
    desk.damage_log(&record(4, &[&10_u32.to_le_bytes(), &NOON.to_le_bytes()]));
    let scheduler = desk.open();
    assert_eq!(scheduler.open_report().damaged, 1);
    assert_eq!(scheduler.totals().count, 3);
    let again = drain(&scheduler, NOON + DAY);
    assert_eq!(ids(&again), ids(&fired[7..]));
    Desk::close(scheduler);
    assert!(drain(&desk.open(), NOON + DAY).is_empty());
}

#[test]
fn a_damaged_record_of_a_reschedule_leaves_the_message_at_its_place_and_harms_no_other() {
    let mut desk = Desk::new(small_options());
    desk.retention.max_bytes = Some(0);
    let scheduler = desk.open();
    let mut far = Vec::new();
    for number in 0..10 {
        let body = format!("far {number}");
        far.push(
            scheduler
                .schedule(NOON + 9 * DAY + number, &message(body))
                .unwrap(),
        );
    }
    let answer = scheduler.reschedule(far[0], NOON + 5 * DAY).unwrap();
    assert_eq!(answer, Cancelled::Done);
    let fired = drain(&scheduler, NOON + 6 * DAY);
    assert_eq!(ids(&fired), far[..1]);
    drop(scheduler);
    let desk = desk.killed();
    desk.damage_log(&record(3, &[&(NOON + 9 * DAY).to_le_bytes()]));
    let scheduler = desk.open();
    assert_eq!(scheduler.open_report().damaged, 1);
    // Enough that the log goes behind them.
    for _ in 0..2_000 {
        scheduler.schedule(NOON, &message("x".repeat(100))).unwrap();
    }
    drain(&scheduler, NOON);
    retire(&scheduler);
    assert!(scheduler.store().stats().start_offset > 0);
    Desk::close(scheduler);
    let fired = drain(&desk.open(), NOON + 10 * DAY);
    assert_eq!(ids(&fired), far[1..], "the first was dispatched");
    assert!(fired.iter().all(|one| one.message.is_ok()));
}
