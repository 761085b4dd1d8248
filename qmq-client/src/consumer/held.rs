//! What a consumer holds of one broker's subject: in hand, or settled and not confirmed. It knows no clock and no socket.

use std::collections::{BTreeMap, BTreeSet};

use qmq_wire::{AckRange, Acked, BATCH_MESSAGES_MAX, Code, Retry};
use tokio::sync::oneshot;

use super::error::SettleError;

pub(crate) type Answer = oneshot::Sender<Result<(), SettleError>>;

/// How a message is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    /// It is done.
    Ack,
    /// It shall come again, after so many ms; `None`: when the broker thinks fit.
    Nack(Option<u32>),
    /// Nobody has looked at it: it shall come again after so many ms, and no attempt is counted.
    Unseen(Option<u32>),
}

#[derive(Debug)]
enum State {
    /// The application has it.
    InHand,
    /// The application is done with it, and the broker has not said that it knows.
    Settling(How, Option<Answer>),
}

#[derive(Debug)]
struct Item {
    sequence: u64,
    /// Under which it was delivered last.
    incarnation: u32,
    bytes: u64,
    /// Whether it used up credit of the present connection, which has not been given back.
    charged: bool,
    /// The broker was told what became of it, and the connection was lost before it answered.
    unanswered: bool,
    state: State,
}

impl Item {
    fn is_unseen(&self) -> bool {
        matches!(self.state, State::Settling(How::Unseen(_), _))
    }

    /// What to say of it when the consumer does not hold it any more.
    fn lost(&self) -> SettleError {
        match self.unanswered {
            true => SettleError::Unknown,
            false => SettleError::NotHeld,
        }
    }
}

/// What a delivered message is to the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The application gets it.
    New,
    /// The application has it.
    InHand,
    /// The application is done with it; the broker will be told.
    Settled,
}

/// An ack or nack to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) number: u32,
    pub(crate) how: How,
    pub(crate) incarnation: u32,
    pub(crate) ranges: Vec<AckRange>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Held {
    incarnation: u32,
    /// By pull sequence.
    items: BTreeMap<u64, Item>,
    /// Settled and not yet told, by what is told.
    ready: BTreeMap<How, BTreeSet<u64>>,
    /// Those of an ack that did not go well as a whole: each is told alone, so that each gets its own answer.
    alone: BTreeSet<(How, u64)>,
    /// Told and not answered.
    flying: Option<(u32, How, Vec<u64>)>,
    next_number: u32,
    /// The last pull sequence of an earlier incarnation. A new message behind it shows that no more of them come: what is held is delivered first.
    stale_max: Option<u64>,
    /// What was held when the connection began, by pull sequence: the sequence, and whether the broker has said since that it is settled. A delivery of it
    /// that the broker had prepared before that may still come.
    resumed: BTreeMap<u64, (u64, bool)>,
}

impl Held {
    /// The connection is lost, and its credit with it. No answer comes any more.
    pub(crate) fn disconnected(&mut self) {
        for pull_sequence in self.flying.take().into_iter().flat_map(|(.., told)| told) {
            if let Some(item) = self.items.get_mut(&pull_sequence) {
                item.unanswered = true;
            }
        }
        for item in self.items.values_mut() {
            item.charged = false;
        }
    }

    /// A connection begins. What was not answered is told again, if it means the same to the broker as before.
    pub(crate) fn connected(&mut self, incarnation: u32) {
        self.disconnected();
        let held = self.items.iter();
        self.resumed = held
            .map(|(pull_sequence, item)| (*pull_sequence, (item.sequence, false)))
            .collect();
        self.begin(incarnation);
        for (pull_sequence, item) in &mut self.items {
            if let (State::Settling(how, _), true) = (&item.state, item.incarnation == incarnation)
            {
                self.ready.entry(*how).or_default().insert(*pull_sequence);
            }
        }
    }

    fn begin(&mut self, incarnation: u32) {
        self.incarnation = incarnation;
        self.ready.clear();
        self.alone.clear();
        let items = self.items.iter().rev();
        let mut stale = items.filter(|(_, item)| item.incarnation != incarnation);
        self.stale_max = stale.next().map(|(pull_sequence, _)| *pull_sequence);
    }

    /// Whether there are messages of another incarnation, which count for nothing until they come again.
    pub(crate) fn has_stale(&self) -> bool {
        self.stale_max.is_some()
    }

    /// What has not come again under the new incarnation is somebody else's. The application learns it when it settles.
    pub(crate) fn drop_stale(&mut self) {
        self.stale_max = None;
        let incarnation = self.incarnation;
        let stale = |_: &u64, item: &mut Item| item.incarnation != incarnation;
        for (_, item) in self.items.extract_if(.., stale) {
            let lost = item.lost();
            if let State::Settling(_, Some(answer)) = item.state {
                let _ = answer.send(Err(lost));
            }
        }
    }

    /// A message was delivered.
    pub(crate) fn arrived(
        &mut self,
        pull_sequence: u64,
        sequence: u64,
        bytes: u64,
        incarnation: u32,
    ) -> Arrival {
        if incarnation != self.incarnation {
            self.flying = None;
            self.begin(incarnation);
        }
        if let Some(item) = self.items.get_mut(&pull_sequence)
            && item.sequence == sequence
        {
            item.incarnation = incarnation;
            if let State::Settling(how, _) = &item.state {
                let flying = self.flying.as_ref();
                if !flying.is_some_and(|(_, _, flying)| flying.contains(&pull_sequence)) {
                    self.ready.entry(*how).or_default().insert(pull_sequence);
                }
                return Arrival::Settled;
            }
            item.charged = true;
            return Arrival::InHand;
        }
        if self.resumed.get(&pull_sequence) == Some(&(sequence, true)) {
            return Arrival::Settled;
        }
        if self.stale_max.is_some_and(|last| last < pull_sequence) {
            self.drop_stale();
        }
        let item = Item {
            sequence,
            incarnation,
            bytes,
            charged: true,
            unanswered: false,
            state: State::InHand,
        };
        if let Some(before) = self.items.insert(pull_sequence, item) {
            let lost = before.lost();
            if let State::Settling(_, Some(answer)) = before.state {
                let _ = answer.send(Err(lost));
            }
        }
        Arrival::New
    }

    /// The application is done with a message. Answers the bytes of credit that are free now.
    pub(crate) fn settle(
        &mut self,
        (pull_sequence, sequence): (u64, u64),
        how: How,
        answer: Option<Answer>,
    ) -> Option<u64> {
        let known = self.items.get_mut(&pull_sequence);
        let Some(item) = known.filter(|item| item.sequence == sequence) else {
            if let Some(answer) = answer {
                let _ = answer.send(Err(SettleError::NotHeld));
            }
            return None;
        };
        item.state = State::Settling(how, answer);
        if item.incarnation == self.incarnation {
            self.ready.entry(how).or_default().insert(pull_sequence);
        }
        std::mem::take(&mut item.charged).then_some(item.bytes)
    }

    /// Nothing needs to be told of a message any more.
    pub(crate) fn forget(&mut self, pull_sequence: u64) -> Option<u64> {
        let item = self.items.remove(&pull_sequence)?;
        item.charged.then_some(item.bytes)
    }

    /// What to tell the broker next; `None` while an answer is awaited, or if there is nothing. Whatever is settled meanwhile goes with the next.
    pub(crate) fn next_settlement(&mut self) -> Option<Settlement> {
        if self.flying.is_some() {
            return None;
        }
        let (how, told) = match self.alone.pop_first() {
            Some((how, pull_sequence)) => (how, vec![pull_sequence]),
            None => {
                let mut entry = self.ready.first_entry()?;
                let how = *entry.key();
                let all = entry.get_mut();
                let most = BATCH_MESSAGES_MAX as usize;
                let told: Vec<u64> = match all.iter().nth(most).copied() {
                    Some(rest) => {
                        let rest = all.split_off(&rest);
                        std::mem::replace(all, rest).into_iter().collect()
                    }
                    None => entry.remove().into_iter().collect(),
                };
                (how, told)
            }
        };
        let settlement = Settlement {
            number: self.number(),
            how,
            incarnation: self.incarnation,
            ranges: ranges(told.iter().copied()),
        };
        self.flying = Some((settlement.number, how, told));
        Some(settlement)
    }

    /// The number of the next request.
    pub(crate) fn number(&mut self) -> u32 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    /// The broker answered.
    pub(crate) fn answered(&mut self, acked: &Acked) {
        let Some((_, how, told)) = self.flying.take_if(|(number, ..)| *number == acked.number)
        else {
            return;
        };
        if acked.not_held > 0 && told.len() > 1 {
            self.alone.extend(told.into_iter().map(|told| (how, told)));
            return;
        }
        for pull_sequence in told {
            let outcome = match acked.not_held {
                0 => Ok(()),
                _ => Err(self
                    .items
                    .get(&pull_sequence)
                    .map_or(SettleError::NotHeld, Item::lost)),
            };
            self.conclude(pull_sequence, outcome);
        }
    }

    /// The broker refused. Answers whether the same may be told again after a pause.
    pub(crate) fn refused(&mut self, number: u32, code: Code, text: &str) -> bool {
        let Some((_, how, told)) = self.flying.take_if(|(flying, ..)| *flying == number) else {
            return false;
        };
        if code.retry() != Retry::Never {
            self.ready.entry(how).or_default().extend(told);
            return true;
        }
        if code == Code::StaleIncarnation {
            // They come again under the new one, or they are lost; see `drop_stale`.
            for pull_sequence in told {
                if let Some(item) = self.items.get_mut(&pull_sequence) {
                    item.incarnation = item.incarnation.wrapping_sub(1);
                }
            }
            return false;
        }
        for pull_sequence in told {
            let error = match code {
                Code::Fenced => SettleError::Fenced,
                code => SettleError::Refused {
                    code,
                    text: text.to_owned(),
                },
            };
            self.conclude(pull_sequence, Err(error));
        }
        false
    }

    fn conclude(&mut self, pull_sequence: u64, outcome: Result<(), SettleError>) {
        if let (Some((_, settled)), Ok(())) = (self.resumed.get_mut(&pull_sequence), &outcome) {
            *settled = true;
        }
        if let Some(item) = self.items.remove(&pull_sequence)
            && let State::Settling(_, answer) = item.state
        {
            match (answer, outcome) {
                (Some(answer), outcome) => drop(answer.send(outcome)),
                (None, Err(error)) => {
                    tracing::warn!(pull_sequence, %error, "a message could not be settled");
                }
                (None, Ok(())) => {}
            }
        }
    }

    /// What is still being worked on, under the present incarnation.
    pub(crate) fn renewals(&self) -> Vec<AckRange> {
        let mine = self
            .items
            .iter()
            .filter(|(_, item)| item.incarnation == self.incarnation);
        let mut ranges = ranges(mine.map(|(pull_sequence, _)| *pull_sequence));
        ranges.truncate(BATCH_MESSAGES_MAX as usize);
        ranges
    }

    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Whether nothing is held that somebody has looked at.
    pub(crate) fn is_unseen(&self) -> bool {
        self.items.values().all(Item::is_unseen)
    }

    /// The consumer ends, and whoever waits is told `why`. Answers how many messages were not settled, as far as is known.
    pub(crate) fn close(self, why: &SettleError) -> usize {
        let left = self.items.values().filter(|item| !item.is_unseen()).count();
        for item in self.items.into_values() {
            if let State::Settling(_, Some(answer)) = item.state {
                let _ = answer.send(Err(why.clone()));
            }
        }
        left
    }
}

/// Ranges of ascending numbers.
fn ranges(numbers: impl Iterator<Item = u64>) -> Vec<AckRange> {
    let mut ranges: Vec<AckRange> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three messages under incarnation 1, with pull sequences and sequences 0 to 2.
    fn three() -> Held {
        let mut held = Held::default();
        held.connected(1);
        for n in 0..3 {
            assert_eq!(held.arrived(n, n, 10, 1), Arrival::New);
        }
        held
    }

    fn acked(number: u32, not_held: u64) -> Acked {
        Acked {
            number,
            not_held,
            ..Acked::default()
        }
    }

    fn ack(held: &mut Held, n: u64) -> oneshot::Receiver<Result<(), SettleError>> {
        let (answer, answered) = oneshot::channel();
        held.settle((n, n), How::Ack, Some(answer));
        answered
    }

    #[test]
    fn acks_made_while_one_is_under_way_go_together() {
        let mut held = three();
        let first = ack(&mut held, 1);
        let told = held.next_settlement().unwrap();
        assert_eq!(told.ranges, [(1, 1)]);
        let _rest = (ack(&mut held, 0), ack(&mut held, 2));
        assert_eq!(held.next_settlement(), None);
        held.answered(&acked(told.number, 0));
        assert_eq!(first.blocking_recv().unwrap(), Ok(()));
        assert_eq!(held.next_settlement().unwrap().ranges, [(0, 0), (2, 2)]);
    }

    #[test]
    fn acks_and_nacks_and_their_delays_do_not_mix() {
        let mut held = three();
        held.settle((0, 0), How::Nack(Some(5)), None);
        held.settle((1, 1), How::Ack, None);
        held.settle((2, 2), How::Nack(None), None);
        let mut told = Vec::new();
        while let Some(settlement) = held.next_settlement() {
            told.push((settlement.how, settlement.ranges[0]));
            held.answered(&acked(settlement.number, 0));
        }
        let expected = [
            (How::Ack, (1, 1)),
            (How::Nack(None), (2, 2)),
            (How::Nack(Some(5)), (0, 0)),
        ];
        assert_eq!(told, expected);
        assert!(held.items.is_empty());
    }

    #[test]
    fn what_was_settled_while_it_was_on_its_way_again_is_not_shown_again() {
        let mut held = three();
        let acked_meanwhile = ack(&mut held, 1);
        held.connected(1);
        let told = held.next_settlement().unwrap();
        assert_eq!(told.ranges, [(1, 1)]);
        // The broker had prepared what it delivers again before it saw the ack.
        held.answered(&acked(told.number, 0));
        assert_eq!(acked_meanwhile.blocking_recv().unwrap(), Ok(()));
        assert_eq!(held.arrived(0, 0, 10, 1), Arrival::InHand);
        assert_eq!(held.arrived(1, 1, 10, 1), Arrival::Settled);
        assert_eq!(held.next_settlement(), None, "the broker knows");
        assert_eq!(held.arrived(1, 9, 10, 1), Arrival::New, "another message");
    }

    #[test]
    fn what_does_not_come_again_under_a_new_incarnation_is_somebody_elses() {
        let mut held = three();
        let lost = ack(&mut held, 0);
        let kept = ack(&mut held, 2);
        held.connected(2);
        assert_eq!(held.next_settlement(), None, "nothing under the old one");
        assert!(held.renewals().is_empty());
        assert_eq!(held.arrived(2, 2, 10, 2), Arrival::Settled);
        assert_eq!(held.arrived(7, 7, 10, 2), Arrival::New);
        assert_eq!(lost.blocking_recv().unwrap(), Err(SettleError::NotHeld));
        let told = held.next_settlement().unwrap();
        assert_eq!((told.incarnation, &told.ranges[..]), (2, &[(2, 2)][..]));
        held.answered(&acked(told.number, 0));
        assert_eq!(kept.blocking_recv().unwrap(), Ok(()));
        // In hand, and lost: the application learns it when it settles.
        let late = ack(&mut held, 1);
        assert_eq!(late.blocking_recv().unwrap(), Err(SettleError::NotHeld));
    }

    #[test]
    fn whoever_was_told_before_a_restart_and_did_not_answer_may_know_or_not() {
        for comes_again in [false, true] {
            let mut held = three();
            let told = ack(&mut held, 0);
            assert_eq!(held.next_settlement().unwrap().ranges, [(0, 0)]);
            let untold = ack(&mut held, 1);
            held.disconnected();
            if comes_again {
                // To the same store, which counts it as not held.
                held.connected(1);
                let again = held.next_settlement().unwrap();
                assert_eq!(again.ranges, [(0, 1)]);
                held.answered(&acked(again.number, 2));
                for _ in 0..2 {
                    let alone = held.next_settlement().unwrap();
                    held.answered(&acked(alone.number, 1));
                }
            } else {
                held.connected(2);
                assert_eq!(held.arrived(7, 7, 10, 2), Arrival::New);
            }
            assert_eq!(told.blocking_recv().unwrap(), Err(SettleError::Unknown));
            assert_eq!(untold.blocking_recv().unwrap(), Err(SettleError::NotHeld));
        }
    }

    #[test]
    fn another_message_under_an_old_number_is_not_taken_for_the_old_one() {
        let mut held = three();
        held.connected(2);
        assert_eq!(held.arrived(1, 9, 10, 2), Arrival::New);
        assert_eq!(held.settle((1, 1), How::Ack, None), None);
        assert_eq!(held.settle((1, 9), How::Ack, None), Some(10));
    }

    #[test]
    fn credit_is_free_once_and_only_on_the_connection_that_took_it() {
        let mut held = three();
        assert_eq!(held.settle((0, 0), How::Ack, None), Some(10));
        held.disconnected();
        assert_eq!(held.settle((1, 1), How::Ack, None), None);
        held.connected(1);
        assert_eq!(held.arrived(2, 2, 10, 1), Arrival::InHand);
        assert_eq!(held.settle((2, 2), How::Ack, None), Some(10));
    }

    #[test]
    fn an_ack_refused_for_a_while_is_told_again_and_one_refused_for_good_is_not() {
        let mut held = three();
        let answered = ack(&mut held, 0);
        let told = held.next_settlement().unwrap();
        assert!(held.refused(told.number, Code::Busy, "busy"));
        let told = held.next_settlement().unwrap();
        assert!(!held.refused(told.number, Code::Denied, "no"));
        assert_eq!(held.next_settlement(), None);
        let outcome = answered.blocking_recv().unwrap();
        assert!(matches!(
            outcome,
            Err(SettleError::Refused {
                code: Code::Denied,
                ..
            })
        ));
    }
}
