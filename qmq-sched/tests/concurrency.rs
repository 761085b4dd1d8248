//! Threads that schedule, cancel, reschedule, hand out, look and maintain beside each other.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::desk::{Desk, content, drain, files, ids, message};
use common::{DAY, NOON, Rng, small_options};
use qmq_sched::{Cancelled, DelayId, Fired, Options, Scheduler};
use qmq_store::Durability;
use qmq_store::disk::SimulatedDisk;

const MESSAGES: u64 = 500;

/// What a writer did to its messages: the last due time of each, or that it was cancelled.
type Written = BTreeMap<DelayId, Option<u64>>;

fn write(desk: &Desk, scheduler: &Scheduler, seed: u64) -> Written {
    let (mut rng, mut written, mut given) = (Rng(seed), Written::new(), Vec::new());
    for number in 0..MESSAGES {
        let due = desk.now() + rng.below(300);
        let message = message(format!("{seed}.{number}"));
        let id = scheduler
            .schedule_with(due, &message, Durability::Buffered)
            .unwrap();
        // The clock may have gone on meanwhile: then it is due when it came.
        written.insert(id, Some(due));
        given.push(id);
        let other = *rng.pick(&given).unwrap();
        let later = desk.now() + rng.below(300);
        let done = match rng.below(10) {
            0 => (scheduler.cancel_with(other, Durability::Buffered), None),
            1 => (
                scheduler.reschedule_with(other, later, Durability::Buffered),
                Some(later),
            ),
            _ => continue,
        };
        // A cancel of one that was cancelled answers the same again.
        if done.0.unwrap() == Cancelled::Done && written[&other].is_some() {
            written.insert(other, done.1);
        }
    }
    written
}

fn hand_out(desk: &Desk, scheduler: &Scheduler, stop: &AtomicBool) -> Vec<Fired> {
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        desk.clock.advance(1);
        let now = desk.now();
        let fired = scheduler.due(now, 20).unwrap();
        assert!(fired.iter().all(|one| one.due_ms <= now), "early");
        scheduler.dispatched(&ids(&fired)).unwrap();
        all.extend(fired);
    }
    all
}

fn look(scheduler: &Scheduler, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let page = scheduler.list(Some("s"), 0, u64::MAX, None, 50).unwrap();
        assert!(page.messages.is_sorted_by_key(|one| one.due_ms));
        for one in page.messages {
            if let Some(found) = scheduler.get(one.id).unwrap() {
                assert_eq!(found.message.unwrap().subject(), "s");
            }
        }
        assert!(scheduler.totals().count <= 2 * MESSAGES + 50);
    }
}

/// Flips bits of blocks of entries, which nobody has read yet.
fn damage(index: &SimulatedDisk) {
    for name in files(index, "run-") {
        if content(index, &name).len() > 8_000 {
            index.flip_bit(&name, 4_096 + 40, 1).unwrap();
        }
    }
}

fn live(options: Options, is_damaged: bool) {
    let mut desk = Desk::new(options);
    desk.retention.max_bytes = Some(256 << 10);
    let scheduler = desk.open();
    let mut written = Written::new();
    for number in 0..50 {
        let due = NOON + 20 + number;
        let id = scheduler
            .schedule(due, &message(format!("first {number}")))
            .unwrap();
        written.insert(id, Some(due));
    }
    scheduler.checkpoint().unwrap();
    if is_damaged {
        damage(&desk.index);
    }
    let stop = AtomicBool::new(false);
    let mut fired = thread::scope(|scope| {
        let (desk, scheduler, stop) = (&desk, &scheduler, &stop);
        let writers = [1, 2].map(|seed| scope.spawn(move || write(desk, scheduler, seed)));
        let dispatcher = scope.spawn(move || hand_out(desk, scheduler, stop));
        scope.spawn(move || look(scheduler, stop));
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                scheduler.checkpoint().unwrap();
                scheduler.store().maintain().unwrap();
            }
        });
        let done = writers.map(thread::ScopedJoinHandle::join);
        stop.store(true, Ordering::Relaxed);
        done.into_iter()
            .for_each(|done| written.extend(done.unwrap()));
        dispatcher.join().unwrap()
    });
    // The rest comes after a restart.
    drop(scheduler);
    let desk = desk.killed();
    let scheduler = desk.open();
    fired.extend(drain(&scheduler, NOON + DAY));
    for one in fired {
        let due = written
            .remove(&one.id)
            .expect("once")
            .expect("not after a cancel");
        assert!(one.due_ms >= due, "early");
        assert!(one.message.is_ok());
    }
    assert!(written.values().all(Option::is_none), "one never came");
    assert_eq!(scheduler.totals().count, 0);
}

#[test]
fn whatever_happens_beside_it_each_message_comes_once_or_was_cancelled() {
    for stage_entries in [16, 100] {
        live(
            Options {
                stage_entries,
                outstanding_max: 1_000,
                ..small_options()
            },
            false,
        );
    }
}

#[test]
fn a_damaged_run_is_made_anew_beside_those_who_write_runs() {
    for _ in 0..3 {
        live(small_options(), true);
    }
}
