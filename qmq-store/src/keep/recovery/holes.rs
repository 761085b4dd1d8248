//! After the replay: holes in the subjects where damage took messages, and nothing that refers beyond the log's end.

use std::sync::Arc;

use super::Recovery;
use crate::keep::damage::DamageKind;
use crate::log::segment::Segment;

impl Recovery<'_> {
    /// After the replay: holes where damage took messages, and nothing refers beyond the end.
    pub(super) fn settle(&mut self, end: u64) {
        let lost = self.report.damages.iter().any(|damage| {
            matches!(
                damage.kind,
                DamageKind::Records
                    | DamageKind::Segment
                    | DamageKind::Unreadable
                    | DamageKind::LostTail
                    | DamageKind::Batch
            )
        });
        let last_base = self.segments.last().map_or(0, |segment| segment.base);
        let begins = self
            .segments
            .first()
            .is_none_or(|segment| segment.base == 0);
        // Of a replica whose log has not reached its groups' state, these are ahead of it.
        let ahead = self.catalog.state_beyond(end) > 0;
        if !ahead {
            self.catalog.epochs.clamp(end);
        }
        for subject in self.catalog.all() {
            let mut index = subject.index.lock();
            if lost {
                let boundary = sealed_boundary(&self.segments, subject.id, begins);
                if let Some(boundary) = boundary {
                    index.prepend_holes(boundary);
                }
                let reached = index.runs().next_back().map(|run| run.end());
                let reached = reached.or(boundary).unwrap_or(0);
                if reached < index.next && end > last_base {
                    let next_was = index.next;
                    index.restore_lost(last_base, reached);
                    debug_assert_eq!(next_was, index.next);
                    self.touched.entry(last_base).or_default().push(subject.id);
                }
            }
            let next = index.next;
            drop(index);
            if ahead {
                continue;
            }
            for group in &mut subject.consumption.lock().groups {
                group.clamp(next, end);
            }
        }
        for touched in self.touched.values_mut() {
            touched.sort_unstable();
            touched.dedup();
        }
    }
}

/// Where a subject stood at the end of the last sealed segment. Without one, all began at 0 if the log still `begins` where it was created.
fn sealed_boundary(segments: &[Arc<Segment>], subject: u32, begins: bool) -> Option<u64> {
    let Some(sealed) = segments.iter().rev().find_map(|segment| segment.sealed()) else {
        return begins.then_some(0);
    };
    let region = sealed.region().ok()?;
    let share = sealed.share(&region, subject).ok()?;
    // A subject that came later began at 0.
    Some(share.map_or(0, |share| share.end()))
}
