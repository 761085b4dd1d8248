//! Prints acknowledgements in each subject's order, whatever order they come in.

use std::collections::BTreeMap;

use crossbeam_channel::Receiver;
use qmq_store::Error;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Most lines printed before the reader gets them.
const GROUP_MAX: usize = 256;

/// What became of one line.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Which subject.
    pub(super) lane: usize,
    /// The line's place among the subject's lines.
    pub(super) ticket: u64,
    /// The line's number in the input, from 1.
    pub(super) line: u64,
    /// The sequence it was given and whether it is durable; `None` if it was refused and that has been said.
    pub(super) result: Option<(u64, Result<(), Error>)>,
}

#[derive(Serialize)]
struct Acknowledged<'a> {
    subject: &'a str,
    sequence: u64,
}

/// The lines of one subject that came before their turn.
#[derive(Debug, Default)]
struct Lane {
    next: u64,
    early: BTreeMap<u64, Outcome>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Printer<'a> {
    subjects: &'a [String],
    json: bool,
    places: Receiver<()>,
    lanes: Vec<Lane>,
}

impl<'a> Printer<'a> {
    /// A printer that takes a place out of `places` for each line that is done.
    pub(super) fn new(subjects: &'a [String], json: bool, places: Receiver<()>) -> Self {
        let lanes = subjects.iter().map(|_| Lane::default()).collect();
        Self {
            subjects,
            json,
            places,
            lanes,
        }
    }

    /// Prints until all senders are gone. After each group of outcomes the reader has all of them.
    pub(super) fn run(
        mut self,
        outcomes: &Receiver<Outcome>,
        refused: impl Fn(u64, &Error),
    ) -> Result<(), Failure> {
        let mut out = Output::new();
        let mut printed = Ok(());
        while let Ok(first) = outcomes.recv() {
            let more = outcomes.try_iter().take(GROUP_MAX);
            for outcome in std::iter::once(first).chain(more) {
                let result = self.take(outcome, &mut out, &refused);
                printed = printed.and(result);
            }
            // Without a reader the lines under way still finish, in silence.
            printed = printed.and(out.flush());
            if printed.is_err() {
                break;
            }
        }
        printed
    }

    fn take(
        &mut self,
        outcome: Outcome,
        out: &mut Output,
        refused: &impl Fn(u64, &Error),
    ) -> Result<(), Failure> {
        let subject = self.subjects[outcome.lane].as_str();
        let lane = &mut self.lanes[outcome.lane];
        lane.early.insert(outcome.ticket, outcome);
        while let Some(outcome) = lane.early.remove(&lane.next) {
            lane.next += 1;
            let _ = self.places.try_recv();
            match outcome.result {
                None => {}
                Some((_, Err(error))) => refused(outcome.line, &error),
                Some((sequence, Ok(()))) if self.json => {
                    out.json(&Acknowledged { subject, sequence })?;
                }
                Some((sequence, Ok(()))) => out.line(format!("{subject} {sequence}"))?,
            }
        }
        Ok(())
    }
}
