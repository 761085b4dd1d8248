//! A store whose files are damaged at places that the bytes choose.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use qmq_store::disk::{Access, Disk, SimulatedDisk};
use qmq_store::message::Attributes;
use qmq_store::{
    Background, Durability, ManualClock, Message, Options, PullRequest, Store, Submission,
};

use crate::Input;

fn options() -> Options {
    Options {
        background: Background::Manual,
        clock: Arc::new(ManualClock::at(1_000_000)),
        identity_seed: Some(3),
        ..Options::with_segment_bytes(64 << 10)
    }
}

fn body(number: usize) -> String {
    format!("body {number} {}", "x".repeat(number * 37 % 2_000))
}

const MESSAGES: usize = 150;

/// Messages with a note that tells their sequences.
fn submit(store: &Store, numbers: Range<usize>) {
    let mut attributes = Vec::new();
    Attributes::encode(&Message::new("s", "").tag("tag"), &mut attributes).expect("a tag");
    let bodies: Vec<Bytes> = numbers.clone().map(|number| body(number).into()).collect();
    let submissions: Vec<Submission<'_>> = bodies
        .iter()
        .map(|body| Submission {
            subject: "s",
            attributes: &attributes,
            body: std::slice::from_ref(body),
        })
        .collect();
    let sequences: Vec<u64> = numbers.map(|number| number as u64).collect();
    store
        .submit_noted(&submissions, &note(&sequences), Durability::Buffered)
        .expect("a submission");
}

fn note(sequences: &[u64]) -> Vec<u8> {
    sequences.iter().flat_map(|one| one.to_le_bytes()).collect()
}

/// A store of a few segments, with a group half way and a checkpoint, as a killed process leaves it.
fn a_store() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = Store::open_on(Arc::new(disk.clone()), options()).expect("an empty disk opens");
    for number in 0..MESSAGES {
        match number % 10 {
            0 => submit(&store, number..number + 1),
            1 => submit(&store, number..number + 3),
            2 | 3 => {}
            _ => {
                let message = Message::new("s", body(number)).tag("tag");
                store
                    .append_with(&message, Durability::Buffered)
                    .expect("an append");
            }
        }
        if number == MESSAGES / 2 {
            let batch = store
                .pull(&PullRequest::new("s", "g", "c"))
                .expect("a pull");
            store.ack(&batch).expect("an ack");
            store.maintain().expect("housekeeping");
            store.checkpoint().expect("a checkpoint");
        }
    }
    store.sync().expect("a sync");
    disk.process_killed()
}

/// Whatever is damaged, an open answers without a panic; what it serves is what was written; and another open finds no less.
pub fn damaged_store(bytes: &[u8]) {
    let disk = a_store();
    let mut input = Input(bytes);
    for _ in 0..16 {
        if input.is_empty() {
            break;
        }
        damage(&disk, &mut input);
    }
    let mut before = None;
    for _ in 0..2 {
        let disk = disk.process_killed();
        let Ok(store) = Store::open_on(Arc::new(disk), options()) else {
            continue;
        };
        let good = check(&store);
        assert!(before.is_none_or(|before| good >= before));
        before = Some(good);
        let _ = store.pull(&PullRequest::new("s", "g", "c").max(1_000));
        // An error is an answer; a message that is taken is served.
        let Ok(at) = store.append(&Message::new("s", "new")) else {
            continue;
        };
        let read = store.read("s", at.sequence, 1).expect("a read");
        let new = read.iter().next().and_then(|one| one.message().ok());
        assert_eq!(new.map(|new| new.body()), Some(&b"new"[..]));
    }
}

fn damage(disk: &SimulatedDisk, input: &mut Input<'_>) {
    let files = disk.list().expect("a list");
    let chosen = &files[usize::from(input.byte()) % files.len()];
    let kind = input.byte() % 5;
    let at = input.below(chosen.len);
    if kind == 4 {
        disk.remove(&chosen.name).expect("a removal");
        return;
    }
    let file = disk.open(&chosen.name, Access::Write).expect("a file");
    match kind {
        0 if chosen.len > 0 => {
            let bit = input.byte() % 8;
            disk.flip_bit(&chosen.name, at, bit)
                .expect("a byte of the file");
        }
        1 => {
            let bytes = [input.byte(), input.byte(), input.byte(), input.byte()];
            file.write_at(&bytes, at).expect("a write");
        }
        2 => file.set_len(at).expect("a cut"),
        _ => {
            let zeros = vec![0; input.below(5_000) as usize];
            file.write_at(&zeros, at).expect("a write");
        }
    }
}

/// How many messages are served whole; all of them, and all notes, as they were written.
fn check(store: &Store) -> usize {
    let _ = store.notes(0, &mut |noted| {
        assert!(noted.note.starts_with(&note(noted.sequences)));
    });
    let Ok(read) = store.read("s", 0, usize::MAX) else {
        return 0;
    };
    let mut good = 0;
    for one in &read {
        let Ok(message) = one.message() else { continue };
        assert_eq!(message.body(), body(one.sequence() as usize).as_bytes());
        assert_eq!(message.tags().collect::<Vec<_>>(), ["tag"]);
        good += 1;
    }
    good
}
