//! Which subjects have names, from scrape to scrape, and what is shown of the others.
//!
//! A counter must not fall: who reads it would take that for a restart, and all that it counts for new. When a subject gets a name, its count leaves the
//! sum of the others; when it loses the name, its count comes back, though who reads has counted it already. Both are made up for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::rooms::administer::{Activity, OTHER, SubjectCounts};

/// The names of the last scrape.
#[derive(Debug)]
pub(super) struct Naming {
    /// What was shown of each.
    shown: HashMap<Arc<str>, SubjectCounts>,
    /// Whether there were others.
    had_others: bool,
    /// To be added to the sum of the others.
    lift: SubjectCounts,
}

impl Naming {
    pub(super) fn new() -> Self {
        Self {
            shown: HashMap::new(),
            had_others: false,
            lift: SubjectCounts::new(OTHER.into()),
        }
    }

    /// The `max` most active subjects, in any order, and what is to be shown of the others.
    pub(super) fn next(
        &mut self,
        activity: &Activity,
        max: usize,
    ) -> (Vec<SubjectCounts>, SubjectCounts) {
        let shown = &self.shown;
        let top = activity.top(max, |name| shown.contains_key(name));
        let mut before = std::mem::take(&mut self.shown);
        for counts in &top.named {
            if before.remove(&counts.subject).is_none() && self.had_others {
                self.lift.add(counts);
            }
            let subject = Arc::clone(&counts.subject);
            self.shown.insert(subject, counts.clone());
        }
        // These have lost their names. One that nothing came to had a count of nothing.
        for counts in before.values() {
            self.lift.subtract(counts);
        }
        // With room for all there are none, but for one that is called like them.
        self.had_others = top.others > 0 && top.named.len() >= max;
        let mut rest = top.rest;
        rest.add(&self.lift);
        (top.named, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn produce(activity: &Activity, subject: &str, messages: u64) {
        let counts = activity.of(subject);
        counts.produced.fetch_add(messages, Ordering::Relaxed);
    }

    #[test]
    fn the_others_are_what_has_no_name() {
        let (activity, mut naming) = (Activity::default(), Naming::new());
        for (subject, messages) in [("a", 5), ("b", 3), ("c", 1)] {
            produce(&activity, subject, messages);
        }
        let (named, rest) = naming.next(&activity, 1);
        assert_eq!((&*named[0].subject, named[0].produced), ("a", 5));
        assert_eq!(rest.produced, 4);
    }

    #[test]
    fn there_is_nothing_of_others_while_all_have_names() {
        let (activity, mut naming) = (Activity::default(), Naming::new());
        for (n, subject) in ["a", "b", "c"].into_iter().enumerate() {
            produce(&activity, subject, 5);
            let (named, rest) = naming.next(&activity, 3);
            assert_eq!((named.len(), rest.produced), (n + 1, 0));
        }
    }

    #[test]
    fn no_series_falls_and_their_rises_add_up_to_what_came() {
        let (activity, mut naming) = (Activity::default(), Naming::new());
        // The first scrape is where a reader begins.
        let mut last: HashMap<Arc<str>, u64> = HashMap::new();
        let (mut rises, mut came) = (0, 0);
        let mut random = 1_u64;
        for scrape in 0..200 {
            for _ in 0..20 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let messages = 1 << (random % 12);
                produce(&activity, &format!("s{}", (random >> 32) % 9), messages);
                if scrape > 0 {
                    came += messages;
                }
            }
            let (named, rest) = naming.next(&activity, 3);
            let mut seen = HashMap::new();
            for counts in named.into_iter().chain([rest]) {
                if let Some(before) = last.get(&counts.subject) {
                    assert!(counts.produced >= *before, "{} fell", counts.subject);
                    rises += counts.produced - before;
                }
                seen.insert(counts.subject, counts.produced);
            }
            last = seen;
        }
        assert_eq!(rises, came);
    }
}
