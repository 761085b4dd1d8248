//! What is settled goes with the store's retention, what is pending stays, and little is left of much.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use common::desk::{Desk, bodies, content, drain, files, message, retire};
use common::{DAY, NOON, small_options};
use qmq_sched::{Cancelled, Message, Options, Scheduler};
use qmq_store::{Background, Durability, Retention, Store};

const HOUR: u64 = 3_600_000;

/// Sequence of the first record that the log still has.
fn first_record(scheduler: &Scheduler) -> u64 {
    let stats = scheduler.store().subject_stats(qmq_sched::SUBJECT);
    stats.unwrap().first_sequence
}

/// Schedules and dispatches so many messages, and lets retention take what it may.
fn pass(scheduler: &Scheduler, count: u64) {
    for first in (0..count).step_by(100) {
        let batch: Vec<_> = (first..count.min(first + 100))
            .map(|_| (NOON, message([b'x'; 100])))
            .collect();
        scheduler
            .schedule_batch(&batch, Durability::Buffered)
            .unwrap();
        drain(scheduler, NOON);
    }
    retire(scheduler);
}

#[test]
fn segments_go_whatever_is_pending_and_what_is_comes_all_the_same() {
    let mut desk = Desk::new(Options {
        stage_entries: 1 << 10,
        ..Options::default()
    });
    desk.retention.max_bytes = Some(0);
    let scheduler = desk.open();
    let pending = |body: &str| {
        scheduler
            .schedule(NOON + 300 * DAY, &message(body))
            .unwrap()
    };
    let first = pending("first");
    pass(&scheduler, 10_000);
    let moved = pending("moved");
    pass(&scheduler, 10_000);
    assert_eq!(scheduler.cancel(first).unwrap(), Cancelled::Done);
    let mut held = first_record(&scheduler);
    assert!(held > 10_000, "from {held} on");
    // A rescheduled message needs the record with its body, however often it is moved.
    for day in 1..4 {
        let due = NOON + (300 + day) * DAY;
        assert_eq!(scheduler.reschedule(moved, due).unwrap(), Cancelled::Done);
        pass(&scheduler, 5_000);
        assert!(first_record(&scheduler) > held + 4_000);
        held = first_record(&scheduler);
    }
    let last = pending("last");
    Desk::close(scheduler);
    let scheduler = desk.killed().open();
    assert_eq!(scheduler.totals().count, 2);
    assert!(drain(&scheduler, NOON + 300 * DAY - 1).is_empty());
    let fired = drain(&scheduler, NOON + 400 * DAY);
    assert_eq!(bodies(&fired), ["last", "moved"]);
    assert_eq!((fired[0].id, fired[1].id), (last, moved));
}

#[test]
fn a_hand_out_that_is_not_dispatched_keeps_its_message_and_a_dispatched_one_does_not() {
    let mut desk = Desk::new(small_options());
    desk.options.stage_entries = 1 << 10;
    desk.retention.max_bytes = Some(0);
    let scheduler = desk.open();
    scheduler.schedule(NOON, &message("out")).unwrap();
    let out = scheduler.due(NOON, 1).unwrap();
    pass(&scheduler, 10_000);
    drop(scheduler);
    let desk = desk.killed();
    let scheduler = desk.open();
    assert_eq!(bodies(&scheduler.due(NOON, 1).unwrap()), ["out"]);
    scheduler.dispatched(&[out[0].id]).unwrap();
    pass(&scheduler, 10_000);
    assert!(first_record(&scheduler) > 10_000);
}

#[test]
fn a_year_of_sparse_messages_makes_few_files() {
    const HOURS: u64 = 366 * 24;
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    let mut order: Vec<_> = (0..HOURS).collect();
    let mut rng = common::Rng(1);
    for at in (1..order.len()).rev() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
    for (number, hour) in (0_u64..).zip(&order) {
        let due = NOON + hour * HOUR;
        let message = message(hour.to_string());
        scheduler
            .schedule_with(due, &message, Durability::Buffered)
            .unwrap();
        if number % 40 == 0 {
            scheduler.checkpoint().unwrap();
        }
    }
    scheduler.checkpoint().unwrap();
    let index = files(&desk.index, "");
    assert!(index.len() < desk.options.runs_max + 4, "{}", index.len());
    let bytes = index
        .iter()
        .map(|name| content(&desk.index, name).len() as u64);
    assert!(bytes.sum::<u64>() < 2 * HOURS * 32 + (1 << 20));
    Desk::close(scheduler);
    let scheduler = desk.open();
    assert!(scheduler.open_report().replayed <= 1);
    for hour in 0..HOURS {
        let now = NOON + hour * HOUR;
        desk.clock.set(now);
        assert_eq!(bodies(&drain(&scheduler, now)), [hour.to_string()]);
        if hour % 100 == 0 {
            assert!(drain(&scheduler, now + HOUR - 1).is_empty());
            scheduler.checkpoint().unwrap();
        }
    }
    scheduler.checkpoint().unwrap();
    let left = files(&desk.index, "");
    assert!(left.len() <= 3, "{left:?}");
}

/// As a tool would that knows nothing of what is pending.
#[test]
fn a_log_that_is_opened_without_a_hold_loses_nothing() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    for number in 0..500 {
        let body = format!("{number} {}", "x".repeat(1_000));
        scheduler.schedule(NOON + DAY, &message(body)).unwrap();
    }
    Desk::close(scheduler);
    let options = qmq_store::Options {
        background: Background::Manual,
        retention: Retention {
            max_bytes: Some(0),
            ..Retention::default()
        },
        ..qmq_store::Options::with_segment_bytes(64 << 10)
    };
    for _ in 0..2 {
        let log = Arc::new(desk.log.clone());
        let store = Store::open_on(log, options.clone()).unwrap();
        store.append(&Message::new("other", "x")).unwrap();
        store.maintain().unwrap();
        assert_eq!(store.stats().start_offset, 0);
        store.close().unwrap();
    }
    assert_eq!(drain(&desk.open(), NOON + DAY).len(), 500);
}
