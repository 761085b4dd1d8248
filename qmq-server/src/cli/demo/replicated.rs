//! The flights once more, on a master with a slave: half-way the master is gone, and the slave goes on.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use qmq_repl::Log;
use qmq_store::{Durability, PullRequest, Store};

use super::audit::{Findings, difference};
use super::checks::Check;
use super::input::Input;
use super::pair::Pair;
use crate::cli::failure::Failure;
use crate::cli::output::{bytes, count};

const GROUP: &str = "replicated";
/// Flights that are appended and not yet on the slave; fewer if there are few.
const IN_FLIGHT_MAX: usize = 256;
/// Messages that the consumer takes at once.
const BATCH_MAX: usize = 100;
const NEXT: &str = "keep the folder with --dir and run `qmq store verify` on what is in it";

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Failover {
    /// Flights acknowledged as replicated before the master was dropped.
    pub(super) acked_before: u64,
    /// Flights that it had taken and not acknowledged.
    pub(super) open: u64,
    /// Messages that the consumer had done by then, acknowledged as replicated.
    pub(super) done_before: u64,
    /// Bytes compared before the switch, and whether they were the same.
    compared: u64,
    same_before: bool,
    /// As much at the end.
    compared_after: u64,
    same_after: bool,
    /// The old master's store was not closed.
    unclean: bool,
    /// Bytes that only the old master had.
    pub(super) lost_bytes: u64,
    /// From the drop until the other took appends.
    pub(super) takeover: Duration,
    pub(super) took: Duration,
    /// Flights found in the end.
    pub(super) found: u64,
    /// Acknowledged flights that were not there or at another place, damage, and messages that came again though they were done.
    missing: Findings,
    again: Findings,
}

/// The work on one master.
struct Work<'a> {
    input: &'a Input,
    in_flight_max: usize,
    /// By flight: acknowledged as replicated.
    acked: Vec<bool>,
    acks: u64,
    /// By route: sequences that the consumer has done for good.
    done: Vec<BTreeSet<u64>>,
    /// What is not replicated yet: where it ends, and what it is.
    flights: VecDeque<(u64, u32)>,
    acking: VecDeque<(u64, u32, Vec<u64>)>,
    /// Whose turn it is to be pulled.
    route: u32,
    seen: Failover,
}

/// Stores and consumes all flights at durability "replicated", on two masters one after the other.
pub(super) fn replicate(dir: &Path, input: &Input, bar: &ProgressBar) -> Result<Failover, Failure> {
    let begun = Instant::now();
    let mut pair = Pair::new(dir, super::options(input))?;
    let mut work = Work {
        input,
        in_flight_max: (input.flights.len() / 8).clamp(1, IN_FLIGHT_MAX),
        acked: vec![false; input.flights.len()],
        acks: 0,
        done: vec![BTreeSet::new(); input.routes.len()],
        flights: VecDeque::new(),
        acking: VecDeque::new(),
        route: 0,
        seen: Failover::default(),
    };
    pair.promote(0)?;
    let half = input.flights.len() / 2;
    for flight in 0..half as u32 {
        work.step(&mut pair, 0, flight, bar)?;
    }
    let replicated = pair.store(0)?.watermarks().replicated;
    work.seen.compared = replicated;
    work.seen.same_before = pair.same_until(replicated)?;
    // Some more that no slave hears of.
    let some = (half + work.in_flight_max / 4 + 1).min(input.flights.len());
    for flight in half as u32..some as u32 {
        work.append(pair.store(0)?, flight)?;
    }
    work.seen.acked_before = work.acks;
    work.seen.open = work.flights.len() as u64;
    work.seen.done_before = work.done.iter().map(|done| done.len() as u64).sum();
    let dropped = Instant::now();
    pair.drop_member(0);
    work.flights.clear();
    work.acking.clear();
    pair.promote(1)?;
    work.seen.takeover = dropped.elapsed();
    work.look_for_acked(pair.store(1)?)?;
    work.seen.unclean = !pair.open(0)?;
    // Each route goes on where the new master's log ends.
    for flight in 0..input.flights.len() as u32 {
        let known = &input.flights[flight as usize];
        let subject = &input.routes[known.route as usize].subject;
        if known.sequence >= next(pair.store(1)?, subject)? {
            work.step(&mut pair, 1, flight, bar)?;
        }
    }
    work.finish(&mut pair, bar)?;
    work.seen.lost_bytes = pair.lost_bytes;
    pair.close()?;
    work.seen.took = begun.elapsed();
    Ok(work.seen)
}

fn next(store: &Store, subject: &str) -> Result<u64, Failure> {
    let next = super::next_sequence(store, subject);
    next.map_err(|error| Failure::of("cannot see what is stored", &error, NEXT))
}

impl Work<'_> {
    /// Stores a flight, and from time to time lets the consumer and the slave have their turn.
    fn step(
        &mut self,
        pair: &mut Pair,
        master: usize,
        flight: u32,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        self.append(pair.store(master)?, flight)?;
        if self.flights.len() >= self.in_flight_max {
            self.consume(pair.store(master)?)?;
            let room = self.flights[self.in_flight_max / 2].0;
            self.replicated(pair, master, room)?;
            bar.set_position(self.acks);
        }
        Ok(())
    }

    fn append(&mut self, store: &Store, flight: u32) -> Result<(), Failure> {
        let known = &self.input.flights[flight as usize];
        let at = store
            .append_with(&self.input.message(known), Durability::Buffered)
            .map_err(|error| Failure::of("cannot append a flight", &error, NEXT))?;
        if at.sequence != known.sequence {
            self.seen
                .missing
                .add(|| format!("flight {flight} was given {}", at.sequence));
        }
        self.flights.push_back((at.end_offset, flight));
        Ok(())
    }

    /// Waits until everything before `end` is on both, and notes what is.
    fn replicated(&mut self, pair: &mut Pair, master: usize, end: u64) -> Result<(), Failure> {
        let synced = pair.store(master)?.sync();
        synced.map_err(|error| Failure::of("cannot sync the master", &error, NEXT))?;
        pair.until("replication", |pair| {
            Ok(pair.store(master)?.watermarks().replicated >= end)
        })?;
        let replicated = pair.store(master)?.watermarks().replicated;
        while let Some((_, flight)) = self.flights.pop_front_if(|it| it.0 <= replicated) {
            self.acked[flight as usize] = true;
            self.acks += 1;
        }
        while let Some((_, route, work)) = self.acking.pop_front_if(|it| it.0 <= replicated) {
            self.done[route as usize].extend(work);
        }
        Ok(())
    }

    /// Takes what some routes have, and acknowledges it. Says how much that was.
    fn consume(&mut self, store: &Store) -> Result<usize, Failure> {
        let (routes, mut taken) = (self.input.routes.len() as u32, 0);
        for _ in 0..routes {
            self.route = (self.route + 1) % routes;
            let subject = &self.input.routes[self.route as usize].subject;
            let request = PullRequest::new(subject.as_str(), GROUP, "crew").max(BATCH_MAX);
            let batch = match store.pull(&request) {
                Ok(batch) if batch.is_empty() => continue,
                Ok(batch) => batch,
                Err(error) if super::unknown(&error) => continue,
                Err(error) => return Err(Failure::of("cannot pull", &error, NEXT)),
            };
            let work: Vec<u64> = batch.iter().map(|one| one.sequence()).collect();
            for sequence in &work {
                if self.done[self.route as usize].contains(sequence) {
                    let what = || format!("{subject} sequence {sequence} was done and came again");
                    self.seen.again.add(what);
                }
            }
            store
                .ack_with(&batch, Durability::Buffered)
                .map_err(|error| Failure::of("cannot acknowledge", &error, NEXT))?;
            taken += work.len();
            let end = store.watermarks().written;
            self.acking.push_back((end, self.route, work));
        }
        Ok(taken)
    }

    /// Every flight that was acknowledged is in the new master's log.
    fn look_for_acked(&mut self, store: &Store) -> Result<(), Failure> {
        for (flight, acked) in self.input.flights.iter().zip(&self.acked) {
            let subject = &self.input.routes[flight.route as usize].subject;
            if *acked && flight.sequence >= next(store, subject)? {
                let what = || format!("{subject} sequence {} is lost", flight.sequence);
                self.seen.missing.add(what);
            }
        }
        Ok(())
    }

    /// Consumes the rest, compares both logs, and each flight with the input.
    fn finish(&mut self, pair: &mut Pair, bar: &ProgressBar) -> Result<(), Failure> {
        while self.consume(pair.store(1)?)? > 0 {}
        let end = pair.store(1)?.watermarks().written;
        self.replicated(pair, 1, end)?;
        pair.until("the slave's end", |pair| {
            Ok(pair.node(0)?.log().written() == end)
        })?;
        bar.set_position(self.acks);
        self.seen.compared_after = end;
        self.seen.same_after = pair.same_until(end)?;
        for me in 0..2 {
            let report = pair.store(me)?.verify(&mut |_, _| {});
            let report = report.map_err(|error| Failure::of("cannot verify", &error, NEXT))?;
            for damage in &report.damages {
                self.seen.missing.add(|| damage.to_string());
            }
        }
        for route in 0..self.input.routes.len() as u32 {
            self.read_route(pair.store(1)?, route)?;
        }
        Ok(())
    }

    fn read_route(&mut self, store: &Store, route: u32) -> Result<(), Failure> {
        let input = self.input;
        let subject = input.routes[route as usize].subject.as_str();
        let flights = &input.routes[route as usize].flights;
        let mut messages = 0;
        while messages < flights.len() {
            let records = store
                .read(subject, messages as u64, 1_000)
                .map_err(|error| Failure::of("cannot read", &error, NEXT))?;
            for record in records.iter() {
                let sequence = record.sequence();
                let flight = input
                    .at(route, sequence)
                    .map(|it| &input.flights[it as usize]);
                let same = sequence == messages as u64
                    && matches!((record.message(), flight), (Ok(message), Some(flight))
                        if difference(&message, subject, flight).is_none());
                if !same {
                    let what = || format!("{subject} sequence {sequence} is another flight");
                    self.seen.missing.add(what);
                }
                messages += 1;
                self.seen.found += 1;
            }
            if records.is_empty() {
                break;
            }
        }
        let done = self.done[route as usize].len();
        if messages != flights.len() || done != flights.len() {
            let all = flights.len();
            let what = || format!("{subject}: {messages} of {all}, and {done} were done");
            self.seen.missing.add(what);
        }
        Ok(())
    }
}

impl Failover {
    /// What must be true, by name.
    pub(super) fn checks(&self) -> Vec<Check> {
        let same = Check::new(
            "replica_identical",
            self.same_before && self.same_after && self.compared > 0,
            format!(
                "{} before the master was dropped, {} at the end, byte for byte",
                bytes(self.compared),
                bytes(self.compared_after)
            ),
        );
        let lost = Check::nothing(
            "failover_nothing_lost",
            &[&self.missing, &self.again],
            format!(
                "{} flights and {} acks were on both before; in the end all {}, none done twice",
                count(self.acked_before),
                count(self.done_before),
                count(self.found)
            ),
        );
        let tried = self.unclean && self.acked_before > 0 && self.done_before > 0;
        if lost.ok && !tried {
            let what = "the master had nothing to lose, or was closed properly";
            return vec![same, Check::new(lost.name, false, what.to_owned())];
        }
        vec![same, lost]
    }
}
