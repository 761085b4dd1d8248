//! What answers mean for the messages of a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_wire::{Code, Frame, Kind, Produced, Refusal, Refused, Retry, Scheduled, WireError};

use super::dispatch::{Dispatcher, line_of};
use super::lane::Try;
use super::outcome::{Report, SendCause};
use super::queue::Pending;
use crate::connection::{Broker, backoff};
use crate::delay::Delayed;
use crate::random;

/// What to do with a message that was not accepted.
enum Verdict {
    Fail,
    Again,
    Elsewhere,
}

/// Where an accepted message is.
#[derive(Clone, Copy)]
enum Stored {
    /// At that sequence of its subject.
    At(u64),
    /// With a delay server, by that id, until it is due.
    Until([u8; 16]),
}

fn report(stored: Stored, broker: &Broker) -> Report {
    let address = broker.address();
    let (sequence, delay) = match stored {
        Stored::At(sequence) => (sequence, None),
        Stored::Until(id) => {
            let group = match &*broker.group() {
                "" => address.to_string(),
                group => group.to_owned(),
            };
            (0, Some(Delayed { group, id }))
        }
    };
    Report {
        sequence,
        broker: Arc::clone(address),
        delay,
    }
}

/// A message that was not accepted, and why.
struct Rejected {
    number: u64,
    pending: Pending,
    code: Code,
    text: String,
}

impl Dispatcher {
    /// Sees to an answer.
    pub(super) fn answer(
        &mut self,
        index: usize,
        frame: &Frame,
        now: Instant,
    ) -> Result<(), WireError> {
        match Kind::from_byte(frame.kind) {
            Some(Kind::Produced) => {
                let produced = Produced::decode(&mut frame.reader())?;
                if let Some(what) = self.seats[index].lane.land(produced.number) {
                    let runs = produced.accepted.iter().flat_map(|run| {
                        let stored = (run.sequence..).map(Stored::At);
                        (run.index..).zip(stored).take(run.len as usize)
                    });
                    self.answered(index, what, runs, &produced.refused, now);
                }
            }
            Some(Kind::Scheduled) => {
                let scheduled = Scheduled::decode(&mut frame.reader())?;
                if let Some(what) = self.seats[index].lane.land(scheduled.number) {
                    let accepted = scheduled.accepted.iter();
                    let accepted = accepted.map(|one| (one.index, Stored::Until(one.id)));
                    self.answered(index, what, accepted, &scheduled.refused, now);
                }
            }
            Some(Kind::Refused) => {
                let refusal = Refusal::decode(&mut frame.reader())?;
                if let Some(what) = self.seats[index].lane.land(refusal.number) {
                    if refusal.code == Code::TooLarge && what.messages.len() > 1 {
                        // Together they are too large, and perhaps none is alone.
                        self.ask_singly(index, what, now);
                        return Ok(());
                    }
                    let after = Duration::from_millis(u64::from(refusal.retry_after_ms));
                    let numbers = what.first..;
                    let rejected = numbers
                        .zip(what.messages)
                        .map(|(number, pending)| Rejected {
                            number,
                            pending,
                            code: refusal.code,
                            text: refusal.text.clone(),
                        });
                    let rejected = rejected.collect();
                    self.rejected(index, what.tries, rejected, after, now);
                }
            }
            // What this version does not know is not for it.
            _ => {}
        }
        Ok(())
    }

    fn ask_singly(&mut self, index: usize, what: Try, now: Instant) {
        let seat = &mut self.seats[index];
        for (first, pending) in (what.first..).zip(what.messages) {
            let alone = Try {
                first,
                messages: vec![pending],
                tries: what.tries,
            };
            seat.lane.wait(alone, now);
        }
        if self.options.ordered {
            seat.restart(now, "a message before it was refused");
        }
    }

    /// Sees to each message of an answered request.
    fn answered(
        &mut self,
        index: usize,
        what: Try,
        accepted: impl Iterator<Item = (u32, Stored)>,
        refused: &[Refused],
        now: Instant,
    ) {
        let mut outcomes: Vec<Option<Result<Stored, (Code, String)>>> =
            vec![None; what.messages.len()];
        for (index, stored) in accepted {
            if let Some(place) = outcomes.get_mut(index as usize) {
                *place = Some(Ok(stored));
            }
        }
        for refused in refused {
            if let Some(place) = outcomes.get_mut(refused.index as usize) {
                *place = Some(Err((refused.code, refused.text.clone())));
            }
        }
        let mut rejected = Vec::new();
        for ((number, pending), outcome) in (what.first..).zip(what.messages).zip(outcomes) {
            let (code, text) = match outcome {
                Some(Ok(stored)) => {
                    pending.succeed(report(stored, &self.seats[index].broker));
                    continue;
                }
                Some(Err(reason)) => reason,
                None => (Code::Internal, "the answer does not mention it".to_owned()),
            };
            rejected.push(Rejected {
                number,
                pending,
                code,
                text,
            });
        }
        if rejected.is_empty() {
            self.seats[index].broker.succeeded();
        } else {
            self.rejected(index, what.tries, rejected, Duration::ZERO, now);
        }
    }

    fn rejected(
        &mut self,
        index: usize,
        tries: u32,
        mut rejected: Vec<Rejected>,
        after: Duration,
        now: Instant,
    ) {
        let (least, most) = self.options.retry_pause;
        let pause = backoff::pause(least, most, tries.saturating_sub(1), random::u64()).max(after);
        let broker = Arc::clone(&self.seats[index].broker);
        if let Some(first) = rejected.first() {
            tell(&broker, first.code, now);
        }
        for Rejected {
            pending,
            code,
            text,
            ..
        } in &mut rejected
        {
            pending.last = Some(format!("{}: {text} ({code})", broker.address()));
            pending.maybe_stored |= code.retry() == Retry::Unknown;
        }
        if self.options.ordered {
            self.rejected_in_order(index, tries, rejected, now + pause);
        } else {
            self.rejected_singly(index, tries, rejected, now + pause);
        }
    }

    /// Each message for itself; those that follow each other and are tried again stay one request.
    fn rejected_singly(
        &mut self,
        index: usize,
        tries: u32,
        rejected: Vec<Rejected>,
        until: Instant,
    ) {
        let (ways, lines) = (&self.ways, &self.lines);
        let alone = |pending: &Pending| {
            let line = line_of(ways, lines, pending);
            let mut seats = line.into_iter().flat_map(|line| &line.seats);
            seats.all(|place| *place == index)
        };
        let broker = Arc::clone(self.seats[index].broker.address());
        let lane = &mut self.seats[index].lane;
        let mut elsewhere = Vec::new();
        let mut run: Option<Try> = None;
        for Rejected {
            number,
            pending,
            code,
            text,
        } in rejected
        {
            match verdict(code, alone(&pending), pending.maybe_stored) {
                Verdict::Again => match &mut run {
                    Some(run) if run.first + run.messages.len() as u64 == number => {
                        run.messages.push(pending);
                    }
                    _ => {
                        let next = Try {
                            first: number,
                            messages: vec![pending],
                            tries,
                        };
                        if let Some(before) = run.replace(next) {
                            lane.wait(before, until);
                        }
                    }
                },
                Verdict::Fail => pending.fail(SendCause::Refused {
                    broker: Arc::clone(&broker),
                    code,
                    text,
                }),
                Verdict::Elsewhere => elsewhere.push(pending),
            }
        }
        if let Some(run) = run {
            lane.wait(run, until);
        }
        self.requeue(elsewhere);
    }

    /// The first decides. Everything from it on is asked again with the same numbers, in another stream. If it was refused for good, its number
    /// stays a gap, which the broker lets nothing pass: what follows goes under a new name, once all before it is answered.
    fn rejected_in_order(
        &mut self,
        index: usize,
        tries: u32,
        rejected: Vec<Rejected>,
        until: Instant,
    ) {
        let seat = &mut self.seats[index];
        let mut rejected = rejected.into_iter();
        let Some(first) = rejected.next() else {
            return;
        };
        let number = first.number;
        // The broker has lost what came before, or has forgotten it: it will never take this number.
        let lost_before =
            first.code == Code::OutOfOrder && tries > 1 && seat.lane.begins_at(number);
        let mut messages = Vec::new();
        let mut gap = lost_before;
        // A number that may have been taken is no gap for sure.
        let unsure = first.pending.maybe_stored && !lost_before;
        match verdict(first.code, true, first.pending.maybe_stored) {
            Verdict::Fail => {
                gap = true;
                first.pending.fail(SendCause::Refused {
                    broker: Arc::clone(seat.broker.address()),
                    code: first.code,
                    text: first.text,
                });
            }
            Verdict::Again | Verdict::Elsewhere => messages.push(first.pending),
        }
        messages.extend(rejected.map(|rejected| rejected.pending));
        if gap {
            messages.extend(seat.lane.take_from(number));
            seat.begin_anew = true;
            let unknown = |pending: &mut Pending| unsure && pending.maybe_stored;
            for pending in messages.extract_if(.., unknown) {
                pending.fail(SendCause::OrderUnknown);
            }
        } else {
            let first = number;
            seat.lane.wait(
                Try {
                    first,
                    messages: std::mem::take(&mut messages),
                    tries,
                },
                until,
            );
        }
        seat.restart(until, "a message before it was refused");
        seat.lane.hold_back(until);
        self.requeue(messages);
    }
}

fn verdict(code: Code, alone: bool, maybe_stored: bool) -> Verdict {
    match code.retry() {
        _ if code == Code::Forgotten => Verdict::Fail,
        Retry::Never => Verdict::Fail,
        Retry::Later | Retry::Unknown => Verdict::Again,
        // It may be there already: elsewhere it would be there twice.
        Retry::Elsewhere if alone || maybe_stored => Verdict::Again,
        Retry::Elsewhere => Verdict::Elsewhere,
    }
}

/// What a refusal says about the broker.
fn tell(broker: &Broker, code: Code, now: Instant) {
    match code.retry() {
        Retry::Elsewhere => broker.trip(now),
        Retry::Unknown => broker.failed(now),
        Retry::Later | Retry::Never => broker.succeeded(),
    }
}
