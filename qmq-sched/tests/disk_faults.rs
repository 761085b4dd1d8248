//! Disks that fail or are full: errors are values, nothing that was accepted is lost, and the scheduler goes on or opens again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::ErrorKind;

use common::desk::{Desk, bodies, drain, files, message};
use common::ledger::Ledger;
use common::{DAY, NOON, Rng, small_options};
use qmq_sched::{Error, Scheduler};
use qmq_store::Durability;
use qmq_store::disk::SimulatedFaults;

/// A life with a fault in its middle; every other disk keeps working. Returns how many calls failed.
fn live(seed: u64, of_log: bool, fault: impl Fn(&mut SimulatedFaults)) -> u64 {
    let mut desk = Desk::new(small_options());
    desk.retention.max_bytes = Some(128 << 10);
    let scheduler = desk.open();
    let (mut rng, mut ledger, mut failed) = (Rng(seed), Ledger::default(), 0);
    for _ in 0..40 {
        ledger.step(&desk, &scheduler, &mut rng).unwrap();
    }
    let disk = if of_log { &desk.log } else { &desk.index };
    disk.faults(&fault);
    for _ in 0..60 {
        failed += u64::from(ledger.step(&desk, &scheduler, &mut rng).is_err());
    }
    disk.faults(SimulatedFaults::clear);
    if failed == 0 || !of_log {
        // What failed is made good, and nothing fails any more.
        for _ in 0..30 {
            ledger.step(&desk, &scheduler, &mut rng).unwrap();
        }
        scheduler.checkpoint().unwrap();
    }
    ledger.check(&desk.killed(), false);
    ledger.check(&desk.crashed(seed), true);
    ledger.check(&desk.crashed(seed + 1_000), true);
    failed
}

/// Lives with the fault at each of its first places, and some seeds of each.
fn lives(of_log: bool, fault: impl Fn(&mut SimulatedFaults, u64)) {
    let mut failed = 0;
    for nth in 1..20 {
        for seed in 0..4 {
            failed += live(100 * nth + seed, of_log, |faults| fault(faults, nth));
        }
    }
    assert!(failed > 0, "the fault was never met");
}

#[test]
fn a_failed_sync_of_the_log_stops_it_and_loses_nothing() {
    lives(true, SimulatedFaults::fail_sync);
}

#[test]
fn a_failed_sync_of_the_logs_names_loses_nothing() {
    for nth in 1..10 {
        live(nth, true, |faults| faults.fail_sync_names(nth));
    }
}

#[test]
fn a_failed_write_of_the_log_loses_nothing() {
    for nth in 1..20 {
        live(nth, true, |faults| {
            faults.short_write(nth, ErrorKind::Other);
        });
    }
}

#[test]
fn a_failed_sync_of_the_index_is_made_good() {
    lives(false, SimulatedFaults::fail_sync);
}

#[test]
fn a_failed_sync_of_the_indexs_names_is_made_good() {
    lives(false, SimulatedFaults::fail_sync_names);
}

#[test]
fn a_failed_write_of_the_index_is_made_good() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        lives(false, |faults, nth| faults.short_write(nth, kind));
    }
}

#[test]
fn an_index_that_never_syncs_ends_in_errors_and_a_mend_in_none() {
    lives(false, |faults, _| faults.fail_every_sync(true));
}

fn scheduled(scheduler: &Scheduler, bodies: &mut Vec<String>, due: u64) -> Result<(), Error> {
    let body = format!("{}{}", bodies.len(), "x".repeat(2_000));
    let done = scheduler.schedule_with(due, &message(body.clone()), Durability::Buffered);
    done.map(|_| bodies.push(body))
}

#[test]
fn a_full_log_refuses_what_it_cannot_take_and_goes_on_with_room() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    desk.log.set_capacity(1 << 20);
    let mut accepted = Vec::new();
    let refused = loop {
        if let Err(error) = scheduled(&scheduler, &mut accepted, NOON) {
            break error;
        }
        assert!(accepted.len() < 1_000);
    };
    assert!(matches!(refused, Error::Store(_)), "{refused:?}");
    assert_eq!(scheduler.totals().count, accepted.len() as u64);
    // No hand-out that cannot be recorded; what was refused leaves nothing behind.
    while scheduler.due(NOON, 1).is_ok_and(|fired| !fired.is_empty()) {}
    let page = scheduler.list(None, 0, u64::MAX, None, 1_000).unwrap();
    let known = page.messages.len() + scheduler.outstanding();
    assert_eq!(known, accepted.len());
    let full = desk.killed();
    desk.log.set_capacity(8 << 20);
    scheduled(&scheduler, &mut accepted, NOON).unwrap();
    drop(scheduler);
    assert_eq!(bodies(&drain(&desk.killed().open(), NOON)), accepted);
    accepted.pop();
    full.log.set_capacity(8 << 20);
    assert_eq!(bodies(&drain(&full.open(), NOON)), accepted);
}

#[test]
fn a_full_index_refuses_when_the_stage_is_full_and_goes_on_with_room() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    desk.index.set_capacity(0);
    let mut accepted = Vec::new();
    let refused = loop {
        if let Err(error) = scheduled(&scheduler, &mut accepted, NOON + 1) {
            break error;
        }
    };
    assert!(matches!(refused, Error::Io { .. }), "{refused:?}");
    assert_eq!(accepted.len(), 2 * desk.options.stage_entries);
    assert!(
        files(&desk.index, "")
            .iter()
            .all(|name| !name.ends_with(".tmp"))
    );
    // What is in memory goes on.
    desk.clock.advance(1);
    assert_eq!(scheduler.due(NOON + 1, 10).unwrap().len(), 10);
    desk.index.set_capacity(8 << 20);
    scheduled(&scheduler, &mut accepted, NOON + 1).unwrap();
    scheduler.checkpoint().unwrap();
    drop(scheduler);
    assert_eq!(bodies(&drain(&desk.killed().open(), NOON + DAY)), accepted);
}

/// Damage is found while there is no room to make the runs anew: that is an error, and nothing is forgotten.
#[test]
fn what_cannot_be_made_anew_now_is_made_anew_later() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    let mut accepted = Vec::new();
    for number in 0..200 {
        accepted.push(format!("message {number}"));
        let message = message(accepted[number as usize].clone());
        scheduler.schedule(NOON + number, &message).unwrap();
    }
    scheduler.checkpoint().unwrap();
    Desk::close(scheduler);
    let scheduler = desk.open();
    for run in files(&desk.index, "run-") {
        for at in (4_096..8_192).step_by(32) {
            desk.index.flip_bit(&run, at, 3).unwrap();
        }
    }
    desk.index.faults(|faults| faults.fail_every_sync(true));
    for _ in 0..2 {
        let outcome = scheduler.due(NOON + DAY, 10);
        assert!(matches!(outcome, Err(Error::Io { .. })), "{outcome:?}");
        assert!(scheduler.next_due().is_err());
    }
    desk.index.faults(SimulatedFaults::clear);
    assert_eq!(bodies(&drain(&scheduler, NOON + DAY)), accepted);
}

#[test]
fn an_index_that_cannot_be_read_keeps_the_scheduler_closed_and_whole() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    scheduler.schedule(NOON, &message("one")).unwrap();
    scheduler.checkpoint().unwrap();
    Desk::close(scheduler);
    let before = files(&desk.index, "");
    let newest = files(&desk.index, "checkpoint-").pop();
    // Of two checkpoints only the newest is read.
    let read = |name: &&String| !name.starts_with("checkpoint-") || Some(*name) == newest.as_ref();
    for name in before.iter().filter(read) {
        desk.index
            .faults(|faults| faults.read_error(name, 0..u64::MAX));
        assert!(matches!(desk.try_open(), Err(Error::Io { .. })) || name.starts_with("lock"));
        assert_eq!(files(&desk.index, ""), before, "nothing was thrown away");
        desk.index.faults(SimulatedFaults::clear);
    }
    let scheduler = desk.open();
    assert_eq!(scheduler.open_report().rebuilt, None);
    assert_eq!(bodies(&drain(&scheduler, NOON)), ["one"]);
}
