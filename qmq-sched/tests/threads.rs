//! The scheduler's own thread, and threads that wait for what is due.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::desk::{Desk, bodies, drain, message};
use common::{DAY, NOON, small_options};
use qmq_sched::{Options, Scheduler};
use qmq_store::disk::MappedDisk;
use qmq_store::{Durability, ManualClock, RetentionHold, Store};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn open(folder: &Path, options: Options) -> Scheduler {
    let store = qmq_store::Options {
        clock: Arc::new(ManualClock::at(NOON)),
        retention_hold: Some(RetentionHold::default()),
        ..qmq_store::Options::with_segment_bytes(1 << 20)
    };
    let store = Store::open(folder.join("log"), store).unwrap();
    let index = MappedDisk::open(folder.join("index"), true).unwrap();
    Scheduler::open(store, index, options).unwrap()
}

fn runs(folder: &Path) -> usize {
    let files = fs::read_dir(folder.join("index")).unwrap();
    let names = files.map(|file| file.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("run-"))
        .count()
}

#[test]
fn a_thread_writes_runs_and_is_gone_with_the_scheduler() {
    const MESSAGES: u64 = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let scheduler = open(folder.path(), small_options());
    for number in 0..MESSAGES {
        let message = message(format!("{number}"));
        let due = NOON + number;
        scheduler
            .schedule_with(due, &message, Durability::Buffered)
            .unwrap();
    }
    let start = Instant::now();
    while runs(folder.path()) == 0 {
        assert!(start.elapsed() < LONG, "nobody has written a run");
        thread::yield_now();
    }
    // Nobody has the store and the folder of the index any more once these are dropped.
    let other = scheduler.clone();
    drop(scheduler);
    drop(other);
    let scheduler = open(folder.path(), small_options());
    assert_eq!(drain(&scheduler, NOON + DAY).len() as u64, MESSAGES);
}

/// Waits in a thread while `meanwhile` runs, and says how long that took.
fn waited(scheduler: &Scheduler, timeout: Duration, meanwhile: impl FnOnce()) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        let now = Duration::from_millis(NOON);
        let waiter = scope.spawn(move || scheduler.wait_due(now, timeout).unwrap());
        meanwhile();
        waiter.join().unwrap();
    });
    start.elapsed()
}

#[test]
fn who_waits_is_woken_by_what_is_due_earlier() {
    let desk = Desk::new(Options::default());
    let scheduler = desk.open();
    let schedule = |due, body: &str| scheduler.schedule(due, &message(body)).unwrap();
    let later = schedule(NOON + DAY, "in a day");
    assert!(
        waited(&scheduler, LONG, || {
            // However soon that is: before the waiter waits, or after.
            schedule(NOON, "now");
        }) < LONG
    );
    assert_eq!(bodies(&drain(&scheduler, NOON)), ["now"]);
    // Something that is rescheduled to now does as well.
    assert!(
        waited(&scheduler, LONG, || {
            let _ = scheduler.reschedule(later, NOON).unwrap();
        }) < LONG
    );
    assert_eq!(bodies(&drain(&scheduler, NOON)), ["in a day"]);
    let short = Duration::from_millis(20);
    assert!(waited(&scheduler, short, || {}) >= short, "nothing is due");
    schedule(NOON + 40, "soon");
    let until_soon = Duration::from_millis(40);
    let took = waited(&scheduler, LONG, || {});
    assert!((until_soon..LONG).contains(&took), "{took:?}");
}

/// With all messages out that may be, one that is dispatched makes room for the next.
#[test]
fn who_waits_for_room_is_woken_when_there_is_some() {
    let options = Options {
        outstanding_max: 1,
        ..Options::default()
    };
    let desk = Desk::new(options);
    let scheduler = desk.open();
    for body in ["one", "two"] {
        scheduler.schedule(NOON, &message(body)).unwrap();
    }
    let fired = scheduler.due(NOON, 2).unwrap();
    let took = waited(&scheduler, LONG, || {
        thread::sleep(Duration::from_millis(20));
        assert_eq!(scheduler.dispatched(&[fired[0].id]).unwrap(), 1);
    });
    assert!(took < LONG);
    assert_eq!(bodies(&drain(&scheduler, NOON)), ["two"]);
}
