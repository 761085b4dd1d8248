//! Room is made for what is there, not for what a frame claims: a count or length that lies costs nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod any_frame;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use any_frame::{AnyFrame, framed, with_payload};
use bytes::{BufMut, Bytes};
use qmq_wire::{FrameBuffer, Kind};

thread_local! {
    /// Bytes that this thread has asked for.
    static ASKED_FOR: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all of it is the system's allocator; the count is a number of the thread's own, without a destructor, and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED_FOR.set(ASKED_FOR.get() + layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` is from `alloc` above, so from the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ASKED_FOR.get();
    let result = work();
    (result, ASKED_FOR.get() - before)
}

/// Bytes asked for by a decoder that refuses that payload.
fn refused(kind: Kind, payload: &[u8]) -> usize {
    let frame = framed(&with_payload(kind, payload), usize::MAX);
    let (decoded, bytes) = allocated(|| AnyFrame::of(&frame, false));
    assert!(decoded.is_err(), "{kind:?}: {decoded:?}");
    bytes
}

/// A payload of `before` zeros, a claim, and seven bytes more.
fn claim(before: usize, claim: &[u8]) -> Vec<u8> {
    [&vec![0; before], claim, &[0; 7]].concat()
}

#[test]
fn the_counting_counts() {
    let (_, bytes) = allocated(|| Vec::<u8>::with_capacity(12_345));
    assert_eq!(bytes, 12_345);
}

#[test]
fn lying_counts_cost_nothing() {
    let places = [
        (Kind::Produce, 36),
        (Kind::Produced, 4),
        (Kind::Produced, 8),
        (Kind::Pulled, 8),
        (Kind::Deliver, 4),
        (Kind::Ack, 9),
        (Kind::Nack, 13),
        (Kind::Renew, 4),
    ];
    for (kind, before) in places {
        for count in [2_u32, 10_000, 10_001, u32::MAX] {
            let bytes = refused(kind, &claim(before, &count.to_le_bytes()));
            assert!(bytes < 512, "{kind:?}, {count}: {bytes} bytes");
        }
    }
}

#[test]
fn lying_lengths_of_bodies_texts_names_and_fields_cost_nothing() {
    let mut produce = claim(36, &1_u32.to_le_bytes());
    produce.truncate(40);
    produce.put_u16_le(1);
    produce.put_u16_le(0);
    produce.put_u32_le(u32::MAX);
    produce.put_slice(b"s and no body");
    let mut deliver = claim(4, &1_u32.to_le_bytes());
    deliver.truncate(8);
    deliver.put_bytes(0, 28);
    deliver.put_u16_le(u16::MAX);
    deliver.put_u16_le(0);
    deliver.put_u32_le(u32::MAX);
    deliver.put_slice(b"short");
    let subscribe = [&[255][..], b"short"].concat();
    let cases = [
        (Kind::Produce, produce),
        (Kind::Deliver, deliver),
        (Kind::Refused, claim(10, &[0xFF; 2])),
        (Kind::End, claim(2, &[0xFF; 2])),
        (Kind::Subscribed, claim(5, &[0xFF; 2])),
        (Kind::Subscribe, subscribe),
    ];
    for (kind, payload) in cases {
        let bytes = refused(kind, &payload);
        assert!(bytes < 512, "{kind:?}: {bytes} bytes");
    }
}

#[test]
fn a_lying_control_request_costs_a_page() {
    for variant in [1_u8, 2, 3] {
        for len in [9_u64, 4_000, 1 << 20, 16 << 20, 1 << 40, u64::MAX] {
            let payload = [&[0, 0, 0, 0, variant, 0, 0, 0][..], &len.to_le_bytes()].concat();
            let bytes = refused(Kind::Control, &payload);
            assert!(bytes < 8 << 10, "{variant}, {len}: {bytes} bytes");
        }
    }
    // A long one may claim a few times what it has.
    for (there, most) in [(5_000_usize, 512 << 10), (300_000, 20 << 20)] {
        let mut payload = vec![0, 0, 0, 0, 3, 0, 0, 0];
        payload.put_u64_le(15 << 20);
        payload.put_bytes(0, there);
        let bytes = refused(Kind::Control, &payload);
        assert!(bytes < most, "{there}: {bytes} bytes");
    }
}

#[test]
fn a_lying_answer_costs_its_client_two_mebibytes_at_most() {
    for count in [1_u64, 1 << 20, 1 << 40, u64::MAX] {
        let payload = [&[0, 0, 0, 0, 1, 0, 0, 0][..], &count.to_le_bytes()].concat();
        let bytes = refused(Kind::Controlled, &payload);
        assert!(bytes < 2 << 20, "{count}: {bytes} bytes");
    }
}

#[test]
fn a_frame_that_is_announced_costs_nothing_before_it_comes() {
    let mut header = vec![0; 8];
    header[..4].copy_from_slice(&(1_u32 << 30).to_le_bytes());
    let header = Bytes::from(header);
    let (_, bytes) = allocated(|| {
        let mut buffer = FrameBuffer::new(u32::MAX);
        buffer.push(header);
        assert_eq!(buffer.next(), Ok(None));
    });
    assert!(bytes < 512, "{bytes} bytes");
}

#[test]
fn bodies_are_shared_with_what_came_and_never_copied() {
    let body = vec![7; 1 << 20];
    let mut payload = vec![0; 36];
    payload.put_u32_le(1);
    payload.put_u16_le(1);
    payload.put_u16_le(0);
    payload.put_u32_le(body.len() as u32);
    payload.put_slice(b"s");
    payload.extend_from_slice(&body);
    let frame = framed(&with_payload(Kind::Produce, &payload), 64 << 10);
    let (produce, bytes) = allocated(|| qmq_wire::Produce::decode(&mut frame.reader()).unwrap());
    assert_eq!(produce.body(&produce.messages[0]).concat(), body);
    assert!(bytes < 4 << 10, "{bytes} bytes");
}
