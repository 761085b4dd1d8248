//! Reads a reopened store and compares it with the input, message by message.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use qmq_store::{PullRequest, Store, TagFilter};

use super::event::{CARRIERS, GROUPS, TAGGED};
use super::input::{Flight, Input};
use super::ledger::Ledger;
use crate::cli::failure::Failure;

/// Messages read at once.
const READ_MAX: usize = 1_000;

const NEXT: &str = "keep the folder and look into it with `qmq store verify --dir`";

/// What a reopened store holds.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// How long opening took.
    pub(super) opened: Duration,
    /// Whether the store found that it had been closed properly.
    pub(super) clean: bool,
    /// Bytes of the log that the open went through.
    pub(super) replayed_bytes: u64,
    /// Bytes of an unfinished tail that the open cut.
    pub(super) cut_bytes: u64,
    /// Messages read.
    pub(super) messages: u64,
    /// Messages whose body, tag, id or subject is not the flight's, or that are damaged.
    pub(super) different: Findings,
    /// Places where a sequence is not the one after the last.
    pub(super) gaps: Findings,
    /// Routes with fewer or more messages than flights.
    pub(super) incomplete: Findings,
    /// Flights that had been reported durable and are not there, or not where they were said to be.
    pub(super) lost: Findings,
    /// Messages that a group is still handed.
    pub(super) unfinished: Findings,
    /// Damage that verifying found.
    pub(super) damage: Findings,
}

/// How many, and the first of them in words.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) count: u64,
    pub(super) first: Option<String>,
}

impl Findings {
    pub(super) fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(what());
        }
    }

    pub(super) fn none(&self) -> bool {
        self.count == 0
    }
}

/// Opens a store, reads all of it, and closes it. `finished` also looks for work left and for damage.
pub(super) fn audit(
    dir: &Path,
    input: &Input,
    ledger: &Ledger<'_>,
    finished: bool,
    bar: &ProgressBar,
) -> Result<Audit, Failure> {
    let start = Instant::now();
    let store = Store::open(dir, super::options(input))
        .map_err(|e| Failure::of("cannot reopen the store", &e, NEXT))?;
    let report = store.open_report();
    let mut audit = Audit {
        opened: start.elapsed(),
        clean: report.clean,
        replayed_bytes: report.replayed_bytes,
        cut_bytes: report.cut_bytes,
        ..Audit::default()
    };
    for route in 0..input.routes.len() as u32 {
        audit.read_route(&store, input, ledger, route)?;
        bar.set_position(audit.messages);
    }
    if finished {
        audit.look_for_work(&store, input)?;
        audit.look_for_damage(&store)?;
    }
    store
        .close()
        .map_err(|e| Failure::of("cannot close the store", &e, NEXT))?;
    Ok(audit)
}

impl Audit {
    fn read_route(
        &mut self,
        store: &Store,
        input: &Input,
        ledger: &Ledger<'_>,
        route: u32,
    ) -> Result<(), Failure> {
        let subject = input.routes[route as usize].subject.as_str();
        let flights = &input.routes[route as usize].flights;
        let mut next = 0;
        loop {
            let messages = match store.read(subject, next, READ_MAX) {
                Ok(messages) if messages.is_empty() => break,
                Ok(messages) => messages,
                Err(e) if super::unknown(&e) => break,
                Err(e) => {
                    let doing = format_args!("cannot read {subject} from {next}");
                    return Err(Failure::of(doing, &e, NEXT));
                }
            };
            for message in messages.iter() {
                let sequence = message.sequence();
                if sequence != next {
                    self.gaps
                        .add(|| format!("{subject}: {sequence} where {next} was due"));
                }
                next = sequence + 1;
                self.messages += 1;
                let flight = input
                    .at(route, sequence)
                    .map(|f| &input.flights[f as usize]);
                let difference = match (message.message(), flight) {
                    (Err(damaged), _) => Some(damaged.to_string()),
                    (Ok(_), None) => Some("no flight".to_owned()),
                    (Ok(message), Some(flight)) => {
                        difference(&message, subject, flight).map(str::to_owned)
                    }
                };
                if let Some(what) = difference {
                    self.different
                        .add(|| format!("{subject} sequence {sequence}: {what}"));
                }
            }
        }
        if next != flights.len() as u64 {
            self.incomplete
                .add(|| format!("{subject}: {next} of {}", flights.len()));
        }
        for index in flights {
            let flight = &input.flights[*index as usize];
            let Some(promised) = ledger.sequences[*index as usize] else {
                continue;
            };
            if promised != flight.sequence {
                self.gaps
                    .add(|| format!("{subject}: flight {index} was given {promised}"));
            }
            if promised >= next {
                self.lost.add(|| format!("{subject} sequence {promised}"));
            }
        }
        Ok(())
    }

    /// What was acknowledged is never handed out again, whoever asks.
    fn look_for_work(&mut self, store: &Store, input: &Input) -> Result<(), Failure> {
        for (number, group) in GROUPS.into_iter().enumerate() {
            let filter = if number == TAGGED {
                TagFilter::Any(CARRIERS.map(str::to_owned).to_vec())
            } else {
                TagFilter::All
            };
            for route in &input.routes {
                let subject = route.subject.as_str();
                let request = PullRequest::new(subject, group, "auditor").filter(filter.clone());
                let batch = store.pull(&request).map_err(|e| {
                    Failure::of(format_args!("cannot pull {subject} for {group}"), &e, NEXT)
                })?;
                for message in batch.iter() {
                    let sequence = message.sequence();
                    self.unfinished
                        .add(|| format!("{group}: {subject} sequence {sequence}"));
                }
            }
        }
        Ok(())
    }

    fn look_for_damage(&mut self, store: &Store) -> Result<(), Failure> {
        let report = store
            .verify(&mut |_, _| {})
            .map_err(|e| Failure::of("cannot verify the store", &e, NEXT))?;
        for damage in &report.damages {
            self.damage.add(|| damage.to_string());
        }
        Ok(())
    }
}

/// What is not as it was sent.
pub(super) fn difference(
    message: &qmq_store::MessageView<'_>,
    subject: &str,
    flight: &Flight,
) -> Option<&'static str> {
    if message.subject() != subject {
        return Some("another subject");
    }
    if message.body() != flight.body.as_ref() {
        return Some("another body");
    }
    if !message.tags().eq([flight.carrier.as_str()]) {
        return Some("another tag");
    }
    if message.id() != Some(flight.id.as_str()) {
        return Some("another id");
    }
    None
}
