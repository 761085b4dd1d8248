//! Reads a reopened store and compares it with the input, message by message.

use std::collections::HashMap;
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
    /// Messages of flights that are there before.
    pub(super) twice: Findings,
    /// Flights that stand before one that was sent earlier.
    pub(super) disorder: Findings,
    /// Flights that are not there.
    pub(super) incomplete: Findings,
    /// Flights that had been acknowledged and are not where they were said to be.
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
        let mut seen = Route::default();
        loop {
            let messages = match store.read(subject, seen.next, READ_MAX) {
                Ok(messages) if messages.is_empty() => break,
                Ok(messages) => messages,
                Err(e) if super::unknown(&e) => break,
                Err(e) => {
                    let doing = format_args!("cannot read {subject} from {}", seen.next);
                    return Err(Failure::of(doing, &e, NEXT));
                }
            };
            for message in messages.iter() {
                self.messages += 1;
                let sequence = message.sequence();
                if sequence != seen.next {
                    let due = seen.next;
                    self.gaps
                        .add(|| format!("{subject}: {sequence} where {due} was due"));
                }
                seen.next = sequence + 1;
                let found = message.message().map_err(|damaged| damaged.to_string());
                let found = found.and_then(|message| flight(&message, subject, input));
                match found {
                    Ok(flight) => self.take(flight, sequence, input, &mut seen),
                    Err(what) => self
                        .different
                        .add(|| format!("{subject} sequence {sequence}: {what}")),
                }
            }
        }
        for index in &input.routes[route as usize].flights {
            let id = &input.flights[*index as usize].id;
            let places = seen.places.get(index);
            if places.is_none() {
                self.incomplete.add(|| format!("{subject}: {id}"));
            }
            let Some(stored) = ledger.flights[*index as usize] else {
                continue;
            };
            if !places.is_some_and(|places| places.contains(&stored.sequence)) {
                let sequence = stored.sequence;
                self.lost
                    .add(|| format!("{subject} sequence {sequence}: {id}"));
            }
        }
        Ok(())
    }

    /// A flight is where it may be: behind those sent before it, and once.
    fn take(&mut self, flight: u32, sequence: u64, input: &Input, seen: &mut Route) {
        let id = &input.flights[flight as usize].id;
        let places = seen.places.entry(flight).or_default();
        places.push(sequence);
        if places.len() > 1 {
            self.twice.add(|| format!("{id}: sequences {places:?}"));
            return;
        }
        if seen.last.is_some_and(|last| last > flight) {
            self.disorder.add(|| format!("{id}: sequence {sequence}"));
        }
        seen.last = Some(flight);
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

/// What was seen of a route.
#[derive(Debug, Default)]
struct Route {
    /// The sequence that is due.
    next: u64,
    /// The last flight that came for the first time.
    last: Option<u32>,
    /// Where each flight stands.
    places: HashMap<u32, Vec<u64>>,
}

/// Which flight a message is, or what is wrong with it.
fn flight(
    message: &qmq_store::MessageView<'_>,
    subject: &str,
    input: &Input,
) -> Result<u32, String> {
    let index = message.id().and_then(|id| input.by_id(id));
    let index = index.ok_or("no flight")?;
    match difference(message, subject, &input.flights[index as usize]) {
        Some(what) => Err(what.to_owned()),
        None => Ok(index),
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
