//! Kills a broker, its producers and its consumers under load, many times, and checks everything that was sent, answered, received and acknowledged.
//!
//! `cargo build --release && cargo run --release -p qmq-server --example broker_kill -- --kills 200 --seed 1`

#![allow(dead_code, reason = "only a part of the modules is used")]

#[path = "../tests/common/broker_kill/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "each of those who share it uses a part"
)]
mod broker_kill;
#[path = "../tests/common/sudden.rs"]
mod sudden;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use broker_kill::{BrokerKillLoop, Failed};
use clap::Parser;

/// Kill broker, producers and consumers under load, and check all that was promised.
#[derive(Parser)]
struct Args {
    /// How often
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// Decides who is killed and when; an even one has the broker sync before it answers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Pause between two messages of a producer's lane, in µs; there are six lanes
    #[arg(long, default_value_t = 2_000)]
    pause_us: u64,
    /// The binary [default: the one built beside this]
    #[arg(long)]
    qmq: Option<PathBuf>,
    /// Folder of everything; must be new or empty [default: a temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// This program again, which finds its role in the environment.
fn player() -> Command {
    Command::new(std::env::current_exe().unwrap_or_default())
}

fn main() -> Result<(), Failed> {
    if broker_kill::play()? {
        return Ok(());
    }
    let args = Args::parse();
    let built = std::env::current_exe()?;
    let beside = built
        .parent()
        .and_then(|examples| examples.parent())
        .map(|dir| dir.join("qmq"));
    let qmq = args.qmq.or(beside).ok_or("give the binary with --qmq")?;
    if !qmq.exists() {
        return Err(format!("no {}; run `cargo build --release` first", qmq.display()).into());
    }
    let temporary = tempfile::tempdir()?;
    let kills = BrokerKillLoop {
        qmq,
        player,
        dir: args.dir.unwrap_or_else(|| temporary.path().join("broker")),
        kills: args.kills,
        seed: args.seed,
        pause: Duration::from_micros(args.pause_us),
    };
    let tally = kills.run(|tally| {
        if tally.kills.is_multiple_of(20) {
            eprintln!("{} kills", tally.kills);
        }
    });
    let tally = tally.map_err(|error| {
        // A history is read line by line.
        eprintln!("seed {}: {error}", args.seed);
        format!("seed {} broke a promise; its history is above", args.seed)
    })?;
    println!("every promise was kept: {tally:?}");
    Ok(())
}
