//! What the workers said before they were killed: the promises that the checks hold the store to.

use std::collections::BTreeSet;
use std::time::Duration;

use super::event::{CARRIERS, Event, GROUPS, TAGGED, Work};
use super::input::Input;
use crate::cli::latency::Latency;

/// The two runs.
pub(super) const RUNS: usize = 2;

/// What one group did with one flight in one run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// A consumer handled it.
    pub(super) handled: bool,
    /// The acknowledgement of it returned.
    pub(super) acked: bool,
}

/// What happened in one run.
#[derive(Debug)]
pub(super) struct RunFacts {
    /// How long opening took, if it was told.
    pub(super) opened: Option<Duration>,
    /// Flights reported durable.
    pub(super) stored: u64,
    /// Messages reported handled, by group.
    pub(super) handled: [u64; GROUPS.len()],
    /// Messages reported acknowledged, by group.
    pub(super) acked: [u64; GROUPS.len()],
    /// Messages that were handed out again, by group.
    pub(super) again: [u64; GROUPS.len()],
    /// From the start of the process until it was killed, and until the last report of each kind.
    pub(super) lasted: Duration,
    pub(super) storing: Duration,
    pub(super) consuming: Duration,
}

/// Work that a consumer left behind.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) work: Work,
    /// What nobody else has acknowledged yet.
    pub(super) open: BTreeSet<u64>,
}

/// Everything that was reported.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    input: &'a Input,
    /// The sequence of each flight that was reported durable.
    pub(super) sequences: Vec<Option<u64>>,
    /// By run, group and flight.
    pub(super) marks: [[Vec<Mark>; GROUPS.len()]; RUNS],
    pub(super) runs: [RunFacts; RUNS],
    /// Work left behind, at most once a run.
    pub(super) left: [Option<Left>; RUNS],
    pub(super) append_latency: Latency,
    pub(super) pull_latency: Latency,
    pub(super) ack_latency: Latency,
    /// Reports about messages that are in no flight.
    pub(super) unknown: u64,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(input: &'a Input) -> Self {
        let flights = input.flights.len();
        let facts = || RunFacts {
            opened: None,
            stored: 0,
            handled: [0; GROUPS.len()],
            acked: [0; GROUPS.len()],
            again: [0; GROUPS.len()],
            lasted: Duration::ZERO,
            storing: Duration::ZERO,
            consuming: Duration::ZERO,
        };
        let marks = || [(); GROUPS.len()].map(|()| vec![Mark::default(); flights]);
        Self {
            input,
            sequences: vec![None; flights],
            marks: [marks(), marks()],
            runs: [facts(), facts()],
            left: [None, None],
            append_latency: Latency::new(),
            pull_latency: Latency::new(),
            ack_latency: Latency::new(),
            unknown: 0,
        }
    }

    /// Flights reported durable so far.
    pub(super) fn stored(&self) -> u64 {
        self.runs.iter().map(|run| run.stored).sum()
    }

    /// Messages reported acknowledged so far, by all groups.
    pub(super) fn acked(&self) -> u64 {
        self.runs.iter().flat_map(|run| run.acked).sum()
    }

    /// How many messages the groups have to handle together.
    pub(super) fn to_handle(input: &Input) -> u64 {
        let tagged = input
            .flights
            .iter()
            .filter(|f| wanted(TAGGED, &f.carrier))
            .count();
        (input.flights.len() * (GROUPS.len() - 1) + tagged) as u64
    }

    /// Whether a group has handled a flight in any run.
    pub(super) fn handled(&self, group: usize, flight: usize) -> bool {
        self.marks.iter().any(|run| run[group][flight].handled)
    }

    /// Writes down one event of a run, `since` its process was started.
    pub(super) fn note(&mut self, run: usize, since: Duration, event: Event) {
        match event {
            Event::Opened { nanos } => {
                self.runs[run].opened = Some(Duration::from_nanos(nanos));
            }
            Event::Stored(flights) => {
                for (flight, sequence, nanos) in flights {
                    self.append_latency.record(Duration::from_nanos(nanos));
                    match self.sequences.get_mut(flight as usize) {
                        Some(known) => *known = Some(sequence),
                        None => self.unknown += 1,
                    }
                    self.runs[run].stored += 1;
                    self.runs[run].storing = since;
                }
            }
            Event::Handled { work, nanos } => {
                self.pull_latency.record(Duration::from_nanos(nanos));
                self.runs[run].handled[work.group] += work.sequences.len() as u64;
                self.runs[run].again[work.group] += work.again;
                self.mark(run, &work, |mark| mark.handled = true);
            }
            Event::Acked { work, nanos } => {
                self.ack_latency.record(Duration::from_nanos(nanos));
                self.runs[run].acked[work.group] += work.sequences.len() as u64;
                self.runs[run].consuming = since;
                self.mark(run, &work, |mark| mark.acked = true);
                for left in self.left.iter_mut().flatten() {
                    let took_over = left.work.group == work.group
                        && left.work.route == work.route
                        && left.work.consumer != work.consumer;
                    if took_over {
                        for sequence in &work.sequences {
                            left.open.remove(sequence);
                        }
                    }
                }
            }
            Event::Held(work) => {
                let open = work.sequences.iter().copied().collect();
                self.left[run] = Some(Left { work, open });
            }
            Event::Done | Event::Failed(_) => {}
        }
    }

    fn mark(&mut self, run: usize, work: &Work, set: impl Fn(&mut Mark)) {
        for sequence in &work.sequences {
            match self.input.at(work.route, *sequence) {
                Some(flight) => set(&mut self.marks[run][work.group][flight as usize]),
                None => self.unknown += 1,
            }
        }
    }
}

/// Whether a group is to see a carrier's flights.
pub(super) fn wanted(group: usize, carrier: &str) -> bool {
    group != TAGGED || CARRIERS.contains(&carrier)
}
