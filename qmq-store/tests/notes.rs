//! Notes: what is submitted along with messages, kept and lost with them, and seen by nobody else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use bytes::Bytes;
use qmq_store::disk::{Access, Disk};
use qmq_store::message::Attributes;
use qmq_store::offline::{self, DumpedKind};
use qmq_store::{
    AppendedBatch, Background, Durability, Error, Message, Options, Store, Submission,
};
use support::{House, files, request};

fn submit(store: &Store, messages: &[Message], note: &[u8]) -> Result<AppendedBatch, Error> {
    let encoded = |message: &Message| {
        let mut attributes = Vec::new();
        Attributes::encode(message, &mut attributes).unwrap();
        attributes
    };
    let attributes: Vec<Vec<u8>> = messages.iter().map(encoded).collect();
    let submissions: Vec<Submission<'_>> = messages
        .iter()
        .zip(&attributes)
        .map(|(message, attributes)| Submission {
            subject: message.subject(),
            attributes,
            body: std::slice::from_ref(message.body()),
        })
        .collect();
    store.submit_noted(&submissions, note, Durability::Buffered)
}

fn several(count: usize) -> Vec<Message> {
    let message = |at: usize| Message::new(["a", "b"][at % 2], vec![at as u8; at * 7]).tag("t");
    (0..count).map(message).collect()
}

/// Note, sequences and end of each.
fn notes(store: &Store, from: u64) -> Vec<(Vec<u8>, Vec<u64>, u64)> {
    let mut found = Vec::new();
    store
        .notes(from, &mut |noted| {
            found.push((
                noted.note.to_vec(),
                noted.sequences.to_vec(),
                noted.end_offset,
            ));
        })
        .unwrap();
    found
}

#[test]
fn a_note_comes_back_with_the_sequences_of_its_messages_and_their_end() {
    let mut house = House::new();
    let mut expected = Vec::new();
    for round in 0..400_usize {
        // Of every length modulo 8, among messages without one, over several segments.
        let note = vec![b'n'; round % 40];
        let at = submit(house.store(), &several(1 + round % 9), &note).unwrap();
        if !note.is_empty() {
            expected.push((note, at.sequences, at.end_offset));
        }
    }
    assert!(house.store().stats().segments > 3);
    assert_eq!(notes(house.store(), 0), expected);
    house.kill();
    assert_eq!(notes(house.store(), 0), expected);
    house.restart();
    assert_eq!(notes(house.store(), 0), expected);
    assert_eq!(house.store().verify(&mut |_, _| {}).unwrap().damages, []);
}

#[test]
fn notes_may_be_read_from_any_offset() {
    let house = House::new();
    let mut ends = Vec::new();
    for round in 0..20 {
        let at = submit(house.store(), &several(1 + round % 3), b"note").unwrap();
        ends.push(at.end_offset);
    }
    for from in 0..=ends[19] {
        let begun = ends
            .iter()
            .rposition(|end| *end <= from)
            .map_or(0, |at| at + 1);
        let starts = begun.checked_sub(1).map_or(0, |at| ends[at]);
        let first = if from == starts { begun } else { begun + 1 };
        assert_eq!(
            notes(house.store(), from).len(),
            ends.len() - first.min(20),
            "from {from}"
        );
    }
}

#[test]
fn who_consumes_sees_messages_as_if_there_were_no_note() {
    let house = House::new();
    let message = Message::new("s", "body")
        .with_id("id")
        .tag("paid")
        .property("trace", "00-4bf9");
    submit(house.store(), std::slice::from_ref(&message), b"mine").unwrap();
    submit(house.store(), &[message.clone(), message.clone()], b"mine").unwrap();
    let mut encoded = Vec::new();
    Attributes::encode(&message, &mut encoded).unwrap();
    let batch = house.store().pull(&request("c").max(10)).unwrap();
    assert_eq!(batch.len(), 3);
    for (_, payload) in batch.payloads() {
        let payload = payload.unwrap();
        assert_eq!(payload.attributes(), Attributes::decode(&encoded).unwrap());
        assert_eq!(payload.body(), &message.body()[..]);
    }
    for one in batch.iter() {
        assert_eq!(one.message().unwrap().to_message(), message);
    }
}

#[test]
fn a_note_takes_its_own_length_and_none_takes_nothing() {
    let took = |count: usize, note: &[u8]| {
        let house = House::new();
        submit(house.store(), &several(count), note).unwrap();
        house.store().watermarks().written
    };
    for count in [1, 5] {
        for len in [1, 8, 23, 24] {
            let more = took(count, &vec![b'n'; len]) - took(count, &[]);
            assert!(
                more < len as u64 + 8,
                "{count} messages, {len} bytes: {more}"
            );
        }
    }
}

#[test]
fn a_note_has_a_limit_and_any_below_it_fits_beside_any_message() {
    let house = House::with(|options| {
        *options = Options {
            background: Background::Manual,
            ..Options::with_segment_bytes(1 << 20)
        }
    });
    let full = Message::new("s".repeat(255), "body");
    let full = (0..2).fold(full, |message, at| {
        message.property(format!("p{at}"), "v".repeat(24_000))
    });
    for messages in [vec![full.clone()], vec![full.clone(), full]] {
        for len in [15_999, 16_000, 16_001, Store::NOTE_BYTES_MAX] {
            let note: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let at = submit(house.store(), &messages, &note).unwrap();
            let last = notes(house.store(), 0).pop().unwrap();
            assert_eq!(last, (note, at.sequences, at.end_offset));
        }
        let before = house.store().watermarks().written;
        let note = vec![0; Store::NOTE_BYTES_MAX + 1];
        let refused = submit(house.store(), &messages, &note);
        assert!(
            matches!(refused, Err(Error::NoteTooLong { .. })),
            "{refused:?}"
        );
        assert_eq!(house.store().watermarks().written, before);
    }
    assert_eq!(house.store().verify(&mut |_, _| {}).unwrap().damages, []);
}

#[test]
fn damage_costs_the_sequences_behind_it_and_no_other_note() {
    let house = House::new();
    let first = submit(house.store(), &several(5), b"first").unwrap();
    let second = submit(house.store(), &several(5), b"second").unwrap();
    let third = submit(house.store(), &several(1), b"third").unwrap();
    house.store().sync().unwrap();
    // In the header of the fourth message of the second batch.
    let name = files(&house.disk, "log-").pop().unwrap();
    let file = house.disk.open(&name, Access::Write).unwrap();
    let message_at = house.store().read("b", 3, 1).unwrap();
    let offset = message_at.iter().next().unwrap().offset().unwrap();
    file.write_at(&[0xFF], 64 + offset + 40).unwrap();
    let sequences: Vec<Vec<u64>> = notes(house.store(), 0)
        .into_iter()
        .map(|note| note.1)
        .collect();
    assert_eq!(
        sequences,
        [
            first.sequences,
            second.sequences[..3].to_vec(),
            third.sequences
        ]
    );
}

#[test]
fn a_dump_shows_notes_and_a_verification_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::with_segment_bytes(1 << 20)).unwrap();
    submit(&store, &several(1), b"of one").unwrap();
    submit(&store, &several(2), b"of two").unwrap();
    submit(&store, &several(2), b"").unwrap();
    store.close().unwrap();
    let mut shown = Vec::new();
    offline::dump(folder.path(), 0, u64::MAX, &mut |dumped| {
        shown.push((dumped.kind, Bytes::copy_from_slice(dumped.note)));
        true
    })
    .unwrap();
    shown.retain(|(_, note)| !note.is_empty());
    let of = |kind, note: &'static str| (kind, Bytes::from_static(note.as_bytes()));
    assert_eq!(
        shown,
        [
            of(DumpedKind::Message, "of one"),
            of(DumpedKind::Batch, "of two")
        ]
    );
    assert_eq!(
        offline::verify(folder.path(), &mut |_, _| {})
            .unwrap()
            .notes,
        2
    );
}
