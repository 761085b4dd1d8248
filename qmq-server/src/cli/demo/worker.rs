//! A process of the demo that gets lost: a consumer that handles what comes, but keeps the messages of one route in its hands.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::thread;

use super::broker;
use super::consumer::Consumer;
use super::event::Event;
use super::input::Input;
use crate::cli::failure::Failure;

/// Arguments of the hidden command that `qmq demo` starts.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Flights file
    #[arg(long)]
    data: Option<PathBuf>,
    /// How the broker is reached
    #[arg(long)]
    client: PathBuf,
    /// Its group, by number
    #[arg(long)]
    group: usize,
    /// The route whose messages it keeps, by number
    #[arg(long)]
    keeps: u32,
}

/// The name of the consumer that gets lost.
pub(super) const NAME: &str = "host-1";

/// Writes one event to the parent's pipe. When this returns, the parent will see it whatever happens to this
/// process. A parent that is gone ends the process.
fn tell(event: &Event) {
    let Ok(mut line) = serde_json::to_vec(event) else {
        process::exit(1)
    };
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    if stdout
        .write_all(&line)
        .and_then(|()| stdout.flush())
        .is_err()
    {
        process::exit(1);
    }
}

/// Consumes until it is lost.
pub(crate) fn run_worker(args: &WorkerArgs) -> Result<(), Failure> {
    // A parent that is gone cannot end this process: then the pipe does.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(1);
    });
    let input = Arc::new(Input::load(args.data.as_deref())?);
    let consumer = Consumer {
        group: args.group,
        name: NAME,
        input: Arc::clone(&input),
        tell: Arc::new(|event| tell(&event)),
    };
    let failed = |e| Failure::of("cannot subscribe", &e, "run the demo again");
    super::runtime()?.block_on(async {
        let client = broker::client(&args.client)?;
        for route in (0..input.routes.len() as u32).filter(|route| *route != args.keeps) {
            consumer.handle(&client, route).map_err(failed)?;
        }
        consumer.hold(&client, args.keeps).await.map_err(failed)
    })
}
