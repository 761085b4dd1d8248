//! The messages on their way to one broker, and their numbers. A message keeps its number on the lane whatever happens to its requests.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use super::queue::Pending;
use crate::random;

/// Messages with consecutive numbers that are asked for together.
#[derive(Debug)]
pub(crate) struct Try {
    pub(crate) first: u64,
    pub(crate) messages: Vec<Pending>,
    /// How often it was asked.
    pub(crate) tries: u32,
}

impl Try {
    /// Nobody knows what became of it.
    pub(crate) fn unknown(&mut self, reason: &str) {
        for pending in &mut self.messages {
            pending.maybe_stored = true;
            pending.last = Some(reason.to_owned());
        }
    }
}

/// See the module. It knows no clock and no socket.
#[derive(Debug)]
pub(crate) struct Lane {
    producer: u128,
    next: u64,
    next_request: u32,
    /// By the number of the request.
    flying: BTreeMap<u32, (Instant, Try)>,
    /// By the number of the first message, and when it may be asked.
    waiting: BTreeMap<u64, (Instant, Try)>,
    /// First numbers of both.
    firsts: BTreeSet<u64>,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self {
            producer: random::u128(),
            next: 0,
            next_request: 0,
            flying: BTreeMap::new(),
            waiting: BTreeMap::new(),
            firsts: BTreeSet::new(),
        }
    }

    pub(crate) fn producer(&self) -> u128 {
        self.producer
    }

    /// What follows has nothing to do with what was before. Only when nothing is on the lane.
    pub(crate) fn begin_anew(&mut self) {
        debug_assert!(self.is_empty());
        self.producer = random::u128();
        self.next = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flying.len()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Numbers from the oldest that is not answered to the newest.
    pub(crate) fn span(&self) -> u64 {
        self.firsts.first().map_or(0, |first| self.next - first)
    }

    /// Gives messages their numbers.
    pub(crate) fn number(&mut self, messages: Vec<Pending>) -> Try {
        let first = self.next;
        self.next += messages.len() as u64;
        Try {
            first,
            messages,
            tries: 0,
        }
    }

    /// The number of the next request. Streams come and go, and it counts on, so that an answer is never taken for another's.
    pub(crate) fn request(&mut self) -> u32 {
        self.next_request = self.next_request.wrapping_add(1);
        self.next_request
    }

    /// The messages have been asked for.
    pub(crate) fn fly(&mut self, request: u32, mut what: Try, now: Instant) {
        what.tries += 1;
        self.firsts.insert(what.first);
        self.flying.insert(request, (now, what));
    }

    /// The request has been answered. `None`: nobody waits for that answer (any more).
    pub(crate) fn land(&mut self, request: u32) -> Option<Try> {
        let (_, what) = self.flying.remove(&request)?;
        self.firsts.remove(&what.first);
        Some(what)
    }

    /// The messages will be asked for again, with their numbers.
    pub(crate) fn wait(&mut self, what: Try, until: Instant) {
        if !what.messages.is_empty() {
            self.firsts.insert(what.first);
            self.waiting.insert(what.first, (until, what));
        }
    }

    /// The next messages to ask for again. In order: none before the oldest.
    pub(crate) fn due(&mut self, now: Instant, ordered: bool) -> Option<Try> {
        let mut all = self.waiting.iter();
        let due = |(_, (until, _)): &(&u64, &(Instant, Try))| *until <= now;
        let found = if ordered {
            all.next().filter(due)
        } else {
            all.find(due)
        };
        let first = *found?.0;
        let (_, what) = self.waiting.remove(&first)?;
        self.firsts.remove(&first);
        Some(what)
    }

    /// When [`Lane::due`] has something.
    pub(crate) fn next_due(&self, ordered: bool) -> Option<Instant> {
        let mut all = self.waiting.values().map(|(until, _)| *until);
        if ordered { all.next() } else { all.min() }
    }

    /// No answers come any more: all that was asked for is asked for again.
    pub(crate) fn ground(&mut self, until: Instant, reason: &str) {
        for (_, (_, mut what)) in std::mem::take(&mut self.flying) {
            what.unknown(reason);
            self.wait(what, until);
        }
    }

    /// In order: whatever waits, waits until then.
    pub(crate) fn hold_back(&mut self, until: Instant) {
        for (at, _) in self.waiting.values_mut() {
            *at = until;
        }
    }

    /// Whether a request has waited for its answer for longer than `limit`.
    pub(crate) fn overdue(&self, now: Instant, limit: Duration) -> bool {
        self.flying.values().any(|(sent, _)| now >= *sent + limit)
    }

    /// Takes off the lane all whose time is over, and says whether one was under way. Those may be stored, and the others of their requests are
    /// asked again.
    pub(crate) fn expire(&mut self, now: Instant) -> (Vec<Pending>, bool) {
        let late = |what: &Try| what.messages.iter().any(|pending| pending.deadline <= now);
        let flying = self.flying.iter().filter(|(_, (_, what))| late(what));
        let flying: Vec<u32> = flying.map(|(request, _)| *request).collect();
        let waiting = self.waiting.iter().filter(|(_, (_, what))| late(what));
        let waiting: Vec<u64> = waiting.map(|(first, _)| *first).collect();
        let mut tries = Vec::new();
        let unanswered = !flying.is_empty();
        for request in flying {
            if let Some(mut what) = self.land(request) {
                what.unknown("no answer came in time");
                tries.push((now, what));
            }
        }
        for first in waiting {
            self.firsts.remove(&first);
            tries.extend(self.waiting.remove(&first));
        }
        let mut expired = Vec::new();
        for (until, what) in tries {
            // The others wait on, each with its number, in runs without those that are late.
            let mut run: Option<Try> = None;
            for (first, pending) in (what.first..).zip(what.messages) {
                if pending.deadline <= now {
                    expired.push(pending);
                    if let Some(run) = run.take() {
                        self.wait(run, until);
                    }
                } else if let Some(run) = &mut run {
                    run.messages.push(pending);
                } else {
                    run = Some(Try {
                        first,
                        messages: vec![pending],
                        tries: what.tries,
                    });
                }
            }
            if let Some(run) = run {
                self.wait(run, until);
            }
        }
        (expired, unanswered)
    }

    /// The first numbers of those that wait of which `which` holds.
    pub(crate) fn waiting_firsts(&self, which: impl Fn(&Try) -> bool) -> HashSet<u64> {
        let waiting = self.waiting.iter();
        let which = waiting.filter(|(_, (_, what))| which(what));
        which.map(|(first, _)| *first).collect()
    }

    /// Whether no broker can have what waits.
    pub(crate) fn is_surely_not_taken(&self) -> bool {
        let mut waiting = self.waiting.values();
        waiting.all(|(_, what)| what.messages.iter().all(|pending| !pending.maybe_stored))
    }

    /// Takes all waiting messages off the lane of which `which` holds, in the order of their numbers.
    pub(crate) fn take_waiting(&mut self, which: impl Fn(&Try) -> bool) -> Vec<Pending> {
        let firsts: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, (_, what))| which(what))
            .map(|(first, _)| *first)
            .collect();
        let mut taken = Vec::new();
        for first in firsts {
            if let Some((_, what)) = self.waiting.remove(&first) {
                self.firsts.remove(&first);
                taken.extend(what.messages);
            }
        }
        taken
    }

    /// Takes everything off the lane from a number on, in the order of the numbers, and forgets its requests.
    pub(crate) fn take_from(&mut self, first: u64) -> Vec<Pending> {
        let flying: Vec<u32> = self
            .flying
            .iter()
            .filter(|(_, (_, what))| what.first >= first)
            .map(|(request, _)| *request)
            .collect();
        for request in flying {
            if let Some((at, what)) = self.flying.remove(&request) {
                self.waiting.insert(what.first, (at, what));
            }
        }
        self.take_waiting(|what| what.first >= first)
    }

    /// Whether nothing before that number is on the lane.
    pub(crate) fn begins_at(&self, number: u64) -> bool {
        self.firsts.first().is_none_or(|first| *first >= number)
    }

    /// Takes everything off the lane, in the order of the numbers; what is under way may be stored.
    pub(crate) fn clear(&mut self, now: Instant, reason: &str) -> Vec<Pending> {
        self.ground(now, reason);
        self.take_waiting(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use qmq_message::Message;
    use tokio::sync::oneshot;

    use super::super::queue::Queue;
    use super::*;

    fn pending(deadline: Instant) -> Pending {
        let queue = Queue::unbounded();
        Pending {
            message: Message::new("a", ""),
            purpose: qmq_wire::Purpose::Produce,
            attributes: Vec::new(),
            durability: qmq_wire::Durability::Default,
            deadline,
            maybe_stored: false,
            last: None,
            report: oneshot::channel().0,
            _room: queue.room_now(0).unwrap(),
        }
    }

    fn some(count: u64, deadline: Instant) -> Vec<Pending> {
        (0..count).map(|_| pending(deadline)).collect()
    }

    #[test]
    fn numbers_count_up_and_stay_with_their_messages() {
        let now = Instant::now();
        let late = now + Duration::from_secs(9);
        let mut lane = Lane::new();
        for (count, first) in [(3, 0), (2, 3)] {
            let what = lane.number(some(count, late));
            assert_eq!(what.first, first);
            let request = lane.request();
            lane.fly(request, what, now);
        }
        assert_eq!(lane.span(), 5);
        lane.ground(now, "lost");
        assert_eq!(lane.in_flight(), 0);
        let again = lane.due(now, true).unwrap();
        assert_eq!((again.first, again.messages.len()), (0, 3));
        assert!(again.messages[0].maybe_stored);
        assert_eq!(lane.span(), 2);
        assert_eq!(lane.due(now, true).unwrap().first, 3);
        assert!(lane.is_empty());
    }

    #[test]
    fn in_order_nothing_goes_before_the_oldest() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut lane = Lane::new();
        for until in [later, now] {
            let what = lane.number(some(1, later));
            lane.wait(what, until);
        }
        assert!(lane.due(now, true).is_none());
        assert_eq!(lane.next_due(true), Some(later));
        assert_eq!(lane.due(now, false).unwrap().first, 1);
    }

    #[test]
    fn only_late_messages_expire_and_the_others_of_their_request_keep_their_numbers() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut lane = Lane::new();
        let messages = [later, now, later, later].map(pending).into();
        let what = lane.number(messages);
        let request = lane.request();
        lane.fly(request, what, now);
        let (expired, unanswered) = lane.expire(now);
        assert_eq!((expired.len(), unanswered), (1, true));
        assert!(lane.land(request).is_none(), "its answer comes too late");
        let runs: Vec<(u64, usize)> = std::iter::from_fn(|| lane.due(now, false))
            .map(|what| (what.first, what.messages.len()))
            .collect();
        assert_eq!(runs, [(0, 1), (2, 2)]);
    }

    #[test]
    fn what_lies_behind_a_gap_is_taken_off_in_order() {
        let now = Instant::now();
        let mut lane = Lane::new();
        for _ in 0..3 {
            let what = lane.number(some(2, now));
            let request = lane.request();
            lane.fly(request, what, now);
        }
        assert_eq!(lane.take_from(2).len(), 4);
        assert_eq!(lane.in_flight(), 1);
        assert!(!lane.begins_at(2));
        assert!(lane.land(1).is_some());
        assert!(lane.begins_at(2) && lane.is_empty());
    }
}
