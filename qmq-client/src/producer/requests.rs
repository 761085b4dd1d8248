//! Requests: which messages, to which broker, and when.

use std::time::{Duration, Instant};

use qmq_wire::{Limits, ProduceHeader};

use super::batch;
use super::dispatch::Dispatcher;
use super::lane::Try;
use super::options::Options;
use super::queue::Pending;
use super::seat::Seat;
use crate::random;

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

    /// Asks for what is queued, as far as requests may go: each line in turn.
    pub(super) fn ask_new(&mut self, now: Instant) {
        let busy = self.lines.busy();
        let begin = busy.partition_point(|number| *number <= self.turn);
        for number in busy[begin..].iter().chain(&busy[..begin]) {
            self.ask_of(*number, &busy, now);
        }
    }

    fn ask_of(&mut self, number: u32, busy: &[u32], now: Instant) {
        while let Some(line) = self
            .lines
            .get_mut(number)
            .filter(|line| !line.queue.is_empty())
        {
            let full = line.queue.len() >= self.options.batch_messages;
            let waited = now >= line.since + self.options.linger;
            if !full && !waited && self.closing.is_none() && !self.abandoned {
                return;
            }
            let Some((turn, index)) = self.free_seat(number, now) else {
                return;
            };
            let mut batch = Batch::new(&self.options, &self.seats[index]);
            for other in std::iter::once(&number).chain(busy) {
                self.fill(&mut batch, *other, index);
            }
            if let Some(line) = self.lines.get_mut(number) {
                line.turn = turn;
                line.since = now;
            }
            let seat = &mut self.seats[index];
            if batch.messages.is_empty() {
                seat.broker.abandoned(now);
                continue;
            }
            self.turn = number;
            let what = seat.lane.number(batch.messages);
            ask(seat, what, now, self.request_timeout, self.options.ordered);
        }
    }

    /// The seat for the next new request of a line, and its place there: the least busy one, in turn.
    fn free_seat(&mut self, number: u32, now: Instant) -> Option<(usize, usize)> {
        let line = self.lines.get_mut(number)?;
        let purpose = line.purpose;
        if self.options.ordered && line.pinned.is_none() {
            let up = |index: &&usize| self.seats[**index].is_up_for(purpose);
            let up: Vec<&usize> = line.seats.iter().filter(up).collect();
            let choice = (random::u64() % up.len().max(1) as u64) as usize;
            line.pinned = up.get(choice).map(|index| **index);
        }
        let line = self.lines.get(number)?;
        let count = line.seats.len();
        let mut free: Vec<(usize, usize)> = (1..=count)
            .map(|step| (line.turn + step) % count)
            .map(|turn| (turn, line.seats[turn]))
            .filter(|(_, index)| line.pinned.is_none_or(|pinned| pinned == *index))
            .filter(|(_, index)| self.seats[*index].is_up_for(purpose))
            .filter(|(_, index)| self.is_free(&self.seats[*index]))
            .collect();
        free.sort_by_key(|(_, index)| self.seats[*index].lane.in_flight());
        // Only the one that is used is asked: a probe that is let through must go.
        free.into_iter()
            .find(|(_, index)| self.seats[*index].broker.admit(now))
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

    /// Takes into a batch what it has room for, of a line that goes to its seat too.
    fn fill(&mut self, batch: &mut Batch, number: u32, index: usize) {
        let Some(line) = self.lines.get_mut(number) else {
            return;
        };
        let pinned = line.pinned.is_none_or(|pinned| pinned == index);
        if !pinned || !line.seats.contains(&index) || !self.seats[index].is_up_for(line.purpose) {
            return;
        }
        while let Some(next) = line.queue.pop_front_if(|next| batch.has_room_for(next)) {
            match &self.seats[index].stream {
                Some((_, limits)) if batch.is_too_large(&next, limits) => {
                    next.fail_too_large(limits, self.seats[index].broker.address());
                }
                _ => batch.push(next),
            }
        }
        self.lines.taken(number);
    }
}

/// The messages of a request that is being formed.
struct Batch {
    messages: Vec<Pending>,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
    frame_max: usize,
}

impl Batch {
    fn new(options: &Options, seat: &Seat) -> Self {
        let limits = seat.stream.as_ref().map(|(_, limits)| *limits);
        let limits = limits.unwrap_or_default();
        let room = span_max(&limits).saturating_sub(seat.lane.span());
        let frame_max = or_none(limits.frame_bytes_max).saturating_sub(FRAME_RESERVE);
        Self {
            messages: Vec::new(),
            bytes: 0,
            messages_max: options
                .batch_messages
                .min(or_none(limits.batch_messages_max))
                .min(usize::try_from(room).unwrap_or(usize::MAX)),
            bytes_max: options.batch_bytes.min(frame_max),
            frame_max,
        }
    }

    /// One message goes whatever its size.
    fn has_room_for(&self, next: &Pending) -> bool {
        let Some(first) = self.messages.first() else {
            return self.messages_max > 0;
        };
        self.messages.len() < self.messages_max
            && first.durability == next.durability
            && self.bytes + next.frame_len() <= self.bytes_max
    }

    fn is_too_large(&self, next: &Pending, limits: &Limits) -> bool {
        next.message.body().len() > or_none(limits.body_bytes_max)
            || next.frame_len() > self.frame_max
    }

    fn push(&mut self, next: Pending) {
        self.bytes += next.frame_len();
        self.messages.push(next);
    }
}

/// A limit of a broker; 0: it has none.
fn or_none(limit: u32) -> usize {
    match limit {
        0 => usize::MAX,
        limit => limit as usize,
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
