//! What a server sends on: attributes and body of each message, shared with the log.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use qmq_store::{Durability, Message, Options, Retention, Store};
use support::{House, files, request, small_options};

thread_local! {
    /// Of this thread, since tests run beside each other.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts allocations.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; only a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn message(number: u64) -> Message {
    Message::new("s", format!("body {number}"))
        .with_id(number.to_string())
        .property("trace", "00-4bf9")
}

#[test]
fn a_thousand_messages_are_handed_on_with_as_many_allocations_as_ten() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 1 << 20,
        ..small_options()
    };
    let store = Store::open(folder.path(), options).unwrap();
    for number in 0..1_000 {
        store
            .append_with(&message(number), Durability::Buffered)
            .unwrap();
    }
    let cost = |max: usize| {
        let group = request("c").max(max);
        let group = store.pull(&group).unwrap();
        assert_eq!(group.len(), max);
        store.consumer_gone("s", "g", "c").unwrap();
        allocations(|| {
            let bytes = group
                .payloads()
                .map(|(_, payload)| payload.unwrap().body_len());
            assert!(bytes.sum::<u32>() > 0);
        })
    };
    let ten = cost(10);
    assert_eq!(cost(1_000), ten);
    assert!(ten <= 8, "{ten} allocations");
}

#[test]
fn a_payload_says_what_the_message_says() {
    let house = House::new();
    let bare = Message::new("s", "bare");
    // Over several segments, and with what was refused before what is new.
    for number in 0..200 {
        house.send_message(&message(number).with_body(vec![number as u8; 2_000]));
        house.send_message(&bare);
    }
    let first = house.pull("c", 3);
    house.store().consumer_gone("s", "g", "c").unwrap();
    drop(first);
    let batch = house.pull("c", 1_000);
    assert_eq!(batch.len(), 400);
    assert!(files(&house.disk, "log-").len() > 3);
    let payloads = batch.payloads();
    assert_eq!(payloads.len(), 400);
    for ((delivered, payload), one) in payloads.zip(&batch) {
        let (payload, view) = (payload.unwrap(), one.message().unwrap());
        assert_eq!(delivered.pull_sequence(), one.pull_sequence());
        assert_eq!(delivered.sequence(), one.sequence());
        assert_eq!(payload.body(), view.body());
        assert_eq!(payload.body_len() as usize, view.body().len());
        assert_eq!(payload.attributes(), view.attributes());
        assert_eq!(payload.record_time_ms(), view.record_time_ms());
        let whole = usize::from(payload.attributes_len()) + view.body().len();
        assert_eq!(payload.bytes().len(), whole);
        assert_eq!(
            payload.bytes().as_ptr_range().end,
            view.body().as_ptr_range().end
        );
        assert_eq!(payload.into_bytes().len(), whole);
    }
}

#[test]
fn payloads_outlive_their_batch_and_the_retention_of_their_segment() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        retention: Retention {
            max_bytes: Some(64 << 10),
            max_age: None,
            ..Retention::default()
        },
        ..small_options()
    };
    let store = Store::open(folder.path(), options).unwrap();
    let fill = |count: u8| {
        for number in 0..count {
            let message = message(number.into()).with_body(vec![number; 4_000]);
            store.append_with(&message, Durability::Buffered).unwrap();
        }
    };
    fill(10);
    let batch = store.pull(&request("c")).unwrap();
    let kept: Vec<Bytes> = batch
        .payloads()
        .map(|(_, payload)| payload.unwrap().into_bytes())
        .collect();
    drop(batch);
    fill(100);
    for _ in 0..5 {
        store.sync().unwrap();
        store.maintain().unwrap();
    }
    assert!(store.subject_stats("s").unwrap().first_sequence >= 10);
    assert!(store.stats().pinned_bytes > 0);
    for (number, bytes) in kept.iter().enumerate() {
        let body = &bytes[bytes.len() - 4_000..];
        assert!(body.iter().all(|&byte| usize::from(byte) == number));
    }
    drop(kept);
    store.maintain().unwrap();
    assert_eq!(store.stats().pinned_bytes, 0);
}

#[test]
fn a_damaged_message_costs_no_other_its_payload() {
    let house = House::new();
    let places: Vec<u64> = (0..10)
        .map(|number| house.send_message(&message(number)).offset)
        .collect();
    let segment = &files(&house.disk, "log-")[0];
    // In the last record's body, and in the first one's header.
    house
        .disk
        .flip_bit(segment, 64 + places[0] + 20, 0)
        .unwrap();
    house
        .disk
        .flip_bit(segment, 64 + places[9] + 86, 0)
        .unwrap();
    let batch = house.pull("c", 100);
    let good: Vec<bool> = batch
        .payloads()
        .map(|(_, payload)| payload.is_ok())
        .collect();
    let expected: Vec<bool> = (0..10).map(|number| number % 9 != 0).collect();
    assert_eq!(good, expected);
    let (_, damaged) = batch.payloads().next().unwrap();
    assert_eq!(damaged.unwrap_err().sequence, 0);
}
