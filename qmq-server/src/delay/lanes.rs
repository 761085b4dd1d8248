//! Who may be sent to now: a lane for each subject of which messages are on their way, so that one whose brokers are away delays no other.
//!
//! Nothing here does I/O or looks at a clock. The rules, which keep memory within bounds whatever is away:
//!
//! * Of all messages, `in_flight_max` and `bytes_max` of bodies are on their way at most.
//! * A lane may have no more on its way than an eighth of what is left for others, and the last eighth of all is for lanes that have nothing on its way:
//!   lanes that get stuck leave room for others.
//! * A lane begins with few messages and gets one more with each that arrives. When its brokers cannot be reached it goes back to one, which is tried
//!   again after a growing pause; until that arrives, everything else of its subject stays in the scheduler.
//! * A subject of which nothing has arrived lately sends one message first. All such first messages share a quarter of what may be on its way, all other
//!   tries an eighth: what is known to arrive has the rest.
//! * Of messages that could not be delivered only ids are kept; the fewer places are left for such, the fewer a lane may send.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_sched::{Choice, DelayId};

/// What a lane may have on its way in the beginning, if something of its subject has arrived lately; else one.
const FIRST_MAX: usize = 4;
/// So many lanes may be there of which nothing comes any more.
const LANES_MIN: usize = 1_024;
/// Subjects of which something has arrived lately: twice as many are remembered at most.
const REMEMBERED_MAX: usize = 65_536;
/// For so long a lane that has no room is waited for; then what is behind it goes on.
const GRACE: Duration = Duration::from_millis(50);

/// Bounds; see the module.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) in_flight_max: usize,
    pub(super) bytes_max: u64,
    /// Messages of one lane on their way.
    pub(super) lane_max: usize,
    /// Messages handed out and not dispatched: on their way, or waiting for another try.
    pub(super) outstanding_max: usize,
    /// Shortest and longest pause before another try.
    pub(super) back_off: (Duration, Duration),
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) id: DelayId,
    pub(super) subject: Arc<str>,
    pub(super) due_ms: u64,
    bytes: u32,
    kind: Kind,
}

/// Whose share of what is on its way a message counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of a subject of which messages arrive.
    Known,
    /// The first of a subject.
    First,
    /// Another try.
    Again,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landed {
    /// Brokers answered, whatever they said.
    Answered,
    /// They did not, or may say something else later.
    NotNow,
}

#[derive(Debug)]
struct Lane {
    in_flight: usize,
    bytes: u64,
    /// Messages that it may have on its way.
    cap: usize,
    is_proven: bool,
    /// Those that have not been delivered.
    waiting: VecDeque<DelayId>,
    failures: u32,
    /// When one of them is tried again.
    retry_at: Option<Instant>,
    full_since: Option<Instant>,
    /// Something of it was passed over in this walk.
    passed: u64,
    /// It is in the queue of lanes that are ready.
    is_ready: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes {
    limits: Limits,
    lanes: HashMap<Arc<str>, Lane>,
    /// When lanes with waiting messages try again.
    agenda: BTreeSet<(Instant, Arc<str>)>,
    /// Lanes with waiting messages of which one has arrived.
    ready: VecDeque<Arc<str>>,
    /// Hashes of subjects of which something has arrived lately, and of those before.
    arrived: [HashSet<u64>; 2],
    hasher: RandomState,
    in_flight: usize,
    bytes: u64,
    first: usize,
    again: usize,
    waiting: usize,
    /// With more lanes, those of which nothing has come are looked for.
    lanes_max: usize,
    /// Number of the walk through what is due.
    walk: u64,
    /// A subject without a lane was passed over in this walk.
    passed_new: bool,
    reopened: bool,
}

/// What a walk has chosen and not sent yet.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    all: usize,
    bytes: u64,
    first: usize,
    by_subject: HashMap<String, (usize, u64)>,
    /// The walk was stopped.
    pub(super) stopped: bool,
}

impl Chosen {
    /// Whether a message of that subject has been chosen; each is said once.
    pub(super) fn has(&mut self, subject: &str) -> bool {
        match self.by_subject.get_mut(subject) {
            Some((count, _)) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

impl Lanes {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            agenda: BTreeSet::new(),
            ready: VecDeque::new(),
            arrived: [HashSet::new(), HashSet::new()],
            hasher: RandomState::new(),
            in_flight: 0,
            bytes: 0,
            first: 0,
            again: 0,
            waiting: 0,
            lanes_max: LANES_MIN,
            walk: 1,
            passed_new: false,
            reopened: false,
        }
    }

    pub(super) fn set_back_off(&mut self, back_off: (Duration, Duration)) {
        self.limits.back_off = back_off;
    }

    /// Messages on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Messages that wait for another try.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lanes whose brokers could not be reached.
    pub(super) fn stuck(&self) -> usize {
        self.lanes.values().filter(|lane| lane.failures > 0).count()
    }

    /// Whether something that was passed over may go now.
    pub(super) fn reopened(&self) -> bool {
        self.reopened
    }

    /// A new walk through what is due begins.
    pub(super) fn begin_walk(&mut self) {
        if self.lanes.len() > self.lanes_max {
            let walk = self.walk;
            self.lanes.retain(|_, lane| {
                let is_busy = lane.in_flight > 0 || !lane.waiting.is_empty();
                is_busy || lane.failures > 0 || lane.passed == walk
            });
            self.lanes_max = self.lanes.len() * 2 + LANES_MIN;
        }
        self.walk += 1;
        self.reopened = false;
        self.passed_new = false;
    }

    /// What is to become of a message that is due.
    pub(super) fn choose(
        &mut self,
        subject: &str,
        body_len: u32,
        chosen: &mut Chosen,
        now: Instant,
    ) -> Choice {
        let choice = self.judge(subject, body_len, chosen, now);
        match choice {
            Choice::Take => {
                chosen.all += 1;
                chosen.bytes += u64::from(body_len);
                if !self.is_known(subject) {
                    chosen.first += 1;
                }
                let of = match chosen.by_subject.get_mut(subject) {
                    Some(of) => of,
                    None => chosen.by_subject.entry(subject.to_owned()).or_default(),
                };
                of.0 += 1;
                of.1 += u64::from(body_len);
            }
            Choice::PassOver => {
                if chosen.by_subject.contains_key(subject) {
                    // More comes than may go: its lane is there to grow.
                    let name = self.lane(subject);
                    if let Some(lane) = self.lanes.get_mut(&name) {
                        lane.full_since.get_or_insert(now);
                    }
                }
                match self.lanes.get_mut(subject) {
                    Some(lane) => lane.passed = self.walk,
                    None => self.passed_new = true,
                }
            }
            Choice::Stop => chosen.stopped = true,
        }
        choice
    }

    /// Whether messages of the subject arrive.
    fn is_known(&self, subject: &str) -> bool {
        match self.lanes.get(subject) {
            Some(lane) => lane.is_proven,
            None => {
                let hash = self.hasher.hash_one(subject);
                self.arrived.iter().any(|some| some.contains(&hash))
            }
        }
    }

    fn first_max(&self) -> usize {
        (self.limits.in_flight_max / 4).max(1)
    }

    fn again_max(&self) -> usize {
        (self.limits.in_flight_max / 8).max(1)
    }

    fn judge(&mut self, subject: &str, body_len: u32, chosen: &Chosen, now: Instant) -> Choice {
        let all = self.in_flight + chosen.all;
        let free = self.limits.in_flight_max.saturating_sub(all);
        let outstanding = all + self.waiting;
        let room = self.limits.outstanding_max.saturating_sub(outstanding);
        if free == 0 || room == 0 {
            return Choice::Stop;
        }
        let is_known = self.is_known(subject);
        let has_share = is_known || self.first + chosen.first < self.first_max();
        let mine = chosen.by_subject.get(subject).copied();
        let (mine, my_bytes) = mine.unwrap_or_default();
        let bytes_free = self
            .limits
            .bytes_max
            .saturating_sub(self.bytes + chosen.bytes);
        let len = u64::from(body_len);
        let Some(lane) = self.lanes.get_mut(subject) else {
            let most = if is_known { FIRST_MAX } else { 1 };
            let fits = my_bytes + len <= bytes_free || (mine == 0 && bytes_free > 0);
            return match has_share && fits && mine < most {
                true => Choice::Take,
                false => Choice::PassOver,
            };
        };
        if lane.failures > 0 || !lane.waiting.is_empty() {
            return Choice::PassOver;
        }
        let (mine, my_bytes) = (mine + lane.in_flight, my_bytes + lane.bytes);
        let share = match free <= self.limits.in_flight_max / 8 {
            true => 1,
            false => (free / 8).max(1),
        };
        let most = lane.cap.min(share).min((room / 64).max(1));
        let fits = my_bytes + len <= bytes_free || (mine == 0 && bytes_free > 0);
        if mine < most && fits && has_share {
            lane.full_since = None;
            return Choice::Take;
        }
        let since = *lane.full_since.get_or_insert(now);
        match lane.is_proven && now.duration_since(since) < GRACE {
            true => Choice::Stop,
            false => Choice::PassOver,
        }
    }

    /// Whether a message that was handed out without being chosen, as after a restart, may be sent; if not it waits.
    pub(super) fn admit(&mut self, subject: &str, id: DelayId, now: Instant) -> bool {
        let has_room = self.in_flight < self.limits.in_flight_max / 2;
        let has_share = self.is_known(subject) || self.first < self.first_max();
        let is_open = self.lanes.get(subject).is_none_or(|lane| {
            lane.waiting.is_empty() && lane.failures == 0 && lane.in_flight < lane.cap
        });
        if has_room && has_share && is_open && self.bytes < self.limits.bytes_max {
            return true;
        }
        self.put_back_at(subject, id, now);
        false
    }

    /// A message goes.
    pub(super) fn send(
        &mut self,
        subject: &str,
        id: DelayId,
        due_ms: u64,
        body_len: usize,
    ) -> Flight {
        let subject = self.lane(subject);
        let bytes = u32::try_from(body_len).unwrap_or(u32::MAX);
        let mut kind = Kind::First;
        if let Some(lane) = self.lanes.get_mut(&subject) {
            lane.in_flight += 1;
            lane.bytes += u64::from(bytes);
            if lane.is_proven {
                kind = Kind::Known;
            } else if lane.failures > 0 {
                kind = Kind::Again;
            }
        }
        self.in_flight += 1;
        self.bytes += u64::from(bytes);
        self.first += usize::from(kind == Kind::First);
        self.again += usize::from(kind == Kind::Again);
        Flight {
            id,
            subject,
            due_ms,
            bytes,
            kind,
        }
    }

    /// The name of a subject's lane, which is there now.
    fn lane(&mut self, subject: &str) -> Arc<str> {
        if let Some((name, _)) = self.lanes.get_key_value(subject) {
            return Arc::clone(name);
        }
        let is_known = self.is_known(subject);
        let name: Arc<str> = subject.into();
        let lane = Lane {
            in_flight: 0,
            bytes: 0,
            cap: if is_known { FIRST_MAX } else { 1 },
            is_proven: is_known,
            waiting: VecDeque::new(),
            failures: 0,
            retry_at: None,
            full_since: None,
            passed: 0,
            is_ready: false,
        };
        self.lanes.insert(Arc::clone(&name), lane);
        name
    }

    /// Messages of the subject arrive, or do not any more.
    fn remember(&mut self, subject: &str, arrives: bool) {
        let hash = self.hasher.hash_one(subject);
        if !arrives {
            for some in &mut self.arrived {
                some.remove(&hash);
            }
        } else if self.arrived[0].insert(hash) && self.arrived[0].len() >= REMEMBERED_MAX {
            self.arrived.swap(0, 1);
            self.arrived[0].clear();
        }
    }

    /// A message has arrived, or has not.
    pub(super) fn landed(&mut self, flight: &Flight, landed: Landed, now: Instant) {
        self.in_flight -= 1;
        self.bytes -= u64::from(flight.bytes);
        self.first -= usize::from(flight.kind == Kind::First);
        self.again -= usize::from(flight.kind == Kind::Again);
        if self.passed_new && self.first < self.first_max() {
            self.reopened = true;
        }
        if flight.kind != Kind::Known || landed == Landed::NotNow {
            self.remember(&flight.subject, landed == Landed::Answered);
        }
        let Some(lane) = self.lanes.get_mut(&flight.subject) else {
            return;
        };
        lane.in_flight -= 1;
        lane.bytes -= u64::from(flight.bytes);
        match landed {
            Landed::Answered => {
                lane.is_proven = true;
                lane.cap = (lane.cap + 1).min(self.limits.lane_max);
                lane.failures = 0;
                if let Some(at) = lane.retry_at.take() {
                    self.agenda.remove(&(at, Arc::clone(&flight.subject)));
                }
                if !lane.waiting.is_empty() && !std::mem::replace(&mut lane.is_ready, true) {
                    self.ready.push_back(Arc::clone(&flight.subject));
                }
            }
            Landed::NotNow => {
                lane.waiting.push_back(flight.id);
                self.waiting += 1;
                lane.is_proven = false;
                lane.cap = 1;
                // Those that were on their way together fail together: that counts once.
                if lane.failures == 0 || lane.retry_at.is_none_or(|at| at <= now) {
                    lane.failures += 1;
                    if let Some(at) = lane.retry_at.take() {
                        self.agenda.remove(&(at, Arc::clone(&flight.subject)));
                    }
                    let at = now + pause(self.limits.back_off, lane.failures);
                    lane.retry_at = Some(at);
                    self.agenda.insert((at, Arc::clone(&flight.subject)));
                }
            }
        }
        self.close_or_reopen(&Arc::clone(&flight.subject));
    }

    /// A lane with nothing goes; one that was passed over and has room says so.
    fn close_or_reopen(&mut self, name: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        if lane.failures > 0 || !lane.waiting.is_empty() {
            return;
        }
        if lane.passed == self.walk && lane.in_flight <= lane.cap / 2 {
            self.reopened = true;
        }
        // One that was full has more to come, and keeps what it may have on its way.
        if lane.in_flight == 0 && lane.full_since.is_none() {
            self.lanes.remove(name);
        }
    }

    /// When a lane with waiting messages tries again next; `None`: not before something lands.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let has_share = self.again < self.again_max();
        let next = self.agenda.first().map(|(at, _)| *at);
        next.filter(|_| has_share && self.has_room())
    }

    fn has_room(&self) -> bool {
        self.in_flight < self.limits.in_flight_max && self.bytes < self.limits.bytes_max
    }

    /// Messages to be tried again now, of one lane; `None`: of no lane.
    pub(super) fn retry(&mut self, now: Instant) -> Option<(Arc<str>, Vec<DelayId>)> {
        while self.has_room() {
            let name = self.next_ready().or_else(|| self.next_again(now))?;
            let free = self.limits.in_flight_max - self.in_flight;
            let Some(lane) = self.lanes.get_mut(&name) else {
                continue;
            };
            let room = lane.cap.saturating_sub(lane.in_flight).min(free);
            let count = room.min(lane.waiting.len());
            if count > 0 {
                let ids: Vec<_> = lane.waiting.drain(..count).collect();
                self.waiting -= ids.len();
                return Some((name, ids));
            }
            // With something on its way it is looked at when that lands.
        }
        None
    }

    fn next_ready(&mut self) -> Option<Arc<str>> {
        let name = self.ready.pop_front()?;
        if let Some(lane) = self.lanes.get_mut(&name) {
            lane.is_ready = false;
        }
        Some(name)
    }

    /// A lane that has waited long enough and has one try.
    fn next_again(&mut self, now: Instant) -> Option<Arc<str>> {
        if self.again >= self.again_max() || self.agenda.first()?.0 > now {
            return None;
        }
        let (_, name) = self.agenda.pop_first()?;
        if let Some(lane) = self.lanes.get_mut(&name) {
            lane.retry_at = None;
            // It has not proved itself, however it came to wait.
            lane.failures = lane.failures.max(1);
            lane.is_proven = false;
            lane.cap = 1;
        }
        Some(name)
    }

    /// Of messages that were to be tried again, some or all are gone: somebody else has seen to them.
    pub(super) fn tried(&mut self, subject: &Arc<str>, now: Instant) {
        let Some(lane) = self.lanes.get_mut(subject) else {
            return;
        };
        if lane.in_flight > 0 || lane.retry_at.is_some() {
            return;
        }
        if lane.waiting.is_empty() {
            lane.failures = 0;
            self.close_or_reopen(subject);
        } else {
            lane.retry_at = Some(now);
            self.agenda.insert((now, Arc::clone(subject)));
        }
    }

    /// A message that was to be tried again could not be read for now.
    pub(super) fn put_back(&mut self, subject: &str, id: DelayId, now: Instant) {
        let at = now + self.limits.back_off.0;
        self.put_back_at(subject, id, at);
    }

    fn put_back_at(&mut self, subject: &str, id: DelayId, at: Instant) {
        let name = self.lane(subject);
        if let Some(lane) = self.lanes.get_mut(&name) {
            lane.waiting.push_back(id);
            self.waiting += 1;
            if lane.retry_at.is_none() {
                lane.retry_at = Some(at);
                self.agenda.insert((at, name));
            }
        }
    }
}

/// The pause after so many failures in a row: it doubles with each.
pub(super) fn pause((least, most): (Duration, Duration), failures: u32) -> Duration {
    let doubled = least.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(most)
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
