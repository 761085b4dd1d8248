//! Reading without a group: by sequence, by time, by id, as messages come, and past damage.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use qmq_store::disk::Disk;
use qmq_store::{Error, Message, Store};
use support::{House, NOON, bodies, files, request, sequences, small_options};

#[test]
fn a_read_begins_at_any_sequence_and_ends_at_the_newest_message() {
    let house = House::new();
    house.send_numbers("s", 0..500);
    house.send_numbers("other", 0..3);
    let read = |from, max| sequences(&house.store().read("s", from, max).unwrap());
    assert_eq!(read(0, 3), [0, 1, 2]);
    assert_eq!(read(498, 100), [498, 499]);
    assert_eq!(read(500, 100), []);
    assert_eq!(read(0, 0), []);
    assert_eq!(read(u64::MAX, 100), []);
    assert_eq!(read(0, usize::MAX).len(), 500);
    let unknown = house.store().read("nobody", 0, 1);
    assert!(matches!(unknown, Err(Error::UnknownSubject { subject }) if subject == "nobody"));
}

#[test]
fn a_message_comes_back_with_everything_it_was_given() {
    let mut house = House::new();
    let sent = Message::new("s", vec![0, 1, 2, 255])
        .with_id("an id")
        .tag("one")
        .tag("two")
        .with_create_time_ms(12)
        .with_due_time_ms(u64::MAX)
        .with_order_key(vec![0, 9]);
    house.send_message(&sent);
    house.send("s", "");
    house.kill();
    let read = house.store().read("s", 0, 2).unwrap();
    let messages: Vec<Message> = read
        .iter()
        .map(|one| one.message().unwrap().to_message())
        .collect();
    assert_eq!(messages, [sent, Message::new("s", "")]);
}

#[test]
fn a_body_outlives_its_batch_without_a_copy() {
    let house = House::new();
    house.send("s", "kept");
    let read = house.store().read("s", 0, 1).unwrap();
    let view = read.iter().next().unwrap().message().unwrap();
    let kept = view.body_bytes();
    assert_eq!(kept.as_ptr(), view.body().as_ptr());
    drop(read);
    drop(house);
    assert_eq!(&kept[..], b"kept");
}

#[test]
fn a_time_leads_to_the_first_message_not_before_it_also_across_segments_and_restarts() {
    let mut house = House::new();
    for second in 0..400 {
        house.clock.set(NOON + second * 1_000);
        house.send("s", vec![b'x'; 700]);
        house.send("t", vec![b'x'; 300]);
    }
    for _ in 0..2 {
        let at = |ms| house.store().sequence_at_time("s", ms).unwrap();
        assert_eq!((at(0), at(NOON), at(NOON + 1)), (0, 0, 1));
        for second in [1, 57, 200, 399] {
            assert_eq!(at(NOON + second * 1_000), second);
            assert_eq!(at(NOON + second * 1_000 - 999), second);
        }
        assert_eq!(at(NOON + 399_001), 400);
        assert_eq!(at(u64::MAX), 400);
        house.store().maintain().unwrap();
        house.kill();
    }
}

#[test]
fn record_times_never_go_back_when_the_clock_does() {
    let mut house = House::new();
    let mut steps = [5_000_u64, 0, 9_000, 1_000, 8_999, 20_000].into_iter();
    for step in steps.by_ref() {
        house.clock.set(NOON + step);
        house.send("s", "x");
        if step == 1_000 {
            house.kill();
        }
    }
    let read = house.store().read("s", 0, 10).unwrap();
    let times: Vec<u64> = read
        .iter()
        .map(|one| one.message().unwrap().record_time_ms() - NOON)
        .collect();
    assert_eq!(times, [5_000, 5_000, 9_000, 9_000, 9_000, 20_000]);
    let at = |ms| house.store().sequence_at_time("s", NOON + ms).unwrap();
    assert_eq!((at(5_001), at(9_000), at(9_001)), (2, 2, 5));
}

#[test]
fn an_id_leads_to_its_newest_message_among_the_last_so_many() {
    let house = House::new();
    for number in 0..3_000_u64 {
        let id = match number {
            100 | 2_000 | 2_400 => "often".to_owned(),
            7 => "early".to_owned(),
            _ => number.to_string(),
        };
        house.send_message(&Message::new("s", "x").with_id(id));
    }
    let find = |id, among| house.store().find_by_id("s", id, among).unwrap();
    assert_eq!(find("often", 3_000), Some(2_400));
    assert_eq!(find("often", 600), Some(2_400));
    assert_eq!(find("often", 599), None);
    assert_eq!(find("early", u64::MAX), Some(7));
    assert_eq!(find("2999", 1), Some(2_999));
    assert_eq!(find("nowhere", u64::MAX), None);
    assert_eq!(find("", u64::MAX), None);
}

#[test]
fn a_tail_gives_what_is_there_then_waits_for_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), small_options()).unwrap();
    for number in 0..600 {
        store
            .append(&Message::new("s", number.to_string()))
            .unwrap();
    }
    let mut tail = store.tail("s", 10).unwrap();
    let mut got = Vec::new();
    while got.len() < 590 {
        let records = tail.next_timeout(Duration::from_secs(20)).unwrap();
        got.extend(sequences(&records));
    }
    assert_eq!(got, (10..600).collect::<Vec<_>>());
    let appender = store.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        appender.append(&Message::new("s", "new")).unwrap();
    });
    let start = Instant::now();
    let records = tail.next_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(bodies(&records), ["new"]);
    assert!(start.elapsed() < Duration::from_secs(10));
    thread.join().unwrap();
    assert!(tail.next_timeout(Duration::ZERO).unwrap().is_empty());
    assert_eq!(tail.next_sequence(), 601);
    store.close().unwrap();
    let closed = tail.next_timeout(Duration::from_secs(20));
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
}

/// Where a text stands in the files of the log.
fn place_of(house: &House, text: &str) -> (String, u64) {
    for name in files(&house.disk, "log-") {
        let file = house
            .disk
            .open(&name, qmq_store::disk::Access::Read)
            .unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        let found = bytes
            .windows(text.len())
            .position(|window| window == text.as_bytes());
        if let Some(at) = found {
            return (name, at as u64);
        }
    }
    panic!("{text} is in no file");
}

#[test]
fn a_damaged_message_keeps_its_place_and_its_neighbours_are_served() {
    // A bit of the body; a bit of the subject, which belongs to the header.
    for back in [0, 3] {
        let house = House::new();
        for number in 0..9 {
            house.send("subject", format!("body-{number}"));
        }
        let (file, at) = place_of(&house, "body-4");
        house.disk.flip_bit(&file, at - back, 3).unwrap();
        let read = house.store().read("subject", 0, 100).unwrap();
        assert_eq!(sequences(&read), (0..9).collect::<Vec<_>>());
        for one in &read {
            match one.message() {
                Ok(message) => {
                    assert_eq!(
                        message.body(),
                        format!("body-{}", one.sequence()).as_bytes()
                    );
                }
                Err(damaged) => assert_eq!(damaged.sequence, 4),
            }
        }
        assert_eq!(read.iter().filter(|one| one.message().is_err()).count(), 1);
    }
}

#[test]
fn a_pull_hands_a_damaged_message_out_as_such_and_it_can_be_settled() {
    let house = House::new();
    for number in 0..5 {
        house.send("s", format!("body-{number}"));
    }
    let (file, at) = place_of(&house, "body-0");
    house.disk.flip_bit(&file, at, 0).unwrap();
    let batch = house.pull("c", 100);
    assert_eq!(sequences(&batch), [0, 1, 2, 3, 4]);
    let damaged = batch.iter().next().unwrap();
    let error = damaged.message().unwrap_err();
    assert_eq!(error.sequence, 0);
    assert!(error.offset.is_some());
    let moved = house.store().copy_and_ack(
        batch.member(),
        damaged.pull_sequence(),
        "dead",
        qmq_store::Durability::Buffered,
    );
    assert!(matches!(moved, Err(Error::Damaged { sequence: 0, .. })));
    assert_eq!(house.store().ack(&batch).unwrap().acked, 5);
    assert!(house.store().pull(&request("c")).unwrap().is_empty());
}
