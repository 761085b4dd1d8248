//! Every limit is refused with its number, and what is within it goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::desk::{Desk, bodies, drain, files, ids, message, retire};
use common::{DAY, NOON, small_options};
use qmq_sched::{Cancelled, Error, Message, Options, Scheduler};
use qmq_store::disk::{Disk, SimulatedDisk};
use qmq_store::{Background, Durability, Store};

fn assert_other_scale(desk: &Desk, asked: u32, found: u32) {
    let other = Options {
        segment_scale_minute: asked,
        ..desk.options.clone()
    };
    let desk = Desk {
        options: other,
        ..desk.killed()
    };
    let refused = desk.try_open().unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, Error::OtherScale { .. }), "{text}");
    assert!(
        text.contains(&asked.to_string()) && text.contains(&found.to_string()),
        "{text}"
    );
}

#[test]
fn another_scale_is_refused_with_both_numbers_also_without_the_index() {
    let mut desk = Desk::new(Options {
        segment_scale_minute: 10,
        ..small_options()
    });
    desk.retention.max_bytes = Some(0);
    let scheduler = desk.open();
    assert_other_scale(&desk, 60, 10);
    // So much that retention takes the log's beginning, where the scale stood.
    for number in 0..200 {
        let body = vec![b'x'; 3_000];
        scheduler.schedule(NOON + number, &message(body)).unwrap();
        drain(&scheduler, NOON + number);
    }
    retire(&scheduler);
    scheduler.schedule(NOON + DAY, &message("left")).unwrap();
    drop(scheduler);
    assert_other_scale(&desk, 11, 10);
    for name in files(&desk.index, "") {
        desk.index.remove(&name).unwrap();
    }
    let first = Store::open_on(Arc::new(desk.killed().log), store_options()).unwrap();
    let first = first
        .subject_stats(qmq_sched::SUBJECT)
        .unwrap()
        .first_sequence;
    assert!(first > 0, "nothing was retired");
    assert_other_scale(&desk, 1_440, 10);
    assert_eq!(bodies(&drain(&desk.killed().open(), NOON + DAY)), ["left"]);
}

fn store_options() -> qmq_store::Options {
    qmq_store::Options {
        background: Background::Manual,
        ..qmq_store::Options::with_segment_bytes(64 << 10)
    }
}

#[test]
fn the_index_of_another_store_is_refused() {
    let one = Desk::new(Options::default());
    Desk::close(one.open());
    let other = Desk::on(SimulatedDisk::new(), one.index.clone(), Options::default());
    let refused = other.try_open().unwrap_err();
    assert!(matches!(refused, Error::OtherStore { .. }), "{refused}");
    one.open();
}

#[test]
fn a_store_without_a_hold_on_its_retention_is_refused() {
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), store_options()).unwrap();
    let refused = Scheduler::open(store, SimulatedDisk::new(), Options::default());
    assert!(matches!(refused.unwrap_err(), Error::NoHold));
}

#[test]
fn a_second_scheduler_in_the_folder_is_refused() {
    let desk = Desk::new(Options::default());
    let _first = desk.open();
    let other = desk.with(SimulatedDisk::new(), desk.index.clone());
    assert!(matches!(other.try_open().unwrap_err(), Error::Io { .. }));
}

#[test]
fn an_option_out_of_its_range_is_refused_with_its_name_and_range() {
    let with = |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        options
    };
    for (options, name) in [
        (with(|o| o.segment_scale_minute = 0), "segment_scale_minute"),
        (
            with(|o| o.segment_scale_minute = 1_441),
            "segment_scale_minute",
        ),
        (with(|o| o.max_delay = Duration::ZERO), "max_delay"),
        (with(|o| o.stage_entries = 15), "stage_entries"),
        (with(|o| o.window_entries = usize::MAX), "window_entries"),
        (with(|o| o.runs_max = 1), "runs_max"),
        (with(|o| o.outstanding_max = 0), "outstanding_max"),
        (with(|o| o.rescheduled_max = 0), "rescheduled_max"),
        (with(|o| o.subjects_max = 0), "subjects_max"),
        (
            with(|o| o.catch_up_per_second = Some(0)),
            "catch_up_per_second",
        ),
    ] {
        let refused = Desk::new(options).try_open().unwrap_err().to_string();
        assert!(
            refused.contains(name) && refused.contains("must be from"),
            "{refused}"
        );
    }
}

#[test]
fn with_as_many_out_as_allowed_nothing_new_is_handed_out_until_one_is_dispatched() {
    let desk = Desk::new(Options {
        outstanding_max: 3,
        ..Options::default()
    });
    let scheduler = desk.open();
    for number in 0..5 {
        scheduler
            .schedule(NOON, &message(number.to_string()))
            .unwrap();
    }
    let out = scheduler.due(NOON, 10).unwrap();
    assert_eq!(bodies(&out), ["0", "1", "2"]);
    assert!(scheduler.due(NOON, 10).unwrap().is_empty());
    assert_eq!(scheduler.outstanding(), 3);
    // What comes again takes no more room than it has.
    scheduler.refused(NOON, &[out[0].id]);
    assert_eq!(bodies(&scheduler.due(NOON + 1_000, 10).unwrap()), ["0"]);
    scheduler.dispatched(&[out[1].id]).unwrap();
    assert_eq!(bodies(&scheduler.due(NOON, 10).unwrap()), ["3"]);
}

#[test]
fn with_as_many_rescheduled_as_allowed_another_is_refused_until_one_is_settled() {
    let desk = Desk::new(Options {
        rescheduled_max: 2,
        ..Options::default()
    });
    let scheduler = desk.open();
    let schedule = |number: u64| scheduler.schedule(NOON + number, &message("")).unwrap();
    let given: Vec<_> = (1..=3).map(schedule).collect();
    for &id in &given[..2] {
        assert_eq!(
            scheduler.reschedule(id, NOON + 10).unwrap(),
            Cancelled::Done
        );
    }
    let refused = scheduler.reschedule(given[2], NOON + 10).unwrap_err();
    assert!(
        matches!(refused, Error::TooManyRescheduled { max: 2 }),
        "{refused}"
    );
    // One that has been rescheduled before can be again.
    assert_eq!(
        scheduler.reschedule(given[0], NOON + 20).unwrap(),
        Cancelled::Done
    );
    assert_eq!(scheduler.cancel(given[1]).unwrap(), Cancelled::Done);
    assert_eq!(
        scheduler.reschedule(given[2], NOON + 10).unwrap(),
        Cancelled::Done
    );
    assert_eq!(ids(&drain(&scheduler, NOON + 20)), [given[2], given[0]]);
}

#[test]
fn with_as_many_subjects_as_allowed_a_message_of_another_is_refused() {
    let desk = Desk::new(Options {
        subjects_max: 2,
        ..Options::default()
    });
    let scheduler = desk.open();
    let of = |subject: &str| (NOON, Message::new(subject, ""));
    let batch = |subjects: &[&str]| {
        let all: Vec<_> = subjects.iter().map(|subject| of(subject)).collect();
        scheduler.schedule_batch(&all, Durability::Synced)
    };
    // One subject counts once, however often a batch names it.
    batch(&["a", "a", "b", "a", "b"]).unwrap();
    for refused in [
        batch(&["a", "c"]).map(drop),
        scheduler.schedule(NOON, &of("c").1).map(drop),
    ] {
        assert!(matches!(refused, Err(Error::TooManySubjects { max: 2 })));
    }
    assert_eq!(scheduler.totals().count, 5);
    assert_eq!(scheduler.subject_totals("a").unwrap().count, 3);
    assert!(scheduler.subject_totals("c").is_none());
}

/// Names of which nothing is pending make room for others.
#[test]
fn subjects_come_and_go_as_long_as_not_too_many_are_pending_at_once() {
    let desk = Desk::new(Options {
        subjects_max: 2,
        ..small_options()
    });
    let mut scheduler = desk.open();
    for number in 0..60 {
        let of = |name: &str| Message::new(format!("{name}.{number}"), "");
        let both = [(NOON, of("a")), (NOON, of("b")), (NOON, of("a"))];
        scheduler.schedule_batch(&both, Durability::Synced).unwrap();
        let third = scheduler.schedule(NOON, &of("c"));
        assert!(matches!(third, Err(Error::TooManySubjects { max: 2 })));
        let count = |name: &str| scheduler.subject_totals(&format!("{name}.{number}"));
        assert_eq!(count("a").unwrap().count, 2);
        let fired = drain(&scheduler, NOON);
        let subjects = fired
            .iter()
            .map(|one| one.message.as_ref().unwrap().subject());
        let [a, b] = ["a", "b"].map(|name| format!("{name}.{number}"));
        assert!(subjects.eq([&a, &b, &a]));
        // A name that is still known may come beside one that takes the other's number.
        let mixed = [(NOON, of("d")), (NOON, of("a")), (NOON, of("d"))];
        scheduler
            .schedule_batch(&mixed, Durability::Synced)
            .unwrap();
        assert_eq!(scheduler.subject_totals(&a).unwrap().count, 1);
        assert_eq!(drain(&scheduler, NOON).len(), 3);
        if number % 20 == 0 {
            drop(scheduler);
            scheduler = desk.open();
        }
    }
    assert_eq!(scheduler.subjects().len(), 2);
}

/// What is handed out, dispatched or dropped in one call is recorded in the log, whose records have a limit.
#[test]
fn more_than_a_record_of_the_store_can_name_is_handed_out_in_portions() {
    const MANY: usize = 3_000;
    let mut desk = Desk::new(Options::default());
    let scheduler = desk.open();
    let all: Vec<_> = (0..MANY).map(|_| (NOON, message(""))).collect();
    let schedule = |scheduler: &Scheduler| {
        for some in all.chunks(100) {
            scheduler
                .schedule_batch(some, Durability::Buffered)
                .unwrap();
        }
    };
    schedule(&scheduler);
    let mut out = Vec::new();
    while out.len() < MANY {
        let fired = scheduler.due(NOON, usize::MAX).unwrap();
        assert!(!fired.is_empty());
        out.extend(ids(&fired));
    }
    assert_eq!(scheduler.dispatched(&out).unwrap(), MANY);
    schedule(&scheduler);
    drop(scheduler);
    desk.options.time_to_live = Some(Duration::ZERO);
    desk.clock.advance(1);
    let scheduler = desk.open();
    while scheduler.dropped() < MANY as u64 {
        assert!(scheduler.due(NOON + 1, 1).unwrap().is_empty());
    }
    assert_eq!(scheduler.totals().count, 0);
}

#[test]
fn who_has_nothing_to_save_writes_nothing() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    scheduler.schedule(NOON + DAY, &message("one")).unwrap();
    scheduler.maintain().unwrap();
    let before = desk.index.operations();
    scheduler.maintain().unwrap();
    assert_eq!(
        desk.index.operations(),
        before,
        "one message is not enough for a run"
    );
    scheduler.checkpoint().unwrap();
    let (log, index) = (desk.log.operations(), desk.index.operations());
    assert!(index > before);
    for _ in 0..3 {
        scheduler.maintain().unwrap();
        scheduler.checkpoint().unwrap();
    }
    assert_eq!(
        (desk.log.operations(), desk.index.operations()),
        (log, index)
    );
}

/// Without a word about runs: they are written by those who fill the stage, and by those who hand out.
#[test]
fn what_an_open_replays_is_bounded_whoever_adds_to_it() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    for number in 0..300 {
        scheduler.schedule(NOON + number, &message("x")).unwrap();
    }
    let replayed = |desk: &Desk| desk.killed().open().open_report().replayed;
    assert!(replayed(&desk) <= 17, "{}", replayed(&desk));
    for number in 0..300 {
        for one in scheduler.due(NOON + number, 1).unwrap() {
            scheduler.dispatched(&[one.id]).unwrap();
        }
    }
    assert!(replayed(&desk) <= 17, "{}", replayed(&desk));
}

#[test]
fn a_record_of_somebody_else_in_its_subject_is_an_error_and_no_panic() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    scheduler.schedule(NOON, &message("mine")).unwrap();
    let foreign = Message::new(qmq_sched::SUBJECT, &b"not mine"[..]);
    scheduler.store().append(&foreign).unwrap();
    for _ in 0..2 {
        let outcome = scheduler.schedule(NOON, &message("after"));
        assert!(
            matches!(outcome, Err(Error::ForeignRecord { .. })),
            "{outcome:?}"
        );
        assert!(scheduler.due(NOON, 10).is_err());
    }
    drop(scheduler);
    let scheduler = desk.killed().open();
    assert_eq!(scheduler.open_report().damaged, 1);
    assert_eq!(bodies(&drain(&scheduler, NOON))[0], "mine");
}

#[test]
fn what_was_cancelled_cannot_be_given_another_time() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    let id = scheduler.schedule(NOON + DAY, &message("one")).unwrap();
    assert_eq!(scheduler.cancel(id).unwrap(), Cancelled::Done);
    assert_eq!(scheduler.cancel(id).unwrap(), Cancelled::Done);
    let answer = scheduler.reschedule(id, NOON).unwrap();
    assert_eq!(answer, Cancelled::AlreadyCancelled);
    assert!(drain(&scheduler, NOON + 2 * DAY).is_empty());
}
