//! Tags that cannot be told apart by their fingerprints: a filter goes by the tags themselves.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;

use qmq_store::disk::{Access, Disk};
use qmq_store::{Message, PullRequest, TagFilter};

use support::{House, files, sequences};

/// The bits of a tag, as docs/format.md has them in section 5.
fn bits(tag: &str) -> u32 {
    let crc = crc32fast::hash(tag.as_bytes());
    (1 << (crc & 31)) | (1 << ((crc >> 8) & 31)) | (1 << ((crc >> 16) & 31))
}

fn names() -> impl Iterator<Item = String> {
    (0..).map(|number| format!("tag-{number}"))
}

/// Two tags with the same bits.
fn twins() -> [String; 2] {
    let mut seen = HashMap::new();
    for name in names() {
        if let Some(other) = seen.insert(bits(&name), name.clone()) {
            return [other, name];
        }
    }
    unreachable!("there are more names than fingerprints")
}

/// A tag all of whose bits two others have together, and neither alone.
fn covered_by(first: &str, second: &str) -> String {
    let (first, second) = (bits(first), bits(second));
    names()
        .find(|name| {
            let bits = bits(name);
            bits & !(first | second) == 0 && bits & !first != 0 && bits & !second != 0
        })
        .unwrap()
}

/// The fingerprint in the header of the record at an offset, in the log's first segment.
fn stored_fingerprint(house: &House, offset: u64) -> u32 {
    let log = files(&house.disk, "log-").remove(0);
    let file = house.disk.open(&log, Access::Read).unwrap();
    let mut fingerprint = [0; 4];
    file.read_at(&mut fingerprint, 64 + offset + 56).unwrap();
    u32::from_le_bytes(fingerprint)
}

#[test]
fn of_tags_with_equal_fingerprints_a_filter_takes_the_one_it_names_and_no_other() {
    let [twin, other] = &twins();
    let (left, right) = ("left", "right");
    let covered = &covered_by(left, right);
    let sets: Vec<Vec<&str>> = vec![
        vec![twin],
        vec![other],
        vec![twin, left],
        vec![other, left],
        vec![left, right],
        vec![covered],
        vec![covered, left, right],
        vec![twin, other],
        vec![left],
        vec![],
    ];
    let mut house = House::new();
    let mut offsets = Vec::new();
    for set in sets.iter().cycle().take(200) {
        let message = set.iter().fold(Message::new("s", "x"), |message, tag| {
            message.tag(tag.to_owned())
        });
        offsets.push(house.send_message(&message).offset);
    }
    // What the test is about: the index cannot tell these.
    let stored: Vec<u32> = offsets[..sets.len()]
        .iter()
        .map(|&offset| stored_fingerprint(&house, offset))
        .collect();
    assert_eq!((stored[0], stored[2]), (stored[1], stored[3]));
    assert_eq!((stored[0], stored[4]), (stored[7], stored[6]));
    assert_eq!(stored[5] & !stored[4], 0);

    let filters = [
        vec![twin.as_str()],
        vec![other],
        vec![covered],
        vec![left],
        vec![twin, left],
        vec![other, left],
        vec![left, right],
        vec![twin, other],
        vec![covered, left],
        vec![twin, covered],
    ];
    let check = |house: &House, state: &str| {
        for (number, wanted) in filters.iter().enumerate() {
            let owned: Vec<String> = wanted.iter().map(|tag| (*tag).to_owned()).collect();
            let filters = [TagFilter::Any(owned.clone()), TagFilter::Every(owned)];
            for (kind, filter) in filters.into_iter().enumerate() {
                let passes = |at: &u64| {
                    let set = &sets[*at as usize % sets.len()];
                    let found = wanted.iter().filter(|tag| set.contains(tag)).count();
                    found >= if kind == 0 { 1 } else { wanted.len() }
                };
                let expected: Vec<u64> = (0..200).filter(passes).collect();
                let group = format!("{state}-{number}-{kind}");
                let request = PullRequest::new("s", group, "c").filter(filter.clone());
                let batch = house.store().pull(&request.max(1_000)).unwrap();
                assert_eq!(sequences(&batch), expected, "{state}: {filter:?}");
            }
        }
    };
    check(&house, "active");
    house.kill();
    check(&house, "replayed");
    house.send_kilobytes("filler", 100);
    house.store().maintain().unwrap();
    assert!(!files(&house.disk, "index-").is_empty());
    check(&house, "sealed");
    house.restart();
    for index in files(&house.disk, "index-") {
        house.disk.remove(&index).unwrap();
    }
    house.kill();
    assert!(house.store().open_report().rebuilt_indexes > 0);
    check(&house, "rebuilt");
}
