//! Messages that outlive the log: retention takes the log, and they come all the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{DAY, MINUTE, Rng, World, small_options};
use qmq_sched::{DelayId, Options};
use qmq_store::Durability;

/// Enough for several segments of 64 KiB, of which retention keeps two.
const MESSAGES: u64 = 4_000;
const YEAR: u64 = 365 * DAY;

fn options() -> Options {
    Options {
        segment_scale_minute: 60,
        stage_entries: 512,
        window_entries: 256,
        outstanding_max: 10_000,
        ..small_options()
    }
}

/// A world in which one message of `far` is due in a year and the rest is dispatched, with the ids of those in a year.
fn with_far_ones(far: u64) -> (World, Vec<DelayId>) {
    let mut world = World::new(options());
    world.tracks = false;
    let mut ids = Vec::new();
    for number in 0..MESSAGES {
        let is_far = number % far == 0;
        let due = world.now() + if is_far { YEAR + number } else { number };
        let body = format!("{number}{}", "x".repeat(100));
        let id = world.schedule(due, &body, Durability::Buffered);
        if is_far {
            ids.push(id);
        }
    }
    world.clock.advance(MINUTE);
    dispatch_all(&mut world);
    (world, ids)
}

fn dispatch_all(world: &mut World) -> usize {
    let mut count = 0;
    loop {
        let fired: Vec<_> = world.due(300).iter().map(|one| one.id).collect();
        if fired.is_empty() {
            return count;
        }
        count += fired.len();
        world.dispatched(&fired);
    }
}

/// Rounds of maintenance, with something to write down before each: two checkpoints are kept, and what the older one needs.
fn maintain(world: &mut World) {
    for _ in 0..4 {
        let id = world.schedule(world.now() + MINUTE, "round", Durability::Buffered);
        world.cancel(id, Durability::Buffered);
        world.scheduler().store().maintain().unwrap();
        world.scheduler().checkpoint().unwrap();
    }
}

fn log_start(world: &World) -> u64 {
    world.scheduler().store().stats().start_offset
}

#[test]
fn the_log_goes_and_what_outlives_it_comes_in_a_year() {
    let (mut world, ids) = with_far_ones(10);
    assert_eq!(log_start(&world), 0, "all of it is held");
    maintain(&mut world);
    assert!(log_start(&world) > 200_000, "{}", log_start(&world));
    world.check();
    world.restart();
    world.kill();
    // Also what was moved can be cancelled, and put off.
    world.cancel(ids[3], Durability::Synced);
    world.reschedule(ids[4], world.now() + 2 * YEAR, Durability::Synced);
    world.reschedule(ids[5], world.now() + 3 * MINUTE, Durability::Synced);
    maintain(&mut world);
    world.lose_power(5);
    world.clock.advance(YEAR + DAY);
    let count = dispatch_all(&mut world);
    assert_eq!(count as u64, MESSAGES / 10 - 2);
    world.clock.advance(YEAR);
    assert_eq!(dispatch_all(&mut world), 1);
    maintain(&mut world);
    let left = world.files("bodies-");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_file_of_bodies_shrinks_with_what_is_needed_of_it() {
    let (mut world, ids) = with_far_ones(2);
    maintain(&mut world);
    let before: u64 = world.files("bodies-").iter().map(|file| file.len).sum();
    for &id in &ids[100..] {
        world.cancel(id, Durability::Buffered);
    }
    world.scheduler().store().sync().unwrap();
    for _ in 0..4 {
        maintain(&mut world);
    }
    let after: u64 = world.files("bodies-").iter().map(|file| file.len).sum();
    assert!(after < before / 5, "{before} and then {after}");
    world.check();
    world.restart();
    world.clock.advance(YEAR + DAY);
    assert_eq!(dispatch_all(&mut world), 100);
}

#[test]
fn a_damaged_index_is_made_anew_from_the_log_and_from_what_was_moved() {
    for kind in ["run-", "checkpoint-"] {
        let (mut world, ids) = with_far_ones(7);
        maintain(&mut world);
        for &id in &ids[..50] {
            world.cancel(id, Durability::Buffered);
        }
        maintain(&mut world);
        let newest = world.files(kind).pop().unwrap();
        for at in 0..newest.len.min(200) {
            world.index.flip_bit(&newest.name, at, 3).unwrap();
        }
        world.restart();
        let report = world.scheduler().open_report().clone();
        assert!(report.rebuilt.is_some(), "{report:?}");
        assert_eq!((report.damaged, report.lost_files.len()), (0, 0));
        world.check();
        world.clock.advance(YEAR + DAY);
        assert_eq!(dispatch_all(&mut world), ids.len() - 50);
    }
}

#[test]
fn a_damaged_body_is_reported_and_costs_no_other() {
    let (mut world, ids) = with_far_ones(10);
    maintain(&mut world);
    // Of some of these files nothing is needed any more.
    let files = world.files("bodies-");
    for file in &files {
        world.index.flip_bit(&file.name, 4_096 + 60, 1).unwrap();
    }
    world.restart();
    world.clock.advance(YEAR + DAY);
    let fired = world.scheduler().due(world.now(), 300).unwrap();
    assert_eq!(fired.len(), 300.min(ids.len()));
    let damaged = fired.iter().filter(|one| one.message.is_err()).count();
    assert!((1..=files.len()).contains(&damaged), "{damaged}");
}

#[test]
fn a_loss_of_power_at_any_step_of_the_move_loses_nothing() {
    let mut rng = Rng(3);
    for _ in 0..12 {
        let (mut world, ids) = with_far_ones(10);
        world.scheduler().store().sync().unwrap();
        let steps = world.index.operations();
        world.index.power_off_after(steps + rng.below(60));
        for _ in 0..3 {
            let _ = world.scheduler().checkpoint();
            let _ = world.scheduler().store().maintain();
        }
        world.lose_power(rng.next());
        world.check();
        world.clock.advance(YEAR + DAY);
        assert_eq!(dispatch_all(&mut world), ids.len());
    }
}
