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

    /// The `max` most active subjects, and the sum of the others. One that `is_named` says has a name already keeps it until another is twice as active, so
    /// that names do not change hands all the time. A subject that is called [`OTHER`] is always one of the others.
    ///
    /// Needs no memory for those that it does not name.
    #[must_use]
    pub fn top(&self, max: usize, is_named: impl Fn(&str) -> bool) -> Top {
        let mut named: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
        let mut others = 0;
        let mut rest = SubjectCounts::new(OTHER.into());
        let mut leave_out = |counts: &SubjectCounts| {
            others += 1;
            rest.add(counts);
        };
        for (name, activity) in &*self.subjects.read() {
            if &**name == OTHER || max == 0 {
                leave_out(&SubjectCounts::of(name, activity));
                continue;
            }
            let rank = activity.total() * if is_named(name) { 2 } else { 1 };
            if named.len() == max {
                // By name where they are equal, so that the same ones are named each time.
                let least = named
                    .peek()
                    .map(|Reverse(least)| (least.rank, Reverse(&least.counts.subject)));
                if least > Some((rank, Reverse(name))) {
                    leave_out(&SubjectCounts::of(name, activity));
                    continue;
                }
                if let Some(Reverse(least)) = named.pop() {
                    leave_out(&least.counts);
                }
            }
            let counts = SubjectCounts::of(name, activity);
            named.push(Reverse(Ranked { rank, counts }));
        }
        let named = named.into_sorted_vec().into_iter();
        Top {
            named: named.map(|Reverse(ranked)| ranked.counts).collect(),
            rest,
            others,
        }
    }
}

/// The most active subjects, and the others.
#[derive(Clone, Debug)]
pub struct Top {
    /// The most active ones, the most active first.
    pub named: Vec<SubjectCounts>,
    /// The sum of the others.
    pub rest: SubjectCounts,
    /// How many others there are.
    pub others: usize,
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

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.each(other, u64::wrapping_add);
    }

    /// Takes away another's counts. What is less than nothing in between is right again in the end: the counts wrap around.
    pub fn subtract(&mut self, other: &Self) {
        self.each(other, u64::wrapping_sub);
    }

    fn each(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        self.produced = with(self.produced, other.produced);
        self.produced_bytes = with(self.produced_bytes, other.produced_bytes);
        self.delivered = with(self.delivered, other.delivered);
        self.acked = with(self.acked, other.acked);
    }
}

/// The greater rank is greater, then the earlier name.
#[derive(PartialEq, Eq)]
struct Ranked {
    rank: u64,
    counts: SubjectCounts,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |ranked: &Self| (ranked.rank, Reverse(Arc::clone(&ranked.counts.subject)));
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

    fn names(top: &Top) -> Vec<&str> {
        top.named.iter().map(|counts| &*counts.subject).collect()
    }

    #[test]
    fn the_most_active_have_names_and_the_rest_is_summed() {
        let activity = Activity::default();
        for n in 0..10_u64 {
            activity.delivered(&format!("s{n}"), n);
        }
        let top = activity.top(3, |_| false);
        assert_eq!(names(&top), ["s9", "s8", "s7"]);
        assert_eq!(top.rest.delivered, (0..7).sum::<u64>());
        assert_eq!(top.others, 7);
    }

    #[test]
    fn equal_ones_are_named_in_the_order_of_their_names() {
        let activity = Activity::default();
        for n in (0..10).rev() {
            activity.delivered(&format!("s{n}"), 1);
        }
        assert_eq!(names(&activity.top(3, |_| false)), ["s0", "s1", "s2"]);
    }

    #[test]
    fn a_name_is_kept_until_another_is_twice_as_active() {
        let activity = Activity::default();
        activity.delivered("kept", 10);
        activity.delivered("more", 20);
        assert_eq!(names(&activity.top(1, |name| name == "kept")), ["kept"]);
        activity.delivered("more", 1);
        assert_eq!(names(&activity.top(1, |name| name == "kept")), ["more"]);
    }

    #[test]
    fn a_subject_that_is_called_like_the_rest_is_part_of_it() {
        let activity = Activity::default();
        activity.delivered(OTHER, 5);
        activity.delivered("s", 1);
        let top = activity.top(10, |_| false);
        assert_eq!(names(&top), ["s"]);
        assert_eq!(top.rest.delivered, 5);
        let top = activity.top(0, |_| false);
        assert_eq!((top.named.len(), top.rest.delivered), (0, 6));
    }
}
