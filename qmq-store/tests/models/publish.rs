//! Append, publish, read: `log/writer.rs`, `store.rs` (`append`, `append_batch`) and `index/catalog.rs` (`walk`).
//!
//! A single record's bytes are stored before its index entry is pushed; a batch's bytes after the entries of all its records. `written`
//! is released last in both. Reading bytes that are being stored is a race, which loom reports.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::check;

const PLACES: usize = 3;

#[derive(Default)]
struct Log {
    /// The append lock, and the end of what is put.
    writer: Mutex<u64>,
    written: AtomicU64,
    bytes: [UnsafeCell<u64>; PLACES],
    /// Offsets, by subject.
    index: [Mutex<Vec<u64>>; 2],
}

/// What is stored at an offset.
fn content(offset: u64) -> u64 {
    offset + 100
}

impl Log {
    fn store(&self, offset: u64) {
        self.bytes[offset as usize].with_mut(|bytes| {
            // SAFETY: loom checks that nobody else accesses the cell at the same time.
            unsafe { *bytes = content(offset) };
        });
    }

    fn publish(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    fn append(&self, subject: usize) {
        let mut end = self.writer.lock().unwrap();
        let offset = *end;
        self.store(offset);
        self.index[subject].lock().unwrap().push(offset);
        *end += 1;
        self.publish(*end);
    }

    /// One record for each subject.
    fn append_batch(&self) {
        let mut end = self.writer.lock().unwrap();
        let offset = *end;
        self.index[0].lock().unwrap().push(offset);
        self.index[1].lock().unwrap().push(offset + 1);
        self.store(offset);
        self.store(offset + 1);
        *end += 2;
        self.publish(*end);
    }

    /// Reads what is below `visible`; returns the last offset seen.
    fn read(&self, subject: usize, visible: u64) -> Option<u64> {
        let entries = self.index[subject].lock().unwrap().clone();
        assert!(entries.is_sorted());
        let mut last = None;
        for offset in entries.into_iter().take_while(|offset| *offset < visible) {
            // SAFETY: loom checks that nobody stores into the cell at the same time.
            let found = self.bytes[offset as usize].with(|bytes| unsafe { *bytes });
            assert_eq!(found, content(offset), "an unpublished record was read");
            last = Some(offset);
        }
        last
    }
}

#[test]
fn a_reader_sees_no_record_before_it_is_published() {
    check(3, || {
        let log = Arc::new(Log::default());
        let writers: Vec<_> = (0..2)
            .map(|subject| {
                let log = Arc::clone(&log);
                thread::spawn(move || log.append(subject))
            })
            .collect();
        let visible = log.written.load(Ordering::Acquire);
        let seen = [log.read(0, visible), log.read(1, visible)];
        assert_eq!(seen.iter().flatten().count() as u64, visible);
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(log.written.load(Ordering::Acquire), 2);
    });
}

#[test]
fn a_batch_over_two_subjects_is_seen_at_once() {
    check(4, || {
        let log = Arc::new(Log::default());
        let writer = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                log.append_batch();
                log.append(0);
            })
        };
        let first = log.read(0, log.written.load(Ordering::Acquire));
        let second = log.read(1, log.written.load(Ordering::Acquire));
        assert!(first.is_none() || second.is_some(), "half a batch was seen");
        let visible = log.written.load(Ordering::Acquire);
        let seen = [log.read(0, visible), log.read(1, visible)];
        assert_eq!(seen[0].is_some(), seen[1].is_some());
        writer.join().unwrap();
    });
}
