//! Kills `qmq store append`, or `qmq delay schedule` and `run`, under load many times and looks for every line that it had printed.
//!
//! `cargo build --release && cargo run --release -p qmq-server --example kill_loop -- --kills 1000`, and the same with `--delay`

#[path = "../tests/common/delay_kill.rs"]
mod delay_kill;
#[path = "../tests/common/kill.rs"]
mod kill;
#[path = "../tests/common/sudden.rs"]
mod sudden;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use kill::KillLoop;

/// Kill `qmq store append` under load and look for every line that it had printed.
#[derive(Parser)]
struct Args {
    /// Kill `qmq delay schedule` and `qmq delay run` instead, and look for every message whose id was printed
    #[arg(long)]
    delay: bool,
    /// How often
    #[arg(long, default_value_t = 1_000)]
    kills: u64,
    /// Decides what is stored and when the kills come
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The binary [default: the one built beside this]
    #[arg(long)]
    qmq: Option<PathBuf>,
    /// Folder of the store; must be new or empty [default: a temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
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
    let dir = args.dir.unwrap_or_else(|| temporary.path().join("store"));
    if args.delay {
        let kills = delay_kill::KillLoop {
            qmq,
            dir,
            kills: args.kills,
            seed: args.seed,
        };
        println!("every message was handed out: {:?}", kills.run()?);
        return Ok(());
    }
    let kills = KillLoop {
        qmq,
        dir,
        kills: args.kills,
        seed: args.seed,
    };
    let tally = kills.run(|tally| {
        if tally.kills.is_multiple_of(50) {
            eprintln!("{tally:?}");
        }
    })?;
    println!("every printed line was found: {tally:?}");
    Ok(())
}
