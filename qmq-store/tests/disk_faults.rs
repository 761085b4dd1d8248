//! A disk that fails: the store says so, claims nothing that is not so, and reads go on.

mod common;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::check::{End, check_contents, check_image};
use common::damaged::read_all;
use common::files::files;
use common::model::Model;
use common::rng::Rng;
use common::workload::{Session, options_of};
use qmq_store::disk::{Access, CrashImage, Disk, SimulatedDisk, SimulatedFaults};
use qmq_store::{DamageKind, Durability, Error, Message, PullRequest, Store};

#[allow(
    clippy::needless_pass_by_value,
    reason = "every caller has just got it"
)]
fn is_poisoned<T: std::fmt::Debug>(outcome: Result<T, Error>) -> bool {
    let poisoned = matches!(outcome, Err(Error::Poisoned { .. }));
    assert!(poisoned, "{outcome:?}");
    poisoned
}

/// Ten messages, synced, of which a consumer holds two; and its batch.
fn small_store(disk: &SimulatedDisk) -> (Store, qmq_store::Batch) {
    let store = common::open(disk, &common::small_options().0).expect("the store opens");
    for n in 0..10 {
        let message = Message::new("s", format!("{n}"));
        store
            .append_with(&message, Durability::Synced)
            .expect("an append");
    }
    let batch = store
        .pull(&PullRequest::new("s", "g", "c").max(2))
        .expect("a pull");
    (store, batch)
}

/// After a failure nothing is accepted, nothing waits for ever, and what was there is read.
fn assert_takes_no_more_writes(store: &Store, batch: &qmq_store::Batch) {
    let message = Message::new("s", "more");
    let end = store.watermarks().written;
    let synced = store.watermarks().synced;
    assert!(is_poisoned(
        store.append_with(&message, Durability::Buffered)
    ));
    assert!(is_poisoned(store.append_with(&message, Durability::Synced)));
    assert!(is_poisoned(store.append_batch(
        std::slice::from_ref(&message),
        Durability::Buffered
    )));
    if synced < end {
        assert!(is_poisoned(store.wait(end, Durability::Synced)));
    }
    assert!(is_poisoned(store.ack(batch)));
    assert!(is_poisoned(store.pull(&PullRequest::new("s", "g", "c"))));
    assert!(is_poisoned(store.maintain()));
    let refused = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&refused);
    store.when(end + 1, Durability::Synced, move |outcome| {
        counter.fetch_add(u64::from(outcome.is_err()), Ordering::Relaxed);
    });
    assert_eq!(refused.load(Ordering::Relaxed), 1);
    assert_eq!(store.watermarks().synced, synced);
    let records = store.read("s", 0, 10).expect("reads go on");
    assert!(records.iter().all(|one| one.message().is_ok()));
    assert!(records.len() >= 10);
    assert!(
        store.clone().close().is_err(),
        "a poisoned store does not close in order"
    );
}

#[test]
fn a_failed_sync_stops_all_writes_and_no_claim_is_made() {
    let disk = SimulatedDisk::new();
    let (store, batch) = small_store(&disk);
    let synced = store.watermarks().synced;
    disk.faults(|faults| faults.fail_sync(1));
    let message = Message::new("s", "lost");
    assert!(is_poisoned(store.append_with(&message, Durability::Synced)));
    assert!(store.watermarks().synced <= synced);
    assert_takes_no_more_writes(&store, &batch);
    drop((store, batch));
    for seed in 0..20 {
        let store = common::open(&disk.crash(seed), &common::small_options().0).expect("it opens");
        assert!(store.read("s", 0, 20).expect("a read").len() >= 10);
        assert!(store.append_with(&message, Durability::Synced).is_ok());
    }
}

#[test]
fn a_failed_or_short_write_stops_all_writes() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        let disk = SimulatedDisk::new();
        let (store, batch) = small_store(&disk);
        disk.faults(|faults| faults.short_write(1, kind));
        let message = Message::new("s", "a body that is cut somewhere");
        assert!(is_poisoned(store.append_with(&message, Durability::Synced)));
        assert_takes_no_more_writes(&store, &batch);
    }
}

#[test]
fn a_failed_sync_of_names_stops_the_writes_that_need_it() {
    let disk = SimulatedDisk::new();
    let (store, _) = small_store(&disk);
    disk.faults(|faults| faults.fail_sync_names(1));
    let message = Message::new("s", vec![7; 10_000]);
    let mut appended = 0;
    let error = loop {
        match store.append_with(&message, Durability::Synced) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
        assert!(
            appended < 20,
            "a segment was begun, and its name was never synced"
        );
    };
    assert!(is_poisoned::<()>(Err(error)));
    for seed in 0..20 {
        let store = common::open(&disk.crash(seed), &common::small_options().0).expect("it opens");
        assert!(store.read("s", 0, 50).expect("a read").len() >= 10 + appended);
    }
}

/// The system reports a failed sync once: what the checkpoint learned, the next commit does not learn again.
#[test]
fn a_sync_of_names_that_fails_under_a_checkpoint_is_not_forgotten() {
    let disk = SimulatedDisk::new();
    let (store, _) = small_store(&disk);
    let message = Message::new("s", vec![7; 10_000]);
    let segments = store.stats().segments;
    while store.stats().segments == segments {
        store
            .append_with(&message, Durability::Buffered)
            .expect("an append");
    }
    store.sync().expect("a sync");
    disk.faults(|faults| faults.fail_sync_names(1));
    store.checkpoint().expect_err("the fault shows");
    assert!(is_poisoned(store.append_with(&message, Durability::Synced)));
}

/// Random work with a fault somewhere; then a crash.
fn live_with_a_fault(seed: u64, set: impl Fn(&mut SimulatedFaults, &mut Rng)) {
    let mut rng = Rng::new(seed);
    let (mut options, clock) = options_of(&mut rng);
    // When the checkpoint that makes a retirement durable fails, what was acked of the retired comes again after a crash.
    options.retention.max_bytes = None;
    let disk = SimulatedDisk::new();
    disk.set_seed(seed);
    let mut session = Session::new(disk.clone(), &options, Arc::clone(&clock), Model::default());
    session.note_member();
    session.note();
    session.faulty = true;
    disk.faults(|faults| set(faults, &mut rng));
    session.run(&mut rng, 200);
    session.note_member();
    let (image, how) = match rng.below(3) {
        0 => (disk.process_killed(), End::Killed),
        _ => (disk.crash(rng.next()), End::PowerLost),
    };
    let model = session.model;
    drop(session.store);
    check_image(&image, &options, &clock, &model, how, &mut rng);
}

fn campaign(live: impl Fn(u64)) {
    let first = common::number_from_env("QMQ_FAULT_FIRST", 1);
    for seed in first..first + common::number_from_env("QMQ_FAULT_SEEDS", 20) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| live(seed))) {
            println!("QMQ_FAULT_FIRST={seed} QMQ_FAULT_SEEDS=1 fails");
            resume_unwind(panic);
        }
    }
}

#[test]
fn what_was_promised_before_a_failed_sync_holds_after_a_crash() {
    campaign(|seed| live_with_a_fault(seed, |faults, rng| faults.fail_sync(1 + rng.below(60))));
}

#[test]
fn what_was_promised_before_a_failed_sync_of_names_holds_after_a_crash() {
    campaign(|seed| {
        live_with_a_fault(seed, |faults, rng| {
            faults.fail_sync_names(1 + rng.below(12));
        });
    });
}

#[test]
fn what_was_promised_before_a_short_write_holds_after_a_crash() {
    campaign(|seed| {
        live_with_a_fault(seed, |faults, rng| {
            let kind = *rng.pick(&[ErrorKind::Other, ErrorKind::StorageFull]);
            faults.short_write(1 + rng.below(60), kind);
        });
    });
}

/// A disk that says "synced" and does not: what it loses cannot be kept, but nothing wrong is served.
#[test]
fn a_sync_that_lies_makes_the_store_shorter_but_never_wrong() {
    campaign(|seed| {
        let mut rng = Rng::new(seed);
        let (options, clock) = options_of(&mut rng);
        let disk = SimulatedDisk::new();
        disk.set_seed(seed);
        let model = Model::default();
        let mut session = Session::new(disk.clone(), &options, Arc::clone(&clock), model);
        let honest = rng.below(100);
        session.run(&mut rng, honest);
        disk.faults(|faults| faults.lying_sync(true));
        session.run(&mut rng, 150);
        if options.retention.max_bytes.is_some() {
            session.note_floors();
        }
        let Ok(store) = common::open(&disk.crash(rng.next()), &options) else {
            return; // Refused with a reason, which is right as well.
        };
        let retention = options.retention.max_bytes.is_some();
        let losses = match retention {
            // Retired segments may have come back or not: the first message that is there counts.
            true => return,
            false => read_all(&store, &session.model),
        };
        // Damage in what the open did not replay is told by the read.
        let report = store.open_report();
        let marks = store.watermarks();
        if marks.written < session.model.synced && losses.missing > 0 {
            let told = report.cut_bytes > 0 || !report.damages.is_empty() || !report.clean;
            assert!(told, "{losses:?}: {report:?}");
        }
        store
            .append(&Message::new("after", "all"))
            .expect("an append");
    });
}

#[test]
fn an_unreadable_stretch_below_the_synced_end_is_reported_and_costs_no_other_message() {
    let (options, clock) = common::small_options();
    let mut rng = Rng::new(3);
    let disk = SimulatedDisk::new();
    let mut session = Session::new(disk.clone(), &options, clock, Model::default());
    session.run(&mut rng, 80);
    session.store.sync().expect("a sync");
    session
        .append(&mut rng, Durability::Synced)
        .expect("an append");
    let Session { store, model, .. } = session;
    drop(store);
    let bad = disk.crash(1);
    bad.faults(|faults| faults.read_error("log-00000000000000000000", 4096..4097));
    let store = common::open(&bad, &options).expect("it opens");
    let kinds: Vec<_> = store
        .open_report()
        .damages
        .iter()
        .map(|damage| damage.kind)
        .collect();
    assert!(kinds.contains(&DamageKind::Unreadable), "{kinds:?}");
    let losses = read_all(&store, &model);
    assert_eq!(losses.missing + losses.unknown, 0);
    assert!(losses.damaged < 80, "{losses:?}");
}

#[test]
fn an_unreadable_end_of_the_log_refuses_the_open_and_changes_nothing() {
    let disk = SimulatedDisk::new();
    let (store, batch) = small_store(&disk);
    drop((store, batch));
    let bad = disk.crash(1);
    bad.faults(|faults| faults.read_error("log-00000000000000000000", 500..501));
    let error = common::open(&bad, &common::small_options().0).expect_err("the open is refused");
    assert!(
        error.to_string().contains("log-00000000000000000000"),
        "{error}"
    );
    bad.faults(SimulatedFaults::clear);
    let store = common::open(&bad, &common::small_options().0).expect("the disk is well again");
    assert_eq!(store.read("s", 0, 20).expect("a read").len(), 10);
}

#[test]
fn an_unreadable_checkpoint_or_identity_is_said() {
    let (options, clock) = common::small_options();
    let disk = SimulatedDisk::new();
    let mut session = Session::new(disk.clone(), &options, clock, Model::default());
    session.run(&mut Rng::new(4), 60);
    session.store.clone().close().expect("a close");
    let model = session.model;
    drop(session.store);
    let left = disk.crash(1);
    let newest = files(&left, "checkpoint-").pop().expect("a checkpoint");
    left.faults(|faults| faults.read_error(&newest, 0..10));
    let error = common::open(&left, &options).expect_err("it may be good");
    assert!(error.to_string().contains(&newest), "{error}");
    left.faults(SimulatedFaults::clear);
    let store = common::open(&left, &options).expect("and it is");
    assert_eq!(store.open_report().damages, []);
    check_contents(&store, &model);
    drop(store);
    left.faults(|faults| {
        faults.clear();
        faults.read_error("store", 0..10);
    });
    let error = common::open(&left, &options).expect_err("without an identity it is no store");
    assert!(error.to_string().contains("store"), "{error}");
}

/// A disk that lied when the cut tail was zeroed brings old records back, whole, right behind the new end.
#[test]
fn an_old_record_behind_the_end_never_revives() {
    const LOG: &str = "log-00000000000000000000";
    let options = common::small_options().0;
    let disk = SimulatedDisk::new();
    let store = common::open(&disk, &options).expect("the store opens");
    for n in 10..30 {
        let message = Message::new("s", format!("old {n}"));
        store
            .append_with(&message, Durability::Buffered)
            .expect("an append");
    }
    let (old, lost) = (disk.process_killed(), disk.crash_as(CrashImage::Oldest, 1));
    let old = old.open(LOG, Access::Read).expect("the old log");
    let mut bytes = vec![0; old.len().expect("a length") as usize];
    old.read_at(&mut bytes, 0).expect("a read");

    let store = common::open(&lost, &options).expect("the store opens");
    for n in 10..15 {
        let message = Message::new("s", format!("new {n}"));
        store
            .append_with(&message, Durability::Synced)
            .expect("an append");
    }
    let end = 64 + store.watermarks().written;
    drop(store);
    let back = lost.crash(1);
    let log = back.open(LOG, Access::Write).expect("the log");
    log.write_at(&bytes[end as usize..], end).expect("a write");
    drop(log);
    let store = common::open(&back, &options).expect("the store opens");
    let records = store.read("s", 0, 100).expect("a read");
    let bodies = records
        .iter()
        .map(|one| one.message().expect("a message").body().to_vec());
    let expected = (10..15).map(|n| format!("new {n}").into_bytes());
    assert_eq!(bodies.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert!(
        store.open_report().cut_bytes > 0,
        "{:?}",
        store.open_report()
    );
}

#[test]
fn what_was_cut_is_zeroed_before_the_first_append() {
    let options = common::small_options().0;
    let disk = SimulatedDisk::new();
    let store = common::open(&disk, &options).expect("the store opens");
    let append = |store: &Store, text: String| {
        store
            .append_with(&Message::new("s", text), Durability::Buffered)
            .expect("an append")
    };
    let old: Vec<_> = (10..30)
        .map(|n| append(&store, format!("old {n}")))
        .collect();
    let torn = old[5];
    drop(store);
    let left = disk.crash_as(CrashImage::Newest, 1);
    left.flip_bit("log-00000000000000000000", 64 + torn.offset, 0)
        .expect("a flip");
    let store = common::open(&left, &options).expect("the store opens");
    assert_eq!(store.open_report().whole_records_cut, 14);
    append(&store, "new 15".to_owned());
    store.sync().expect("a sync");
    drop(store);
    let store = common::open(&left.crash(2), &options).expect("the store opens");
    assert_eq!(store.read("s", 0, 100).expect("a read").len(), 6);
    assert_eq!(
        store.open_report().cut_bytes,
        0,
        "old records stand behind the end"
    );
}
