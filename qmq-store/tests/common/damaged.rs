//! Checks for a store that has been harmed: what is served is right, and what is not served is said.

use qmq_store::{Error, ManualClock, Store};

use super::model::Model;
use super::taking::{each_message, take_all};
use super::workload::check_message;

/// What a harmed store did not serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Handed out as damaged, in their place.
    pub(crate) damaged: u64,
    /// Not there at all: beyond the end of their subject.
    pub(crate) missing: u64,
    /// Passed over, though the open said that records are lost.
    pub(crate) unknown: u64,
}

/// Reads everything: each message is right, or damaged in its place, or beyond the end.
pub(crate) fn read_all(store: &Store, model: &Model) -> Losses {
    let mut losses = Losses::default();
    for (subject, sent) in &model.subjects {
        let mut at = model.floor(subject);
        each_message(store, subject, at, |one| {
            if one.sequence() > at && !store.open_report().damages.is_empty() {
                // Not known to have been there; the open has said that records are lost.
                losses.unknown += one.sequence() - at;
                at = one.sequence();
            }
            assert_eq!(one.sequence(), at, "{subject}: a hole that is not reported");
            match one.message() {
                Ok(_) => check_message(model, subject, one),
                Err(damaged) => {
                    assert_eq!(damaged.sequence, at);
                    losses.damaged += 1;
                }
            }
            at += 1;
        });
        losses.missing += (sent.len() as u64).saturating_sub(at);
    }
    losses
}

/// Lets each group take what it is to get. Nothing that it still needs is skipped; returns how many came although they were settled.
pub(crate) fn drain(store: &Store, clock: &ManualClock, model: &Model) -> u64 {
    clock.advance(1_000);
    let mut again = 0;
    for key in model.groups.keys() {
        let mut due = model.due(key);
        for consumer in model.groups[key].now.held.keys() {
            match store.consumer_gone(&key.subject, key.group, consumer) {
                Err(Error::UnknownGroup { .. } | Error::UnknownSubject { .. }) => {}
                gone => drop(gone.expect("a consumer is declared gone")),
            }
        }
        let got = take_all(store, key, |one| {
            if one.message().is_ok() {
                check_message(model, &key.subject, one);
            }
        });
        again += got.difference(&due).count() as u64;
        let end = store.read(&key.subject, 0, usize::MAX).ok();
        let end = end.and_then(|all| all.iter().next_back().map(|last| last.sequence() + 1));
        due.retain(|sequence| *sequence < end.unwrap_or(0));
        let skipped: Vec<_> = due.difference(&got).collect();
        assert!(skipped.is_empty(), "{key:?}: skipped {skipped:?}");
    }
    again
}
