//! What there is once a subject, for the most active ones, and once a group of those.

use std::collections::HashSet;
use std::fmt::Result;

use qmq_store::Store;

use super::Sources;
use super::families::{Families, Label};
use super::groups::{self, GroupCounts};
use super::naming::Naming;
use crate::rooms::administer::{OTHER, SubjectCounts};

pub(super) fn encode(sources: &Sources, naming: &mut Naming, to: &mut Families<'_>) -> Result {
    let room = &sources.administering;
    let (mut named, rest) = naming.next(&room.activity, sources.subjects_max);
    if named.len() < sources.subjects_max {
        add_quiet_ones(&mut named, &room.store, sources.subjects_max);
    }
    counts(&named, &rest, to)?;
    let groups: Vec<(&str, GroupCounts)> = named
        .iter()
        .flat_map(|counts| {
            let of = groups::of(&room.store, &counts.subject);
            of.into_iter().map(|group| (&*counts.subject, group))
        })
        .collect();
    groups::encode(&groups, to)
}

/// Subjects that nothing came to since the start have groups all the same, and those may lag.
fn add_quiet_ones(named: &mut Vec<SubjectCounts>, store: &Store, max: usize) {
    let known: HashSet<_> = named.iter().map(|counts| counts.subject.clone()).collect();
    let quiet = store.subjects().into_iter().filter_map(|subject| {
        let quiet = subject != OTHER && !known.contains(subject.as_str());
        quiet.then(|| SubjectCounts::new(subject.into()))
    });
    named.extend(quiet.take(max - known.len()));
}

fn counts(named: &[SubjectCounts], rest: &SubjectCounts, to: &mut Families<'_>) -> Result {
    type Of = fn(&SubjectCounts) -> u64;
    let families: [(&str, &str, Of); 4] = [
        ("receivedMessagesCount", "Messages taken, by subject", |c| {
            c.produced
        }),
        (
            "qmq_subject_produced_bytes",
            "Bytes of attributes and bodies of the messages taken, by subject",
            |c| c.produced_bytes,
        ),
        (
            "pulledMessagesCount",
            "Messages handed out, by subject",
            |c| c.delivered,
        ),
        (
            "consumerAckCount",
            "Messages acknowledged, by subject",
            |c| c.acked,
        ),
    ];
    for (name, help, of) in families {
        let all = named.iter().chain([rest]);
        let series = all.map(|counts| {
            let labels: [Label<'_>; 1] = [("subject", &counts.subject)];
            (labels, of(counts))
        });
        to.counters(name, help, series)?;
    }
    Ok(())
}
