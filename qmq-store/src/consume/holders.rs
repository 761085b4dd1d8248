//! Who holds messages.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::store::Store;

/// A consumer that holds messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The subject.
    pub subject: Arc<str>,
    /// The group.
    pub group: Arc<str>,
    /// The consumer.
    pub consumer: Arc<str>,
    /// Messages that it was handed and has neither acknowledged nor refused. Retention may have taken some of them since.
    pub unacked: u64,
}

impl Store {
    /// What a consumer holds: pull sequences that it was handed and has neither acknowledged nor refused, as ranges in order. Nothing if there is no such
    /// consumer.
    #[must_use]
    pub fn held_by(&self, subject: &str, group: &str, consumer: &str) -> Vec<RangeInclusive<u64>> {
        let Some(subject) = self.inner.catalog.get(subject) else {
            return Vec::new();
        };
        let consumption = subject.consumption.lock();
        let Some(at) = consumption.find(group, consumer) else {
            return Vec::new();
        };
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for (pull_sequence, ..) in consumption.groups[at].pending_of(consumer, None, usize::MAX) {
            match ranges.last_mut() {
                Some(range) if *range.end() + 1 == pull_sequence => {
                    *range = *range.start()..=pull_sequence;
                }
                _ => ranges.push(pull_sequence..=pull_sequence),
            }
        }
        ranges
    }

    /// All consumers that hold messages: after an open, those to declare gone ([`Store::consumer_gone`]) if they do not come back. Takes the
    /// lock of each subject's groups for a moment, and reads no file. Says the same of a replica, as of what it has taken from its master.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        let mut holders = Vec::new();
        for subject in self.inner.catalog.all() {
            let consumption = subject.consumption.lock();
            for group in consumption
                .groups
                .iter()
                .filter(|group| group.unacked() > 0)
            {
                let holding = group.members().filter(|member| member.unacked > 0);
                holders.extend(holding.map(|member| Holder {
                    subject: Arc::clone(&subject.name),
                    group: Arc::clone(group.name()),
                    consumer: Arc::clone(member.name),
                    unacked: member.unacked,
                }));
            }
        }
        holders
    }
}
