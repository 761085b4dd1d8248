//! What a producer does about time that passes: giving up, going elsewhere, asking again.

use std::time::Instant;

use super::dispatch::Dispatcher;
use super::outcome::SendCause;
use super::queue::Pending;

impl Dispatcher {
    /// Gives up the messages whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let limit = self.options.delivery_timeout;
        let timed_out = |pending: Pending, trouble: Option<String>| {
            let last = pending.last.clone().or(trouble);
            let last = last.unwrap_or_else(|| "every broker was busy".to_owned());
            pending.fail(SendCause::TimedOut { limit, last });
        };
        let trouble = self.trouble();
        while self
            .queue
            .front()
            .is_some_and(|first| first.deadline <= now)
        {
            if let Some(pending) = self.queue.pop_front() {
                timed_out(pending, trouble.clone());
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
                timed_out(pending, trouble.clone());
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

    /// What is wrong with the brokers, as far as is known.
    fn trouble(&self) -> Option<String> {
        let away = self.seats.iter().find(|seat| seat.stream.is_none())?;
        Some(match away.broker.trouble() {
            Some(trouble) => trouble.to_string(),
            None => format!("{} is not connected yet", away.broker.address()),
        })
    }

    /// Takes messages elsewhere whose broker is away: those that it cannot have at once, the others when half of their time is over.
    pub(super) fn move_on(&mut self, now: Instant) {
        if self
            .seats
            .iter()
            .filter(|seat| seat.stream.is_some())
            .count()
            == 0
            || self.seats.len() < 2
        {
            return;
        }
        let half = self.options.delivery_timeout / 2;
        for index in 0..self.seats.len() {
            let others = self.seats.iter().enumerate();
            let other_is_up = others
                .filter(|(other, _)| *other != index)
                .any(|(_, seat)| seat.stream.is_some());
            if !other_is_up {
                continue;
            }
            let seat = &mut self.seats[index];
            let away = seat.stream.is_none();
            let moved = seat.lane.take_waiting(|what| {
                let maybe = what.messages.iter().any(|pending| pending.maybe_stored);
                let first = what.messages.first().map(|pending| pending.deadline);
                if maybe {
                    first.is_some_and(|deadline| now + half >= deadline)
                } else {
                    away
                }
            });
            self.requeue(moved);
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
