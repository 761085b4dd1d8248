//! Random lives of a cluster: a network that drops, delays, doubles and reorders, partitions, crashes that lose what was not synced, new
//! masters, planned switches, damage, retention. `QMQ_REPL_SEEDS=FROM..TO cargo test --release -p qmq-repl --test cluster` runs as many as one
//! likes; `QMQ_REPL_TRACE=1` prints what happens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Faults, ModelLog, Rng, Setup, Sim};
use qmq_repl::{AckPolicy, Log, Peer, Role};

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("QMQ_REPL_SEEDS") else {
        return 0..300;
    };
    let (from, to) = text.split_once("..").expect("QMQ_REPL_SEEDS=FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

fn setup(seed: u64) -> Setup {
    let mut rng = Rng::new(seed ^ 0xABCD);
    let nodes = 2 + rng.below(3) as usize;
    let min_insync = match rng.below(8) {
        0 => 0,
        _ => 1 + rng.below(nodes as u64 - 1) as usize,
    };
    let mut setup = Setup::new(nodes, min_insync);
    setup.seed = seed;
    setup.faults = match rng.below(4) {
        0 => Faults::NONE,
        1 => Faults {
            drop: 30,
            ..Faults::NONE
        },
        _ => Faults {
            drop: rng.below(100),
            double: rng.below(100),
            delay: (100, 200 + rng.below(20_000)),
            reorder: rng.chance(700),
        },
    };
    if rng.chance(400) {
        setup.options.fence_lease = Some(Duration::from_millis(150 + rng.below(200)));
    }
    if rng.chance(200) {
        setup.options.catch_up_bytes_per_second = Some(20_000 + rng.below(50_000));
    }
    if rng.chance(200) {
        setup.options.ack_policy = AckPolicy::Buffered;
        setup.options.slave_flush = Duration::from_millis(rng.below(100));
    } else if rng.chance(300) {
        setup.options.slave_flush = Duration::from_millis(rng.below(30));
    }
    if rng.chance(300) {
        setup.options.hold_bytes_max = 2_000;
    }
    setup
}

fn step(sim: &mut Sim) {
    let nodes = sim.setup.nodes as u64;
    let n = sim.rng.below(nodes) as usize;
    match sim.rng.below(100) {
        0..=54 => {
            // Any member that takes appends, also a stale master.
            for n in 0..sim.setup.nodes {
                let filler = match sim.rng.below(40) {
                    0 => 3_000,
                    _ => sim.rng.below(200) as usize,
                };
                let replicated = sim.rng.chance(700);
                sim.produce(n, filler, replicated);
            }
        }
        55..=69 => sim.sync(n),
        70..=73 => {
            let keep = match sim.setup.options.ack_policy {
                // A process that dies loses nothing that it has written.
                AckPolicy::Buffered => usize::MAX,
                AckPolicy::Synced => sim.rng.below(4) as usize,
            };
            sim.crash(n, keep);
        }
        74..=80 => {
            if sim.members[n].node.is_none() {
                sim.start(n);
            }
        }
        81..=83 => {
            if sim.members[n].node.is_some() {
                sim.stand(n, false);
            }
        }
        84..=86 => {
            // Somebody looks after the group.
            let idle = |sim: &Sim, n: usize| {
                (sim.members[n].node.as_ref()).is_some_and(|node| node.role() == Role::Slave)
            };
            if sim.master().is_none() && idle(sim, n) {
                sim.stand(n, false);
            }
        }
        87 => sim.isolate(n),
        88 => {
            let other = sim.rng.below(nodes) as usize;
            sim.cut.insert((n as u16, other as u16));
        }
        89..=91 => sim.cut.clear(),
        92 => sim.members[n].stuck_until = sim.now + Duration::from_millis(sim.rng.below(500)),
        93..=94 => {
            if let Some(master) = sim.master() {
                let to = Peer(sim.rng.below(nodes) as u16);
                let now = sim.now;
                let _ = sim.node(master).switch_to(now, to);
                sim.drive(master);
            }
        }
        95..=96 => {
            let whole = sim.members.iter().all(|it| it.log.is_whole());
            if whole && sim.rng.chance(300) {
                // A slave goes by its own rule, as far as it may.
                let end = sim.log(n).written();
                sim.log(n).retire(end);
            } else if let Some(master) = sim.master().filter(|_| whole) {
                let hold = sim.node(master).retention_hold().unwrap();
                let middle = sim.log(master).middle();
                sim.log(master).retire(middle.min(hold));
            }
        }
        97 => {
            // A slave is damaged in what it has, and somebody compares.
            let Some(master) = sim.master().filter(|&it| it != n) else {
                return;
            };
            let now = sim.now;
            let follows = |sim: &mut Sim| {
                let lag = sim.node(master).lag(now);
                (lag.iter().find(|it| it.slave.0 as usize == n)).is_some_and(|it| it.follows)
            };
            if sim.members[n].node.is_some() && follows(sim) {
                // Only what others have can be healed.
                let start = sim.members.iter().map(|it| it.log.start()).max().unwrap();
                let end = sim.members.iter().map(|it| it.log.synced()).min().unwrap();
                // Nor may somebody be about to throw the other copy away.
                let whole = sim.members.iter().all(|it| {
                    let stays = it.log.0.borrow().known_from == 0;
                    it.log.is_whole() && it.log.incomplete_until() == 0 && stays
                });
                if start < end && whole {
                    let at = start + sim.rng.below(end - start);
                    sim.log(n).damage(at, 0x40);
                    heal(sim, n, master);
                }
            }
        }
        98 if sim.rng.chance(200) && sim.setup.min_insync > 0 && !sim.replaced => {
            // As many disks as min_insync may be lost; one that is damaged, or begins anew, is another.
            let whole = |log: &ModelLog| log.is_whole() && log.incomplete_until() == 0;
            if sim.members.iter().all(|it| whole(&it.log)) {
                sim.replaced = true;
                sim.crash(n, 0);
                sim.log(n).wipe();
            }
        }
        98 if sim.rng.chance(300) && sim.members.iter().all(|it| it.log.is_whole()) => {
            let end = sim.log(n).written();
            sim.log(n).0.borrow_mut().known_from = end;
        }
        98 => {
            let now = sim.now;
            if sim.members[n].node.is_some() {
                let other = Peer(sim.rng.below(nodes) as u16);
                sim.node(n).disconnected(now, other);
                sim.drive(n);
            }
        }
        _ => sim.run_for(400),
    }
}

/// With the network whole for a while, the two compare and the damage goes. (A second fault in the only other copy is another test.)
fn heal(sim: &mut Sim, n: usize, master: usize) {
    let (faults, cut) = (sim.setup.faults, std::mem::take(&mut sim.cut));
    sim.setup.faults = Faults::NONE;
    for _ in 0..20 {
        sim.run_for(2_500);
        if sim.log(n).is_whole() {
            break;
        }
        let (from, to) = {
            let (start, bytes) = sim.log(n).content();
            (start, start + bytes.len() as u64)
        };
        let now = sim.now;
        if sim.members[n].node.is_none() || sim.members[master].node.is_none() {
            break;
        }
        sim.node(n).scrub(now, Peer(master as u16), from, to);
        sim.drive(n);
    }
    sim.setup.faults = faults;
    sim.cut = cut;
}

fn life(seed: u64) -> (usize, usize) {
    let setup = setup(seed);
    let faults = setup.faults;
    let mut sim = Sim::with_master(Setup {
        faults: Faults::NONE,
        ..setup
    });
    sim.loss_accepted = false;
    sim.setup.faults = faults;
    let steps = 60 + sim.rng.below(200);
    for _ in 0..steps {
        step(&mut sim);
        let pause = match sim.rng.below(10) {
            0 => 100,
            _ => sim.rng.below(20),
        };
        sim.run_for(pause);
    }
    sim.heal_everything();
    sim.check_nothing_lost();
    let epochs = sim.log(0).epochs().len();
    (sim.acknowledged.len(), epochs)
}

/// Says which seed it was when a life panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!(
                "failed: QMQ_REPL_SEEDS={seed}..{} QMQ_REPL_TRACE=1",
                seed + 1
            );
        }
    }
}

#[test]
fn nothing_replicated_is_lost_and_all_logs_become_equal() {
    let (mut acknowledged, mut epochs, mut lives) = (0, 0, 0);
    for seed in seeds() {
        let _told = Told(seed);
        let (messages, masters) = life(seed);
        acknowledged += messages;
        epochs += masters;
        lives += 1;
    }
    println!(
        "{lives} lives, {acknowledged} messages acknowledged, {epochs} epochs in their last logs"
    );
    assert!(
        acknowledged > lives,
        "lives in which nothing happens test nothing"
    );
}
