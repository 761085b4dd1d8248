//! What there is once a group of a subject.

use std::collections::BTreeMap;
use std::fmt::Result;

use qmq_store::{GroupStats, Store};

use super::families::{Families, Label};
use crate::rooms::administer::OTHER;

/// Groups of a subject that have names; those that lag less are added up.
const GROUPS_MAX: usize = 16;

/// A group, or the sum of several.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GroupCounts {
    group: String,
    lag: u64,
    unacked: u64,
    waiting: u64,
    skipped: u64,
}

/// The groups of a subject.
pub(super) fn of(store: &Store, subject: &str) -> Vec<GroupCounts> {
    // A subject that has gone since, or an index that cannot be read, has no groups to show; the store reports the latter itself.
    let stats = store.subject_stats(subject);
    let mut groups = by_name(stats.map(|stats| stats.groups).unwrap_or_default());
    let mut other = GroupCounts {
        group: OTHER.to_owned(),
        ..GroupCounts::default()
    };
    let mut unnamed = 0;
    groups.sort_by(|a, b| b.lag.cmp(&a.lag).then_with(|| a.group.cmp(&b.group)));
    let mut kept = 0;
    groups.retain(|group| {
        let named = kept < GROUPS_MAX && group.group != OTHER;
        if named {
            kept += 1;
        } else {
            unnamed += 1;
            other.lag += group.lag;
            other.unacked += group.unacked;
            other.waiting += group.waiting;
            other.skipped += group.skipped;
        }
        named
    });
    if unnamed > 0 {
        groups.push(other);
    }
    groups
}

/// A broadcast group is one for each of its consumers, of which the last one counts for the lag.
fn by_name(groups: Vec<GroupStats>) -> Vec<GroupCounts> {
    let mut named: BTreeMap<String, GroupCounts> = BTreeMap::new();
    for group in groups {
        let counts = named.entry(group.group).or_default();
        counts.lag = counts.lag.max(group.lag);
        counts.unacked += group.unacked;
        counts.waiting += group.waiting;
        counts.skipped += group.skipped;
    }
    let named = named.into_iter();
    named
        .map(|(group, counts)| GroupCounts { group, ..counts })
        .collect()
}

pub(super) fn encode(groups: &[(&str, GroupCounts)], to: &mut Families<'_>) -> Result {
    type Of = fn(&GroupCounts) -> u64;
    let families: [(&str, &str, Of); 4] = [
        (
            "messageSequenceLag",
            "Messages that a group has not been handed yet; of a broadcast group, by the consumer that is last",
            |c| c.lag,
        ),
        (
            "qmq_group_unacked_messages",
            "Messages handed out and neither acknowledged nor refused",
            |c| c.unacked,
        ),
        (
            "qmq_group_waiting_messages",
            "Messages that wait to be handed out again",
            |c| c.waiting,
        ),
        (
            "qmq_group_skipped_messages",
            "Messages that retention took before the group had acknowledged them",
            |c| c.skipped,
        ),
    ];
    for (name, help, of) in families {
        let series = groups.iter().map(|(subject, counts)| {
            let labels: [Label<'_>; 2] = [("subject", subject), ("group", &counts.group)];
            (labels, of(counts))
        });
        to.gauges(name, help, series)?;
    }
    Ok(())
}
