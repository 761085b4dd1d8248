//! Whoever is killed, what a broker has answered holds. `cargo run --release --example broker_kill -- --kills 200` does more of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "only a part of the modules is used")]

#[path = "common/broker_kill/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "each of those who share it uses a part"
)]
mod broker_kill;
#[path = "common/sudden.rs"]
mod sudden;

use std::process::Command;
use std::time::Duration;

use broker_kill::BrokerKillLoop;

/// Not a test of its own: what the processes of the test below run.
#[test]
fn player() {
    broker_kill::play().unwrap();
}

fn process() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "player", "--nocapture"]);
    command
}

#[test]
fn what_was_answered_holds_whoever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let seed = u64::from(std::process::id());
    let kills = BrokerKillLoop {
        qmq: env!("CARGO_BIN_EXE_qmq").into(),
        player: process,
        dir: dir.path().join("broker"),
        kills: 3,
        seed,
        pause: Duration::from_millis(10),
    };
    let tally = kills
        .run(|_| {})
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    println!("seed {seed}: {tally:?}");
    assert_eq!(tally.kills, 3, "{tally:?}");
    assert!(tally.answered > 20, "{tally:?}");
    assert!(tally.received >= 3 * tally.stored, "{tally:?}");
}
