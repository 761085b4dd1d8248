//! What each record of the log does to the state.

use crate::bucket::State;
use crate::core::{Core, Outstanding, Place};
use crate::entry::{Entry, Key, Origin};
use crate::event::{Event, Move};
use crate::run::DamagedRun;

impl Core {
    /// Takes a record of the log: the one with the sequence `next_sequence`.
    pub(crate) fn apply(&mut self, event: &Event<'_>) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        match event {
            Event::Scheduled {
                key,
                generation,
                number,
                subject,
                body_len,
            } => {
                self.bucket_mut(*key).give_out(key.slot, *generation);
                self.subjects.note(*number, subject);
                self.needed.add(sequence);
                self.add(Entry {
                    key: *key,
                    sequence,
                    subject: *number,
                    body_len: *body_len,
                    origin: Origin::Scheduled,
                });
            }
            Event::Cancelled(one) => {
                self.settle(
                    one.home,
                    one.sequence,
                    one.subject,
                    one.body_len,
                    State::Gone,
                );
            }
            Event::Rescheduled(one) => self.reschedule(one, sequence),
            Event::HandedOut(entries) => {
                for &(entry, home) in entries {
                    if self.is_open(home) {
                        self.set(entry.key, home, State::HandedOut);
                        self.outstanding.insert(home, Outstanding::new(entry));
                    }
                }
            }
            Event::Dispatched(homes) => {
                for &home in homes {
                    match self.outstanding.remove(&home) {
                        Some(one) => self.settle_entry(&one.entry, home, State::Dispatched),
                        None if self.is_open(home) => self.unexplained.push(home),
                        None => {}
                    }
                }
            }
            Event::Dropped(entries) => {
                self.dropped += entries.len() as u64;
                for (entry, home) in entries {
                    self.settle_entry(entry, *home, State::Gone);
                }
            }
            Event::Opened { .. } => self.opened = sequence,
        }
    }

    /// Whether something may still become of a message. Of one whose record is gone, because it was settled long ago, nothing may: later
    /// records of it count for nothing.
    pub(crate) fn is_open(&self, home: Key) -> bool {
        self.bucket(home).is_some_and(|bucket| {
            home.slot < bucket.slots() && !bucket.state(home.slot).is_settled()
        })
    }

    /// A record that cannot be read stands in its place.
    pub(crate) fn skip(&mut self) {
        self.skipped.insert(self.next_sequence);
        self.next_sequence += 1;
    }

    /// Settles what was dispatched though the record of its hand-out cannot be read, and forgets what was skipped.
    pub(crate) fn settle_unexplained(&mut self) -> Result<(), DamagedRun> {
        while let Some(&home) = self.unexplained.last() {
            if let Some(entry) = self.entry_of(home)?.filter(|_| self.is_open(home)) {
                self.settle_entry(&entry, home, State::Dispatched);
            }
            self.unexplained.pop();
        }
        self.skipped.clear();
        Ok(())
    }

    /// So many records were skipped, each of which may have given out a slot of any bucket: none of these is given out again.
    pub(crate) fn leave_out(&mut self, skipped: u32) {
        self.first_slot = self.first_slot.saturating_add(skipped);
        for bucket in self.buckets.values_mut() {
            bucket.leave_out(skipped);
        }
    }

    fn add(&mut self, entry: Entry) {
        self.subjects.add(&entry);
        self.stage.push(entry);
        let window = self.window(entry.key < self.backlog.limit());
        if window.takes(entry.key) {
            window.push(entry);
        }
    }

    fn reschedule(&mut self, one: &Move, sequence: u64) {
        if !self.is_open(one.home) {
            return;
        }
        self.subjects.remove(one.subject, one.body_len);
        if one.from != one.home {
            self.bucket_mut(one.from).set(one.from.slot, State::Gone);
        }
        self.bucket_mut(one.to)
            .give_out(one.to.slot, one.generation);
        let place = Place {
            key: one.to,
            record: sequence,
            body: one.sequence,
        };
        self.needed.add(sequence);
        if let Some(left) = self.moved.insert(one.home, place) {
            self.needed.remove(left.record);
        }
        self.add(Entry {
            key: one.to,
            sequence,
            subject: one.subject,
            body_len: one.body_len,
            origin: Origin::Rescheduled,
        });
    }

    fn settle_entry(&mut self, entry: &Entry, home: Key, state: State) {
        self.settle(home, entry.sequence, entry.subject, entry.body_len, state);
    }

    fn settle(&mut self, home: Key, sequence: u64, subject: u32, body_len: u32, state: State) {
        if !self.is_open(home) {
            return;
        }
        self.subjects.remove(subject, body_len);
        match self.moved.remove(&home) {
            Some(place) => {
                self.needed.remove(place.record);
                self.needed.remove(place.body);
                self.set(place.key, home, state);
            }
            None => {
                // The record that moved it there cannot be read: it was never needed, and the one that is stays so.
                if !self.skipped.contains(&sequence) {
                    self.needed.remove(sequence);
                }
                self.set(home, home, state);
            }
        }
    }

    fn set(&mut self, place: Key, home: Key, state: State) {
        self.bucket_mut(place).set(place.slot, state);
        if place != home {
            self.bucket_mut(home).set(home.slot, state);
        }
    }
}
