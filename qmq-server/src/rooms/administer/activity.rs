//! What comes and goes, by subject.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
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

    /// The `max` most active subjects, and the sum of the others. A subject that is called [`OTHER`] is always one of them.
    ///
    /// Needs no memory for those that it does not name.
    #[must_use]
    pub fn top(&self, max: usize) -> (Vec<SubjectCounts>, SubjectCounts) {
        let mut named: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
        let mut rest = SubjectCounts::new(OTHER.into());
        for (name, activity) in &*self.subjects.read() {
            let total = activity.total();
            if &**name == OTHER || max == 0 {
                rest.add(&SubjectCounts::of(name, activity));
                continue;
            }
            if named.len() == max {
                // By name where they are equal, so that the same ones are shown each time.
                let least = named
                    .peek()
                    .map(|Reverse(least)| (least.total, Reverse(&least.counts.subject)));
                if least > Some((total, Reverse(name))) {
                    rest.add(&SubjectCounts::of(name, activity));
                    continue;
                }
                if let Some(Reverse(least)) = named.pop() {
                    rest.add(&least.counts);
                }
            }
            let counts = SubjectCounts::of(name, activity);
            named.push(Reverse(Ranked { total, counts }));
        }
        let named = named.into_sorted_vec().into_iter();
        (named.map(|Reverse(ranked)| ranked.counts).collect(), rest)
    }
}

/// What the subjects without a name of their own are called together.
pub const OTHER: &str = "_other";

/// Counts of a subject, or the sum of several, at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectCounts {
    /// Its name.
    pub subject: Arc<str>,
    /// Messages taken.
    pub produced: u64,
    /// Bytes of their attributes and bodies.
    pub produced_bytes: u64,
    /// Messages handed out.
    pub delivered: u64,
    /// Messages acknowledged.
    pub acked: u64,
}

impl SubjectCounts {
    /// Of a subject that nothing came to.
    #[must_use]
    pub fn new(subject: Arc<str>) -> Self {
        Self {
            subject,
            produced: 0,
            produced_bytes: 0,
            delivered: 0,
            acked: 0,
        }
    }

    fn of(subject: &Arc<str>, activity: &SubjectActivity) -> Self {
        Self {
            subject: Arc::clone(subject),
            produced: activity.produced.load(Ordering::Relaxed),
            produced_bytes: activity.produced_bytes.load(Ordering::Relaxed),
            delivered: activity.delivered.load(Ordering::Relaxed),
            acked: activity.acked.load(Ordering::Relaxed),
        }
    }

    fn add(&mut self, other: &Self) {
        self.produced += other.produced;
        self.produced_bytes += other.produced_bytes;
        self.delivered += other.delivered;
        self.acked += other.acked;
    }
}

/// The greater total is greater, then the earlier name.
#[derive(PartialEq, Eq)]
struct Ranked {
    total: u64,
    counts: SubjectCounts,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |ranked: &Self| (ranked.total, Reverse(Arc::clone(&ranked.counts.subject)));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
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
        let names: Vec<&str> = top.iter().map(|counts| &*counts.subject).collect();
        assert_eq!(names, ["s9", "s8", "s7"]);
        assert_eq!(rest.delivered, (0..7).sum::<u64>());
    }

    #[test]
    fn equal_ones_are_named_in_the_order_of_their_names() {
        let activity = Activity::default();
        for n in (0..10).rev() {
            activity.delivered(&format!("s{n}"), 1);
        }
        let (top, _) = activity.top(3);
        let names: Vec<&str> = top.iter().map(|counts| &*counts.subject).collect();
        assert_eq!(names, ["s0", "s1", "s2"]);
    }

    #[test]
    fn a_subject_that_is_called_like_the_rest_is_part_of_it() {
        let activity = Activity::default();
        activity.delivered(OTHER, 5);
        activity.delivered("s", 1);
        let (top, rest) = activity.top(10);
        assert_eq!(top.len(), 1);
        assert_eq!(rest.delivered, 5);
        let (top, rest) = activity.top(0);
        assert_eq!((top.len(), rest.delivered), (0, 6));
    }
}
