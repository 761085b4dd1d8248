//! Writes the seeds of the corpora: parts of a small store's files, each whole and once damaged. Run again when a format changes:
//! `cargo test -p qmq-fuzz --test seeds -- --ignored`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod recorded;

use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qmq_sched::Scheduler;
use qmq_store::disk::{Access, Disk, FileEntry, SimulatedDisk};
use qmq_store::message::Attributes;
use qmq_store::{
    Background, Durability, ManualClock, Message, Options, PullRequest, ResetTo, RetentionHold,
    Store, Submission, TagFilter,
};

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn write_both(target: &str, name: &str, bytes: &[u8]) {
    write(target, name, bytes);
    let mut damaged = bytes.to_vec();
    if let Some(byte) = damaged.get_mut(bytes.len() * 2 / 3) {
        *byte ^= 0x10;
    }
    damaged.truncate(bytes.len() - bytes.len() / 8);
    write(target, &format!("{name}-damaged"), &damaged);
}

/// The files whose names begin so, in order.
fn files(disk: &SimulatedDisk, prefix: &str) -> Vec<FileEntry> {
    let mut files = disk.list().unwrap();
    files.retain(|entry| entry.name.starts_with(prefix));
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

fn file(disk: &SimulatedDisk, prefix: &str) -> Vec<u8> {
    let names = files(disk, prefix);
    let chosen = if prefix == "checkpoint-" {
        names.last()
    } else {
        names.first()
    };
    let chosen = chosen.unwrap();
    let mut bytes = vec![0; chosen.len as usize];
    let file = disk.open(&chosen.name, Access::Read).unwrap();
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A store in which each kind of record and of group occurs.
fn a_store() -> SimulatedDisk {
    let options = Options {
        background: Background::Manual,
        clock: Arc::new(ManualClock::at(1_000_000)),
        identity_seed: Some(3),
        ..Options::with_segment_bytes(64 << 10)
    };
    let disk = SimulatedDisk::new();
    let store = Store::open_on(Arc::new(disk.clone()), options).unwrap();
    let full = Message::new("s", "body")
        .with_id("id")
        .tag("a")
        .tag("bb")
        .with_create_time_ms(1)
        .with_due_time_ms(2)
        .with_order_key(vec![9]);
    store.append(&full).unwrap();
    store
        .append_batch(&[full, Message::new("s", "x")], Durability::Synced)
        .unwrap();
    let noted = |bodies: &[Bytes]| {
        let submission = |body| Submission {
            subject: "s",
            attributes: &[],
            body: std::slice::from_ref(body),
        };
        let submissions: Vec<_> = bodies.iter().map(submission).collect();
        store
            .submit_noted(&submissions, b"a note", Durability::Buffered)
            .unwrap();
    };
    noted(&[Bytes::from_static(b"one")]);
    noted(&[Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
    for number in 0..9 {
        store
            .append(&Message::new("s", number.to_string()))
            .unwrap();
    }
    let request = PullRequest::new("s", "g", "c");
    let batch = store.pull(&request.clone().max(6)).unwrap();
    let numbers: Vec<u64> = batch.iter().map(|one| one.pull_sequence()).collect();
    let (member, level) = (batch.member(), Durability::Buffered);
    store
        .ack_ranges(
            member,
            &[numbers[0]..=numbers[0], numbers[3]..=numbers[3]],
            level,
        )
        .unwrap();
    store
        .nack(
            member,
            &[numbers[1]..=numbers[1]],
            Duration::from_secs(9),
            level,
        )
        .unwrap();
    store.copy_and_ack(member, numbers[2], "s", level).unwrap();
    let picky = TagFilter::Every(vec!["a".into(), "bb".into()]);
    let picky = PullRequest::new("s", "picky", "c").filter(picky);
    store.pull(&picky).unwrap();
    store
        .pull(&PullRequest::new("s", "all", "c").broadcast(true))
        .unwrap();
    store.consumer_gone("s", "g", "c").unwrap();
    store.pull(&request).unwrap();
    store.reset("s", "picky", ResetTo::Sequence(3)).unwrap();
    store.pull(&PullRequest::new("s", "dropped", "c")).unwrap();
    store.drop_group("s", "dropped").unwrap();
    store.checkpoint().unwrap();
    while files(&disk, "index-").is_empty() {
        store.append(&Message::new("s", vec![b'x'; 3_000])).unwrap();
        store.maintain().unwrap();
    }
    disk
}

/// The disk of a scheduler's index, and bodies of the records in its log: each kind occurs.
fn a_scheduler() -> (SimulatedDisk, Vec<Vec<u8>>) {
    const NOW: u64 = 1_000_000;
    let clock = Arc::new(ManualClock::at(NOW));
    let options = Options {
        background: Background::Manual,
        clock: clock.clone(),
        identity_seed: Some(3),
        retention_hold: Some(RetentionHold::default()),
        ..Options::with_segment_bytes(64 << 10)
    };
    let store = Store::open_on(Arc::new(SimulatedDisk::new()), options).unwrap();
    let disk = SimulatedDisk::new();
    let options = qmq_sched::Options {
        segment_scale_minute: 1,
        time_to_live: Some(Duration::from_secs(60)),
        ..qmq_sched::Options::default()
    };
    let scheduler = Scheduler::open(store.clone(), disk.clone(), options).unwrap();
    let schedule = |due: u64, subject: &str| {
        let message = Message::new(subject, "body").tag("a");
        scheduler.schedule(due, &message).unwrap()
    };
    let first = schedule(NOW, "s");
    schedule(NOW, "t");
    let moved = schedule(NOW + 1, "s");
    let _ = scheduler.reschedule(moved, NOW).unwrap();
    let cancelled = schedule(NOW + 90_000, "s");
    let _ = scheduler.cancel(cancelled).unwrap();
    let fired = scheduler.due(NOW, 10).unwrap();
    assert_eq!(fired.len(), 3);
    scheduler.dispatched(&[first]).unwrap();
    schedule(NOW + 2, "s");
    clock.set(NOW + 80_000);
    scheduler.due(NOW + 80_000, 10).unwrap();
    let later = schedule(NOW + 95_000, "u");
    let _ = scheduler.reschedule(later, NOW + 99_000).unwrap();
    for number in 0..20 {
        schedule(NOW + 100_000 + number, "s");
    }
    scheduler.checkpoint().unwrap();
    let records = store.read(qmq_sched::SUBJECT, 0, 100).unwrap();
    let bodies = records
        .iter()
        .map(|one| one.message().unwrap().body().to_vec());
    (disk, bodies.collect())
}

#[test]
#[ignore = "writes the corpora: cargo test -p qmq-fuzz --test seeds -- --ignored"]
fn write_the_seeds() {
    let disk = a_store();
    let log = file(&disk, "log-");
    let number = |at: usize, len: usize| {
        let bytes = &log[at..at + len];
        bytes
            .iter()
            .rev()
            .fold(0, |all, byte| all << 8 | usize::from(*byte))
    };
    let message = Message::new("s", "")
        .with_id("id")
        .property("trace", "00-4bf9")
        .property("empty", "")
        .tag("a");
    let mut attributes = Vec::new();
    Attributes::encode(&message, &mut attributes).unwrap();
    write_both("attributes", "properties", &attributes);
    write_both("segment_header", "header", &log[..64]);
    write_both("scan", "log", &log[64..64 + 3_000]);
    write_both("identity", "identity", &file(&disk, "store"));
    write_both("published_slot", "slots", &file(&disk, "published")[..64]);
    let index = file(&disk, "index-");
    write_both("index", "index", &index);
    let mut at = 64;
    let mut kinds = std::collections::BTreeSet::new();
    let mut actions = std::collections::BTreeSet::new();
    while at + 64 <= log.len() && number(at + 4, 2) == 0x514D {
        let (kind, header_len) = (log[at + 6], number(at + 52, 2));
        let body_len = if kind == 3 { 0 } else { number(at + 44, 4) };
        let noted = number(at + 60, 2) > 0;
        let record = &log[at..at + header_len + body_len];
        let body = &record[header_len..];
        if record.len() < 1_000 && kinds.insert((kind, log[at + 7], noted)) {
            write_both("record", &format!("record-{}", kinds.len()), record);
        }
        if kind == 1 && header_len > 64 + 1 && !noted {
            write_both("attributes", "attributes", &record[65..header_len]);
        }
        if kind == 2 && actions.insert(body.get(..2).map(<[u8]>::to_vec)) {
            write("action", &format!("action-{}", actions.len()), body);
        }
        at += (header_len + body_len).div_ceil(8) * 8;
    }
    let checkpoint = file(&disk, "checkpoint-");
    write_both("checkpoint", "checkpoint", &checkpoint);
    // After the fixed part and the sealed segments: one subject "s", its next sequence, its pull floor, and its groups up to the end.
    let sealed = u32::from_le_bytes(checkpoint[76..80].try_into().unwrap()) as usize;
    let groups = 80 + sealed * 32 + 4 + 2 + 1 + 8 + 8 + 4;
    write_both("group", "groups", &checkpoint[groups..]);
    for seed in 1..=6_u8 {
        let mut value = u32::from(seed).wrapping_mul(2_654_435_761);
        let bytes: Vec<u8> = (0..150)
            .map(|_| {
                value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (value >> 24) as u8
            })
            .collect();
        write("operations", &format!("random-{seed}"), &bytes);
        write("damaged_store", &format!("random-{seed}"), &bytes[..40]);
    }
}

#[test]
#[ignore = "writes the corpora: cargo test -p qmq-fuzz --test seeds -- --ignored"]
fn write_the_seeds_of_the_delay_scheduler() {
    let (disk, records) = a_scheduler();
    let mut kinds = std::collections::BTreeSet::new();
    for record in records {
        if kinds.insert(record[0]) {
            write_both("delay_event", &format!("event-{}", record[0]), &record);
        }
    }
    assert_eq!(kinds.len(), 7);
    let run = files(&disk, "run-").into_iter().next_back().unwrap();
    let run = file(&disk, &run.name);
    write_both("delay_run", "run", &run);
    let block = &run[4_096..];
    write_both("delay_entry", "entry", &block[32..64]);
    write_both("delay_bodies", "bodies", &qmq_sched::fuzzing::some_bodies());
    let checkpoint = file(&disk, "checkpoint-");
    write_both("delay_checkpoint", "checkpoint", &checkpoint);
    // After the fixed part, the runs, the count of the buckets, and the number of the first.
    let runs = u32::from_le_bytes(checkpoint[72..76].try_into().unwrap()) as usize;
    let bucket = &checkpoint[76 + runs * 8 + 4 + 4..];
    write_both("delay_bucket", "bucket", bucket);
}

#[test]
#[ignore = "writes the corpora: cargo test -p qmq-fuzz --test seeds -- --ignored"]
fn write_the_seeds_of_replication() {
    let frames = qmq_fuzz::some_frames();
    assert!(frames.len() > 10, "{}", frames.len());
    for frame in frames {
        let kind = frame[3];
        write_both("repl_frame", &format!("frame-{kind}"), &frame);
        // As the target reads it under good checksums of its own: the kind, then the body.
        let body = [&[kind], &frame[qmq_repl::HEADER_BYTES..]].concat();
        write_both("repl_frame", &format!("body-{kind}"), &body);
    }
    for seed in 1..=8_u8 {
        let mut value = u32::from(seed).wrapping_mul(2_654_435_761);
        let bytes: Vec<u8> = (0..250)
            .map(|_| {
                value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (value >> 24) as u8
            })
            .collect();
        write("repl_node", &format!("random-{seed}"), &bytes);
    }
}

#[test]
#[ignore = "writes the corpora: cargo test -p qmq-fuzz --test seeds -- --ignored"]
fn write_the_seeds_of_the_wire() {
    let mut stream = vec![6, 1, 8, 3, 40, 2, 7];
    for (name, frame) in recorded::frames() {
        stream.extend_from_slice(&frame);
        let kind = qmq_wire::Kind::from_byte(frame[4]).unwrap();
        write_both(qmq_fuzz::wire_target(kind), &name, &recorded::input(&frame));
        // Whole and cut in two.
        write_both("wire_frames", &name, &[&[1, 5], &frame[..]].concat());
    }
    write_both("wire_frames", "all", &stream);
}
