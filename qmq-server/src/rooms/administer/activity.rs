//! What comes and goes, by subject.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// Counts of one subject since the start.
#[derive(Debug, Default)]
pub struct SubjectActivity {
    /// Messages taken.
    pub produced: AtomicU64,
    /// Bytes of their attributes and bodies.
    pub produced_bytes: AtomicU64,
    /// Messages handed out.
    pub delivered: AtomicU64,
    /// Messages acknowledged.
    pub acked: AtomicU64,
}

impl SubjectActivity {
    /// How much there was to do for it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.produced.load(Ordering::Relaxed) + self.delivered.load(Ordering::Relaxed)
    }
}

/// Counts of all subjects. There are no more than the store allows subjects.
#[derive(Debug, Default)]
pub struct Activity {
    subjects: RwLock<HashMap<Arc<str>, Arc<SubjectActivity>>>,
}

impl Activity {
    /// The counts of a subject.
    #[must_use]
    pub fn of(&self, subject: &str) -> Arc<SubjectActivity> {
        if let Some(known) = self.subjects.read().get(subject) {
            return Arc::clone(known);
        }
        let mut subjects = self.subjects.write();
        Arc::clone(subjects.entry(subject.into()).or_default())
    }

    /// Messages were handed out.
    pub(in crate::rooms) fn delivered(&self, subject: &str, messages: u64) {
        self.of(subject)
            .delivered
            .fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages were acknowledged.
    pub(in crate::rooms) fn acked(&self, subject: &str, messages: u64) {
        self.of(subject)
            .acked
            .fetch_add(messages, Ordering::Relaxed);
    }

    /// The `max` most active subjects, and the sum of the others.
    #[must_use]
    pub fn top(&self, max: usize) -> (Vec<(Arc<str>, Arc<SubjectActivity>)>, SubjectActivity) {
        let mut all: Vec<_> = self
            .subjects
            .read()
            .iter()
            .map(|(name, counts)| (Arc::clone(name), Arc::clone(counts)))
            .collect();
        let rest = SubjectActivity::default();
        if all.len() > max {
            // By name where they are equal, so that the same ones are shown each time.
            all.sort_by_cached_key(|(name, counts)| {
                (std::cmp::Reverse(counts.total()), Arc::clone(name))
            });
            for (_, counts) in all.drain(max..) {
                let add = |to: &AtomicU64, from: &AtomicU64| {
                    to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
                };
                add(&rest.produced, &counts.produced);
                add(&rest.produced_bytes, &counts.produced_bytes);
                add(&rest.delivered, &counts.delivered);
                add(&rest.acked, &counts.acked);
            }
        }
        (all, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_active_have_names_and_the_rest_is_summed() {
        let activity = Activity::default();
        for n in 0..10_u64 {
            activity.delivered(&format!("s{n}"), n);
        }
        let (top, rest) = activity.top(3);
        let names: Vec<&str> = top.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["s9", "s8", "s7"]);
        assert_eq!(rest.delivered.load(Ordering::Relaxed), (0..7).sum::<u64>());
    }
}
