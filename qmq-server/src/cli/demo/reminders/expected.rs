//! What a scheduler without a disk would do: a sorted set.

use std::collections::BTreeSet;

use qmq_sched::Cancelled;

/// When a reminder is due, and how many were given a due time before it was.
type Place = (u64, u64);

/// What is to be.
#[derive(Debug)]
pub(super) struct Expected {
    /// Of each flight whose reminder is pending.
    places: Vec<Option<Place>>,
    pending: BTreeSet<(Place, u32)>,
    given: u64,
}

/// A reminder that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fire {
    /// When it was to.
    pub(super) due_ms: u64,
    /// Whether it was the next.
    pub(super) in_order: bool,
}

impl Expected {
    pub(super) fn new(flights: usize) -> Self {
        Self {
            places: vec![None; flights],
            pending: BTreeSet::new(),
            given: 0,
        }
    }

    pub(super) fn schedule(&mut self, flight: u32, due_ms: u64) {
        let place = (due_ms, self.given);
        self.given += 1;
        self.places[flight as usize] = Some(place);
        self.pending.insert((place, flight));
    }

    /// The right answer.
    pub(super) fn cancel(&mut self, flight: u32) -> Cancelled {
        match self.places[flight as usize].take() {
            None => Cancelled::AlreadyFired,
            Some(place) => {
                self.pending.remove(&(place, flight));
                Cancelled::Done
            }
        }
    }

    /// The right answer.
    pub(super) fn retime(&mut self, flight: u32, due_ms: u64) -> Cancelled {
        let answer = self.cancel(flight);
        if answer == Cancelled::Done {
            self.schedule(flight, due_ms);
        }
        answer
    }

    /// A reminder comes; `None`: it should not.
    pub(super) fn fire(&mut self, flight: u32) -> Option<Fire> {
        let place = self.places[flight as usize].take()?;
        let in_order = self.pending.first() == Some(&(place, flight));
        self.pending.remove(&(place, flight));
        Some(Fire {
            due_ms: place.0,
            in_order,
        })
    }

    /// Flights whose reminder is still to come.
    pub(super) fn pending(&self) -> impl Iterator<Item = u32> {
        self.pending.iter().map(|(_, flight)| *flight)
    }
}
