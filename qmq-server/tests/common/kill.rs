//! Kills `qmq store append` under load, over and over, and looks for every line that it had printed.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use qmq_store::{Options, Store};

use super::sudden::{kill, mix, random};

/// Threads of the killed process that append, each to a subject of its own.
const LANES: usize = 4;

/// Small, so that kills also hit the change from one segment to the next.
const SEGMENT_BYTES: u64 = 1 << 20;

/// Most bytes of a line.
const LINE_MAX: u64 = 2_000;

/// Longest time from the first printed line to the kill.
const LOAD_MAX_MS: u64 = 120;

/// What to do.
pub(crate) struct KillLoop {
    /// The binary.
    pub(crate) qmq: PathBuf,
    /// The store's folder; empty.
    pub(crate) dir: PathBuf,
    /// How often to kill.
    pub(crate) kills: u64,
    /// Decides lines, moments and all else.
    pub(crate) seed: u64,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Processes killed.
    pub(crate) kills: u64,
    /// Lines printed by them: all were found.
    pub(crate) printed: u64,
    /// Messages found.
    pub(crate) stored: u64,
    /// Opens that had to look for the log's end.
    pub(crate) unclean_opens: u64,
    /// Bytes of unfinished records that those opens cut.
    pub(crate) cut_bytes: u64,
}

/// What one killed process had printed, by lane: the sequences.
struct Round {
    number: u64,
    printed: [Vec<u64>; LANES],
}

impl KillLoop {
    /// Kills and checks; the first broken promise ends it with an error that names it.
    pub(crate) fn run(&self, mut progress: impl FnMut(&Tally)) -> Result<Tally, Box<dyn Error>> {
        let mut tally = Tally::default();
        let mut unchecked: Vec<Round> = Vec::new();
        let mut next = [0; LANES];
        for number in 0..self.kills {
            let round = self.kill_one(number)?;
            tally.kills += 1;
            tally.printed += round
                .printed
                .iter()
                .map(|lane| lane.len() as u64)
                .sum::<u64>();
            unchecked.push(round);
            // Sometimes the next process is the one that meets what this one left.
            let last = number + 1 == self.kills;
            if last || !self.random(number, 3).is_multiple_of(3) {
                self.check(number, last, &unchecked, &mut next, &mut tally)?;
                unchecked.clear();
            }
            progress(&tally);
        }
        Ok(tally)
    }

    /// The i-th line that the process of a round is fed.
    fn line(&self, round: u64, i: u64) -> String {
        let length = self.random(round * 1_000_003 + i, 1) % LINE_MAX;
        let mut line = format!("round {round} line {i} ");
        let mut state = length + 1;
        while (line.len() as u64) < length {
            state = mix(state);
            line.push(char::from(b'a' + (state % 26) as u8));
        }
        line
    }

    fn random(&self, n: u64, stream: u64) -> u64 {
        random(self.seed, n, stream)
    }

    fn kill_one(&self, number: u64) -> Result<Round, Box<dyn Error>> {
        let durability = if number.is_multiple_of(2) {
            "synced"
        } else {
            "buffered"
        };
        let mut command = Command::new(&self.qmq);
        command.args(["store", "append", "--durability", durability]);
        command
            .args(["--segment-bytes", &SEGMENT_BYTES.to_string(), "--dir"])
            .arg(&self.dir);
        for lane in 0..LANES {
            command.args(["--subject", &subject(lane)]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err("no pipes".into());
        };
        let (tell, told) = mpsc::channel();
        let printed = thread::scope(|scope| -> Result<_, Box<dyn Error>> {
            scope.spawn(|| self.feed(number, stdin));
            let reader = scope.spawn(move || collect(stdout, &tell));
            let begun = told.recv_timeout(Duration::from_secs(60));
            if begun.is_ok() {
                thread::sleep(Duration::from_millis(self.random(number, 2) % LOAD_MAX_MS));
            }
            let running = kill(&mut child);
            let printed = reader.join().map_err(|_| "the reader panicked")?;
            running.map_err(|e| format!("round {number}: {e}"))?;
            begun.map_err(|_| format!("round {number}: nothing was printed for a minute"))?;
            printed.map_err(|e| format!("round {number}: {e}").into())
        })?;
        Ok(Round { number, printed })
    }

    /// Feeds lines until the process is gone.
    fn feed(&self, number: u64, stdin: ChildStdin) {
        let mut stdin = std::io::BufWriter::new(stdin);
        for i in 0.. {
            if writeln!(stdin, "{}", self.line(number, i)).is_err() {
                return;
            }
        }
    }

    /// Opens the store and compares what came since the last check with what was printed and fed.
    fn check(
        &self,
        number: u64,
        last: bool,
        rounds: &[Round],
        next: &mut [u64; LANES],
        tally: &mut Tally,
    ) -> Result<(), Box<dyn Error>> {
        let store = Store::open(&self.dir, Options::with_segment_bytes(SEGMENT_BYTES))?;
        let report = store.open_report();
        tally.unclean_opens += u64::from(!report.clean);
        tally.cut_bytes += report.cut_bytes;
        if !report.damages.is_empty() {
            return Err(format!("round {number}: damage found: {:?}", report.damages).into());
        }
        for (lane, next) in next.iter_mut().enumerate() {
            tally.stored += self.check_lane(&store, lane, rounds, next)?;
        }
        if last {
            let verified = store.verify(&mut |_, _| {})?;
            if !verified.damages.is_empty() {
                return Err(format!("damage found: {:?}", verified.damages).into());
            }
        }
        // Some rounds start from a clean close, some from a store that was dropped.
        if self.random(number, 4).is_multiple_of(2) {
            store.close()?;
        }
        Ok(())
    }

    fn check_lane(
        &self,
        store: &Store,
        lane: usize,
        rounds: &[Round],
        next: &mut u64,
    ) -> Result<u64, Box<dyn Error>> {
        let name = subject(lane);
        let mut rounds = rounds.iter();
        let Some(mut round) = rounds.next() else {
            return Ok(0);
        };
        let (mut place, mut stored) = (0, 0);
        loop {
            let messages = match store.read(&name, *next, 1_000) {
                Ok(messages) if messages.is_empty() => break,
                // Killed before its first line was stored.
                Err(qmq_store::Error::UnknownSubject { .. }) => break,
                messages => messages?,
            };
            for message in messages.iter() {
                let sequence = message.sequence();
                if sequence != *next {
                    return Err(format!("{name}: {sequence} where {next} was due").into());
                }
                let body = message.message()?.body();
                while body
                    != self
                        .line(round.number, place * LANES as u64 + lane as u64)
                        .as_bytes()
                {
                    // It can only be the first line of a later round, and all that was printed must be here.
                    missing(&name, round, lane, place, sequence)?;
                    let Some(later) = rounds.next() else {
                        return Err(format!("{name} {sequence}: a line nobody fed").into());
                    };
                    (round, place) = (later, 0);
                }
                let printed = round.printed[lane].get(place as usize);
                if printed.is_some_and(|printed| *printed != sequence) {
                    return Err(format!("{name} {sequence}: printed as {printed:?}").into());
                }
                place += 1;
                stored += 1;
                *next = sequence + 1;
            }
        }
        missing(&name, round, lane, place, *next)?;
        for round in rounds {
            missing(&name, round, lane, 0, *next)?;
        }
        Ok(stored)
    }
}

/// Refuses an end at `place` that leaves out lines which were printed.
fn missing(
    name: &str,
    round: &Round,
    lane: usize,
    place: u64,
    end: u64,
) -> Result<(), Box<dyn Error>> {
    let printed = round.printed[lane].len() as u64;
    if place >= printed {
        return Ok(());
    }
    let Round { number, .. } = round;
    Err(format!(
        "{name}: round {number} printed {printed} lines and {place} are there, up to {end}"
    )
    .into())
}

/// Collects printed lines until the pipe closes; a line without its end was not printed.
fn collect(
    stdout: ChildStdout,
    begun: &Sender<()>,
) -> Result<[Vec<u64>; LANES], Box<dyn Error + Send + Sync>> {
    let mut printed = [const { Vec::new() }; LANES];
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
        let (name, sequence) = line.trim_end().rsplit_once(' ').ok_or("an odd line")?;
        let lane: usize = name.rsplit_once('.').ok_or("an odd subject")?.1.parse()?;
        printed[lane].push(sequence.parse()?);
        line.clear();
        let _ = begun.send(());
    }
    Ok(printed)
}

fn subject(lane: usize) -> String {
    format!("kill.{lane}")
}
