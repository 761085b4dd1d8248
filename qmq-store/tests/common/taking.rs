//! Takes out of a store all that it serves, message by message.

use std::collections::BTreeSet;

use qmq_store::{Delivered, Error, Store};

use super::model::Key;
use super::workload::request;

/// Reads a subject from sequence `from` on; a subject that the store does not know has nothing.
pub(super) fn each_message(
    store: &Store,
    subject: &str,
    from: u64,
    mut seen: impl FnMut(&Delivered<'_>),
) {
    let mut at = from;
    loop {
        let records = match store.read(subject, at, 300) {
            Err(Error::UnknownSubject { .. }) => return,
            records => records.expect("reading works"),
        };
        if records.is_empty() {
            return;
        }
        for one in records.iter() {
            seen(&one);
            at = one.sequence() + 1;
        }
    }
}

/// Who takes the rest of a group: of a broadcast group, its own consumer.
pub(super) fn drainer(key: &Key) -> &str {
    if key.part.is_empty() {
        "drainer"
    } else {
        &key.part
    }
}

/// Pulls until nothing is left. Returns the sequences that came, each of which came once.
pub(super) fn take_all(
    store: &Store,
    key: &Key,
    mut seen: impl FnMut(&Delivered<'_>),
) -> BTreeSet<u64> {
    let mut got = BTreeSet::new();
    loop {
        let batch = store
            .pull(&request(key, drainer(key)).max(50))
            .expect("a pull");
        if batch.is_empty() {
            return got;
        }
        for one in &batch {
            seen(&one);
            assert!(
                got.insert(one.sequence()),
                "{key:?}: {} twice",
                one.sequence()
            );
        }
    }
}
