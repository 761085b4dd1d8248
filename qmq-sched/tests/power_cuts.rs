//! One workload of 100 operations, cut after each change that is asked of the log's disk and of the index's.
//!
//! Each cut is checked as the death of the process, and as losses of power that keep nothing, all, and random parts of what was not synced.
//! `QMQ_CUT_STEP=1` takes every cut; the default takes every 3rd, from a start that `QMQ_CUT_FIRST` names;
//! `QMQ_CUT_SEED` names another workload.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use common::desk::Desk;
use common::ledger::Ledger;
use common::{Rng, small_options};
use qmq_sched::Scheduler;
use qmq_store::Durability;
use qmq_store::disk::{CrashImage, SimulatedDisk};

const OPERATIONS: u64 = 100;

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs the workload until the power goes.
fn run(log_cut: u64, index_cut: u64, seed: u64) -> (Desk, Ledger) {
    let mut desk = Desk::new(small_options());
    desk.options.hand_out_durability = Durability::Synced;
    desk.retention.max_bytes = Some(128 << 10);
    desk.log.power_off_after(log_cut);
    desk.index.power_off_after(index_cut);
    let mut ledger = Ledger::default();
    let is_on =
        |desk: &Desk| desk.log.operations() < log_cut && desk.index.operations() < index_cut;
    let store = desk.try_store();
    if let Ok(store) = store
        && let Ok(scheduler) = Scheduler::open(store, desk.index.clone(), desk.options.clone())
    {
        let mut rng = Rng(seed);
        for _ in 0..OPERATIONS {
            let before = ledger.clone();
            let done = ledger.step(&desk, &scheduler, &mut rng);
            if !is_on(&desk) {
                ledger.doubt_since(&before);
            }
            if done.is_err() || !is_on(&desk) {
                break;
            }
        }
    }
    (desk, ledger)
}

fn check_cut(log_cut: u64, index_cut: u64, seed: u64) -> u64 {
    let (desk, ledger) = run(log_cut, index_cut, seed);
    ledger.check(&desk.killed(), false);
    let crashed = |image, seed| {
        let of = |disk: &SimulatedDisk| disk.crash_as(image, seed);
        desk.with(of(&desk.log), of(&desk.index))
    };
    ledger.check(&crashed(CrashImage::Oldest, 1), true);
    ledger.check(&crashed(CrashImage::Newest, 1), true);
    let cut = log_cut.min(index_cut);
    ledger.check(&desk.crashed(2 * cut), true);
    ledger.check(&desk.crashed(2 * cut + 1), true);
    5
}

fn check_all_cuts(seed: u64, of_log: bool) {
    let (whole, ledger) = run(u64::MAX, u64::MAX, seed);
    ledger.check(&whole.killed(), false);
    let disk = if of_log { &whole.log } else { &whole.index };
    let changes = disk.operations();
    assert!(changes > 50, "the workload does too little: {changes}");
    let step = number_from_env("QMQ_CUT_STEP", 3);
    let (mut cut, mut images) = (number_from_env("QMQ_CUT_FIRST", 0), 0);
    while cut <= changes {
        let (log_cut, index_cut) = if of_log {
            (cut, u64::MAX)
        } else {
            (u64::MAX, cut)
        };
        match catch_unwind(AssertUnwindSafe(|| check_cut(log_cut, index_cut, seed))) {
            Ok(checked) => images += checked,
            Err(panic) => {
                println!("QMQ_CUT_FIRST={cut}, workload {seed}, of the log: {of_log}: fails");
                resume_unwind(panic);
            }
        }
        cut += step;
    }
    println!("{images} images of {changes} changes, workload {seed}, of the log: {of_log}");
}

#[test]
fn a_cut_after_any_change_of_the_logs_disk_keeps_every_promise() {
    check_all_cuts(number_from_env("QMQ_CUT_SEED", 1), true);
}

#[test]
fn a_cut_after_any_change_of_the_indexs_disk_keeps_every_promise() {
    check_all_cuts(number_from_env("QMQ_CUT_SEED", 2), false);
}
