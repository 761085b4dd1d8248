//! Messages that outlive the log lie in files of bodies. What is damaged or gone of these costs what it hits, is said, and puts no other message
//! in its place.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use common::desk::{Desk, content, drain, files, message, retire};
use common::{DAY, NOON, small_options};
use qmq_sched::{Cancelled, DelayId, Error, Fired, Options, Scheduler};
use qmq_store::disk::Disk;

const FAR: u64 = NOON + 300 * DAY;

/// Messages that are due in 300 days, one in twenty of all, and retention that has taken the log behind them. By due time.
fn far_ones(rounds: u64) -> (Desk, BTreeMap<u64, (DelayId, String)>) {
    let mut desk = Desk::new(Options {
        outstanding_max: 5_000,
        ..small_options()
    });
    desk.retention.max_bytes = Some(0);
    let scheduler = desk.open();
    let mut far = BTreeMap::new();
    for number in 0..rounds {
        round(&scheduler, number, &mut far);
    }
    assert!(scheduler.store().stats().start_offset > 0);
    Desk::close(scheduler);
    (desk, far)
}

fn round(scheduler: &Scheduler, round: u64, far: &mut BTreeMap<u64, (DelayId, String)>) {
    for number in round * 2_100..(round + 1) * 2_100 {
        let is_far = number % 20 == 0;
        let due = if is_far { FAR + number } else { NOON };
        let body = format!("<{number}> {}", "x".repeat(60));
        let id = scheduler.schedule(due, &message(body.clone())).unwrap();
        if is_far {
            far.insert(due, (id, body));
        }
    }
    drain(scheduler, NOON);
    retire(scheduler);
}

/// How many come as they were; the others must come as damaged, at their time.
fn whole(fired: &[Fired], far: &BTreeMap<u64, (DelayId, String)>) -> usize {
    let is_whole = |one: &&Fired| {
        let expected = far.get(&one.due_ms).map(|(_, body)| body.as_bytes());
        let Ok(found) = &one.message else {
            return false;
        };
        // Those that are not far were never moved.
        expected.is_none_or(|expected| {
            assert_eq!(&found.body()[..], expected, "due at {}", one.due_ms);
            true
        })
    };
    fired.iter().filter(is_whole).count()
}

/// The file of bodies that has the first of them, and where its body is.
fn first_file(desk: &Desk, far: &BTreeMap<u64, (DelayId, String)>) -> (String, u64) {
    let (_, body) = far.values().next().unwrap();
    let place = |name: String| {
        let bytes = content(&desk.index, &name);
        let at = bytes
            .windows(body.len())
            .position(|some| some == body.as_bytes());
        at.map(|at| (name, at as u64))
    };
    files(&desk.index, "bodies-")
        .into_iter()
        .find_map(place)
        .unwrap()
}

fn all(scheduler: &Scheduler) -> Vec<Fired> {
    drain(scheduler, FAR + DAY)
}

#[test]
fn a_file_that_is_gone_costs_its_messages_and_no_other_body_comes_for_them() {
    let (desk, far) = far_ones(2);
    let (lost, _) = first_file(&desk, &far);
    let held = desk.killed();
    desk.index.remove(&lost).unwrap();
    let scheduler = desk.open();
    assert_eq!(
        scheduler.open_report().lost_files,
        std::slice::from_ref(&lost)
    );
    for (id, _) in far.values().take(5) {
        assert!(scheduler.get(*id).unwrap().unwrap().message.is_err());
    }
    // Work goes on, and whoever puts the file back has its messages again.
    retire(&scheduler);
    Desk::close(scheduler);
    let back = content(&held.index, &lost);
    let file = desk.index.create(&lost, back.len() as u64).unwrap();
    file.write_at(&back, 0).unwrap();
    drop(file);
    let with_it = desk.killed();
    let fired = all(&with_it.open());
    assert_eq!(whole(&fired, &far), far.len());
    desk.index.remove(&lost).unwrap();
    let fired = all(&desk.open());
    assert_eq!(fired.len(), far.len());
    let left = whole(&fired, &far);
    assert!((1..far.len()).contains(&left), "{left}");
}

#[test]
fn a_damaged_header_or_index_of_a_file_costs_nothing() {
    let (desk, far) = far_ones(1);
    let name = files(&desk.index, "bodies-").remove(0);
    let len = content(&desk.index, &name).len() as u64;
    for (at, without_checkpoints) in [(3, false), (len - 20, false), (20, true), (len - 1, true)] {
        let desk = desk.killed();
        desk.index.flip_bit(&name, at, 5).unwrap();
        if without_checkpoints {
            for checkpoint in files(&desk.index, "checkpoint-") {
                desk.index.remove(&checkpoint).unwrap();
            }
        }
        let scheduler = desk.open();
        assert_eq!(
            scheduler.open_report().damaged_files,
            std::slice::from_ref(&name)
        );
        retire(&scheduler);
        assert_eq!(
            scheduler.verify().unwrap(),
            Vec::<String>::new(),
            "it is written anew"
        );
        assert_eq!(whole(&all(&scheduler), &far), far.len(), "byte {at}");
    }
}

#[test]
fn a_damaged_record_is_found_by_verify_and_costs_its_message_alone() {
    let (desk, far) = far_ones(1);
    let (name, at) = first_file(&desk, &far);
    desk.index.flip_bit(&name, at, 1).unwrap();
    let scheduler = desk.open();
    let found = scheduler.verify().unwrap();
    assert!(found.len() == 1 && found[0].contains(&name), "{found:?}");
    // Rewritten around the damage, and what it hit is counted to the end.
    for (id, _) in far.values().skip(far.len() / 3) {
        assert_eq!(scheduler.cancel(*id).unwrap(), Cancelled::Done);
    }
    retire(&scheduler);
    let left = far.len() / 3;
    let fired = scheduler.due(FAR + DAY, 1_000).unwrap();
    assert_eq!((fired.len(), whole(&fired, &far)), (left, left - 1));
    let (damaged, others): (Vec<&Fired>, Vec<&Fired>) =
        fired.iter().partition(|one| one.message.is_err());
    scheduler.dispatched(&[damaged[0].id]).unwrap();
    retire(&scheduler);
    scheduler.refused(
        FAR + DAY,
        &others.iter().map(|one| one.id).collect::<Vec<_>>(),
    );
    let again = scheduler.due(FAR + 2 * DAY, 1_000).unwrap();
    assert_eq!(whole(&again, &far), left - 1);
}

#[test]
fn files_that_were_rewritten_are_taken_as_they_are_when_checkpoints_are_lost() {
    let (desk, mut far) = far_ones(3);
    let before = files(&desk.index, "bodies-");
    let scheduler = desk.open();
    // Most of the first file, so that it is rewritten under a higher number than the others have.
    let early: Vec<u64> = far.keys().copied().take(80).collect();
    for due in &early {
        let (id, _) = far.remove(due).unwrap();
        assert_eq!(scheduler.cancel(id).unwrap(), Cancelled::Done);
    }
    retire(&scheduler);
    assert_ne!(files(&desk.index, "bodies-"), before);
    Desk::close(scheduler);
    for checkpoint in files(&desk.index, "checkpoint-") {
        desk.index.remove(&checkpoint).unwrap();
    }
    let scheduler = desk.open();
    assert!(scheduler.open_report().rebuilt.is_some());
    assert_eq!(scheduler.totals().count, far.len() as u64);
    retire(&scheduler);
    Desk::close(scheduler);
    assert_eq!(whole(&all(&desk.open()), &far), far.len());
}

/// Its bodies are of records that the log has not got yet: new ones would get their sequences.
#[test]
fn a_log_older_than_what_was_moved_out_of_it_is_refused_and_nothing_is_touched() {
    let (desk, mut far) = far_ones(1);
    let older = desk.log.process_killed();
    let scheduler = desk.open();
    round(&scheduler, 1, &mut far);
    Desk::close(scheduler);
    let with_older = desk.with(older, desk.index.process_killed());
    let before = files(&with_older.index, "");
    for _ in 0..2 {
        let outcome = with_older.try_open();
        assert!(
            matches!(outcome, Err(Error::LogBehind { .. })),
            "{outcome:?}"
        );
        assert_eq!(files(&with_older.index, ""), before);
    }
    for checkpoint in files(&with_older.index, "checkpoint-") {
        with_older.index.remove(&checkpoint).unwrap();
    }
    assert!(matches!(
        with_older.try_open(),
        Err(Error::LogBehind { .. })
    ));
    let with_its_own = desk.with(desk.log.process_killed(), with_older.index);
    assert_eq!(whole(&all(&with_its_own.open()), &far), far.len());
}

/// A log that is put back from a copy, beside an index that has gone on.
#[test]
fn a_checkpoint_ahead_of_the_log_is_never_believed_again() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    scheduler.schedule(FAR, &message("old")).unwrap();
    Desk::close(scheduler);
    let older = desk.log.process_killed();
    let scheduler = desk.open();
    for number in 0..40 {
        let id = scheduler.schedule(FAR + number, &message("gone")).unwrap();
        assert_eq!(scheduler.cancel(id).unwrap(), Cancelled::Done);
    }
    scheduler.checkpoint().unwrap();
    Desk::close(scheduler);
    let desk = desk.with(older, desk.index.process_killed());
    let scheduler = desk.open();
    assert!(scheduler.open_report().rebuilt.is_some());
    let new = |number: u64| format!("new {number}");
    for number in 0..100 {
        scheduler
            .schedule(FAR + number, &message(new(number)))
            .unwrap();
    }
    drop(scheduler);
    let scheduler = desk.killed().open();
    assert_eq!(scheduler.open_report().rebuilt, None);
    let fired = drain(&scheduler, FAR + DAY);
    assert_eq!(fired.len(), 101);
}

/// Otherwise an idle scheduler would write one every second.
#[test]
fn what_retention_cannot_take_yet_makes_no_checkpoints() {
    let (desk, far) = far_ones(1);
    let scheduler = desk.open();
    let soon = scheduler
        .schedule(NOON + DAY, &message("in the log"))
        .unwrap();
    for _ in 0..3 {
        scheduler.maintain().unwrap();
        scheduler.store().maintain().unwrap();
    }
    let before = desk.index.operations();
    for _ in 0..5 {
        scheduler.maintain().unwrap();
        scheduler.store().maintain().unwrap();
    }
    assert_eq!(desk.index.operations(), before);
    assert_eq!(scheduler.cancel(soon).unwrap(), Cancelled::Done);
    assert_eq!(whole(&all(&scheduler), &far), far.len());
}

/// Opens what is left if the process dies now and the newest checkpoint is damaged.
fn check_older(desk: &Desk, far: &BTreeMap<u64, (DelayId, String)>) {
    let left = desk.killed();
    let checkpoints = files(&left.index, "checkpoint-");
    assert_eq!(checkpoints.len(), 2);
    left.index.flip_bit(&checkpoints[1], 200, 2).unwrap();
    let older = left.open();
    assert!(older.open_report().rebuilt.is_some());
    assert_eq!(older.open_report().lost_files, Vec::<String>::new());
    let fired = all(&older);
    assert_eq!(whole(&fired, far), fired.len());
    let is_far = |one: &&Fired| far.contains_key(&one.due_ms);
    assert_eq!(fired.iter().filter(is_far).count(), far.len());
}

/// That is what two are kept for. Looked at whenever bodies were moved or files rewritten.
#[test]
fn the_older_checkpoint_has_all_that_it_needs() {
    let (desk, mut far) = far_ones(1);
    let scheduler = desk.open();
    let (mut seen, mut checked) = (Vec::new(), 0);
    for number in 10_000..17_000 {
        let is_far = number % 20 == 0;
        let due = if is_far { FAR + number } else { NOON };
        let body = format!("<{number}> {}", "x".repeat(60));
        let id = scheduler.schedule(due, &message(body.clone())).unwrap();
        if is_far {
            far.insert(due, (id, body));
        }
        if number % 50 == 0 {
            drain(&scheduler, NOON);
            let (id, _) = far.pop_first().unwrap().1;
            assert_eq!(scheduler.cancel(id).unwrap(), Cancelled::Done);
        }
        let bodies = files(&desk.index, "bodies-");
        // After an open there is one, until the next.
        if bodies != seen && files(&desk.index, "checkpoint-").len() == 2 {
            scheduler.store().sync().unwrap();
            scheduler.store().maintain().unwrap();
            check_older(&desk, &far);
            (seen, checked) = (bodies, checked + 1);
        }
    }
    assert!(checked > 10, "{checked}");
}
