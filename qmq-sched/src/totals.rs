//! Subjects by number, and how much of each is pending.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::entry::Entry;
use crate::event::take;

/// What is pending, or handed out and not dispatched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Messages.
    pub count: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// None is due before this, in ms since 1970 UTC; 0 with none pending.
    pub first_due_ms: u64,
    /// None is due after this. It does not come down when the last of several is cancelled.
    pub last_due_ms: u64,
}

impl Totals {
    fn add(&mut self, entry: &Entry) {
        let due_ms = entry.key.due_ms;
        if self.count == 0 {
            (self.first_due_ms, self.last_due_ms) = (due_ms, due_ms);
        }
        self.count += 1;
        self.bytes += u64::from(entry.body_len);
        self.first_due_ms = self.first_due_ms.min(due_ms);
        self.last_due_ms = self.last_due_ms.max(due_ms);
    }

    fn remove(&mut self, body_len: u32) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(body_len));
        if self.count == 0 {
            *self = Self::default();
        }
    }
}

/// More subjects than any option allows.
const NUMBERS_MAX: usize = 1 << 24;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    numbers: HashMap<Arc<str>, u32>,
    all: Vec<(Arc<str>, Totals)>,
    total: Totals,
    /// Where the look for an idle one begins.
    idle_from: Cell<usize>,
}

impl Subjects {
    /// The number of a subject that has none: the next; or, with as many as allowed, that of one of which nothing is pending. `None`: there is
    /// none.
    pub(crate) fn number_for_new(&self, max: usize, is_taken: impl Fn(u32) -> bool) -> Option<u32> {
        let next = (self.all.len()..max).map(|number| number as u32);
        if let Some(number) = next.into_iter().find(|&number| !is_taken(number)) {
            return Some(number);
        }
        // From where the last one was found: looking is cheap as long as some are idle.
        let len = self.all.len();
        let is_idle = |number: &usize| self.all[*number].1.count == 0 && !is_taken(*number as u32);
        let from = self.idle_from.get().min(len);
        let number = (from..len).chain(0..from).find(is_idle)?;
        self.idle_from.set(number + 1);
        Some(number as u32)
    }

    /// Notes that a subject has this number; one that had it before is forgotten.
    pub(crate) fn note(&mut self, number: u32, name: &str) {
        let at = number as usize;
        if at >= NUMBERS_MAX || self.all.get(at).is_some_and(|(known, _)| &**known == name) {
            return;
        }
        if self.all.len() <= at {
            self.all.resize(at + 1, Default::default());
        }
        if self.numbers.get(&self.all[at].0) == Some(&number) {
            self.numbers.remove(&self.all[at].0);
        }
        let name: Arc<str> = name.into();
        self.numbers.insert(Arc::clone(&name), number);
        self.all[at].0 = name;
    }

    pub(crate) fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.all.get(number as usize).map(|(name, _)| name)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn add(&mut self, entry: &Entry) {
        self.total.add(entry);
        if let Some((_, totals)) = self.all.get_mut(entry.subject as usize) {
            totals.add(entry);
        }
    }

    pub(crate) fn remove(&mut self, subject: u32, body_len: u32) {
        self.total.remove(body_len);
        if let Some((_, totals)) = self.all.get_mut(subject as usize) {
            totals.remove(body_len);
        }
    }

    pub(crate) fn total(&self) -> Totals {
        self.total
    }

    pub(crate) fn of(&self, name: &str) -> Option<Totals> {
        self.number(name).map(|number| self.all[number as usize].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Totals)> {
        let named = self.all.iter().filter(|(name, _)| !name.is_empty());
        named.map(|(name, totals)| (&**name, *totals))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.all.len() as u32).to_le_bytes());
        for (name, totals) in &self.all {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            encode_totals(totals, out);
        }
        encode_totals(&self.total, out);
    }

    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        let count = u32::from_le_bytes(take(input)?) as usize;
        let mut subjects = Self::default();
        if count > NUMBERS_MAX {
            return None;
        }
        for number in 0..count {
            let len = usize::from(u16::from_le_bytes(take(input)?));
            let (name, rest) = input.split_at_checked(len)?;
            *input = rest;
            let name = std::str::from_utf8(name).ok()?;
            if name.is_empty() {
                subjects.all.push(Default::default());
            } else {
                subjects.note(number as u32, name);
            }
            subjects.all.last_mut()?.1 = decode_totals(input)?;
        }
        subjects.total = decode_totals(input)?;
        (subjects.all.len() == count).then_some(subjects)
    }
}

fn encode_totals(totals: &Totals, out: &mut Vec<u8>) {
    let words = [
        totals.count,
        totals.bytes,
        totals.first_due_ms,
        totals.last_due_ms,
    ];
    words
        .iter()
        .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn decode_totals(input: &mut &[u8]) -> Option<Totals> {
    let mut word = || take(input).map(u64::from_le_bytes);
    Some(Totals {
        count: word()?,
        bytes: word()?,
        first_due_ms: word()?,
        last_due_ms: word()?,
    })
}
