//! Starts a worker, listens to it, and kills it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::event::Event;
use super::ledger::Ledger;
use crate::cli::failure::Failure;

/// A worker that reports nothing new for this long has stopped working.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Runs one worker until `enough` says so, kills it without notice, and notes everything that it had said.
pub(super) fn run_and_kill(
    data: Option<&Path>,
    dir: &Path,
    run: usize,
    ledger: &mut Ledger<'_>,
    bar: &ProgressBar,
    enough: impl Fn(&Ledger<'_>, bool) -> bool,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut child = Kill(spawn(data, dir, run)?);
    let Some(stdout) = child.0.stdout.take() else {
        return Err(Failure::new(
            "the worker has no output",
            "run the demo again",
        ));
    };
    let mut lines = BufReader::with_capacity(1 << 20, stdout);
    let mut line = Vec::new();
    let mut done = false;
    let mut killed = false;
    let mut heard = Instant::now();
    loop {
        line.clear();
        lines
            .read_until(b'\n', &mut line)
            .map_err(|e| Failure::of("cannot hear the worker", &e, "run the demo again"))?;
        if !line.ends_with(b"\n") {
            // The end, or a line that the kill cut short: whatever it was about to promise, it had not.
            break;
        }
        let event = serde_json::from_slice::<Event>(&line)
            .map_err(|e| Failure::of("cannot understand the worker", &e, "run the demo again"))?;
        match &event {
            Event::Failed(why) => {
                return Err(Failure::new(
                    format!("the worker failed in run {}: {why}", run + 1),
                    "this is a defect of the store if the disk is sound and has room",
                ));
            }
            Event::Done => done = true,
            Event::Stored(flights) if flights.is_empty() => {
                if heard.elapsed() > SILENCE_MAX {
                    return Err(stuck(run, ledger));
                }
                continue;
            }
            _ => {}
        }
        heard = Instant::now();
        ledger.note(run, start.elapsed(), event);
        bar.set_position(ledger.stored() + ledger.acked());
        if !killed && enough(ledger, done) {
            child
                .0
                .kill()
                .map_err(|e| Failure::of("cannot kill the worker", &e, "run the demo again"))?;
            killed = true;
            ledger.runs[run].lasted = start.elapsed();
        }
    }
    if killed {
        return Ok(());
    }
    Err(Failure::new(
        format!("the worker ended by itself in run {}", run + 1),
        "see above for what it said, and run the demo again",
    ))
}

fn stuck(run: usize, ledger: &Ledger<'_>) -> Failure {
    Failure::new(
        format!(
            "the worker made no progress for {} s in run {}, with {} flights stored and {} acknowledged",
            SILENCE_MAX.as_secs(),
            run + 1,
            ledger.stored(),
            ledger.acked()
        ),
        "this is a defect of the store if the disk is sound and has room",
    )
}

/// A worker that never outlives the demo.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(data: Option<&Path>, dir: &Path, run: usize) -> Result<Child, Failure> {
    let failed = |e: std::io::Error| {
        Failure::of(
            "cannot start a second process of qmq",
            &e,
            "check that its file is still there",
        )
    };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command
        .arg("demo-worker")
        .arg("--dir")
        .arg(dir)
        .arg("--run")
        .arg((run + 1).to_string());
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)
}
