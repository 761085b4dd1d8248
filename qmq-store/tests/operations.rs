//! What operators do: statistics, verification, scrub, backup, following, offline tools.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use qmq_store::offline::{self, DumpedKind};
use qmq_store::{Background, Durability, Error, Message, OpenError, Options, PullRequest, Store};
use support::files_in;

fn options() -> Options {
    Options::with_segment_bytes(1 << 20)
}

fn filled(folder: &Path, messages: usize) -> Store {
    let store = Store::open(folder, options()).unwrap();
    for n in 0..messages {
        let message =
            Message::new(format!("s{}", n % 3), vec![b'x'; 1000]).with_id(format!("id-{n}"));
        store.append_with(&message, Durability::Buffered).unwrap();
    }
    store.sync().unwrap();
    store
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn statistics_count_what_groups_have_and_miss() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 300);
    let batch = store
        .pull(&PullRequest::new("s0", "g", "c").max(40))
        .unwrap();
    let first = batch.iter().next().unwrap().pull_sequence();
    store
        .ack_ranges(batch.member(), &[first..=first + 9], Durability::Buffered)
        .unwrap();
    let stats = store.subject_stats("s0").unwrap();
    assert_eq!((stats.first_sequence, stats.next_sequence), (0, 100));
    let group = &stats.groups[0];
    assert_eq!(
        (group.cursor, group.lag, group.unacked, group.skipped),
        (40, 60, 30, 0)
    );
    assert_eq!(store.subject_bytes("s0", group.cursor).unwrap(), 60_000);
    let whole = store.stats();
    assert_eq!(whole.subjects, 3);
    assert!(whole.log_bytes > 300_000);
}

#[test]
fn verification_names_the_damaged_message_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 3000);
    assert_eq!(store.verify(&mut |_, _| {}).unwrap().damages, []);
    let mut last = 0;
    let scrubbed = store.scrub(1 << 30, &mut |done, total| {
        assert!(done >= last && done <= total);
        last = done;
    });
    assert_eq!(scrubbed.unwrap().messages, 3000);
    store.close().unwrap();
    assert_eq!(
        offline::verify(folder.path(), &mut |_, _| {})
            .unwrap()
            .damages,
        []
    );
    flip(&files_in(folder.path(), "log-")[0], 64 + 500);
    let report = offline::verify(folder.path(), &mut |_, _| {}).unwrap();
    assert_eq!(report.damages.len(), 1, "{:?}", report.damages);
    assert_eq!(report.damages[0].message, Some(("s0".to_owned(), 0)));
    let store = Store::open(folder.path(), options()).unwrap();
    let read = store.read("s0", 0, 10).unwrap();
    let good: Vec<bool> = read.iter().map(|one| one.message().is_ok()).collect();
    assert_eq!(
        good,
        [false, true, true, true, true, true, true, true, true, true]
    );
}

#[test]
fn a_backup_of_a_live_store_is_a_store_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder.path().join("live"), 3000);
    let batch = store
        .pull(&PullRequest::new("s1", "g", "c").max(100))
        .unwrap();
    store.ack(&batch).unwrap();
    let report = store
        .backup(folder.path().join("copy"), &mut |_, _| {})
        .unwrap();
    assert_eq!(report.verified.damages, []);
    assert_eq!(report.verified.messages, 3000);
    store.append(&Message::new("s1", "after")).unwrap();
    let copy = Store::open(folder.path().join("copy"), options()).unwrap();
    assert_ne!(copy.stats().store_id, store.stats().store_id);
    assert!(copy.stats().incarnation > store.stats().incarnation);
    assert_eq!(copy.subject_stats("s1").unwrap().next_sequence, 1000);
    assert_eq!(copy.subject_stats("s1").unwrap().groups[0].cursor, 100);
    assert!(matches!(
        copy.ack(&batch),
        Err(Error::StaleIncarnation { .. })
    ));
    let again = store.backup(folder.path().join("copy"), &mut |_, _| {});
    assert!(
        matches!(again, Err(Error::Open(OpenError::NotAStore { .. }))),
        "{again:?}"
    );
}

#[test]
fn a_follower_sees_what_the_writer_publishes_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 10);
    let follower = Store::open_read_only(folder.path(), &options()).unwrap();
    assert_eq!(follower.read("s0", 0, 100).unwrap().len(), 4);
    let before: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(!follower.wait(Duration::from_millis(10)).unwrap());
    // Over several segments, so that rotation and sealing are followed too.
    for n in 0..5000 {
        store
            .append_with(
                &Message::new("new", format!("{n:01000}")),
                Durability::Buffered,
            )
            .unwrap();
        if n % 700 == 0 {
            assert!(follower.wait(Duration::from_secs(5)).unwrap());
            assert_eq!(follower.bounds("new").unwrap().1, n + 1);
        }
    }
    follower.refresh().unwrap();
    let mut read = 0;
    while read < 5000 {
        let records = follower.read("new", read, 1000).unwrap();
        for one in records.iter() {
            assert_eq!(
                one.message().unwrap().body(),
                format!("{read:01000}").as_bytes()
            );
            read += 1;
        }
    }
    assert_eq!(follower.verify(&mut |_, _| {}).unwrap().damages, []);
    store.close().unwrap();
    let after = Store::open_read_only(folder.path(), &options()).unwrap();
    assert_eq!(after.bounds("new").unwrap(), (0, 5000));
    assert!(before.len() >= 4);
}

#[test]
fn a_follower_of_a_restarted_writer_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 10);
    let follower = Store::open_read_only(folder.path(), &options()).unwrap();
    drop(store);
    let _again = Store::open(folder.path(), options()).unwrap();
    assert!(matches!(
        follower.refresh(),
        Err(Error::WriterRestarted { .. })
    ));
}

#[test]
fn repair_makes_derived_files_anew_and_keeps_every_record() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 3000).close().unwrap();
    for prefix in ["index-", "checkpoint-", "store"] {
        for path in files_in(folder.path(), prefix) {
            flip(&path, 40);
        }
    }
    let refused = Store::open(folder.path(), options());
    assert!(
        matches!(refused, Err(OpenError::DamagedIdentity { .. })),
        "{refused:?}"
    );
    let report = offline::repair(folder.path(), &mut |_, _| {}).unwrap();
    assert!(report.identity_rebuilt);
    assert!(report.remaining.is_empty(), "{:?}", report.remaining);
    let store = Store::open(folder.path(), options()).unwrap();
    for subject in ["s0", "s1", "s2"] {
        assert_eq!(store.subject_stats(subject).unwrap().next_sequence, 1000);
        assert!(
            store
                .read(subject, 0, 1000)
                .unwrap()
                .iter()
                .all(|one| one.message().is_ok())
        );
    }
}

/// The check of an index entry, as in docs/format.md section 5.
fn entry_check(base: u64, number: u64, position: u32, fingerprint: u32) -> u32 {
    let (a, b) = (
        u64::from(position) | u64::from(fingerprint) << 32,
        base ^ (number << 16),
    );
    let mut h = (a ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    h = (h ^ (h >> 29) ^ b).wrapping_mul(0x94D0_49BB_1331_11EB);
    (h >> 32) as u32
}

#[test]
fn repair_makes_an_index_anew_whose_checksums_are_good_and_whose_entries_are_wrong() {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    for wrong_fingerprint in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 3000).close().unwrap();
        let path = &files_in(folder.path(), "index-")[0];
        let mut bytes = fs::read(path).unwrap();
        let first = 64 + 16 * (word(&bytes, 32) as usize + 1);
        let position = word(&bytes, first + 12 * (1 - wrong_fingerprint as usize));
        let check = entry_check(0, 0, position, wrong_fingerprint);
        for (at, value) in [position, wrong_fingerprint, check].iter().enumerate() {
            bytes[first + 4 * at..first + 4 * at + 4].copy_from_slice(&value.to_le_bytes());
        }
        fs::write(path, bytes).unwrap();
        let report = offline::repair(folder.path(), &mut |_, _| {}).unwrap();
        assert_eq!(report.indexes_rebuilt, 1);
        assert_eq!(report.remaining, []);
        let store = Store::open(folder.path(), options()).unwrap();
        let records = store.read("s0", 0, 1000).unwrap();
        assert!(records.iter().all(|one| one.message().is_ok()));
        assert_eq!(store.verify(&mut |_, _| {}).unwrap().damages, []);
    }
}

#[test]
fn an_index_made_anew_beside_another_damaged_one_leads_to_its_records() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 4000).close().unwrap();
    let indexes = files_in(folder.path(), "index-");
    assert!(indexes.len() >= 3);
    for path in &indexes[..2] {
        let mut bytes = fs::read(path).unwrap();
        let rows_end = 64 + 16 * 4;
        for byte in &mut bytes[64..rows_end] {
            *byte ^= 0x10;
        }
        fs::write(path, bytes).unwrap();
    }
    let store = Store::open(folder.path(), options()).unwrap();
    for from in (0..1300).rev() {
        let records = store.read("s0", from, 1).unwrap();
        let one = records.iter().next().unwrap();
        assert!(one.message().is_ok() && one.sequence() == from, "{from}");
    }
    assert_eq!(store.verify(&mut |_, _| {}).unwrap().damages, []);
}

#[test]
fn a_dump_shows_every_record_and_inspect_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 2000);
    let batch = store.pull(&PullRequest::new("s0", "g", "c")).unwrap();
    store.ack(&batch).unwrap();
    store.close().unwrap();
    let (mut messages, mut actions) = (0, 0);
    offline::dump(folder.path(), 0, u64::MAX, &mut |record| {
        messages += u64::from(record.kind == DumpedKind::Message);
        actions += u64::from(record.kind == DumpedKind::Action);
        true
    })
    .unwrap();
    assert_eq!((messages, actions), (2000, 3));
    let inspection = offline::inspect(folder.path()).unwrap();
    assert!(inspection.clean);
    assert_eq!(inspection.subjects.len(), 3);
    assert_eq!(inspection.subjects[0].groups[0].cursor, 100);
    assert!(inspection.segments.len() >= 2);
    assert!(matches!(
        offline::inspect(folder.path().join("nowhere")),
        Err(Error::Io { .. })
    ));
}

#[test]
fn a_follower_keeps_up_with_retention_or_says_that_it_fell_behind() {
    let folder = tempfile::tempdir().unwrap();
    let retention = qmq_store::Retention {
        max_bytes: Some(4 << 20),
        ..Default::default()
    };
    let keeping = Options {
        retention,
        background: Background::Manual,
        ..options()
    };
    let store = Store::open(folder.path(), keeping).unwrap();
    let follower = Store::open_read_only(folder.path(), &options()).unwrap();
    let fill = |subject: &str| {
        for n in 0..1500 {
            store
                .append_with(
                    &Message::new(subject, format!("{n:01000}")),
                    Durability::Buffered,
                )
                .unwrap();
        }
        store.maintain().unwrap();
    };
    for round in 0..6 {
        fill(&format!("round.{round}"));
        follower.refresh().unwrap();
        for subject in follower.subjects() {
            let (first, next) = follower.bounds(&subject).unwrap();
            assert_eq!(
                store.subject_stats(&subject).unwrap().first_sequence,
                first,
                "{subject} in round {round}"
            );
            assert_eq!(next, 1500);
            let read = follower.read(&subject, first, 2000).unwrap();
            assert_eq!(read.len() as u64, next - first);
            assert!(read.iter().all(|one| {
                one.message()
                    .is_ok_and(|message| message.subject() == subject)
            }));
        }
    }
    for round in 6..12 {
        fill(&format!("round.{round}"));
    }
    assert!(matches!(follower.refresh(), Err(Error::FellBehind { .. })));
    let again = Store::open_read_only(folder.path(), &options()).unwrap();
    assert_eq!(again.bounds("round.11").unwrap().1, 1500);
}

#[test]
fn an_open_that_is_refused_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 10).close().unwrap();
    let identity = fs::read(folder.path().join("store")).unwrap();
    // A segment of a newer version behind the one that is there.
    let log = files_in(folder.path(), "log-").pop().unwrap();
    let mut header = fs::read(&log).unwrap();
    header.truncate(64);
    header[8] = 99;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[8..12]);
    crc.update(&header[16..]);
    header[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    let mut whole = fs::read(&log).unwrap();
    whole[..64].copy_from_slice(&header);
    fs::write(&log, &whole).unwrap();
    let refused = Store::open(folder.path(), options());
    assert!(
        matches!(refused, Err(OpenError::NewerVersion { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(folder.path().join("store")).unwrap(), identity);
    assert_eq!(fs::read(&log).unwrap(), whole);
}

#[test]
fn statistics_say_what_housekeeping_fails_at() {
    for background in [Background::Manual, Background::Threads] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            background,
            ..options()
        };
        let store = Store::open(folder.path(), options).unwrap();
        assert_eq!(store.stats().housekeeping_failures, 0);
        assert_eq!(store.stats().last_housekeeping_error, None);
        let in_the_way = folder.path().join(format!("index-{:020}.tmp", 0));
        fs::create_dir(&in_the_way).unwrap();
        for _ in 0..2000 {
            let message = Message::new("s", vec![b'x'; 1000]);
            store.append_with(&message, Durability::Buffered).unwrap();
        }
        let started = Instant::now();
        while store.stats().housekeeping_failures == 0 {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(1));
        }
        let said = store.stats().last_housekeeping_error.unwrap();
        assert!(said.contains("sealing a segment"), "{said}");
        assert!(store.maintain().is_err());
        fs::remove_dir(&in_the_way).unwrap();
        store.maintain().unwrap();
        let failures = store.stats().housekeeping_failures;
        store.maintain().unwrap();
        assert_eq!(store.stats().housekeeping_failures, failures);
    }
}
