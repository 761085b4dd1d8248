//! One workload of 200 operations, cut after each change that the engine asks of the disk: each create, store, write, sync, rename, removal.
//!
//! Each cut is checked as the death of the process, and as losses of power that keep nothing, all, and random parts of what was not synced.
//! `QMQ_CUT_STEP=1` takes every cut; the default takes every 7th, from a start that `QMQ_CUT_FIRST` names.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use common::check::{End, check_image};
use common::model::Model;
use common::rng::Rng;
use common::workload::Session;
use qmq_store::disk::{CrashImage, SimulatedDisk};

const OPERATIONS: u64 = 200;

/// Runs the workload on a disk that loses its power after `cut` changes.
fn run(cut: u64, seed: u64, retention: bool) -> Option<(Session, qmq_store::Options)> {
    let mut rng = Rng::new(seed);
    let (mut options, clock) = common::small_options();
    if retention {
        options.retention.max_bytes = Some(common::SEGMENT_BYTES);
    }
    let disk = SimulatedDisk::new();
    disk.power_off_after(cut);
    if common::open(&disk, &options).map(drop).is_err() {
        // The power went while the store was created: the next open creates it.
        for seed in 0..3 {
            let left = disk.crash(seed);
            let store = common::open(&left, &options).expect("a store is created after a crash");
            assert_eq!(store.open_report().damages, []);
        }
        return None;
    }
    let disk = SimulatedDisk::new();
    disk.power_off_after(cut);
    let mut session = Session::new(disk, &options, clock, Model::default());
    session.power_off_after = cut;
    session.note_member();
    session.note();
    session.run(&mut rng, OPERATIONS);
    session.note_member();
    if retention {
        session.note_floors();
    }
    Some((session, options))
}

fn check_cut(cut: u64, seed: u64, retention: bool) -> u64 {
    let Some((session, options)) = run(cut, seed, retention) else {
        return 3;
    };
    let mut rng = Rng::new(cut);
    let images = [
        (session.disk.process_killed(), End::Killed),
        (session.disk.crash_as(CrashImage::Oldest, 1), End::PowerLost),
        (session.disk.crash_as(CrashImage::Newest, 1), End::PowerLost),
        (session.disk.crash(2 * cut), End::PowerLost),
        (session.disk.crash(2 * cut + 1), End::PowerLost),
    ];
    for (image, how) in &images {
        check_image(
            image,
            &options,
            &session.clock,
            &session.model,
            *how,
            &mut rng,
        );
    }
    images.len() as u64
}

fn check_all_cuts(seed: u64, retention: bool) {
    let (whole, _) = run(u64::MAX, seed, retention).expect("nothing is cut");
    let changes = whole.disk.operations();
    let step = common::number_from_env("QMQ_CUT_STEP", 7);
    let first = common::number_from_env("QMQ_CUT_FIRST", 0);
    let (mut cut, mut images) = (first, 0);
    while cut <= changes {
        match catch_unwind(AssertUnwindSafe(|| check_cut(cut, seed, retention))) {
            Ok(checked) => images += checked,
            Err(panic) => {
                println!("QMQ_CUT_FIRST={cut}, workload {seed}, retention {retention}: fails");
                resume_unwind(panic);
            }
        }
        cut += step;
    }
    println!("{images} images of {changes} changes, workload {seed}, retention {retention}");
}

#[test]
fn a_cut_after_any_change_of_the_disk_keeps_every_promise() {
    check_all_cuts(1, false);
}

#[test]
fn a_cut_after_any_change_keeps_every_promise_while_segments_are_retired() {
    check_all_cuts(2, true);
}
