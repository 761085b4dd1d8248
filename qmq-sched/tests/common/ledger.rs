//! What was done to each message and how sure that is, so that a test knows what may be left of it.

use std::collections::BTreeMap;

use qmq_sched::{Cancelled, DelayId, Error, Scheduler};
use qmq_store::Durability;

use super::desk::{Desk, drain, message};
use super::{DAY, MINUTE, Rng};

/// How sure it is that something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    /// The call failed.
    Maybe,
    /// Survives the death of the process.
    Buffered,
    /// Survives a loss of power.
    Synced,
}

/// Due at a time, or settled.
type Place = Option<u64>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// By body: where the message was put, one after the other.
    messages: BTreeMap<String, Vec<(Place, Sure)>>,
    ids: BTreeMap<DelayId, String>,
}

impl Ledger {
    fn note(&mut self, body: &str, place: Place, sure: Sure) {
        let places = self.messages.entry(body.to_owned()).or_default();
        places.push((place, sure));
        if sure == Sure::Synced {
            self.synced();
        }
    }

    /// Everything that was sure is so at a loss of power.
    pub(crate) fn synced(&mut self) {
        for (_, sure) in self.messages.values_mut().flatten() {
            if *sure == Sure::Buffered {
                *sure = Sure::Synced;
            }
        }
    }

    /// The power has gone since, and stores into a mapping do not notice.
    pub(crate) fn doubt_since(&mut self, before: &Self) {
        for (body, places) in &mut self.messages {
            let known = before.messages.get(body).map_or(0, Vec::len);
            for (_, sure) in &mut places[known..] {
                if *sure == Sure::Buffered {
                    *sure = Sure::Maybe;
                }
            }
        }
    }

    fn changed<T>(
        &mut self,
        body: &str,
        place: Place,
        durability: Durability,
        done: Result<T, Error>,
    ) -> Result<T, Error> {
        let sure = match (&done, durability) {
            (Err(_), _) => Sure::Maybe,
            (_, Durability::Buffered) => Sure::Buffered,
            _ => Sure::Synced,
        };
        self.note(body, place, sure);
        done
    }

    /// One random thing. The error is that of the call.
    pub(crate) fn step(
        &mut self,
        desk: &Desk,
        scheduler: &Scheduler,
        rng: &mut Rng,
    ) -> Result<(), Error> {
        let now = desk.now();
        let due = now + [0, 1, rng.below(MINUTE), rng.below(9 * DAY)][rng.below(4) as usize];
        let durability = [Durability::Buffered, Durability::Synced][rng.below(2) as usize];
        let known: Vec<DelayId> = self.ids.keys().copied().collect();
        match rng.below(20) {
            0..9 => {
                let body = format!(
                    "{}{}",
                    self.messages.len(),
                    "x".repeat(rng.below(400) as usize)
                );
                let id = scheduler.schedule_with(due, &message(body.clone()), durability);
                let id = self.changed(&body, Some(due), durability, id)?;
                self.ids.insert(id, body);
            }
            9..11 => {
                if let Some(id) = rng.pick(&known) {
                    let body = self.ids[id].clone();
                    match scheduler.cancel_with(*id, durability) {
                        Ok(Cancelled::Done) => self.note(&body, None, Sure::Buffered),
                        Err(error) => self.changed(&body, None, durability, Err(error))?,
                        Ok(_) => {}
                    }
                }
            }
            11..14 => {
                if let Some(id) = rng.pick(&known) {
                    let body = self.ids[id].clone();
                    let is_pending = scheduler.get(*id)?.is_some();
                    match scheduler.reschedule_with(*id, due, durability) {
                        Ok(Cancelled::Done) => {
                            assert!(is_pending, "{id} had been cancelled");
                            self.changed(&body, Some(due), durability, Ok(()))?;
                        }
                        Err(error) if is_pending => {
                            self.changed(&body, Some(due), durability, Err(error))?;
                        }
                        answer => drop(answer?),
                    }
                }
            }
            14..17 => {
                for one in scheduler.due(now, rng.below(9) as usize)? {
                    assert!(one.due_ms <= now, "early");
                    let body = self.ids[&one.id].clone();
                    if rng.below(3) == 0 {
                        scheduler.refused(now, &[one.id]);
                    } else {
                        let done = scheduler.dispatched(&[one.id]);
                        self.changed(&body, None, Durability::Buffered, done)?;
                    }
                }
            }
            17 => desk.clock.advance(rng.below(2 * MINUTE)),
            18 => desk.clock.advance(rng.below(DAY)),
            _ => {
                scheduler.checkpoint()?;
                scheduler.store().maintain()?;
            }
        }
        Ok(())
    }

    /// Where a message may be: where it was put by the last call that is sure, or by a later one; `Err`: it may not be there at all.
    fn places(&self, body: &str, power_lost: bool) -> (Vec<Place>, bool) {
        let least = if power_lost {
            Sure::Synced
        } else {
            Sure::Buffered
        };
        let all = &self.messages[body];
        let sure = all.iter().rposition(|&(_, sure)| sure >= least);
        let places = all[sure.unwrap_or(0)..].iter().map(|&(place, _)| place);
        (places.collect(), sure.is_some())
    }

    /// Opens what is left, and sees that everything comes that must, once, in its time, as it was; and nothing else.
    pub(crate) fn check(&self, desk: &Desk, power_lost: bool) {
        let scheduler = desk.open();
        // A run can be missing, if a sync of names has failed. A checkpoint is never ahead of the log.
        let rebuilt = scheduler.open_report().rebuilt.as_deref();
        assert!(
            !rebuilt.is_some_and(|why| why.contains("goes up to")),
            "{rebuilt:?}"
        );
        let pending = scheduler.totals().count;
        let mut fired = BTreeMap::new();
        for now in [
            desk.now(),
            desk.now() + MINUTE,
            desk.now() + DAY,
            desk.now() + 99 * DAY,
        ] {
            desk.clock.set(now);
            let mut last = 0;
            for one in drain(&scheduler, now) {
                let body = one.message.expect("nothing is damaged").body().to_vec();
                let body = String::from_utf8(body).unwrap();
                assert!(one.due_ms <= now, "early");
                // What was handed out before comes first.
                assert!(one.due_ms >= last || pending > fired.len() as u64);
                last = one.due_ms;
                assert!(fired.insert(body, one.due_ms).is_none(), "twice");
            }
        }
        assert_eq!(pending, fired.len() as u64, "the totals are wrong");
        assert_eq!(scheduler.totals().count, 0);
        for body in self.messages.keys() {
            let (places, is_there) = self.places(body, power_lost);
            let got = fired.remove(body);
            let is_possible = places.contains(&got) || got.is_none() && !is_there;
            assert!(
                is_possible,
                "{body} came at {got:?}, not {places:?}, {is_there}"
            );
        }
        assert!(fired.is_empty(), "nobody scheduled {fired:?}");
        Desk::close(scheduler);
        assert_eq!(desk.open().totals().count, 0);
    }
}
