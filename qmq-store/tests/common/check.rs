//! Opens what a crash has left and checks every promise on it.

use std::collections::{BTreeMap, BTreeSet};

use qmq_store::disk::SimulatedDisk;
use qmq_store::{Error, ManualClock, Options, Store};

use super::files::files;
use super::model::{Key, Model, Sent};
use super::rng::Rng;
use super::taking::{drainer, each_message, take_all};
use super::workload::{check_message, request};

/// What happened to the store whose disk is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Killed,
    PowerLost,
    /// Power was lost during the close: either of the two is right.
    PowerLostInClose,
}

/// Checks `image`, which is left as it is, and returns what the oracle knows of it: the model up to the recovered end.
pub(crate) fn check_image(
    image: &SimulatedDisk,
    options: &Options,
    clock: &ManualClock,
    model: &Model,
    how: End,
    rng: &mut Rng,
) -> Model {
    let disk = image.process_killed();
    let store = super::open(&disk, options).expect("a store opens after any crash");
    let how = match how {
        End::PowerLostInClose if store.open_report().clean => End::Closed,
        End::PowerLostInClose => End::PowerLost,
        _ => how,
    };
    let mut model = model.clone();
    let written = store.watermarks().written;
    let attempt = model.attempt.take();
    if let Some((messages, step)) = attempt.filter(|_| written > model.reached) {
        for (subject, sent) in messages {
            let sent = Sent {
                end: written,
                ..sent
            };
            model.subjects.entry(subject).or_default().push(sent);
        }
        if let Some((key, step)) = step {
            model.groups.entry(key).or_default().did(written, step);
        }
        model.reached = written;
    }
    let end = check_report(&store, &model, how);
    model.cut(end);
    let floors = check_contents(&store, &model);
    model.floors = floors;
    let operations = disk.operations();
    drop(store);
    check_old_member(image, options, &model, how);

    check_cut_in_recovery(image, options, &model, how, rng, operations);
    let disk = disk.crash(rng.next());
    let store = super::open(&disk, options).expect("a store opens twice");
    assert_eq!(store.open_report().damages, []);
    assert_eq!(
        store.watermarks().written,
        end,
        "another end at the second open"
    );
    check_contents(&store, &model);
    drain(&store, clock, &model, rng);
    if let Some(max) = options.retention.max_bytes {
        store.maintain().expect("housekeeping works");
        let segments = files(&disk, "log-");
        assert!(
            segments.len() as u64 <= max / (32 << 10) + 4,
            "too many segments: {segments:?}"
        );
    }
    model
}

/// Returns the recovered end.
fn check_report(store: &Store, model: &Model, how: End) -> u64 {
    let report = store.open_report();
    assert_eq!(report.damages, [], "damage on an honest disk");
    let marks = store.watermarks();
    assert_eq!(marks.written, marks.synced);
    let least = match how {
        End::Killed | End::Closed => model.written.max(model.synced),
        End::PowerLost | End::PowerLostInClose => model.synced,
    };
    assert!(
        marks.written >= least,
        "ends at {} and not at {least}",
        marks.written
    );
    assert!(
        marks.written <= model.reached,
        "{} was never written",
        marks.written
    );
    assert_eq!(report.clean, how == End::Closed);
    if how == End::Closed {
        assert_eq!(report.incarnation, model.incarnation);
    } else {
        assert!(
            report.incarnation > model.incarnation,
            "the incarnation was not raised"
        );
    }
    marks.written
}

/// Every message up to the end is there, in its place, unchanged, and no other. Returns the first sequence kept of each subject.
pub(crate) fn check_contents(store: &Store, model: &Model) -> BTreeMap<String, u64> {
    let mut floors = BTreeMap::new();
    for (subject, sent) in &model.subjects {
        let next = sent.len() as u64;
        let mut expected = None;
        each_message(store, subject, 0, |one| {
            let sequence = expected.unwrap_or_else(|| one.sequence());
            assert_eq!(one.sequence(), sequence, "{subject}: a hole");
            check_message(model, subject, one);
            floors.entry(subject.clone()).or_insert(sequence);
            expected = Some(sequence + 1);
        });
        let floor = *floors.entry(subject.clone()).or_insert(next);
        assert_eq!(
            expected.unwrap_or(next),
            next,
            "{subject}: the end is missing"
        );
        assert!(
            floor <= model.floor(subject) || model.retirement_failed,
            "{subject}: messages before {floor} are missing"
        );
    }
    check_notes(store, model);
    floors
}

/// Each note is there whose messages are, with their sequences, and no other.
fn check_notes(store: &Store, model: &Model) {
    let mut found = Vec::new();
    store
        .notes(0, &mut |noted| {
            let note = String::from_utf8(noted.note.to_vec()).expect("a note as it was written");
            let named = note
                .split(',')
                .map(|one| one.rsplit(' ').next().unwrap_or(""));
            let sequences: Vec<String> = noted.sequences.iter().map(u64::to_string).collect();
            assert!(named.eq(sequences.iter()), "{note}: {sequences:?}");
            found.push((noted.end_offset, note));
        })
        .expect("notes can be read");
    let start = store.stats().start_offset;
    let kept = model.notes.iter().skip_while(|(end, _)| *end <= start);
    assert!(
        kept.eq(found.iter()),
        "other notes from {start} on: {found:?}"
    );
}

/// An ack from before an unclean open must not settle anything.
fn check_old_member(image: &SimulatedDisk, options: &Options, model: &Model, how: End) {
    let Some((member, pull)) = &model.old_member else {
        return;
    };
    let store = super::open(&image.process_killed(), options).expect("the store opens");
    let outcome = store.ack_ranges(member, &[*pull..=*pull], qmq_store::Durability::Buffered);
    match how {
        End::Closed => drop(outcome.expect("an ack after a clean restart")),
        _ => assert!(
            matches!(outcome, Err(Error::StaleIncarnation { .. })),
            "{outcome:?}"
        ),
    }
}

/// Cuts the power while the store recovers, and opens again.
fn check_cut_in_recovery(
    image: &SimulatedDisk,
    options: &Options,
    model: &Model,
    how: End,
    rng: &mut Rng,
    operations: u64,
) {
    let disk = image.process_killed();
    disk.power_off_after(rng.below(operations));
    drop(super::open(&disk, options));
    let (again, killed) = match rng.below(3) {
        0 => (disk.process_killed(), true),
        _ => (disk.crash(rng.next()), false),
    };
    let store = super::open(&again, options).expect("a store opens after a crash in its recovery");
    assert_eq!(
        store.open_report().damages,
        [],
        "damage after a crash in the recovery"
    );
    let end = store.watermarks().written;
    if how == End::Killed && !killed {
        let mut model = model.clone();
        model.cut(end);
        check_contents(&store, &model);
    } else {
        assert_eq!(
            end, model.synced,
            "another end after a crash in the recovery"
        );
        check_contents(&store, model);
    }
}

/// Lets each group take all that it is still to get: that, and nothing else, each message once.
pub(crate) fn drain(store: &Store, clock: &ManualClock, model: &Model, rng: &mut Rng) {
    // Whatever was refused for a while is due again.
    clock.advance(1_000);
    for key in model.groups.keys() {
        let due = model.due(key);
        let held = &model.groups[key].now.held;
        for (consumer, held) in held {
            let kept = |at: &u64| *at >= model.floor(&key.subject);
            let held: Vec<(u64, u64)> = held
                .iter()
                .map(|(p, s)| (*p, *s))
                .filter(|(_, at)| kept(at))
                .collect();
            if held.is_empty() {
                continue;
            }
            if rng.chance(50) {
                let mut again = Vec::new();
                while again.len() < held.len() {
                    let batch = store.pull(&request(key, consumer).max(7)).expect("a pull");
                    assert!(
                        !batch.is_empty(),
                        "{key:?} {consumer} does not get back {held:?}"
                    );
                    again.extend(
                        batch
                            .iter()
                            .map(|one| (one.pull_sequence(), one.sequence())),
                    );
                }
                assert_eq!(again, held, "{key:?} {consumer}: not what it held");
            }
            let gone = store
                .consumer_gone(&key.subject, key.group, consumer)
                .expect("gone");
            assert!(
                gone >= held.len() as u64,
                "{key:?} {consumer}: {gone} went back"
            );
        }
        let mut highest = model.groups[key].highest.get(drainer(key)).copied();
        let got = take_all(store, key, |one| {
            check_message(model, &key.subject, one);
            assert!(
                highest < Some(one.pull_sequence()),
                "{key:?}: pull sequences went back"
            );
            highest = Some(one.pull_sequence());
        });
        assert_same(key, &due, &got);
    }
}

fn assert_same(key: &Key, due: &BTreeSet<u64>, got: &BTreeSet<u64>) {
    let skipped: Vec<_> = due.difference(got).collect();
    let again: Vec<_> = got.difference(due).collect();
    assert!(skipped.is_empty(), "{key:?}: skipped {skipped:?}");
    assert!(
        again.is_empty(),
        "{key:?}: settled and came again {again:?}"
    );
}
