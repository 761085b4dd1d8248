//! What was promised before each kill: what the checks hold the broker to.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::audit::Findings;
use super::broker::SESSION_MS;
use super::event::{CARRIERS, Event, GROUPS, KILLED_IN, TAGGED, Work};
use super::input::Input;
use crate::cli::latency::Latency;

/// Lives of the broker; each ends with a kill.
pub(super) const RUNS: usize = 4;

/// For so long after a kill, what consumers hold may be taken from them for it: they have a session timeout to come back.
const AFTER_KILL: Duration = Duration::from_millis(2 * SESSION_MS);

/// What happened in one life of the broker.
#[derive(Debug, Default)]
pub(super) struct RunFacts {
    /// How long it took from the start of the process until it was ready; `None`: not measured.
    pub(super) opened: Option<Duration>,
    /// Flights acknowledged.
    pub(super) stored: u64,
    /// Messages whose acknowledgement was confirmed, by group.
    pub(super) acked: [u64; GROUPS.len()],
    /// Messages that were handed out again, by group.
    pub(super) again: [u64; GROUPS.len()],
    /// From the start until it was killed.
    pub(super) lasted: Duration,
}

/// Work that a consumer left behind.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) work: Work,
    /// What nobody else has handled yet, by sequence.
    pub(super) open: BTreeSet<u64>,
}

/// What a group's consumers did with one message.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// When it was handed out last.
    handled: Instant,
    /// An acknowledgement of it was confirmed.
    acked: bool,
}

/// A flight on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    begun: Instant,
}

/// Everything that was told.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    input: &'a Input,
    began: Instant,
    run: usize,
    /// Each flight that was acknowledged.
    pub(super) flights: Vec<Option<Stored>>,
    /// By group and flight.
    handled: [Vec<bool>; GROUPS.len()],
    /// By group, route and sequence.
    marks: HashMap<(usize, u32, u64), Mark>,
    /// When each kill began and when it was done.
    kills: Vec<(Instant, Instant)>,
    pub(super) runs: [RunFacts; RUNS],
    /// Work left behind: by the process that was killed, and by the one that hangs.
    pub(super) left: [Option<Left>; 2],
    pub(super) append_latency: Latency,
    pub(super) deliver_latency: Latency,
    pub(super) ack_latency: Latency,
    /// Messages confirmed as acknowledged when the broker was killed first.
    pub(super) acked_before_kill: u64,
    /// Handed out after the acknowledgement had been confirmed.
    pub(super) after_ack: Findings,
    /// Handed out again without a kill, or a lost consumer, that would explain it.
    pub(super) unexplained: Findings,
    /// Messages that are no flights, or not as they were sent.
    pub(super) foreign: Findings,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(input: &'a Input) -> Self {
        let flights = input.flights.len();
        Self {
            input,
            began: Instant::now(),
            run: 0,
            flights: vec![None; flights],
            handled: [(); GROUPS.len()].map(|()| vec![false; flights]),
            marks: HashMap::new(),
            kills: Vec::new(),
            runs: Default::default(),
            left: [None, None],
            append_latency: Latency::new(),
            deliver_latency: Latency::new(),
            ack_latency: Latency::new(),
            acked_before_kill: 0,
            after_ack: Findings::default(),
            unexplained: Findings::default(),
            foreign: Findings::default(),
        }
    }

    /// Another life of the broker begins.
    pub(super) fn begin(&mut self, run: usize) {
        (self.run, self.began) = (run, Instant::now());
    }

    /// A life of the broker has ended.
    pub(super) fn killed(&mut self, run: usize, start: Instant, end: Instant) {
        self.runs[run].lasted = start.duration_since(self.began);
        self.kills.push((start, end));
        if run == 0 {
            self.acked_before_kill = self.acked();
        }
    }

    /// Flights acknowledged so far.
    pub(super) fn stored(&self) -> u64 {
        self.runs.iter().map(|run| run.stored).sum()
    }

    /// Messages confirmed as acknowledged so far, by all groups.
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

    /// Whether a group has handled a flight.
    pub(super) fn handled(&self, group: usize, flight: usize) -> bool {
        self.handled[group][flight]
    }

    /// What is still to be done, in words.
    pub(super) fn missing(&self) -> String {
        let unsent = self.flights.iter().filter(|flight| flight.is_none());
        let left = self.left.iter().flatten().map(|left| left.open.len());
        let mut text = format!(
            "{} flights are not stored, {} messages of lost consumers not finished",
            unsent.count(),
            left.sum::<usize>()
        );
        for (group, name) in GROUPS.into_iter().enumerate() {
            let flights = self.input.flights.iter().zip(&self.handled[group]);
            let open =
                flights.filter(|(flight, handled)| !**handled && wanted(group, &flight.carrier));
            text.push_str(&format!(", {} not handled by {name}", open.count()));
        }
        text
    }

    /// Whether every flight is stored, and every group has handled what it wants. A kill may take the answers to some acknowledgements.
    pub(super) fn is_done(&self) -> bool {
        let left = self.left.iter().flatten();
        self.flights.iter().all(Option::is_some)
            && left.map(|left| left.open.len()).sum::<usize>() == 0
            && (0..GROUPS.len()).all(|group| {
                let mut flights = self.input.flights.iter().zip(&self.handled[group]);
                flights.all(|(flight, handled)| *handled || !wanted(group, &flight.carrier))
            })
    }

    /// Writes down one event.
    pub(super) fn note(&mut self, at: Instant, event: Event) {
        match event {
            Event::Stored(flights) => {
                for (flight, sequence, nanos) in flights {
                    let took = Duration::from_nanos(nanos);
                    self.append_latency.record(took);
                    self.runs[self.run].stored += 1;
                    self.flights[flight as usize] = Some(Stored {
                        sequence,
                        begun: at.checked_sub(took).unwrap_or(at),
                    });
                }
            }
            Event::Handled(work) => self.handed_out(at, &work),
            Event::Acked { work, nanos } => {
                self.ack_latency.record(Duration::from_nanos(nanos));
                self.runs[self.run].acked[work.group] += work.messages.len() as u64;
                self.confirmed(&work);
            }
            Event::Held(work) => {
                self.handed_out(at, &work);
                let open = work
                    .messages
                    .iter()
                    .map(|(_, sequence)| *sequence)
                    .collect();
                let place = usize::from(work.group != KILLED_IN);
                self.left[place] = Some(Left { work, open });
            }
            Event::Foreign(what) => self.foreign.add(|| what),
            Event::Failed(_) => {}
        }
    }

    fn handed_out(&mut self, at: Instant, work: &Work) {
        let name = GROUPS[work.group];
        self.runs[self.run].again[work.group] += work.again;
        for (flight, sequence) in &work.messages {
            let subject = &self.input.routes[work.route as usize].subject;
            let what = || format!("{name}: {subject} sequence {sequence}");
            self.handled[work.group][*flight as usize] = true;
            if let Some(stored) = self.flights[*flight as usize] {
                self.deliver_latency
                    .record(at.saturating_duration_since(stored.begun));
            }
            let key = (work.group, work.route, *sequence);
            let before = self.marks.get(&key).copied();
            if let Some(before) = before {
                let lost = self.left.iter().flatten().any(|left| {
                    left.work.group == work.group && left.work.consumer != work.consumer
                });
                // What came before the kill may be handled a little after it.
                let killed = |(_, end): &(Instant, Instant)| *end + AFTER_KILL >= before.handled;
                let killed = self.kills.iter().any(killed);
                if before.acked {
                    self.after_ack.add(what);
                } else if !lost && !killed {
                    self.unexplained.add(what);
                }
            }
            let acked = before.is_some_and(|before| before.acked);
            self.marks.insert(key, Mark { handled: at, acked });
            for left in self.left.iter_mut().flatten() {
                let took_over = left.work.group == work.group
                    && left.work.route == work.route
                    && left.work.consumer != work.consumer;
                if took_over {
                    left.open.remove(sequence);
                }
            }
        }
    }

    fn confirmed(&mut self, work: &Work) {
        for (_, sequence) in &work.messages {
            let key = (work.group, work.route, *sequence);
            if let Some(mark) = self.marks.get_mut(&key) {
                mark.acked = true;
            }
        }
    }
}

/// Whether a group is to see a carrier's flights.
pub(super) fn wanted(group: usize, carrier: &str) -> bool {
    group != TAGGED || CARRIERS.contains(&carrier)
}
