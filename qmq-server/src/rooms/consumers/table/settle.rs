//! Acks and nacks: whose they are, what becomes of them, and when they are answered.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qmq_store::{AckOutcome, Durability, Error, Store};
use qmq_wire::{Ack, Acked, Code, Nack, Refusal};

use super::super::{As, Key, Settled};
use super::Table;
use crate::rooms::refusals::code;

/// What an ack and a nack have in common.
struct Asked<'a> {
    number: u32,
    durability: qmq_wire::Durability,
    ranges: &'a [(u64, u64)],
}

impl Table {
    pub(super) fn ack(&mut self, key: &Key, speaker: As, ack: &Ack, reply: Settled) {
        let asked = Asked {
            number: ack.number,
            durability: ack.durability,
            ranges: &ack.ranges,
        };
        let member = key.member(ack.incarnation);
        let settle = |store: &Store, ranges: &[RangeInclusive<u64>]| {
            store.ack_ranges(&member, ranges, Durability::Buffered)
        };
        let count = |table: &Self, acked| {
            table.counters.acked.fetch_add(acked, Ordering::Relaxed);
            table.activity.acked(&key.subject, acked);
        };
        self.settle(key, speaker, &asked, settle, count, reply);
    }

    pub(super) fn nack(&mut self, key: &Key, speaker: As, nack: &Nack, reply: Settled) {
        let default = AtomicU32::load(&self.options.retry_delay_seconds, Ordering::Relaxed);
        let delay = nack.delay_ms.map_or_else(
            || Duration::from_secs(u64::from(default)),
            |ms| Duration::from_millis(u64::from(ms)),
        );
        let nack_max = self.options.nack_max;
        if delay > nack_max {
            let text = format!(
                "a delay of {} ms; a broker keeps a message back for {} ms at most (consumer.nack.max.ms): ask for less",
                delay.as_millis(),
                nack_max.as_millis()
            );
            return reply(Err(Refusal::new(nack.number, Code::DelayTooLong, text)));
        }
        let asked = Asked {
            number: nack.number,
            durability: nack.durability,
            ranges: &nack.ranges,
        };
        let member = key.member(nack.incarnation);
        let settle = |store: &Store, ranges: &[RangeInclusive<u64>]| match nack.unseen {
            false => store.nack(&member, ranges, delay, Durability::Buffered),
            true => store.release(&member, ranges, delay, Durability::Buffered),
        };
        let count = |table: &Self, nacked| {
            if !nack.unseen {
                table.counters.nacked.fetch_add(nacked, Ordering::Relaxed);
            }
        };
        self.settle(key, speaker, &asked, settle, count, reply);
    }

    fn settle(
        &mut self,
        key: &Key,
        speaker: As,
        asked: &Asked<'_>,
        settle: impl FnOnce(&Store, &[RangeInclusive<u64>]) -> Result<AckOutcome, Error>,
        count: impl FnOnce(&Self, u64),
        reply: Settled,
    ) {
        let store = self.store.clone();
        let possible = self.can_be_as_safe(asked.durability);
        let Ok(consumer) = self.spoken_for(key, speaker) else {
            return reply(Err(fenced(asked.number)));
        };
        let ranges: Vec<_> = asked.ranges.iter().map(|&(a, b)| a..=b).collect();
        let outcome = possible.and_then(|()| settle(&store, &ranges));
        match outcome {
            Ok(outcome) => {
                let late = consumer.map_or(0, |consumer| consumer.settled(asked.ranges));
                count(self, outcome.acked);
                self.delivering.made_room(key);
                let acked = answer_of(asked.number, outcome, late);
                self.answer(asked.durability, acked, reply);
            }
            Err(error) => reply(Err(refusal(asked.number, &error))),
        }
    }

    /// Better not settled than settled and refused.
    fn can_be_as_safe(&self, durability: qmq_wire::Durability) -> Result<(), Error> {
        match durability {
            qmq_wire::Durability::Replicated => self.store.check_replicated(),
            _ => Ok(()),
        }
    }

    /// Answers once what was written is as safe as was asked.
    fn answer(&self, durability: qmq_wire::Durability, acked: Acked, reply: Settled) {
        let durability = match durability {
            qmq_wire::Durability::Default | qmq_wire::Durability::Buffered => {
                return reply(Ok(acked));
            }
            qmq_wire::Durability::Synced => Durability::Synced,
            qmq_wire::Durability::Replicated => Durability::Replicated,
        };
        let end = self.store.watermarks().written;
        self.store.when(end, durability, move |outcome| {
            reply(
                outcome
                    .map(|()| acked)
                    .map_err(|error| refusal(acked.number, &error)),
            );
        });
    }
}

/// To the store a message that was taken back is settled. To the consumer that it was taken from it is not: somebody else has it, or had.
fn answer_of(number: u32, outcome: AckOutcome, late: u64) -> Acked {
    let late = late.min(outcome.already);
    Acked {
        number,
        settled: outcome.acked,
        already: outcome.already - late,
        not_held: outcome.not_owned + late,
    }
}

fn fenced(number: u32) -> Refusal {
    Refusal::new(
        number,
        Code::Fenced,
        "this session is not the consumer's any more; subscribe again",
    )
}

pub(super) fn refusal(number: u32, error: &Error) -> Refusal {
    Refusal::new(number, code(error), error.to_string())
}
