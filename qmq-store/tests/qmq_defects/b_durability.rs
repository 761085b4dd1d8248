//! Durability and crash safety.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use qmq_store::disk::{Access, CrashImage, Disk, SimulatedDisk};
use qmq_store::{
    Background, DamageKind, Durability, Error, Message, Options, PullRequest, Retention, Store,
};

use crate::support::{House, NOON, bodies, contents, files, request, sequences, small_options};

/// QMQ never syncs before it answers; a timer of 500 ms does.
#[test]
fn b1_what_was_acknowledged_as_synced_survives_a_loss_of_power() {
    for seed in 0..20 {
        let mut house = House::new();
        for number in 0..100 {
            let message = Message::new("s", number.to_string());
            house.store().append(&message).unwrap();
        }
        house.send_numbers("s", 100..110);
        house.disk = house.disk.crash_as(CrashImage::Oldest, seed).crash(seed);
        house.open_again();
        let read = house.store().read("s", 0, 1_000).unwrap();
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(bodies(&read), expected);
    }
}

/// QMQ swallows the error, without a line in its log.
#[test]
fn b2_a_failed_sync_is_said_and_nothing_is_accepted_after_it() {
    let house = House::new();
    house.send("s", "before");
    house.store().sync().unwrap();
    house.disk.faults(|faults| faults.fail_sync(1));
    let message = Message::new("s", "lost");
    let failed = house.store().append(&message).unwrap_err();
    assert!(matches!(failed, Error::Poisoned { .. }), "{failed:?}");
    for durability in [Durability::Buffered, Durability::Synced] {
        let later = house.store().append_with(&message, durability);
        assert!(matches!(later, Err(Error::Poisoned { .. })), "{later:?}");
    }
    assert!(house.store().checkpoint().is_err());
    let read = house.store().read("s", 0, 1).unwrap();
    assert_eq!(bodies(&read), ["before"]);
}

/// One flipped bit in the older of QMQ's last two segments cuts the log there and deletes the segment behind it.
#[test]
fn b4_a_flipped_bit_costs_one_message_and_no_more() {
    let mut house = House::new();
    house.send_kilobytes("s", 300);
    house.store().sync().unwrap();
    let segments = files(&house.disk, "log-");
    assert!(segments.len() > 4);
    for name in &segments[segments.len() - 4..segments.len() - 1] {
        house.disk.flip_bit(name, 20_000, 5).unwrap();
        house.kill();
        assert_eq!(files(&house.disk, "log-"), segments);
    }
    let read = house.store().read("s", 0, 1_000).unwrap();
    assert_eq!(sequences(&read), (0..300).collect::<Vec<_>>());
    let damaged = read.iter().filter(|one| one.message().is_err()).count();
    assert_eq!(damaged, 3);
    assert_eq!(house.send("s", "next").sequence, 300);
}

/// QMQ stores the producer's checksum unchecked and believes it at the next start, which cuts the log at the first wrong one.
#[test]
fn b5_nothing_that_a_producer_sends_can_make_other_messages_unreadable() {
    let mut house = House::new();
    house.send("s", "first");
    // The worst a body can be: the bytes of the log itself.
    let log = contents(&house.disk)
        .into_iter()
        .find(|(name, _)| name.starts_with("log-"))
        .unwrap();
    let poison = log.1[..4_096].to_vec();
    for number in 0..8 {
        house.send("s", poison.clone());
        house.send("s", number.to_string());
    }
    for _ in 0..2 {
        house.kill();
        house.restart();
        let read = house.store().read("s", 0, 100).unwrap();
        assert_eq!(read.len(), 17);
        assert!(read.iter().all(|one| one.message().is_ok()));
        assert!(house.store().open_report().damages.is_empty());
    }
}

/// In QMQ reads check nothing, and indexes, snapshots and the fields of a message's header have no checksum.
#[test]
fn b6_a_flipped_bit_anywhere_is_never_served_as_good() {
    let build = || {
        let house = House::new();
        for number in 0..6_u8 {
            let message = Message::new("subject", vec![number; 21])
                .tag("tag")
                .with_id("id");
            house.send_message(&message);
        }
        house.pull("nobody", 1);
        house.store().read("subject", 0, 10).unwrap();
        house
    };
    let house = build();
    let log = files(&house.disk, "log-").remove(0);
    let end = house.store().watermarks().written;
    let good: Vec<Message> = read_all(house.store()).into_iter().flatten().collect();
    assert_eq!(good.len(), 6);
    for at in (64..64 + end).step_by(3) {
        house.disk.flip_bit(&log, at, (at % 8) as u8).unwrap();
        let read = read_all(house.store());
        for (sequence, message) in read.iter().enumerate() {
            let fits = message
                .as_ref()
                .is_none_or(|message| *message == good[sequence]);
            assert!(fits, "byte {at}: message {sequence} is served and wrong");
        }
        assert!(read.iter().flatten().count() >= 5, "byte {at}");
        house.disk.flip_bit(&log, at, (at % 8) as u8).unwrap();
    }
}

fn read_all(store: &Store) -> Vec<Option<Message>> {
    let read = store.read("subject", 0, 100).unwrap();
    read.iter()
        .map(|one| one.message().ok().map(|message| message.to_message()))
        .collect()
}

/// QMQ leaves out the rest of the segment, up to a gigabyte, and says nothing.
#[test]
fn b7_bytes_that_are_no_records_are_passed_over_and_reported() {
    let mut house = House::new();
    house.send_kilobytes("s", 40);
    house.store().sync().unwrap();
    house.send("s", "knows that the others are synced");
    let log = files(&house.disk, "log-").remove(0);
    let file = house.disk.open(&log, Access::Write).unwrap();
    file.write_at(&[0x5A; 3_000], 10_000).unwrap();
    drop(file);
    house.kill();
    let report = house.store().open_report().clone();
    assert!(
        report
            .damages
            .iter()
            .any(|damage| damage.kind == DamageKind::Records),
        "{:?}",
        report.damages
    );
    let read = house.store().read("s", 0, 100).unwrap();
    assert_eq!(sequences(&read), (0..41).collect::<Vec<_>>());
    let damaged = read.iter().filter(|one| one.message().is_err()).count();
    assert!((3..=5).contains(&damaged), "{damaged}");
}

/// 280 zero bytes behind the only record of a QMQ bucket were taken for ten more.
#[test]
fn b8_zeros_behind_the_last_record_are_no_messages() {
    for zeros in [8, 64, 280, 4_096] {
        let mut house = House::new();
        house.send("s", "only");
        house.store().sync().unwrap();
        let log = files(&house.disk, "log-").remove(0);
        let end = 64 + house.store().watermarks().written;
        let file = house.disk.open(&log, Access::Write).unwrap();
        file.set_len(end).unwrap();
        file.set_len(end + zeros).unwrap();
        drop(file);
        house.kill();
        assert_eq!(house.store().subject_stats("s").unwrap().next_sequence, 1);
        assert_eq!(house.store().open_report().cut_bytes, 0);
        assert_eq!(house.send("s", "next").sequence, 1);
    }
}

/// A snapshot of QMQ that was cut short by a crash drops subjects, whose indexes then start at 0 again.
#[test]
fn b9_a_truncated_or_missing_checkpoint_drops_no_subject_and_no_progress() {
    let mut house = House::new();
    for subject in ["a", "b", "c"] {
        house.send_numbers(subject, 0..20);
        let batch = house
            .store()
            .pull(&PullRequest::new(subject, "g", "c").max(7))
            .unwrap();
        house.store().ack(&batch).unwrap();
        house.store().checkpoint().unwrap();
    }
    let checkpoints = files(&house.disk, "checkpoint-");
    let newest = checkpoints.last().unwrap().clone();
    let image = house.disk.process_killed();
    let len = image.open(&newest, Access::Read).unwrap().len().unwrap();
    for kept in [len - 1, len / 2, 60, 8, 0, u64::MAX] {
        house.disk = image.process_killed();
        if kept == u64::MAX {
            house.disk.remove(&newest).unwrap();
        } else {
            let file = house.disk.open(&newest, Access::Write).unwrap();
            file.set_len(kept).unwrap();
        }
        house.open_again();
        for subject in ["a", "b", "c"] {
            let stats = house.store().subject_stats(subject).unwrap();
            assert_eq!((stats.next_sequence, stats.groups[0].cursor), (20, 7));
            assert_eq!(stats.groups[0].unacked, 0);
        }
    }
}

/// A pull log of length zero, as a crash leaves it, keeps a QMQ broker from starting.
#[test]
fn b10_empty_files_of_any_kind_do_not_keep_the_store_from_opening() {
    let mut house = House::new();
    house.send_kilobytes("s", 100);
    house.store().maintain().unwrap();
    let end = house.store().watermarks().written;
    let index = files(&house.disk, "index-").remove(0);
    for name in [
        format!("checkpoint-{end:020}"),
        format!("log-{end:020}"),
        format!("index-{end:020}"),
        "spare".to_owned(),
        "store.tmp".to_owned(),
    ] {
        let _ = house.disk.remove(&name);
        house.disk.create(&name, 0).unwrap();
    }
    for name in ["published", "reserve-0", index.as_str()] {
        house
            .disk
            .open(name, Access::Write)
            .unwrap()
            .set_len(0)
            .unwrap();
    }
    house.kill();
    let read = house.store().read("s", 0, 1_000).unwrap();
    assert_eq!(read.iter().filter(|one| one.message().is_ok()).count(), 100);
    assert_eq!(house.send("s", "next").sequence, 100);
}

/// QMQ's snapshots are text, with separators that a name may contain.
#[test]
fn b11_no_name_can_break_a_checkpoint() {
    let mut house = House::new();
    let names = [
        "$",
        "a,b;c",
        "\"",
        "'",
        "%RETRY%s%g",
        "#1",
        "=",
        "\u{1F98A}",
    ];
    for name in names {
        house.send(name, "x");
        house
            .store()
            .pull(&PullRequest::new(name, name, name))
            .unwrap();
    }
    house.restart();
    assert!(house.store().open_report().damages.is_empty());
    for name in names {
        let group = &house.store().subject_stats(name).unwrap().groups[0];
        assert_eq!((group.group.as_str(), group.unacked), (name, 1));
    }
}

/// QMQ never writes the filler behind the last record of a segment, and its reader and its validator take it for different lengths.
#[test]
fn b12_behind_a_segments_last_record_stands_nothing_and_all_readers_agree() {
    const MESSAGES: u64 = 20;
    let mut house = House::new();
    // Four fit into a segment, and leave 9 KB of it.
    for _ in 0..MESSAGES {
        house.send("s", vec![b'k'; 14_000]);
    }
    house.store().sync().unwrap();
    let lived = house.disk.clone();
    for seed in 0..30 {
        house.disk = lived.crash(seed);
        house.open_again();
        let follower = Store::open_read_only_on(Arc::new(house.disk.clone()), &house.options);
        let follower = follower.unwrap();
        for verified in [
            house.store().verify(&mut |_, _| {}).unwrap(),
            follower.verify(&mut |_, _| {}).unwrap(),
        ] {
            assert_eq!((verified.messages, verified.damages), (MESSAGES, vec![]));
        }
        for read in [house.store().read("s", 0, 100), follower.read("s", 0, 100)] {
            let read = read.unwrap();
            let whole = read.iter().filter(|one| one.message().is_ok()).count();
            assert_eq!(whole as u64, MESSAGES);
        }
        let report = house.store().open_report();
        assert_eq!((&report.damages, report.whole_records_cut), (&vec![], 0));
    }
    house.store().maintain().unwrap();
    let bases: Vec<u64> = files(&house.disk, "log-")
        .iter()
        .map(|name| name["log-".len()..].parse().unwrap())
        .collect();
    assert!(bases.len() > 4);
    for pair in bases.windows(2) {
        let finished = house
            .disk
            .open(&format!("log-{:020}", pair[0]), Access::Read);
        assert_eq!(finished.unwrap().len().unwrap(), 64 + pair[1] - pair[0]);
    }
}

/// A full disk ends a QMQ append in a fault of the mapping, since its files are sparse.
#[test]
fn b13_a_full_disk_is_an_error_and_acks_and_reads_go_on() {
    let house = House::on(SimulatedDisk::with_capacity(600 << 10), |_| {});
    let kilobyte = Message::new("s", vec![b'k'; 1024]);
    let mut sent = 0;
    let full = loop {
        match house.store().append(&kilobyte) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::DiskFull { .. }), "{full:?}");
    assert!(sent > 200, "{sent}");
    assert_eq!(house.store().read("s", 0, 1_000).unwrap().len(), sent);
    for _ in 0..sent {
        let batch = house.pull("c", 1);
        assert_eq!(house.store().ack(&batch).unwrap().acked, 1);
    }
    // Once there is room, appends are taken again.
    house.disk.set_capacity(2 << 20);
    house.store().maintain().unwrap();
    house.store().append(&kilobyte).unwrap();
}

/// A QMQ broker goes on serving its connections while its storage takes the mapping of the segments away from under them.
#[test]
fn b14_a_close_beside_pulls_acks_and_reads_takes_nothing_from_under_them() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        background: Background::Threads,
        durability: Durability::Buffered,
        ..small_options()
    };
    let store = Store::open(folder.path(), options.clone()).unwrap();
    for number in 0..2_000 {
        let message = Message::new("s", format!("{number:0100}"));
        store.append(&message).unwrap();
    }
    let held = store.read("s", 0, 1_000).unwrap();
    let (appended, rounds, acked) = (AtomicU64::new(2_000), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for consumer in ["a", "b", "c"] {
            let (store, appended) = (store.clone(), &appended);
            let (rounds, acked) = (&rounds, &acked);
            scope.spawn(move || {
                let work = || {
                    store.append(&Message::new("s", format!("{:0100}", 7)))?;
                    appended.fetch_add(1, Ordering::SeqCst);
                    let batch = store.pull(&request(consumer).max(10))?;
                    acked.fetch_add(store.ack(&batch)?.acked, Ordering::SeqCst);
                    assert!(bodies(&batch).iter().all(|body| body.len() == 100));
                    let read = store.read("s", 500, 100)?;
                    assert!(bodies(&read).iter().all(|body| body.len() == 100));
                    Ok(())
                };
                let ended = loop {
                    match work() {
                        Ok(()) => rounds.fetch_add(1, Ordering::SeqCst),
                        Err(error) => break error,
                    };
                };
                assert!(matches!(ended, Error::Closed), "{ended:?}");
            });
        }
        let start = Instant::now();
        while rounds.load(Ordering::SeqCst) < 300 && start.elapsed() < Duration::from_secs(30) {
            std::thread::yield_now();
        }
        store.close().unwrap();
    });
    let expected: Vec<String> = (0..1_000).map(|number| format!("{number:0100}")).collect();
    assert_eq!(bodies(&held), expected);
    let store = Store::open(folder.path(), options).unwrap();
    assert!(store.open_report().clean);
    assert_eq!(store.verify(&mut |_, _| {}).unwrap().damages, []);
    let stats = store.subject_stats("s").unwrap();
    assert_eq!(stats.next_sequence, appended.load(Ordering::SeqCst));
    let group = stats.groups[0].clone();
    assert_eq!(group.cursor - group.unacked, acked.load(Ordering::SeqCst));
}

/// QMQ deletes by the time stamp of the file.
#[test]
fn b15_retention_looks_at_the_time_of_the_records_not_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = small_options();
    options.retention = Retention {
        max_age: Some(Duration::from_secs(3600)),
        ..Retention::default()
    };
    let store = Store::open(folder.path(), options.clone()).unwrap();
    for _ in 0..200 {
        let message = Message::new("s", vec![b'k'; 1024]);
        store.append_with(&message, Durability::Buffered).unwrap();
    }
    store.close().unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000_000);
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = std::fs::File::open(file.unwrap().path()).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let first = |store: &Store| store.subject_stats("s").unwrap().first_sequence;
    let store = Store::open(folder.path(), options.clone()).unwrap();
    store.maintain().unwrap();
    assert_eq!(first(&store), 0);
    store.close().unwrap();
    options.clock = Arc::new(qmq_store::ManualClock::at(NOON + 3_600_001));
    let store = Store::open(folder.path(), options).unwrap();
    store.maintain().unwrap();
    assert!(first(&store) > 100);
}

/// QMQ writes files of one kind under the names of another: the oldest sequences of subjects come out wrong, and files stay for ever.
#[test]
fn b16_every_file_belongs_to_a_segment_that_is_there_and_the_oldest_sequences_to_the_log() {
    let mut house = House::with(|options| {
        options.retention = Retention {
            max_age: None,
            max_bytes: Some(256 << 10),
            ..Retention::default()
        };
    });
    for round in 0..15 {
        house.send_numbers(&format!("round-{round}"), 0..3);
        house.send_kilobytes("s", 70 + 9 * round);
        house.store().maintain().unwrap();
        match round % 3 {
            0 => house.kill(),
            1 => house.restart(),
            _ => {}
        }
        house.store().maintain().unwrap();
        check_files(&house);
        for subject in (0..=round).map(|round| format!("round-{round}")) {
            check_oldest(&house, &subject, 3);
        }
        check_oldest(&house, "s", u64::MAX);
    }
    // Old enough to be gone, and their numbers are not given again.
    assert_eq!(house.store().subject_stats("s").unwrap().groups.len(), 0);
    assert_eq!(house.send("round-0", "x").sequence, 3);
    check_oldest(&house, "round-0", 4);
}

fn check_files(house: &House) {
    let logs = files(&house.disk, "log-");
    assert!(logs.len() <= 6, "{logs:?}");
    for name in files(&house.disk, "") {
        let expected = match name.split_once('-') {
            Some(("index", base)) => logs.contains(&format!("log-{base}")),
            Some(("log" | "checkpoint" | "reserve", _)) => true,
            _ => ["store", "published", "spare", "lock"].contains(&name.as_str()),
        };
        assert!(expected, "{name} beside {logs:?}");
    }
    assert!(files(&house.disk, "checkpoint-").len() <= 2);
}

/// The oldest sequence of a subject is that of the oldest message that can be read, or the next one if there is none.
fn check_oldest(house: &House, subject: &str, next: u64) {
    let stats = house.store().subject_stats(subject).unwrap();
    let read = house.store().read(subject, 0, 10_000).unwrap();
    let oldest = sequences(&read).first().copied();
    assert_eq!(
        stats.first_sequence,
        oldest.unwrap_or(stats.next_sequence),
        "{subject}"
    );
    assert_eq!(
        read.len() as u64,
        stats.next_sequence - stats.first_sequence
    );
    assert!(read.iter().all(|one| one.message().is_ok()));
    assert!(next == u64::MAX || stats.next_sequence == next, "{subject}");
}

/// QMQ reads its last two segments whole, 2 GiB, at each start.
#[test]
fn an_open_reads_what_came_after_the_last_checkpoint_and_nothing_else() {
    let mut house = House::new();
    let mut replayed = Vec::new();
    for _ in 0..3 {
        house.send_kilobytes("s", 1_000);
        house.store().maintain().unwrap();
        house.store().checkpoint().unwrap();
        house.send_kilobytes("s", 10);
        house.kill();
        replayed.push(house.store().open_report().replayed_bytes);
    }
    // The segment that the checkpoint stands in, at most.
    assert!(
        replayed.iter().all(|bytes| *bytes < 90 << 10),
        "{replayed:?}"
    );
    house.restart();
    assert!(house.store().open_report().replayed_bytes < 70 << 10);
}
