//! What a producer does about time that passes: giving up, going elsewhere, asking again.

use std::collections::HashSet;
use std::time::Instant;

use qmq_wire::Purpose;

use super::dispatch::{Dispatcher, Ways, line_of};
use super::outcome::SendCause;
use super::queue::Pending;
use super::seat::Seat;

impl Dispatcher {
    /// Gives up the messages whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let limit = self.options.delivery_timeout;
        let timed_out = |pending: Pending, trouble: Option<String>| {
            let last = pending.last.clone().or(trouble);
            let last = last.unwrap_or_else(|| "every broker was busy".to_owned());
            pending.fail(SendCause::TimedOut { limit, last });
        };
        if let Ways::Routed(topics) = &mut self.ways {
            for (pending, reason) in topics.take_late(now) {
                match pending.last.clone() {
                    Some(last) => pending.fail(SendCause::TimedOut { limit, last }),
                    None => pending.fail(SendCause::NoRoute { limit, reason }),
                }
            }
        }
        for number in self.lines.busy() {
            let late = self.lines.take_late(number, now);
            if let (false, Some(line)) = (late.is_empty(), self.lines.get(number)) {
                let seats = line.seats.iter().map(|index| &self.seats[*index]);
                let trouble = trouble(seats, line.purpose);
                for pending in late {
                    timed_out(pending, trouble.clone());
                }
            }
        }
        let mut behind = Vec::new();
        for seat in &mut self.seats {
            let (expired, unanswered) = seat.lane.expire(now);
            if unanswered {
                seat.broker.failed(now);
            }
            if expired.is_empty() {
                continue;
            }
            let unknown = expired.iter().any(|pending| pending.maybe_stored);
            for pending in expired {
                timed_out(pending, trouble(std::iter::once(&*seat), seat.purpose));
            }
            if self.options.ordered {
                behind = seat.lane.take_from(0);
                if unknown {
                    // Nobody knows whether the order has a hole now, so nothing of what was sent behind it may go again.
                    for mut pending in behind.drain(..) {
                        pending.maybe_stored = true;
                        pending.fail(SendCause::OrderUnknown);
                    }
                }
                seat.begin_anew = true;
                seat.restart(now, "a message before it was given up");
            }
        }
        self.requeue(behind);
    }

    /// Takes messages elsewhere whose broker is away or in no route of theirs any more: those that it cannot have at once, the others when half of
    /// their time is over.
    pub(super) fn move_on(&mut self, now: Instant) {
        if self.options.ordered {
            self.move_on_in_order();
            self.release();
            return;
        }
        let half = self.options.delivery_timeout / 2;
        for index in 0..self.seats.len() {
            if !self.seats[index].lane.has_waiting() {
                continue;
            }
            let (ways, lines) = (&self.ways, &self.lines);
            let up = |place: &usize, purpose| self.seats[*place].is_up_for(purpose);
            let elsewhere: HashSet<u64> = self.seats[index].lane.waiting_firsts(|what| {
                what.messages.iter().all(|pending| {
                    line_of(ways, lines, pending).is_some_and(|line| {
                        let mut seats = line.seats.iter();
                        seats.any(|place| *place != index && up(place, line.purpose))
                    })
                })
            });
            let away = self.seats[index].stream.is_none();
            let moved = self.seats[index].lane.take_waiting(|what| {
                let maybe = what.messages.iter().any(|pending| pending.maybe_stored);
                let first = what.messages.first();
                let time = match maybe {
                    true => first.is_some_and(|first| now + half >= first.deadline),
                    false => {
                        let line = first.and_then(|first| line_of(ways, lines, first));
                        away || line.is_some_and(|line| !line.seats.contains(&index))
                    }
                };
                time && elsewhere.contains(&what.first)
            });
            self.requeue(moved);
        }
    }

    /// In order: a group that is in no route any more keeps nothing that it has surely not taken.
    fn move_on_in_order(&mut self) {
        if let Ways::Fixed(_) = self.ways {
            return;
        }
        for index in 0..self.seats.len() {
            let left = !self
                .lines
                .all()
                .any(|line| line.seats.contains(&index) && line.topics > 0);
            let lane = &mut self.seats[index].lane;
            if left && lane.in_flight() == 0 && lane.has_waiting() && lane.is_surely_not_taken() {
                let moved = lane.take_from(0);
                lane.begin_anew();
                self.requeue(moved);
            }
        }
    }

    /// A request without an answer is asked again in another stream.
    pub(super) fn restart_overdue(&mut self, now: Instant) {
        for seat in &mut self.seats {
            if seat.stream.is_some() && seat.lane.overdue(now, self.request_timeout) {
                seat.broker.failed(now);
                seat.restart(now, "the broker did not answer in time");
            }
        }
    }
}

/// What is wrong with brokers, as far as is known.
fn trouble<'a>(mut seats: impl Iterator<Item = &'a Seat>, purpose: Purpose) -> Option<String> {
    let away = seats.find(|seat| !seat.is_up_for(purpose))?;
    let address = away.broker.address();
    Some(match (away.broker.trouble(), &away.stream) {
        (Some(trouble), _) => trouble.to_string(),
        (None, None) => format!("{address} is not connected yet"),
        (None, Some(_)) => format!("{address} takes no such messages"),
    })
}
