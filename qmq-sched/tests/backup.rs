//! A backup has what was pending, wherever it lies, and nothing that was settled.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use common::desk::{Desk, bodies, drain, files, ids, message, retire};
use common::{DAY, NOON, small_options};
use qmq_sched::{Cancelled, Error, Options, Scheduler};
use qmq_store::disk::SimulatedDisk;

const FAR: u64 = NOON + 300 * DAY;

/// Messages of every kind: in a file of bodies, in the log, moved to another time, cancelled, handed out, dispatched.
fn full() -> (Desk, Scheduler) {
    let mut desk = Desk::new(Options {
        outstanding_max: 1_000,
        ..small_options()
    });
    desk.retention.max_bytes = Some(0);
    let scheduler = desk.open();
    for number in 0..2_500 {
        let far = number % 50 == 0;
        let body = format!("{number} {}", "x".repeat(100));
        let due = if far { FAR + number } else { NOON };
        let id = scheduler.schedule(due, &message(body)).unwrap();
        match number {
            _ if number % 500 == 50 => assert_eq!(scheduler.cancel(id).unwrap(), Cancelled::Done),
            _ if number % 500 == 100 => {
                let later = scheduler.reschedule(id, FAR + 5_000 + number).unwrap();
                assert_eq!(later, Cancelled::Done);
            }
            _ => {}
        }
    }
    drain(&scheduler, NOON);
    retire(&scheduler);
    assert!(!files(&desk.index, "bodies-").is_empty());
    assert!(scheduler.store().stats().start_offset > 0);
    for number in 0..30 {
        let fresh = message(format!("fresh {number}"));
        scheduler.schedule(FAR + 10_000 + number, &fresh).unwrap();
    }
    for body in ["out", "done"] {
        scheduler.schedule(NOON, &message(body)).unwrap();
    }
    let fired = scheduler.due(NOON, 2).unwrap();
    assert_eq!(scheduler.dispatched(&ids(&fired[1..])).unwrap(), 1);
    (desk, scheduler)
}

/// Due times and bodies of all that is pending or handed out.
fn everything(scheduler: &Scheduler) -> Vec<(u64, String)> {
    let fired = drain(scheduler, FAR + DAY);
    let dues = fired.iter().map(|one| one.due_ms);
    dues.zip(bodies(&fired)).collect()
}

#[test]
fn a_copy_has_what_was_pending_when_it_was_made() {
    let (desk, scheduler) = full();
    let (log, index) = (SimulatedDisk::new(), SimulatedDisk::new());
    let report = scheduler
        .backup(Arc::new(log.clone()), &index, &mut |_, _| {})
        .unwrap();
    assert!(report.verified.damages.is_empty());
    assert_ne!(report.store_id, scheduler.store().stats().store_id);
    // What the original does afterwards is its own.
    scheduler.schedule(NOON, &message("too late")).unwrap();
    let totals = scheduler.totals();
    // The copy is durable.
    let copy = desk.with(log.crash(1), index.crash(2)).open();
    assert_eq!(copy.totals().count, totals.count - 1);
    assert!(copy.open_report().lost_files.is_empty());
    let mut expected = everything(&scheduler);
    expected.retain(|(_, body)| body != "too late");
    // What was handed out comes again, at its place.
    expected.insert(0, (NOON, "out".into()));
    assert_eq!(expected.len() as u64, copy.totals().count);
    assert_eq!(everything(&copy), expected);
    retire(&copy);
    let next = copy.schedule(FAR, &message("next")).unwrap();
    assert_eq!(copy.cancel(next).unwrap(), Cancelled::Done);
}

#[test]
fn a_folder_that_holds_files_takes_no_copy() {
    let (_desk, scheduler) = full();
    let (log, index) = (SimulatedDisk::new(), SimulatedDisk::new());
    qmq_store::disk::Disk::create(&index, "mine", 10).unwrap();
    let outcome = scheduler.backup(Arc::new(log.clone()), &index, &mut |_, _| {});
    assert!(matches!(outcome, Err(Error::Io { .. })), "{outcome:?}");
    assert_eq!(files(&index, ""), ["mine"]);
    assert!(files(&log, "").is_empty());
    assert_eq!(scheduler.outstanding(), 1);
}

/// Its runs are made anew by the first open, which may be cut anywhere.
#[test]
fn a_copy_whose_first_open_is_cut_has_everything_at_the_second() {
    let (desk, scheduler) = full();
    let (log, index) = (SimulatedDisk::new(), SimulatedDisk::new());
    scheduler
        .backup(Arc::new(log.clone()), &index, &mut |_, _| {})
        .unwrap();
    let pending = scheduler.totals().count;
    let mut cut = 0;
    loop {
        let copy = desk.with(log.process_killed(), index.process_killed());
        copy.index.power_off_after(cut);
        let opened = copy.try_open();
        let is_over = opened.is_ok() && copy.index.operations() < cut;
        drop(opened);
        let again = copy.killed().open();
        assert_eq!(again.totals().count, pending, "cut {cut}");
        assert_eq!(everything(&again).len() as u64, pending, "cut {cut}");
        if is_over {
            break;
        }
        cut += 5;
    }
    assert!(cut > 30, "{cut}");
}
