//! Random work, then a crash; what is left is opened and checked against the promises, and the work goes on from there.
//!
//! `cargo test` runs a small number of seeds. A campaign, and one seed again:
//!
//! ```text
//! QMQ_CRASH_SEEDS=10000 cargo test --release --test crash_images -- --nocapture
//! QMQ_CRASH_FIRST=4711 QMQ_CRASH_SEEDS=1 cargo test --test crash_images -- --nocapture
//! ```
//!
//! Each seed is one store with up to five lives; each life ends with a close, the death of the process, or a loss of power, at rest or after
//! any operation of the disk. Each crash image is checked, also after a second crash in the middle of its recovery, and is the start of
//! the next life.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use common::check::{End, check_image};
use common::model::Model;
use common::rng::Rng;
use common::workload::{Session, options_of};
use qmq_store::disk::SimulatedDisk;

/// Lives a store through one seed; returns how many images were checked.
fn live(seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let (options, clock) = options_of(&mut rng);
    let mut disk = SimulatedDisk::new();
    let mut model = Model::default();
    let mut images = 0;
    for _ in 0..1 + rng.below(5) {
        disk.set_seed(rng.next());
        let mut session = Session::new(disk, &options, clock.clone(), model);
        session.note_member();
        session.note();
        if rng.chance(60) {
            session.power_off_after = session.disk.operations() + rng.below(400);
            session.disk.power_off_after(session.power_off_after);
        }
        let count = *rng.pick(&[5, 40, 120, 400]);
        session.run(&mut rng, count);
        session.note_member();
        if options.retention.max_bytes.is_some() {
            session.note_floors();
        }
        let how;
        (disk, how) = match rng.below(10) {
            0..=1 => {
                let closed = session.store.clone().close().is_ok();
                session.note();
                let lost = session.disk.operations() >= session.power_off_after;
                assert!(closed || lost, "a healthy store closes");
                let left = session.disk.crash(rng.next());
                let how = if lost {
                    End::PowerLostInClose
                } else {
                    End::Closed
                };
                (left, how)
            }
            2..=3 => (session.disk.process_killed(), End::Killed),
            _ => (session.disk.crash(rng.next()), End::PowerLost),
        };
        model = session.model;
        drop(session.store);
        model = check_image(&disk, &options, &clock, &model, how, &mut rng);
        images += 1;
    }
    images
}

#[test]
fn after_any_crash_every_promise_holds() {
    let first = common::number_from_env("QMQ_CRASH_FIRST", 1);
    let seeds = common::number_from_env("QMQ_CRASH_SEEDS", 100);
    let mut images = 0;
    for seed in first..first + seeds {
        match catch_unwind(AssertUnwindSafe(|| live(seed))) {
            Ok(checked) => images += checked,
            Err(panic) => {
                println!("QMQ_CRASH_FIRST={seed} QMQ_CRASH_SEEDS=1 fails");
                resume_unwind(panic);
            }
        }
    }
    println!(
        "{images} crash images of {seeds} seeds from {first}, each with a second crash in its recovery"
    );
}
