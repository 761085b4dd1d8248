//! Many connections, a tenth of which dies each second without a word. `QMQ_CONNECTIONS=1000 QMQ_SECONDS=60 cargo test --release --test many_connections`
//! does more of it.

#![cfg(target_os = "linux")]
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

use broker_kill::crowd::Crowd;

/// Memory that the broker may have of its own, in KiB: without connections, and for each that it knows. Of those that died it knows until they are idle for
/// too long.
const KIB_MAX: u64 = 64 << 10;
const CONNECTION_KIB_MAX: u64 = 256;
const THREADS_MORE_MAX: u64 = 8;

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

fn of_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

#[test]
fn connections_that_die_cost_the_others_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let connections = of_environment("QMQ_CONNECTIONS", 200);
    let crowd = Crowd {
        qmq: env!("CARGO_BIN_EXE_qmq").into(),
        player: process,
        dir: dir.path().join("broker"),
        connections: connections as usize,
        seconds: of_environment("QMQ_SECONDS", 5),
        pause: Duration::from_millis(500),
        seed: u64::from(std::process::id()),
    };
    let seen = crowd.run().unwrap_or_else(|error| panic!("{error}"));
    println!("{seen:#?}");
    assert!(seen.answered as u64 > connections, "{seen:?}");
    let kib_max = KIB_MAX + seen.connections_max * CONNECTION_KIB_MAX;
    assert!(seen.kib_max < kib_max, "{seen:?}");
    assert!(
        seen.threads_max <= seen.threads_before + THREADS_MORE_MAX,
        "{seen:?}"
    );
    assert!(seen.calm_median < Duration::from_millis(100), "{seen:?}");
}
