//! Queues of messages that may go to the same brokers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use qmq_wire::Purpose;

use super::queue::Pending;

/// Messages that may go to the same seats, in the order in which they go.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) purpose: Purpose,
    /// Names of the broker groups, sorted; none if the application named the brokers.
    pub(super) groups: Vec<Arc<str>>,
    /// Their places in the list of seats.
    pub(super) seats: Vec<usize>,
    pub(super) queue: VecDeque<Pending>,
    /// When the first message of the queue came to it.
    pub(super) since: Instant,
    /// Which of the seats had the last new request.
    pub(super) turn: usize,
    /// In order, between brokers that the application named: the place of the only one that is used.
    pub(super) pinned: Option<usize>,
    /// Subjects whose messages come here.
    pub(super) topics: usize,
    /// Messages came from another line: the first one need not be the oldest.
    mixed: bool,
}

/// All lines, by number.
#[derive(Debug, Default)]
pub(super) struct Lines {
    all: BTreeMap<u32, Line>,
    numbers: HashMap<(Purpose, Vec<Arc<str>>), u32>,
    busy: BTreeSet<u32>,
    next: u32,
}

impl Lines {
    /// The line of these groups and seats.
    pub(super) fn open(
        &mut self,
        purpose: Purpose,
        groups: Vec<Arc<str>>,
        seats: Vec<usize>,
    ) -> u32 {
        let key = (purpose, groups);
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = self.next;
        self.next += 1;
        let line = Line {
            purpose,
            groups: key.1.clone(),
            seats,
            queue: VecDeque::new(),
            since: Instant::now(),
            turn: 0,
            pinned: None,
            topics: 0,
            mixed: false,
        };
        self.numbers.insert(key, number);
        self.all.insert(number, line);
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&Line> {
        self.all.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Line> {
        self.all.get_mut(&number)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Line> {
        self.all.values()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Line> {
        self.all.values_mut()
    }

    /// Those that have messages.
    pub(super) fn busy(&self) -> Vec<u32> {
        self.busy.iter().copied().collect()
    }

    pub(super) fn busy_lines(&self) -> impl Iterator<Item = &Line> {
        self.busy.iter().filter_map(|number| self.all.get(number))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }

    /// A message comes behind all others.
    pub(super) fn push(&mut self, number: u32, pending: Pending) {
        if let Some(line) = self.all.get_mut(&number) {
            if line.queue.is_empty() {
                line.since = Instant::now();
            }
            line.queue.push_back(pending);
            self.busy.insert(number);
        }
    }

    /// A message comes back, before all others.
    pub(super) fn push_front(&mut self, number: u32, pending: Pending) {
        if let Some(line) = self.all.get_mut(&number) {
            line.queue.push_front(pending);
            self.busy.insert(number);
        }
    }

    /// Messages come from another line.
    pub(super) fn extend(&mut self, number: u32, messages: impl IntoIterator<Item = Pending>) {
        for pending in messages {
            self.push(number, pending);
        }
        if let Some(line) = self.all.get_mut(&number) {
            line.mixed = true;
        }
    }

    /// A line's messages were taken.
    pub(super) fn taken(&mut self, number: u32) {
        if let Some(line) = self.all.get_mut(&number)
            && line.queue.is_empty()
        {
            line.mixed = false;
            self.busy.remove(&number);
        }
    }

    /// Takes the messages of a subject out of a line, in their order.
    pub(super) fn take_subject(&mut self, number: u32, subject: &str) -> Vec<Pending> {
        self.take(number, |pending| pending.message.subject() == subject)
    }

    /// Takes the messages whose time is over.
    pub(super) fn take_late(&mut self, number: u32, now: Instant) -> Vec<Pending> {
        let Some(line) = self.all.get_mut(&number) else {
            return Vec::new();
        };
        if line.mixed {
            return self.take(number, |pending| pending.deadline <= now);
        }
        let mut late = Vec::new();
        while let Some(pending) = line.queue.pop_front_if(|first| first.deadline <= now) {
            late.push(pending);
        }
        self.taken(number);
        late
    }

    /// Takes the messages of a line.
    pub(super) fn take_all(&mut self, number: u32) -> Vec<Pending> {
        self.take(number, |_| true)
    }

    fn take(&mut self, number: u32, which: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let Some(line) = self.all.get_mut(&number) else {
            return Vec::new();
        };
        let all = std::mem::take(&mut line.queue);
        let (taken, left): (Vec<Pending>, Vec<Pending>) = all.into_iter().partition(which);
        line.queue = left.into();
        self.taken(number);
        taken
    }

    /// Takes everything.
    pub(super) fn clear(&mut self) -> Vec<Pending> {
        self.busy.clear();
        let lines = self.all.values_mut();
        lines
            .flat_map(|line| std::mem::take(&mut line.queue))
            .collect()
    }

    /// Ends lines to which no subject comes any more.
    pub(super) fn retire(&mut self) {
        let unused = |_: &u32, line: &mut Line| {
            line.topics == 0 && line.queue.is_empty() && !line.groups.is_empty()
        };
        for (_, line) in self.all.extract_if(.., unused) {
            self.numbers.remove(&(line.purpose, line.groups));
        }
    }
}
