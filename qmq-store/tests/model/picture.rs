//! A message store as anybody would write it who has all the memory in the world and never crashes.

use std::collections::{BTreeMap, HashMap};

/// What a pull is expected to give, message by message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) sequence: u64,
    pub(crate) attempt: u32,
    pub(crate) body: String,
}

#[derive(Default)]
pub(crate) struct Picture {
    subjects: BTreeMap<String, Vec<(String, Option<&'static str>)>>,
    /// By subject, group, and for broadcast groups the consumer.
    groups: BTreeMap<(String, String, String), Group>,
    /// What each pull sequence stood for, by subject, group and consumer.
    numbers: HashMap<(String, String, String, u64), u64>,
}

#[derive(Default)]
struct Group {
    cursor: usize,
    members: BTreeMap<String, Member>,
    /// Sequence -> when it may be handed out again.
    waiting: BTreeMap<u64, u64>,
    failures: BTreeMap<u64, u32>,
}

#[derive(Default)]
struct Member {
    /// Pull sequence -> sequence.
    held: BTreeMap<u64, u64>,
    /// It came back: it is given again what it holds beyond this pull sequence.
    again_beyond: Option<Option<u64>>,
    seen: u64,
}

impl Group {
    fn fail(&mut self, sequences: impl IntoIterator<Item = u64>, until: u64) {
        for sequence in sequences {
            self.waiting.insert(sequence, until);
            *self.failures.entry(sequence).or_default() += 1;
        }
    }
}

impl Picture {
    fn key(&self, subject: &str, group: &str, consumer: &str) -> (String, String, String) {
        let part = if group == "broadcast" { consumer } else { "" };
        (subject.to_owned(), group.to_owned(), part.to_owned())
    }

    pub(crate) fn append(&mut self, subject: &str, body: &str, tag: Option<&'static str>) {
        let messages = self.subjects.entry(subject.to_owned()).or_default();
        messages.push((body.to_owned(), tag));
    }

    pub(crate) fn next(&self, subject: &str) -> u64 {
        self.subjects.get(subject).map_or(0, Vec::len) as u64
    }

    pub(crate) fn bodies(&self, subject: &str) -> Vec<String> {
        let messages = self.subjects.get(subject).into_iter().flatten();
        messages.map(|(body, _)| body.clone()).collect()
    }

    pub(crate) fn pull(
        &mut self,
        subject: &str,
        group: &str,
        consumer: &str,
        max: usize,
        returning: bool,
        now: u64,
    ) -> Vec<Given> {
        let messages = self.subjects.entry(subject.to_owned()).or_default().clone();
        let key = self.key(subject, group, consumer);
        let state = self.groups.entry(key).or_default();
        if group == "broadcast" {
            state.members.entry(consumer.to_owned()).or_default();
        }
        let mut sequences: Vec<u64> = Vec::new();
        if let Some(member) = state.members.get_mut(consumer) {
            member.seen = now;
            if returning {
                member.again_beyond = Some(None);
            }
            if let Some(beyond) = member.again_beyond {
                let again = member
                    .held
                    .iter()
                    .filter(|(number, _)| Some(**number) > beyond);
                sequences = again.map(|(_, sequence)| *sequence).take(max).collect();
                if sequences.is_empty() {
                    member.again_beyond = None;
                }
            }
        }
        if sequences.is_empty() {
            let mut due: Vec<(u64, u64)> = state
                .waiting
                .iter()
                .filter(|(_, until)| **until <= now)
                .map(|(sequence, until)| (*until, *sequence))
                .collect();
            due.sort_unstable();
            due.truncate(max);
            sequences = due.into_iter().map(|(_, sequence)| sequence).collect();
            sequences.sort_unstable();
            for sequence in &sequences {
                state.waiting.remove(sequence);
            }
            while sequences.len() < max && state.cursor < messages.len() {
                if group != "picky" || messages[state.cursor].1 == Some("a") {
                    sequences.push(state.cursor as u64);
                }
                state.cursor += 1;
            }
            if !sequences.is_empty() {
                state.members.entry(consumer.to_owned()).or_default().seen = now;
            }
        }
        sequences
            .into_iter()
            .map(|sequence| Given {
                sequence,
                attempt: state.failures.get(&sequence).copied().unwrap_or(0),
                body: messages[sequence as usize].0.clone(),
            })
            .collect()
    }

    /// Says under which pull sequences the messages of the last pull were handed out.
    pub(crate) fn numbered(
        &mut self,
        subject: &str,
        group: &str,
        consumer: &str,
        numbers: &[u64],
        given: &[Given],
    ) {
        let key = self.key(subject, group, consumer);
        let Some(member) = self
            .groups
            .get_mut(&key)
            .and_then(|group| group.members.get_mut(consumer))
        else {
            return;
        };
        assert!(numbers.is_sorted());
        for (number, one) in numbers.iter().zip(given) {
            let name = (subject.into(), group.into(), consumer.into(), *number);
            let before = self.numbers.insert(name, one.sequence);
            let held = member.held.insert(*number, one.sequence);
            // Given again, it keeps its number; otherwise a number is used once.
            assert_eq!(before, held, "pull sequence {number} means something new");
            assert!(held.is_none_or(|sequence| sequence == one.sequence));
            if member.again_beyond.is_some() {
                assert_eq!(held, Some(one.sequence));
                member.again_beyond = Some(Some(*number));
            }
        }
    }

    /// Settles pull sequences; `until` says when refused ones may come again. Returns how many were held; `None` without such a group.
    pub(crate) fn settle(
        &mut self,
        subject: &str,
        group: &str,
        consumer: &str,
        numbers: &[u64],
        until: Option<u64>,
        now: u64,
    ) -> Option<u64> {
        let key = self.key(subject, group, consumer);
        let state = self.groups.get_mut(&key)?;
        let Some(member) = state.members.get_mut(consumer) else {
            return Some(0);
        };
        member.seen = now;
        let taken: Vec<u64> = numbers
            .iter()
            .filter_map(|number| member.held.remove(number))
            .collect();
        let count = taken.len() as u64;
        match until {
            Some(until) => state.fail(taken, until),
            None => {
                for sequence in taken {
                    state.failures.remove(&sequence);
                }
            }
        }
        Some(count)
    }

    /// Moves a held message to another subject; its sequence there.
    pub(crate) fn take_one(
        &mut self,
        subject: &str,
        group: &str,
        consumer: &str,
        number: u64,
        to: &str,
        now: u64,
    ) -> Option<u64> {
        let key = self.key(subject, group, consumer);
        let state = self.groups.get_mut(&key)?;
        let member = state.members.get_mut(consumer)?;
        member.seen = now;
        let sequence = member.held.remove(&number)?;
        state.failures.remove(&sequence);
        let copy = self.subjects[subject][sequence as usize].clone();
        let at = self.next(to);
        self.subjects.entry(to.to_owned()).or_default().push(copy);
        Some(at)
    }

    pub(crate) fn gone(&mut self, subject: &str, group: &str, consumer: &str) -> u64 {
        let key = self.key(subject, group, consumer);
        let Some(state) = self.groups.get_mut(&key) else {
            return 0;
        };
        let held = match state.members.get_mut(consumer) {
            Some(member) => std::mem::take(&mut member.held),
            None => return 0,
        };
        state.fail(held.values().copied(), 0);
        if group != "broadcast" {
            state.members.remove(consumer);
        }
        held.len() as u64
    }

    pub(crate) fn expire(&mut self, now: u64, lease: u64) -> Vec<(String, String, String, u64)> {
        let mut silent = Vec::new();
        for ((subject, group, _), state) in &self.groups {
            for (consumer, member) in &state.members {
                if !member.held.is_empty() && now - member.seen > lease {
                    silent.push((subject.clone(), group.clone(), consumer.clone(), 0));
                }
            }
        }
        for (subject, group, consumer, messages) in &mut silent {
            *messages = self.gone(subject, group, consumer);
        }
        silent.sort();
        silent
    }

    pub(crate) fn reset(&mut self, subject: &str, group: &str, to: u64) -> Option<u64> {
        let to = to.min(self.next(subject));
        let mut found = None;
        for ((of, name, _), state) in &mut self.groups {
            if of == subject && name == group {
                state.cursor = to as usize;
                state.waiting.clear();
                state.failures.clear();
                for member in state.members.values_mut() {
                    member.held.clear();
                }
                found = Some(to);
            }
        }
        found
    }

    pub(crate) fn drop_group(&mut self, subject: &str, group: &str) -> bool {
        let before = self.groups.len();
        self.groups
            .retain(|(of, name, _), _| of != subject || name != group);
        self.groups.len() < before
    }

    /// The store has been opened: leases start anew, and consumers are given again what they hold.
    pub(crate) fn opened(&mut self, now: u64) {
        let members = self
            .groups
            .values_mut()
            .flat_map(|group| group.members.values_mut());
        for member in members {
            member.seen = now;
            member.again_beyond = Some(None);
        }
    }

    /// Messages of a group that are held, and that wait.
    pub(crate) fn totals(&self, subject: &str, group: &str) -> (u64, u64) {
        let mut totals = (0, 0);
        for ((of, name, _), state) in &self.groups {
            if of == subject && name == group {
                let held = state
                    .members
                    .values()
                    .map(|member| member.held.len() as u64);
                totals.0 += held.sum::<u64>();
                totals.1 += state.waiting.len() as u64;
            }
        }
        totals
    }
}
