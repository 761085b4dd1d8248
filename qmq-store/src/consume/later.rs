//! Subjects whose waiters are woken later: their messages are written, and not yet visible.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::index::active::Subject;

/// At most one entry a subject, however far visibility is behind.
#[derive(Debug, Default)]
pub(crate) struct Later {
    /// Subjects by the offset of their first message that is not visible, in the order of the log.
    queue: VecDeque<(u64, Arc<Subject>)>,
    /// Offset of the last message of each of them, by number.
    last: HashMap<u32, u64>,
}

impl Later {
    /// A message of `subject` has been put at `offset`. Called in the order of the log.
    pub(crate) fn add(&mut self, offset: u64, subject: &Arc<Subject>) {
        if self.last.insert(subject.id, offset).is_none() {
            self.queue.push_back((offset, Arc::clone(subject)));
        }
    }

    /// Everything below `visible` has become visible: the subjects that have a message there. One with more to come stays.
    pub(crate) fn take_visible(&mut self, visible: u64) -> Vec<Arc<Subject>> {
        let mut ready = Vec::new();
        let mut staying = Vec::new();
        while let Some((_, subject)) = self.queue.pop_front_if(|(offset, _)| *offset < visible) {
            let last = self.last.get(&subject.id).copied();
            if last.is_some_and(|last| last >= visible) {
                staying.push(Arc::clone(&subject));
            } else {
                self.last.remove(&subject.id);
            }
            ready.push(subject);
        }
        for subject in staying {
            // No message in the queue begins before this, so the order holds.
            self.queue.push_front((visible, subject));
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ready: &[Arc<Subject>]) -> Vec<&str> {
        ready.iter().map(|subject| &*subject.name).collect()
    }

    #[test]
    fn every_message_that_becomes_visible_wakes_and_each_subject_waits_once() {
        let [a, b] = [(0, "a"), (1, "b")].map(|(id, name)| Arc::new(Subject::new(id, name, 0)));
        let mut later = Later::default();
        for offset in 0..1_000 {
            later.add(offset * 8, if offset % 2 == 0 { &a } else { &b });
        }
        assert_eq!(later.queue.len(), 2);
        assert_eq!(names(&later.take_visible(0)), [""; 0]);
        assert_eq!(names(&later.take_visible(8)), ["a"]);
        assert_eq!(names(&later.take_visible(16)), ["a", "b"]);
        // More than there has to be is a look too many; a message without a wake-up would never be seen.
        assert_eq!(names(&later.take_visible(7_992)).len(), 2);
        assert_eq!(names(&later.take_visible(8_000)), ["b"]);
        assert!(later.queue.is_empty() && later.last.is_empty());
        later.add(8_000, &a);
        assert_eq!(names(&later.take_visible(8_008)), ["a"]);
    }
}
