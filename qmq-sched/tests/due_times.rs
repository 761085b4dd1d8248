//! Any due time is kept to the millisecond: never early, equal ones as they came, whatever the clock does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::desk::{Desk, bodies, drain, ids, message};
use common::{DAY, NOON, small_options};
use qmq_sched::{Cancelled, Error, Options};
use qmq_store::Durability;

#[test]
fn now_past_a_millisecond_and_ten_years_each_come_at_their_time() {
    let ten_years = 3_652 * DAY;
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    for (due, body) in [
        (NOON + ten_years, "ten years"),
        (NOON + 1, "a millisecond"),
        (NOON, "now"),
        (NOON - ten_years, "long past"),
        (0, "the beginning"),
    ] {
        scheduler.schedule(due, &message(body)).unwrap();
    }
    let due = |now| bodies(&scheduler.due(now, 10).unwrap());
    assert_eq!(due(NOON), ["now", "long past", "the beginning"]);
    assert_eq!(scheduler.next_due().unwrap(), Some(NOON + 1));
    assert_eq!(due(NOON + 1), ["a millisecond"]);
    assert!(due(NOON + ten_years - 1).is_empty());
    assert_eq!(due(NOON + ten_years), ["ten years"]);
    assert_eq!(scheduler.next_due().unwrap(), None);
}

#[test]
fn a_due_time_beyond_the_limit_is_refused_wherever_it_is_given() {
    let options = Options {
        max_delay: Duration::from_secs(60),
        ..Options::default()
    };
    let desk = Desk::new(options);
    let scheduler = desk.open();
    let id = scheduler
        .schedule(NOON + 60_000, &message("in time"))
        .unwrap();
    for due in [NOON + 60_001, u64::MAX - 1, u64::MAX] {
        let batch = [(NOON, message("beside")), (due, message("beyond"))];
        let refusals = [
            scheduler.schedule(due, &message("beyond")).unwrap_err(),
            scheduler
                .schedule_batch(&batch, Durability::Synced)
                .unwrap_err(),
            scheduler.reschedule(id, due).unwrap_err(),
        ];
        for refused in refusals {
            assert!(matches!(
                refused,
                Error::TooFar {
                    max_delay_ms: 60_000,
                    ..
                }
            ));
            assert!(refused.to_string().contains("60000 ms"), "{refused}");
        }
    }
    assert_eq!(scheduler.totals().count, 1);
    // The limit goes by the clock, and counts from now.
    desk.clock.advance(1);
    scheduler
        .schedule(NOON + 60_001, &message("now in time"))
        .unwrap();
}

#[test]
fn a_clock_at_the_end_of_time_overflows_nothing() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    scheduler.schedule(NOON + 1, &message("one")).unwrap();
    let fired = scheduler.due(u64::MAX, 10).unwrap();
    scheduler.refused(u64::MAX, &ids(&fired));
    assert_eq!(bodies(&drain(&scheduler, u64::MAX)), ["one"]);
}

/// `QMQ_SCHED_EQUAL=1000000` is the whole of it; a debug build takes a tenth.
#[test]
fn equal_due_times_come_in_the_order_of_their_arrival() {
    let count = std::env::var("QMQ_SCHED_EQUAL").map_or(100_000, |text| text.parse().unwrap());
    let mut desk = Desk::new(Options {
        stage_entries: 1 << 14,
        window_entries: 1 << 12,
        ..Options::default()
    });
    desk.segment_bytes = 16 << 20;
    let scheduler = desk.open();
    for first in (0..count).step_by(1_000) {
        let batch = (first..first + 1_000).map(|n: u64| (NOON + 5, message(n.to_le_bytes())));
        let batch: Vec<_> = batch.collect();
        scheduler
            .schedule_batch(&batch, Durability::Buffered)
            .unwrap();
    }
    assert!(scheduler.due(NOON + 4, 1).unwrap().is_empty());
    let mut next = 0_u64;
    while next < count {
        let fired = scheduler.due(NOON + 5, 7_777).unwrap();
        for one in &fired {
            assert_eq!(one.message.as_ref().unwrap().body()[..], next.to_le_bytes());
            next += 1;
        }
        scheduler.dispatched(&ids(&fired)).unwrap();
    }
    assert!(scheduler.due(u64::MAX, 1).unwrap().is_empty());
}

#[test]
fn a_rescheduled_message_comes_once_at_its_new_time_behind_those_that_were_there() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    let moved = scheduler.schedule(NOON + 1, &message("moved")).unwrap();
    scheduler.schedule(NOON + 9, &message("there")).unwrap();
    assert_eq!(
        scheduler.reschedule(moved, NOON + 9).unwrap(),
        Cancelled::Done
    );
    scheduler.schedule(NOON + 9, &message("later")).unwrap();
    assert!(scheduler.due(NOON + 8, 9).unwrap().is_empty());
    let fired = scheduler.due(NOON + 9, 9).unwrap();
    assert_eq!(bodies(&fired), ["there", "moved", "later"]);
    assert_eq!(fired[1].id, moved);
    assert_eq!(scheduler.cancel(moved).unwrap(), Cancelled::AlreadyFired);
}

#[test]
fn a_clock_that_goes_back_makes_nothing_early_and_doubles_nothing_that_was_recorded() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    for number in 0..50_u64 {
        let message = message(number.to_string());
        scheduler.schedule(NOON + number * DAY, &message).unwrap();
    }
    desk.clock.set(NOON + 30 * DAY);
    assert_eq!(drain(&scheduler, NOON + 30 * DAY).len(), 31);
    desk.clock.set(NOON - 5 * DAY);
    scheduler
        .schedule(NOON - 4 * DAY, &message("fresh"))
        .unwrap();
    assert!(drain(&scheduler, NOON - 4 * DAY - 1).is_empty());
    assert_eq!(bodies(&drain(&scheduler, NOON - 4 * DAY)), ["fresh"]);
    Desk::close(scheduler);
    let scheduler = desk.open();
    assert!(drain(&scheduler, NOON + 31 * DAY - 1).is_empty());
    assert_eq!(drain(&scheduler, NOON + 50 * DAY).len(), 19);
}

/// Set right again, the clock is where buckets lie that were forgotten meanwhile.
#[test]
fn a_clock_that_was_years_ahead_brings_nothing_back_and_takes_nothing() {
    for forgetful in [false, true] {
        let desk = Desk::new(small_options());
        let scheduler = desk.open();
        let due = NOON + 1_000;
        let cancelled = scheduler.schedule(due, &message("cancelled")).unwrap();
        scheduler
            .schedule(NOON + 3_000 * DAY, &message("far"))
            .unwrap();
        assert_eq!(scheduler.cancel(cancelled).unwrap(), Cancelled::Done);
        desk.clock.set(NOON + 400 * DAY);
        scheduler.checkpoint().unwrap();
        scheduler
            .schedule(NOON + 3_000 * DAY, &message("far"))
            .unwrap();
        scheduler.checkpoint().unwrap();
        desk.clock.set(NOON);
        let scheduler = if forgetful {
            drop(scheduler);
            desk.killed().open()
        } else {
            scheduler
        };
        let new = scheduler.schedule(due, &message("new")).unwrap();
        assert_ne!(new, cancelled);
        assert_eq!(scheduler.cancel(cancelled).unwrap(), Cancelled::Unknown);
        assert_eq!(bodies(&drain(&scheduler, due)), ["new"]);
    }
}
