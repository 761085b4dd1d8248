//! Master and slave as processes, killed without notice. `cargo run --release --example repl_pair -- --kills 1000` does more of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/repl_kill.rs"]
mod repl_kill;
#[path = "common/repl_member.rs"]
mod repl_member;
#[path = "common/repl_process.rs"]
mod repl_process;
#[path = "common/sudden.rs"]
mod sudden;

use std::path::Path;
use std::process::Command;

use repl_kill::ReplKillLoop;
use repl_member::Member;

/// The environment of a process that is a member.
const ME: &str = "QMQ_REPL_MEMBER";
const DIR: &str = "QMQ_REPL_DIR";

/// Not a test of its own: what the processes of the test below run.
#[test]
fn member() {
    let (Ok(me), Some(dir)) = (std::env::var(ME), std::env::var_os(DIR)) else {
        return;
    };
    let member = Member {
        me: me.parse().unwrap(),
        dir: dir.into(),
    };
    member.run().unwrap();
}

fn process(me: u16, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "member", "--nocapture"]);
    command.env(ME, me.to_string()).env(DIR, dir);
    command
}

#[test]
fn what_was_acknowledged_is_on_both_after_twenty_kills() {
    let dir = tempfile::tempdir().unwrap();
    let seed = u64::from(std::process::id());
    let kills = ReplKillLoop {
        member: process,
        dir: dir.path().join("group"),
        kills: 20,
        seed,
    };
    let tally = kills
        .run(|_| {})
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    println!("seed {seed}: {tally:?}");
    assert!(tally.kills >= 20, "{tally:?}");
    assert!(tally.acked > 20, "{tally:?}");
    assert!(tally.checks > 0, "{tally:?}");
}
