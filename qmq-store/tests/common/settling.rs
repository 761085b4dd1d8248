//! The part of the workload that settles what was pulled: acks with holes, refusals, departures, copies, resets.

use std::time::Duration;

use qmq_store::{Durability, Error, Member, ResetTo};

use super::model::{Key, Step};
use super::rng::Rng;
use super::workload::{SUBJECTS, Session, durability};

impl Session {
    /// Some batch, and some of its pull sequences: with holes.
    fn some_pulls(&mut self, rng: &mut Rng) -> Option<(Key, Member, Vec<u64>)> {
        if self.batches.is_empty() {
            return None;
        }
        let at = rng.below(self.batches.len() as u64) as usize;
        let (key, batch) = &self.batches[at];
        let share = *rng.pick(&[30, 60, 100]);
        let pulls = batch.iter().map(|one| one.pull_sequence());
        let pulls: Vec<u64> = pulls.filter(|_| rng.chance(share)).collect();
        let picked = (key.clone(), batch.member().clone(), pulls);
        if share == 100 {
            self.batches.remove(at);
        }
        Some(picked)
    }

    pub(super) fn settle(&mut self, rng: &mut Rng, refuse: bool) -> Result<(), Error> {
        let Some((key, member, pulls)) = self.some_pulls(rng) else {
            return Ok(());
        };
        let ranges: Vec<_> = pulls.iter().map(|pull| *pull..=*pull).collect();
        let before = self.store.watermarks().written;
        let durability = durability(rng);
        let outcome = if refuse {
            let delay = Duration::from_millis(rng.below(100));
            self.store.nack(&member, &ranges, delay, durability)
        } else {
            self.store.ack_ranges(&member, &ranges, durability)
        };
        let after = self.store.watermarks();
        if let Ok(outcome) = &outcome {
            let held = &self.model.groups[&key].now.held;
            let held = held.get(&member.consumer).cloned().unwrap_or_default();
            let pending = pulls.iter().filter(|pull| held.contains_key(pull)).count() as u64;
            let retention = !self.model.floors.is_empty();
            assert!(
                outcome.acked == pending || retention,
                "{key:?} {outcome:?} {pending}"
            );
            let durable = durability == Durability::Buffered || outcome.acked == 0;
            assert!(durable || after.synced >= after.written);
        }
        if after.written > before {
            let step = if refuse { Step::Nacked } else { Step::Acked };
            let group = self.model.groups.entry(key).or_default();
            group.did(after.written, step(member.consumer, pulls));
        }
        outcome.map(drop)
    }

    pub(super) fn gone(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let (key, consumer) = Self::key(rng);
        if !self.model.groups.contains_key(&key) {
            return Ok(());
        }
        match self.store.consumer_gone(&key.subject, key.group, consumer) {
            // A crash may have taken the group back.
            Err(Error::UnknownGroup { .. } | Error::UnknownSubject { .. }) => return Ok(()),
            outcome => outcome?,
        };
        let end = self.store.watermarks().written;
        let group = self.model.groups.entry(key).or_default();
        group.did(end, Step::Gone(consumer.to_owned()));
        Ok(())
    }

    pub(super) fn copy_and_ack(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let Some((key, member, pulls)) = self.some_pulls(rng) else {
            return Ok(());
        };
        let Some(&pull) = pulls.first() else {
            return Ok(());
        };
        let held = self.model.groups[&key].now.held.get(&member.consumer);
        let held = held.and_then(|held| held.get(&pull)).copied();
        let to = *rng.pick(&SUBJECTS);
        let before = self.store.watermarks().written;
        let outcome = self.store.copy_and_ack(&member, pull, to, durability(rng));
        let end = self.store.watermarks().written;
        let retention = !self.model.floors.is_empty();
        match (&outcome, held) {
            (Err(Error::NotHeld { .. }), held) => {
                assert!(held.is_none() || retention, "{key:?} {pull} is held");
                return Ok(());
            }
            (Ok(at), Some(_)) => assert_eq!(at.sequence, self.model.next(to)),
            (Ok(_), None) => panic!("{key:?} {pull}: settled twice"),
            (Err(_), _) => {}
        }
        if let Some(sequence) = held {
            let copied = self.model.subjects[&key.subject][sequence as usize].clone();
            let acked = Step::Acked(member.consumer, vec![pull]);
            if end > before {
                self.sent(to, copied.body, copied.tags, end);
                self.model.groups.entry(key).or_default().did(end, acked);
            } else if self.faulty && outcome.is_err() {
                let tried = (vec![(to.to_owned(), copied)], Some((key, acked)));
                self.model.attempt.get_or_insert(tried);
            }
        }
        outcome.map(drop)
    }

    pub(super) fn reset(&mut self, rng: &mut Rng) -> Result<(), Error> {
        let (key, _) = Self::key(rng);
        if key.group == "broadcast" || !self.model.groups.contains_key(&key) {
            return Ok(());
        }
        let to = rng.below(self.model.next(&key.subject) + 1);
        let cursor = match self
            .store
            .reset(&key.subject, key.group, ResetTo::Sequence(to))
        {
            Err(Error::UnknownGroup { .. } | Error::UnknownSubject { .. }) => return Ok(()),
            outcome => outcome?,
        };
        let end = self.store.watermarks().written;
        let group = self.model.groups.entry(key).or_default();
        group.did(end, Step::Reset(cursor));
        Ok(())
    }
}
