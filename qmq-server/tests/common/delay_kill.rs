//! Kills `qmq delay schedule` and `qmq delay run` under load, and looks for every message whose id was printed.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::sudden::{kill, random};

/// Longest delay of a message.
const DELAY_MAX_MS: u64 = 4_000;

/// Lines fed in a millisecond: a kill is to hit work, and in the end all of them must be printed.
const LINES_PER_MS: u64 = 20;

/// What to do.
pub(crate) struct KillLoop {
    /// The binary.
    pub(crate) qmq: PathBuf,
    /// The folder; empty.
    pub(crate) dir: PathBuf,
    /// How often to kill.
    pub(crate) kills: u64,
    /// Decides delays, moments and durability.
    pub(crate) seed: u64,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Processes killed.
    pub(crate) kills: u64,
    /// Ids printed by `schedule`: all were printed by `run`.
    pub(crate) scheduled: u64,
    /// Messages printed by `run`, each counted once.
    pub(crate) fired: u64,
    /// Messages printed again by the run after a kill.
    pub(crate) again: u64,
}

impl KillLoop {
    /// Kills and checks; the first broken promise ends it with an error that names it.
    pub(crate) fn run(&self) -> Result<Tally, Box<dyn Error>> {
        let mut tally = Tally::default();
        let mut scheduled = Vec::new();
        let mut fired = HashMap::new();
        for number in 0..self.kills {
            // Two rounds schedule, the third hands out.
            let lines = if number % 3 < 2 {
                let level = ["synced", "buffered"][(number % 2) as usize];
                self.kill_one(
                    number,
                    &["schedule", "--subject", "s", "--durability", level],
                )?
            } else {
                self.kill_one(number, &["run"])?
            };
            tally.kills += 1;
            for line in lines {
                if number % 3 < 2 {
                    scheduled.push((id_of(&line)?, line["due_ms"].as_u64().ok_or("no due time")?));
                } else {
                    note(&mut fired, &line, &mut tally)?;
                }
            }
        }
        let output = Command::new(&self.qmq)
            .args(["delay", "run", "--json", "--until-empty", "--dir"])
            .arg(&self.dir)
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let mut last_ms = 0;
        for line in output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let line = serde_json::from_slice(line)?;
            let again = tally.again;
            let due_ms = note(&mut fired, &line, &mut tally)?;
            if tally.again > again {
                continue;
            }
            if due_ms < last_ms {
                return Err(format!("{line} after one due at {last_ms}").into());
            }
            last_ms = due_ms;
        }
        for (id, due_ms) in &scheduled {
            match fired.get(id) {
                // A due time that was past when it came is the present.
                Some(fired_ms) if fired_ms >= due_ms => {}
                Some(fired_ms) => {
                    return Err(format!("{id}: due at {due_ms}, fired for {fired_ms}").into());
                }
                None => return Err(format!("{id}: printed and never handed out").into()),
            }
        }
        tally.scheduled = scheduled.len() as u64;
        tally.fired = fired.len() as u64;
        Ok(tally)
    }

    /// Runs a command under load, kills it, and returns what it had printed.
    fn kill_one(&self, number: u64, args: &[&str]) -> Result<Vec<Value>, Box<dyn Error>> {
        let mut child = Command::new(&self.qmq)
            .arg("delay")
            .args(args)
            .args(["--json", "--dir"])
            .arg(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                for i in 0_u64.. {
                    let delay_ms = self.random(number * 1_000_003 + i, 1) % DELAY_MAX_MS;
                    if writeln!(stdin, "+{delay_ms}ms\tround {number} line {i}").is_err() {
                        return;
                    }
                    if i % LINES_PER_MS == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            let reader = scope.spawn(move || {
                let mut printed = Vec::new();
                for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                    // What is cut short by the kill was not printed.
                    let Ok(line) = serde_json::from_slice::<Value>(&line) else {
                        break;
                    };
                    printed.push(line);
                    let _ = tell.send(());
                }
                printed
            });
            let _ = told.recv_timeout(Duration::from_secs(10));
            thread::sleep(Duration::from_millis(self.random(number, 2) % 100));
            let killed = kill(&mut child);
            let printed = reader.join().map_err(|_| "the reader panicked")?;
            killed.map_err(|e| format!("round {number}: {e}"))?;
            Ok(printed)
        })
    }

    fn random(&self, n: u64, stream: u64) -> u64 {
        random(self.seed, n, stream)
    }
}

/// Writes down a message that was handed out; it must not be early.
fn note(
    fired: &mut HashMap<String, u64>,
    line: &Value,
    tally: &mut Tally,
) -> Result<u64, Box<dyn Error>> {
    let due_ms = line["due_ms"].as_u64().ok_or("no due time")?;
    if line["late_ms"].as_i64().is_none_or(|late_ms| late_ms < 0) {
        return Err(format!("early: {line}").into());
    }
    if fired.insert(id_of(line)?, due_ms).is_some() {
        tally.again += 1;
    }
    Ok(due_ms)
}

fn id_of(line: &Value) -> Result<String, Box<dyn Error>> {
    Ok(line["id"].as_str().ok_or("no id")?.to_owned())
}
