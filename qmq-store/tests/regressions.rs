//! Bugs that were found once and stay found. Those of crashes are in `docs/crash-findings.md`.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use qmq_store::disk::{Access, CrashImage, Disk, SimulatedDisk};
use qmq_store::{
    Background, Durability, Error, ManualClock, Message, Options, PullRequest, Retention, Store,
};
use support::files;

fn options() -> Options {
    Options {
        background: Background::Manual,
        clock: Arc::new(ManualClock::at(1_000)),
        identity_seed: Some(7),
        ..Options::with_segment_bytes(64 << 10)
    }
}

fn keeping(bytes: u64) -> Options {
    let retention = Retention {
        max_age: None,
        max_bytes: Some(bytes),
        ..Retention::default()
    };
    Options {
        retention,
        ..options()
    }
}

fn open(disk: &SimulatedDisk, options: Options) -> Store {
    Store::open_on(Arc::new(disk.clone()), options).unwrap()
}

/// A store that has retired segments between its two checkpoints, killed.
fn retired_twice() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, keeping(640 << 10));
    for _ in 0..4 {
        for _ in 0..1000 {
            store
                .append_with(&Message::new("s", vec![1; 1000]), Durability::Buffered)
                .unwrap();
        }
        store.maintain().unwrap();
    }
    store.sync().unwrap();
    drop(store);
    disk.process_killed()
}

#[test]
fn consumers_that_create_a_subject_together_do_not_block_each_other() {
    const SUBJECTS: u64 = 3_000;
    const CONSUMERS: u64 = 4;
    let store = open(&SimulatedDisk::new(), options());
    let done = Arc::new(AtomicU64::new(0));
    let together = Arc::new(Barrier::new(CONSUMERS as usize));
    for consumer in 0..CONSUMERS {
        let (store, done, together) = (store.clone(), Arc::clone(&done), Arc::clone(&together));
        std::thread::spawn(move || {
            for n in 0..SUBJECTS {
                together.wait();
                let request = PullRequest::new(format!("s{n}"), "g", format!("c{consumer}"));
                store.pull(&request).unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut last = u64::MAX;
    loop {
        let now = done.load(Ordering::Relaxed);
        if now == SUBJECTS * CONSUMERS {
            break;
        }
        assert_ne!(now, last, "stuck");
        last = now;
        std::thread::sleep(Duration::from_secs(2));
    }
}

#[test]
fn files_of_retired_segments_that_a_crash_brings_back_go_at_the_next_open() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, keeping(64 << 10));
    for _ in 0..1000 {
        store
            .append_with(&Message::new("s", vec![1; 1000]), Durability::Buffered)
            .unwrap();
    }
    store.maintain().unwrap();
    let crashed = disk.crash_as(CrashImage::Oldest, 1);
    drop(store);
    open(&crashed, keeping(64 << 10)).close().unwrap();
    assert!(
        files(&crashed, "log-").len() <= 3,
        "{:?}",
        files(&crashed, "log-")
    );
}

#[test]
fn groups_go_on_after_synced_records_were_lost_from_the_end() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options());
    let request = PullRequest::new("s", "g", "c").max(5);
    let offsets: Vec<u64> = (0..20)
        .map(|n| {
            store
                .append_with(&Message::new("s", format!("{n}")), Durability::Buffered)
                .unwrap()
                .offset
        })
        .collect();
    store.ack(&store.pull(&request).unwrap()).unwrap();
    let incarnation = store.stats().incarnation;
    store.close().unwrap();
    let file = disk.open(&files(&disk, "log-")[0], Access::Write).unwrap();
    file.write_at(&[0; 4096], 64 + offsets[8]).unwrap();
    file.sync().unwrap();

    let store = open(&disk, options());
    assert!(!store.open_report().clean);
    assert!(!store.open_report().damages.is_empty());
    assert!(store.stats().incarnation > incarnation);
    for n in 0..5 {
        store
            .append_with(&Message::new("s", format!("new {n}")), Durability::Buffered)
            .unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let batch = store.pull(&request).unwrap();
        if batch.is_empty() {
            break;
        }
        seen.extend(batch.iter().map(|one| one.sequence()));
        assert_eq!(store.ack(&batch).unwrap().acked, batch.len() as u64);
    }
    assert!(
        seen.windows(2).all(|pair| pair[0] < pair[1]),
        "handed out twice: {seen:?}"
    );
}

#[test]
fn a_wait_beyond_the_end_of_the_log_is_refused() {
    let store = open(&SimulatedDisk::new(), options());
    let beyond = store.append(&Message::new("s", "x")).unwrap().end_offset + 1;
    let refused = store.wait(beyond, Durability::Synced);
    assert!(
        matches!(refused, Err(Error::BeyondEnd { .. })),
        "{refused:?}"
    );
    let (answer, answered) = std::sync::mpsc::channel();
    store.when(beyond, Durability::Synced, move |outcome| {
        answer.send(outcome.is_err()).unwrap();
    });
    assert!(answered.recv().unwrap());
}

/// A store that keeps what is not consumed, with more of that than retention would leave.
fn with_unconsumed_segments() -> (SimulatedDisk, Store) {
    let disk = SimulatedDisk::new();
    let mut options = keeping(64 << 10);
    options.retention.keep_unconsumed = true;
    let store = open(&disk, options);
    store.pull(&PullRequest::new("s", "g", "c")).unwrap();
    for _ in 0..300 {
        store
            .append_with(&Message::new("s", vec![1; 1000]), Durability::Buffered)
            .unwrap();
    }
    store.maintain().unwrap();
    (disk, store)
}

#[test]
fn keeping_the_unconsumed_copes_with_a_damaged_index() {
    let (disk, store) = with_unconsumed_segments();
    disk.flip_bit(&files(&disk, "index-")[0], 70, 1).unwrap();
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || answer.send(store.maintain().is_ok()));
    assert_eq!(answered.recv_timeout(Duration::from_secs(20)), Ok(true));
}

/// With the row of the subject destroyed in the oldest index, its need was not known, and taken for none.
#[test]
fn what_is_not_consumed_is_kept_though_its_index_is_damaged() {
    let (disk, store) = with_unconsumed_segments();
    let index = files(&disk, "index-")[0].clone();
    for at in 40..120 {
        disk.flip_bit(&index, at, 1).unwrap();
    }
    for _ in 0..3 {
        store.maintain().unwrap();
        assert_eq!(store.subject_stats("s").unwrap().first_sequence, 0);
    }
}

#[test]
fn without_any_checkpoint_the_whole_log_is_replayed_and_kept() {
    let disk = retired_twice();
    for name in files(&disk, "checkpoint-") {
        disk.flip_bit(&name, 20, 1).unwrap();
    }
    let before = files(&disk, "log-");
    let store = open(&disk, keeping(640 << 10));
    assert!(files(&disk, "log-").len() >= before.len());
    assert!(
        store
            .read("s", 0, usize::MAX)
            .unwrap()
            .iter()
            .all(|one| one.message().is_ok())
    );
}

#[test]
fn with_the_newest_checkpoint_damaged_the_one_before_serves() {
    let disk = retired_twice();
    disk.flip_bit(files(&disk, "checkpoint-").last().unwrap(), 20, 1)
        .unwrap();
    let store = open(&disk, keeping(640 << 10));
    let stats = store.subject_stats("s").unwrap();
    assert_eq!(stats.next_sequence, 4000);
    let read = store.read("s", 0, usize::MAX).unwrap();
    assert_eq!(
        read.len() as u64,
        stats.next_sequence - stats.first_sequence
    );
    assert!(read.iter().all(|one| one.message().is_ok()));
}

/// The mapping of a segment is as long as its file was while it was written; what lies behind the cut is no memory any more.
#[test]
fn a_flipped_header_length_does_not_lead_a_read_behind_the_end_of_a_sealed_segment() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    let sizes = Options::with_segment_bytes(1 << 20);
    let options = Options {
        segment_bytes: sizes.segment_bytes,
        body_bytes_max: sizes.body_bytes_max,
        batch_bytes_max: sizes.batch_bytes_max,
        ..options()
    };
    let store = Store::open(folder.path(), options).unwrap();
    let send = |len: usize| {
        let message = Message::new("s", vec![b'm'; len]);
        store.append_with(&message, Durability::Buffered).unwrap()
    };
    for _ in 0..4 {
        send(240 << 10);
    }
    let last = send(10);
    assert!(
        store
            .read("s", 4, 1)
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .message()
            .is_ok()
    );
    let next = send(240 << 10);
    store.maintain().unwrap();
    assert_eq!(store.stats().unsealed_segments, 0);
    assert!(next.offset < 1 << 20);
    let segment = std::fs::File::options()
        .read(true)
        .write(true)
        .open(folder.path().join(format!("log-{:020}", 0)))
        .unwrap();
    let high_byte_of_header_len = 64 + last.offset + 53;
    assert!(high_byte_of_header_len + (32 << 10) > segment.metadata().unwrap().len() + 4096);
    segment
        .write_all_at(&[0x80], high_byte_of_header_len)
        .unwrap();
    let read = store.read("s", 0, 10).unwrap();
    let good: Vec<bool> = read.iter().map(|one| one.message().is_ok()).collect();
    assert_eq!(good, [true, true, true, true, false, true]);
}

/// What an open removes and cuts before it says that the store is open must be safe to lose the power in.
#[test]
fn an_open_after_a_kill_in_retention_may_lose_the_power_at_any_step() {
    let run = |cut: Option<u64>| {
        let disk = SimulatedDisk::new();
        let store = open(&disk, keeping(128 << 10));
        for _ in 0..300 {
            let message = Message::new("s", vec![b'm'; 1 << 10]);
            store.append_with(&message, Durability::Buffered).unwrap();
        }
        store.sync().unwrap();
        let before = disk.operations();
        disk.power_off_after(cut.unwrap_or(u64::MAX));
        let _ = store.maintain();
        (before..disk.operations(), disk.process_killed())
    };
    let mut opens = 0;
    for cut in run(None).0 {
        let (_, killed) = run(Some(cut));
        let whole = killed.process_killed();
        open(&whole, keeping(128 << 10));
        for step in 0..whole.operations() {
            let interrupted = killed.process_killed();
            interrupted.power_off_after(step);
            let _ = Store::open_on(Arc::new(interrupted.clone()), keeping(128 << 10));
            for seed in 0..8 {
                let store = open(&interrupted.crash(seed), keeping(128 << 10));
                let report = store.open_report();
                assert_eq!(report.damages, [], "cut {cut}, step {step}, seed {seed}");
                let records = store.read("s", 299, 1).unwrap();
                assert!(records.iter().next().unwrap().message().is_ok());
                opens += 1;
            }
        }
    }
    println!("{opens} opens");
}
