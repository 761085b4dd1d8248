//! What a producer does about routes: lines and seats come and go with them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qmq_wire::{Purpose, RouteGroup};

use super::dispatch::{Dispatcher, Ways};
use super::outcome::SendCause;
use super::queue::Pending;
use super::seat::Seat;
use super::topics::{Topics, pinned, usable};

/// A broker that no route names any more, and that owes no answer, is left after so long.
const UNUSED: Duration = Duration::from_secs(30);

impl Dispatcher {
    /// Takes a message from the application.
    pub(super) fn queue(&mut self, pending: Pending) {
        if let Ways::Routed(topics) = &mut self.ways
            && let Some(topic) = topics.get_mut(pending.purpose, pending.message.subject())
        {
            topic.touch();
        }
        self.put(pending, false);
    }

    /// Puts messages back before all others; they get new numbers.
    pub(super) fn requeue(&mut self, messages: Vec<Pending>) {
        for pending in messages.into_iter().rev() {
            self.put(pending, true);
        }
    }

    fn put(&mut self, pending: Pending, front: bool) {
        let purpose = pending.purpose;
        let topics = match &mut self.ways {
            Ways::Fixed([at_once, delayed]) => {
                let line = match purpose {
                    Purpose::Delay => *delayed,
                    _ => *at_once,
                };
                return match front {
                    true => self.lines.push_front(line, pending),
                    false => self.lines.push(line, pending),
                };
            }
            Ways::Routed(topics) => topics,
        };
        let subject = pending.message.subject();
        if topics.get(purpose, subject).is_none() {
            let subject = subject.to_owned();
            let opened = topics.open(purpose, &subject, &self.shared, &self.events);
            if let Err(error) = opened {
                return pending.fail(SendCause::NoRoute {
                    limit: Duration::ZERO,
                    reason: error.to_string(),
                });
            }
            self.route(purpose, &subject);
        }
        let Ways::Routed(topics) = &mut self.ways else {
            return;
        };
        let Some(topic) = topics.get_mut(purpose, pending.message.subject()) else {
            return;
        };
        if let (None, Some(cause)) = (topic.line, topic.refusal()) {
            return pending.fail(cause);
        }
        match (topic.line, front) {
            (Some(line), true) => self.lines.push_front(line, pending),
            (Some(line), false) => self.lines.push(line, pending),
            (None, true) => topic.waiting.push_front(pending),
            (None, false) => topic.waiting.push_back(pending),
        }
        if topic.line.is_none() {
            topics.waiting += 1;
        }
    }

    /// Looks at a subject's route: its messages go to the groups that take some now.
    pub(super) fn route(&mut self, purpose: Purpose, subject: &str) {
        let Ways::Routed(topics) = &mut self.ways else {
            return;
        };
        let Some(topic) = topics.get_mut(purpose, subject) else {
            return;
        };
        if let Some(cause) = topic.refusal() {
            let refused = std::mem::take(&mut topic.waiting);
            topics.waiting -= refused.len();
            return refused
                .into_iter()
                .for_each(|pending| pending.fail(cause.clone()));
        }
        let Some(route) = topic.watched.known().route else {
            return;
        };
        for group in &route.groups {
            self.follow_master(purpose, group, route.stamp);
        }
        let mut groups = usable(&route);
        if self.options.ordered {
            let pin = self.pin(purpose, subject, &groups);
            groups.retain(|group| pin.as_deref() == Some(group.name.as_str()));
        }
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut places = Vec::new();
        for group in groups {
            let place = self.seat(purpose, group, route.stamp);
            places.push(place);
            names.push(Arc::clone(&self.seats[place].group));
        }
        let line = (!names.is_empty()).then(|| self.lines.open(purpose, names, places));
        self.set_line(purpose, subject, line);
    }

    /// The group that a subject's messages stay with, in order; `None`: none at the moment.
    fn pin(&mut self, purpose: Purpose, subject: &str, groups: &[&RouteGroup]) -> Option<Arc<str>> {
        let Ways::Routed(topics) = &mut self.ways else {
            return None;
        };
        let topic = topics.get_mut(purpose, subject)?;
        let usable = |name: &Arc<str>| groups.iter().any(|group| *group.name == **name);
        // Back where it was: nothing needs to be waited for.
        if topic.behind.as_ref().is_some_and(usable) {
            topic.pinned = topic.behind.take();
        }
        if !topic.pinned.as_ref().is_some_and(usable)
            && let Some(group) = pinned(subject, groups)
        {
            let before = topic.pinned.replace(group.name.as_str().into());
            topic.behind = topic.behind.take().or(before);
        }
        if let Some(behind) = &topic.behind {
            let busy = |seat: &Seat| {
                seat.purpose == purpose && seat.group == *behind && !seat.lane.is_empty()
            };
            if self.seats.iter().any(busy) {
                return None;
            }
            topic.behind = None;
        }
        topic.pinned.clone().filter(usable)
    }

    /// Lets a subject's messages go to another line, or wait for one.
    fn set_line(&mut self, purpose: Purpose, subject: &str, line: Option<u32>) {
        let Ways::Routed(topics) = &mut self.ways else {
            return;
        };
        let Some(topic) = topics.get_mut(purpose, subject) else {
            return;
        };
        let before = std::mem::replace(&mut topic.line, line);
        if before == line {
            return;
        }
        let mut moved: VecDeque<Pending> = std::mem::take(&mut topic.waiting);
        let waited = moved.len();
        if let Some(before) = before {
            moved.extend(self.lines.take_subject(before, subject));
            if let Some(line) = self.lines.get_mut(before) {
                line.topics -= 1;
            }
        }
        let waiting = match line {
            Some(number) => {
                if let Some(line) = self.lines.get_mut(number) {
                    line.topics += 1;
                }
                self.lines.extend(number, moved);
                0
            }
            None => {
                topic.waiting = moved;
                topic.waiting.len()
            }
        };
        topics.waiting = topics.waiting + waiting - waited;
    }

    /// The place of a group's seat, which is made if there is none.
    fn seat(&mut self, purpose: Purpose, group: &RouteGroup, stamp: u64) -> usize {
        let known = |seat: &Seat| seat.purpose == purpose && *seat.group == *group.name;
        if let Some(place) = self.seats.iter().position(known) {
            self.seats[place].used = Instant::now();
            return place;
        }
        let broker = self.shared.pool.get(&group.name, &group.master);
        let id = self.seat_id();
        let what = (purpose, Arc::from(group.name.as_str()));
        let mut seat = Seat::new(id, what, broker, &self.shared, &self.events);
        seat.as_of = (group.epoch, stamp);
        self.seats.push(seat);
        self.seats.len() - 1
    }

    /// A group's seat goes where its master is, unless the route is older than what is known.
    fn follow_master(&mut self, purpose: Purpose, group: &RouteGroup, stamp: u64) {
        let known = |seat: &Seat| seat.purpose == purpose && *seat.group == *group.name;
        let Some(place) = self.seats.iter().position(known) else {
            return;
        };
        let as_of = (group.epoch, stamp);
        if as_of < self.seats[place].as_of || group.master.is_empty() {
            return;
        }
        self.seats[place].as_of = as_of;
        if **self.seats[place].broker.address() != *group.master {
            tracing::info!(group = %group.name, master = %group.master, "a broker group has another master");
            let broker = self.shared.pool.get(&group.name, &group.master);
            let id = self.seat_id();
            self.seats[place].move_to(id, broker, &self.shared, &self.events);
        }
    }

    /// In order: subjects that waited for answers of a group that they have left.
    pub(super) fn release(&mut self) {
        let Ways::Routed(topics) = &self.ways else {
            return;
        };
        for (purpose, subject) in topics.held_back() {
            self.route(purpose, &subject);
        }
    }

    /// Lets go of what is not used any more.
    pub(super) fn tidy(&mut self, now: Instant) {
        let Ways::Routed(topics) = &mut self.ways else {
            return;
        };
        Topics::retire(topics, now, &mut self.lines);
        self.lines.retire();
        let mut used = vec![false; self.seats.len()];
        for line in self.lines.all() {
            line.seats.iter().for_each(|place| used[*place] = true);
        }
        let mut moved: Vec<Option<usize>> = Vec::new();
        let mut kept = 0;
        for (seat, used) in self.seats.iter_mut().zip(used) {
            if used || !seat.lane.is_empty() {
                seat.used = now;
            }
            let keep = now < seat.used + UNUSED;
            moved.push(keep.then_some(kept));
            kept += usize::from(keep);
        }
        let mut places = moved.iter();
        self.seats
            .retain(|_| places.next().is_some_and(Option::is_some));
        for line in self.lines.all_mut() {
            for place in &mut line.seats {
                // A line's seats are used, and so they were kept.
                *place = moved[*place].unwrap_or_default();
            }
        }
    }

    /// The application named brokers, and none of them takes delayed messages.
    pub(super) fn fail_without_delay_server(&mut self) {
        let Ways::Fixed([_, delayed]) = self.ways else {
            return;
        };
        let refuses = |seat: &Seat| seat.takes.as_ref().is_some_and(|takes| !takes.delayed);
        let busy = self
            .lines
            .get(delayed)
            .is_some_and(|line| !line.queue.is_empty());
        if busy && self.seats.iter().all(refuses) {
            for pending in self.lines.take_all(delayed) {
                pending.fail(SendCause::NoDelayServer);
            }
        }
    }
}
