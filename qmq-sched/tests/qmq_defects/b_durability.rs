//! B and C: what a crash, a zero, a time zone or a failing disk did.

use std::collections::BTreeSet;
use std::process::Command;

use qmq_sched::{Options, Scheduler};
use qmq_store::disk::{Access, CrashImage, Disk, MappedDisk};
use qmq_store::{Durability, Retention, RetentionHold, Store};

use crate::common::desk::{Desk, bodies, content, drain, files, message, retire};
use crate::common::{DAY, MINUTE, NOON, small_options};

/// B3: the checkpoint held the replay offset of its end, not of its beginning: what arrived while it was written was behind it and on no disk.
#[test]
fn b3_what_is_scheduled_while_a_checkpoint_is_written_is_not_behind_it() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    let due = |number: u64| NOON + number % 7 * MINUTE;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..400 {
                let message = message(number.to_string());
                scheduler.schedule(due(number), &message).unwrap();
            }
        });
        while !writer.is_finished() {
            scheduler.checkpoint().unwrap();
        }
    });
    for image in [CrashImage::Oldest, CrashImage::Newest] {
        for index in [CrashImage::Oldest, CrashImage::Newest] {
            let left = desk.with(desk.log.crash_as(image, 1), desk.index.crash_as(index, 1));
            let scheduler = left.open();
            assert_eq!(scheduler.open_report().rebuilt, None);
            let mut fired = bodies(&drain(&scheduler, NOON + DAY));
            fired.sort_unstable_by_key(|body| body.parse::<u64>().unwrap());
            assert!(
                fired
                    .into_iter()
                    .eq((0..400_u64).map(|one| one.to_string()))
            );
        }
    }
}

/// B8: zeros behind the last record of a bucket were messages without a subject, due at once.
#[test]
fn b8_zeros_behind_the_last_record_are_no_messages() {
    let desk = Desk::new(small_options());
    let scheduler = desk.open();
    scheduler.schedule(NOON, &message("one")).unwrap();
    scheduler.checkpoint().unwrap();
    drop(scheduler);
    for with_whole_file in [false, true] {
        for prefix in ["run-", "checkpoint-"] {
            let left = desk.killed();
            for name in files(&left.index, prefix) {
                let len = content(&left.index, &name).len() as u64;
                let file = left.index.open(&name, Access::Write).unwrap();
                file.set_len(len + 280).unwrap();
                if with_whole_file {
                    file.write_at(&vec![0; len as usize], 0).unwrap();
                }
            }
            let scheduler = left.open();
            assert!(scheduler.open_report().rebuilt.is_some());
            assert_eq!(scheduler.totals().count, 1);
            assert_eq!(bodies(&drain(&scheduler, NOON)), ["one"]);
        }
    }
}

/// B17: the sequence was found by looking at the newest segment alone, and began again at 0 when that was empty.
#[test]
fn b17_no_id_is_given_twice_though_log_and_index_are_gone() {
    let mut desk = Desk::new(small_options());
    desk.retention.max_bytes = Some(0);
    let due = NOON + DAY;
    let mut given = BTreeSet::new();
    for round in 0..4 {
        let scheduler = desk.open();
        let first = scheduler.schedule(due, &message("settled")).unwrap();
        assert!(
            given.insert(first),
            "{first} was given before, in round {round}"
        );
        assert_eq!(scheduler.cancel(first).unwrap(), qmq_sched::Cancelled::Done);
        for old in &given {
            assert!(scheduler.get(*old).unwrap().is_none());
        }
        // Nothing is pending, so retention takes all but what is newest; of the rest of what was, nothing is left either.
        for number in 0..80 {
            let filler = message(vec![b'x'; 3_000]);
            let id = scheduler.schedule(NOON + number, &filler).unwrap();
            assert!(given.insert(id));
        }
        drain(&scheduler, NOON + 100);
        retire(&scheduler);
        let first_sequence = |scheduler: &Scheduler| {
            let stats = scheduler.store().subject_stats(qmq_sched::SUBJECT);
            stats.unwrap().first_sequence
        };
        assert!(
            first_sequence(&scheduler) > 80 * round,
            "nothing was retired"
        );
        Desk::close(scheduler);
        for name in files(&desk.index, "") {
            desk.index.remove(&name).unwrap();
        }
    }
}

const FOLDER: &str = "QMQ_SCHED_TEST_FOLDER";

/// B18: buckets were named after the local time, so that another time zone, or the end of summer time, made them unreachable.
#[test]
fn b18_another_time_zone_changes_nothing() {
    let name = "b_durability::b18_another_time_zone_changes_nothing";
    let open = |folder: &std::path::Path| {
        let options = qmq_store::Options {
            retention_hold: Some(RetentionHold::default()),
            ..qmq_store::Options::with_segment_bytes(64 << 10)
        };
        let store = Store::open(folder.join("log"), options).unwrap();
        let index = MappedDisk::open(folder.join("index"), true).unwrap();
        Scheduler::open(store, index, Options::default()).unwrap()
    };
    // Summer time ends in New York at 06:00 UTC on this day, and an hour of the clock on the wall comes twice.
    let midnight = 2_046_297_600_000_u64;
    let hours = || (0..25).map(|hour| midnight + hour * 60 * MINUTE + 1);
    if let Some(folder) = std::env::var_os(FOLDER) {
        let scheduler = open(folder.as_ref());
        for due in hours() {
            scheduler.schedule(due, &message(due.to_string())).unwrap();
        }
        return Desk::close(scheduler);
    }
    let folder = tempfile::tempdir().unwrap();
    let written = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(FOLDER, folder.path())
        .env("TZ", "America/New_York")
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    let scheduler = open(folder.path());
    for due in hours() {
        assert!(scheduler.due(due - 1, 100).unwrap().is_empty());
        assert_eq!(bodies(&scheduler.due(due, 100).unwrap()), [due.to_string()]);
    }
}

/// C8: when one append of a batch failed, those before it were made again, in a hot loop, without an end.
#[test]
fn c8_a_failing_disk_repeats_nothing_and_is_not_asked_in_a_loop() {
    let mut desk = Desk::new(small_options());
    desk.retention = Retention::default();
    let scheduler = desk.open();
    desk.index.faults(|faults| faults.fail_every_sync(true));
    let mut accepted = Vec::new();
    let mut refused = 0;
    for number in 0..100 {
        let before = desk.index.operations();
        let body = number.to_string();
        let durability = Durability::Buffered;
        match scheduler.schedule_with(NOON + number, &message(body.clone()), durability) {
            Ok(_) => accepted.push(body),
            Err(_) => refused += 1,
        }
        assert!(desk.index.operations() - before < 50);
    }
    assert!(accepted.len() >= 16, "the stage takes some");
    assert!(refused > 0, "and has an end");
    desk.index.faults(|faults| faults.clear());
    scheduler.checkpoint().unwrap();
    assert_eq!(scheduler.totals().count, accepted.len() as u64);
    drop(scheduler);
    assert_eq!(bodies(&drain(&desk.killed().open(), NOON + DAY)), accepted);
}
