//! Kills the processes of a master and a slave under load, many times, and compares their logs.
//!
//! `cargo run --release -p qmq-server --example repl_pair -- --kills 1000`

#[path = "../tests/common/repl_kill.rs"]
mod repl_kill;
#[path = "../tests/common/repl_member.rs"]
mod repl_member;
#[path = "../tests/common/repl_process.rs"]
mod repl_process;
#[path = "../tests/common/sudden.rs"]
mod sudden;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use repl_kill::ReplKillLoop;
use repl_member::Member;

/// Kill master, slave or both under load; look for every message that was acknowledged, and compare the logs.
#[derive(Parser)]
struct Args {
    /// How often
    #[arg(long, default_value_t = 1_000)]
    kills: u64,
    /// Decides who is killed and when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of both stores; must be new or empty [default: a temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Be this member instead: 0 listens, 1 connects. It is told on its input what to do
    #[arg(long, requires = "dir")]
    member: Option<u16>,
}

fn process(me: u16, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_default());
    command.arg("--member").arg(me.to_string());
    command.arg("--dir").arg(dir);
    command
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if let (Some(me), Some(dir)) = (args.member, args.dir.clone()) {
        let ended = Member { me, dir }.run();
        return ended.map_err(|error| error as Box<dyn Error>);
    }
    let temporary = tempfile::tempdir()?;
    let kills = ReplKillLoop {
        member: process,
        dir: args.dir.unwrap_or_else(|| temporary.path().join("group")),
        kills: args.kills,
        seed: args.seed,
    };
    let mut shown = 0;
    let tally = kills.run(|tally| {
        if tally.kills / 50 > shown {
            shown = tally.kills / 50;
            eprintln!("{tally:?}");
        }
    });
    let tally = tally.map_err(|error| format!("seed {}: {error}", args.seed))?;
    println!("every acknowledged message is on both, and both logs are the same: {tally:?}");
    Ok(())
}
