//! The rounds, and the table made of them.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::cell::{Cell, Kind, MIB, RECORD_BYTES, cells};
use crate::cli::Arguments;
use crate::folder::{Scratch, kind};
use crate::outcome::Outcome;
use crate::suggest::Suggestion;
use crate::{append, synced};

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) folder: String,
    rounds: usize,
    pub(crate) lines: Vec<Line>,
    suggestion: Option<Suggestion>,
}

/// A cell and what came out.
#[derive(Serialize)]
pub(crate) struct Line {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    name: String,
    pub(crate) outcome: Option<Outcome>,
    /// Why there is no outcome.
    refused: Option<String>,
}

/// How much a round does.
struct Effort {
    buffered_bytes: u64,
    flushed_bytes: u64,
    synced_time: Duration,
}

impl Report {
    /// Runs all cells in turns, round by round, until the rounds or the time are used up.
    pub(crate) fn measure(arguments: &Arguments) -> Result<Self> {
        let scratch = Scratch::new(&arguments.dir)?;
        let (effort, rounds, seconds) = if arguments.quick {
            (Effort::new(128 * MIB, 128 * MIB, 150), 1, 18)
        } else {
            (Effort::new(256 * MIB, 256 * MIB, 300), arguments.rounds, 80)
        };
        let until = Instant::now() + Duration::from_secs(arguments.seconds.unwrap_or(seconds));
        let mut trials: Vec<_> = cells().into_iter().map(Trial::new).collect();
        for round in 1..=rounds {
            eprintln!("round {round} of {rounds}");
            for trial in &mut trials {
                if Instant::now() < until {
                    trial.run(&scratch, &effort)?;
                }
            }
        }
        let rounds = trials
            .iter()
            .map(|trial| trial.rounds.len())
            .max()
            .unwrap_or(0);
        let lines: Vec<_> = trials.into_iter().map(Trial::line).collect();
        let suggestion = Suggestion::of(&lines);
        Ok(Self {
            folder: kind(scratch.path())?,
            rounds,
            lines,
            suggestion,
        })
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{RECORD_BYTES} B records, one thread, median of {} (greatest of the maxima), {}\n",
            self.rounds, self.folder
        );
        let mut heading = "";
        for line in &self.lines {
            if heading != line.heading() {
                heading = line.heading();
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "\n{heading:<52} {:>10} {:>8} {:>8} {:>9} {:>9} {:>8}",
                    "records/s", "p50 us", "p99 us", "p99.9 us", "max us", "sync ms"
                );
            }
            line.write(&mut text);
        }
        if let Some(suggestion) = &self.suggestion {
            let _ = write!(text, "\n{suggestion}");
        }
        text
    }
}

impl Effort {
    fn new(buffered_bytes: u64, flushed_bytes: u64, synced_ms: u64) -> Self {
        Self {
            buffered_bytes,
            flushed_bytes,
            synced_time: Duration::from_millis(synced_ms),
        }
    }
}

struct Trial {
    cell: Cell,
    rounds: Vec<Outcome>,
    refused: Option<String>,
}

impl Trial {
    fn new(cell: Cell) -> Self {
        Self {
            cell,
            rounds: Vec::new(),
            refused: None,
        }
    }

    /// One round; what the system refuses is not tried again.
    fn run(&mut self, scratch: &Scratch, effort: &Effort) -> Result<()> {
        if self.refused.is_some() {
            return Ok(());
        }
        let (dir, layout) = (scratch.path(), &self.cell.layout);
        if !matches!(self.cell.kind, Kind::Synced { .. }) {
            scratch.warm(effort.buffered_bytes.max(2 * layout.segment_bytes))?;
        }
        let outcome = match self.cell.kind {
            Kind::Buffered => append::measure(dir, layout, None, effort.buffered_bytes),
            Kind::Flushed(flush) => append::measure(dir, layout, Some(flush), effort.flushed_bytes),
            Kind::Synced { records } => synced::measure(dir, layout, records, effort.synced_time),
        };
        scratch.empty()?;
        match outcome {
            Ok(outcome) => self.rounds.push(outcome),
            Err(error) => self.refused = Some(format!("{error:#}")),
        }
        Ok(())
    }

    fn line(self) -> Line {
        Line {
            cell: self.cell,
            name: self.cell.to_string(),
            outcome: Outcome::median(self.rounds),
            refused: self.refused,
        }
    }
}

impl Line {
    pub(crate) fn heading(&self) -> &'static str {
        match self.cell.kind {
            Kind::Buffered => "Buffered",
            Kind::Flushed(_) => "Buffered, synced by a second thread",
            Kind::Synced { records: 1 } => "Synced one by one",
            Kind::Synced { .. } => "Synced in groups of 64",
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn write(&self, text: &mut String) {
        let Some(outcome) = &self.outcome else {
            let why = self.refused.as_deref().unwrap_or("no time left");
            let _ = writeln!(text, "{:<52} {why}", self.name);
            return;
        };
        let sync = outcome
            .sync_max_ms
            .map_or_else(String::new, |ms| format!("{ms:.1}"));
        let _ = writeln!(
            text,
            "{:<52} {:>10.0} {:>8.1} {:>8.1} {:>9.1} {:>9.0} {sync:>8}",
            self.name,
            outcome.records_per_second,
            outcome.p50_us,
            outcome.p99_us,
            outcome.p999_us,
            outcome.max_us,
        );
    }
}
