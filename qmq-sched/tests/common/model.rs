//! What a scheduler must do, as a map.

use std::collections::{BTreeMap, BTreeSet};

use qmq_sched::{Cancelled, DelayId};

/// Whether a message is with whoever delivers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    No,
    /// Handed out; and when it comes again, if it was refused or the scheduler opened again since.
    Yes {
        again_ms: Option<u64>,
        refusals: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) due_ms: u64,
    /// Orders equal due times.
    pub(crate) arrival: u64,
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) out: Out,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) items: BTreeMap<DelayId, Item>,
    pub(crate) cancelled: BTreeSet<DelayId>,
    pub(crate) dispatched: BTreeSet<DelayId>,
    /// When each of these was due.
    pub(crate) settled: BTreeMap<DelayId, u64>,
    /// Every id that was ever given.
    pub(crate) known: BTreeSet<DelayId>,
    first_due: BTreeMap<DelayId, u64>,
    arrivals: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pending: Vec<(u64, DelayId, String)>,
    pub(crate) fired: BTreeMap<DelayId, u64>,
}

impl Model {
    pub(crate) fn schedule(&mut self, id: DelayId, due_ms: u64, subject: String, body: String) {
        self.arrivals += 1;
        let item = Item {
            due_ms,
            arrival: self.arrivals,
            subject,
            body,
            out: Out::No,
        };
        assert!(self.known.insert(id), "{id} was given twice");
        self.items.insert(id, item);
        self.first_due.insert(id, due_ms);
    }

    pub(crate) fn answer(&self, id: DelayId) -> Option<Cancelled> {
        match self.items.get(&id) {
            Some(item) if item.out == Out::No => None,
            Some(_) => Some(Cancelled::AlreadyFired),
            None if self.cancelled.contains(&id) => Some(Cancelled::Done),
            None if self.dispatched.contains(&id) => Some(Cancelled::AlreadyFired),
            None => Some(Cancelled::Unknown),
        }
    }

    pub(crate) fn cancel(&mut self, id: DelayId) -> Cancelled {
        self.answer(id).unwrap_or_else(|| {
            self.settle(id);
            self.cancelled.insert(id);
            Cancelled::Done
        })
    }

    fn settle(&mut self, id: DelayId) {
        if let Some(item) = self.items.remove(&id) {
            // An id tells where its message was scheduled first.
            let first = self.first_due[&id].min(item.due_ms);
            self.settled.insert(id, first);
        }
    }

    pub(crate) fn reschedule(&mut self, id: DelayId, due_ms: u64) -> Cancelled {
        if self.answer(id) == Some(Cancelled::Done) {
            return Cancelled::AlreadyCancelled;
        }
        self.answer(id).unwrap_or_else(|| {
            self.arrivals += 1;
            let item = self.items.get_mut(&id).expect("it is pending");
            (item.due_ms, item.arrival) = (due_ms, self.arrivals);
            Cancelled::Done
        })
    }

    fn in_order(&self, wanted: impl Fn(&Item) -> bool) -> Vec<(u64, u64, DelayId)> {
        let wanted = self.items.iter().filter(|(_, item)| wanted(item));
        let mut all: Vec<_> = wanted
            .map(|(&id, item)| (item.due_ms, item.arrival, id))
            .collect();
        all.sort_unstable();
        all
    }

    pub(crate) fn due(
        &mut self,
        now: u64,
        max: usize,
        outstanding_max: usize,
    ) -> Vec<(u64, DelayId)> {
        let again_at = |item: &Item| match item.out {
            Out::Yes { again_ms, .. } => again_ms,
            Out::No => None,
        };
        let mut again: Vec<_> = self
            .in_order(|item| again_at(item).is_some_and(|at| at <= now))
            .into_iter()
            .map(|(due, arrival, id)| (again_at(&self.items[&id]), due, arrival, id))
            .collect();
        again.sort_unstable();
        again.truncate(max);
        let out = self
            .items
            .values()
            .filter(|item| item.out != Out::No)
            .count();
        let room = outstanding_max.saturating_sub(out).min(max - again.len());
        let mut first = self.in_order(|item| item.out == Out::No && item.due_ms <= now);
        first.truncate(room);
        let all = again.into_iter().map(|(_, due, _, id)| (due, id));
        let all: Vec<_> = all
            .chain(first.into_iter().map(|(due, _, id)| (due, id)))
            .collect();
        for (_, id) in &all {
            let item = self.items.get_mut(id).expect("it is there");
            let refusals = match item.out {
                Out::Yes { refusals, .. } => refusals,
                Out::No => 0,
            };
            item.out = Out::Yes {
                again_ms: None,
                refusals,
            };
        }
        all
    }

    pub(crate) fn dispatched(&mut self, ids: &[DelayId]) -> usize {
        let mut count = 0;
        for id in ids {
            if self.items.get(id).is_some_and(|item| item.out != Out::No) {
                self.settle(*id);
                self.dispatched.insert(*id);
                count += 1;
            }
        }
        count
    }

    pub(crate) fn refused(&mut self, now: u64, ids: &[DelayId]) {
        for id in ids {
            if let Some(item) = self.items.get_mut(id)
                && let Out::Yes { again_ms, refusals } = &mut item.out
            {
                let at = now + (1_000 << *refusals).min(60_000);
                *again_ms = Some(at.max(item.due_ms));
                *refusals += 1;
            }
        }
    }

    /// What is handed out and not dispatched comes again.
    pub(crate) fn reopened(&mut self) {
        for item in self.items.values_mut() {
            if item.out != Out::No {
                item.out = Out::Yes {
                    again_ms: Some(item.due_ms),
                    refusals: 0,
                };
            }
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        let pending = self.in_order(|item| item.out == Out::No);
        let fired = self.items.iter().filter(|(_, item)| item.out != Out::No);
        Seen {
            pending: pending
                .into_iter()
                .map(|(due, _, id)| (due, id, self.items[&id].subject.clone()))
                .collect(),
            fired: fired.map(|(&id, item)| (id, item.due_ms)).collect(),
        }
    }
}
