//! Random lives of a scheduler beside a sorted map: scheduling, cancelling, rescheduling, handing out, refusing, restarts, kills, losses of power,
//! clocks that jump. `QMQ_SCHED_SEEDS=FROM..TO cargo test --release -p qmq-sched --test random_lives` runs as many as one likes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{DAY, MINUTE, Rng, World, small_options};
use qmq_sched::DelayId;
use qmq_store::Durability;

/// Seeds that have found something: see `docs/crash-findings.md`.
const FOUND: [u64; 1] = [20_374];

fn seeds() -> Vec<u64> {
    let Ok(text) = std::env::var("QMQ_SCHED_SEEDS") else {
        return (0..150).chain(FOUND).collect();
    };
    let (from, to) = text.split_once("..").expect("QMQ_SCHED_SEEDS=FROM..TO");
    (from.parse().unwrap()..to.parse().unwrap()).collect()
}

fn some_due(world: &World, rng: &mut Rng) -> u64 {
    let now = world.now();
    match rng.below(8) {
        0 => now.saturating_sub(rng.below(DAY)),
        1 => now,
        2 => now + 1,
        3 => now + rng.below(100),
        4 => now + rng.below(5) * 1_000,
        5 => now + rng.below(10 * MINUTE),
        6 => now + rng.below(3 * DAY),
        _ => now + rng.below(300 * DAY),
    }
}

/// Now and then so long that the log's retention has work.
fn some_length(rng: &mut Rng) -> usize {
    match rng.below(10) {
        0 => 3_000 + rng.below(3) as usize,
        _ => rng.below(3) as usize,
    }
}

fn some_ids(ids: &[DelayId], rng: &mut Rng) -> Vec<DelayId> {
    (0..rng.below(6))
        .filter_map(|_| rng.pick(ids).copied())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn live(seed: u64) {
    let mut rng = Rng(seed);
    let mut world = World::new(small_options());
    let mut ids: Vec<DelayId> = Vec::new();
    let mut out: Vec<DelayId> = Vec::new();
    for step in 0..60 + rng.below(140) {
        let durability = if rng.below(4) == 0 {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        match rng.below(100) {
            0..35 => {
                for number in 0..1 + rng.below(6) {
                    let due = some_due(&world, &mut rng);
                    let body = format!("{step}.{number}{}", "x".repeat(some_length(&mut rng)));
                    ids.push(world.schedule(due, &body, durability));
                }
            }
            35..42 => {
                if let Some(&id) = rng.pick(&ids) {
                    world.cancel(id, durability);
                }
            }
            42..52 => {
                if let Some(&id) = rng.pick(&ids) {
                    let due = some_due(&world, &mut rng);
                    world.reschedule(id, due, durability);
                }
            }
            52..67 => {
                let fired = world.due(rng.below(30) as usize);
                out.extend(fired.iter().map(|one| one.id));
            }
            67..75 => world.dispatched(&some_ids(&out, &mut rng)),
            75..78 => world.dispatched(&std::mem::take(&mut out)),
            78..82 => world.refused(&some_ids(&out, &mut rng)),
            82..90 => world.clock.advance(match rng.below(4) {
                0 => rng.below(2_000),
                1 => rng.below(10 * MINUTE),
                2 => rng.below(DAY),
                _ => rng.below(40 * DAY),
            }),
            90 => world.set_clock(world.now() - rng.below(5 * DAY)),
            91..93 => {
                world.scheduler().checkpoint().unwrap();
                world.scheduler().store().maintain().unwrap();
                world.check();
            }
            93..95 => world.restart(),
            95..97 => world.kill(),
            97 => world.lose_power(rng.next()),
            98 => world.damage_index(&mut rng),
            _ => world.check(),
        }
    }
    world.check();
    // In the end everything comes, once it is time.
    world.clock.advance(400 * DAY);
    world.kill();
    while !world.model.items.is_empty() {
        let fired = world.due(25);
        assert!(!fired.is_empty(), "something pending never comes");
        let fired: Vec<_> = fired.iter().map(|one| one.id).collect();
        world.dispatched(&fired);
    }
    assert!(world.due(10).is_empty());
    world.check();
}

#[test]
fn a_scheduler_does_what_a_sorted_map_does_whatever_happens_to_it() {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(|| live(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
