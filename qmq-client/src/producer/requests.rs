//! Requests: which messages, to which broker, and when.

use std::time::{Duration, Instant};

use qmq_wire::{Limits, ProduceHeader};

use super::batch;
use super::dispatch::Dispatcher;
use super::lane::Try;
use super::queue::Pending;
use super::seat::Seat;

/// Span of unanswered numbers if the broker does not say how many it remembers.
const SPAN_DEFAULT: u64 = 10_000;
/// Bytes of a frame that are no messages, generously.
const FRAME_RESERVE: usize = 128;

impl Dispatcher {
    /// Asks again for what is due.
    pub(super) fn ask_again(&mut self, index: usize, now: Instant) {
        let seat = &mut self.seats[index];
        if seat.stream.is_none() {
            return;
        }
        while seat.lane.in_flight() < self.options.in_flight {
            let due = seat.lane.next_due(self.options.ordered);
            if due.is_none_or(|due| due > now) || !seat.broker.admit(now) {
                break;
            }
            let Some(what) = seat.lane.due(now, self.options.ordered) else {
                break;
            };
            ask(seat, what, now, self.request_timeout, self.options.ordered);
        }
        if seat.begin_anew && seat.lane.is_empty() {
            seat.lane.begin_anew();
            seat.begin_anew = false;
        }
    }

    /// Asks for what is queued, as far as requests may go.
    pub(super) fn ask_new(&mut self, now: Instant) {
        while !self.queue.is_empty() {
            let full = self.queue.len() >= self.options.batch_messages;
            let waited = now >= self.queued_since + self.options.linger;
            if !full && !waited && self.closing.is_none() && !self.abandoned {
                return;
            }
            let Some(index) = self.free_seat(now) else {
                return;
            };
            let messages = self.take_batch(index);
            if messages.is_empty() {
                self.seats[index].broker.abandoned(now);
                continue;
            }
            self.turn = index;
            self.queued_since = now;
            let seat = &mut self.seats[index];
            let what = seat.lane.number(messages);
            ask(seat, what, now, self.request_timeout, self.options.ordered);
        }
    }

    /// The seat for the next new request: the least busy one, in turn.
    fn free_seat(&self, now: Instant) -> Option<usize> {
        let count = self.seats.len();
        let mut free: Vec<usize> = (1..=count)
            .map(|step| (self.turn + step) % count)
            .filter(|index| self.is_free(&self.seats[*index]))
            .collect();
        free.sort_by_key(|index| self.seats[*index].lane.in_flight());
        // Only the one that is used is asked: a probe that is let through must go.
        free.into_iter()
            .find(|index| self.seats[*index].broker.admit(now))
    }

    fn is_free(&self, seat: &Seat) -> bool {
        let Some((_, limits)) = &seat.stream else {
            return false;
        };
        let held_back = self.options.ordered && (seat.lane.has_waiting() || seat.begin_anew);
        !held_back
            && seat.lane.in_flight() < self.options.in_flight
            && seat.lane.span() < span_max(limits)
    }

    fn take_batch(&mut self, index: usize) -> Vec<Pending> {
        let seat = &self.seats[index];
        let Some((_, limits)) = &seat.stream else {
            return Vec::new();
        };
        let or_none = |limit: u32| {
            if limit == 0 {
                usize::MAX
            } else {
                limit as usize
            }
        };
        let room = span_max(limits).saturating_sub(seat.lane.span());
        let most = self
            .options
            .batch_messages
            .min(or_none(limits.batch_messages_max))
            .min(usize::try_from(room).unwrap_or(usize::MAX));
        let frame_max = or_none(limits.frame_bytes_max).saturating_sub(FRAME_RESERVE);
        let bytes_max = self.options.batch_bytes.min(frame_max);
        let mut batch: Vec<Pending> = Vec::new();
        let mut bytes = 0;
        while batch.len() < most {
            let Some(next) = self.queue.front() else {
                break;
            };
            let len = next.frame_len();
            let too_large = next.message.body().len() > or_none(limits.body_bytes_max);
            let other = batch
                .first()
                .is_some_and(|first| first.durability != next.durability);
            if !batch.is_empty() && (other || bytes + len > bytes_max) {
                break;
            }
            let Some(next) = self.queue.pop_front() else {
                break;
            };
            if too_large || len > frame_max {
                next.fail_too_large(limits, seat.broker.address());
                continue;
            }
            bytes += len;
            batch.push(next);
        }
        batch
    }
}

fn span_max(limits: &Limits) -> u64 {
    match limits.dedup_window {
        0 => SPAN_DEFAULT,
        window => u64::from(window),
    }
}

fn ask(seat: &mut Seat, what: Try, now: Instant, limit: Duration, ordered: bool) {
    let Some((writer, _)) = &seat.stream else {
        seat.lane.wait(what, now);
        return;
    };
    let left = what.messages.first().map_or(limit, |first| {
        first.deadline.saturating_duration_since(now).min(limit)
    });
    let request = seat.lane.request();
    let header = ProduceHeader {
        number: request,
        deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
        durability: what
            .messages
            .first()
            .map(|first| first.durability)
            .unwrap_or_default(),
        ordered,
        producer: seat.lane.producer(),
        first: what.first,
    };
    writer.send(batch::encode(&header, &what.messages));
    seat.lane.fly(request, what, now);
}
