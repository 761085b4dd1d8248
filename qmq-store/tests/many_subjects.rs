//! 40,000 subjects with three groups each: memory, files and mappings stay small.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use qmq_store::{Background, Durability, Message, Options, PullRequest, Store};

const SUBJECTS: u64 = 40_000;

/// Counts the bytes that are allocated at the moment.
struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated() -> u64 {
    ALLOCATED.load(Ordering::Relaxed)
}

fn lines(path: &str) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// One test, since the allocator counts for the whole process.
#[test]
fn forty_thousand_subjects_with_three_idle_groups_each_stay_within_their_bytes_files_and_mappings()
{
    let folder = tempfile::tempdir().unwrap();
    let options = || Options {
        background: Background::Manual,
        ..Options::with_segment_bytes(16 << 20)
    };
    let store = Store::open(folder.path(), options()).unwrap();
    let empty = allocated();
    let files_before = fs::read_dir("/proc/self/fd").unwrap().count();
    let mappings_before = lines("/proc/self/maps");
    for n in 0..SUBJECTS {
        let message = Message::new(format!("subject.{n:05}"), "x");
        store.append_with(&message, Durability::Buffered).unwrap();
    }
    let per_subject = (allocated() - empty) / SUBJECTS;
    assert!(
        per_subject <= 300,
        "{per_subject} bytes a subject without groups"
    );

    let with_subjects = allocated();
    for n in 0..SUBJECTS {
        for group in ["group-a", "group-b", "group-c"] {
            let request = PullRequest::new(format!("subject.{n:05}"), group, "consumer");
            let batch = store.pull(&request).unwrap();
            assert_eq!(store.ack(&batch).unwrap().acked, 1);
        }
    }
    store.expire(0).unwrap();
    let per_group = (allocated().saturating_sub(with_subjects)) / (SUBJECTS * 3);
    assert!(per_group <= 128, "{per_group} bytes an idle group");

    let files = fs::read_dir("/proc/self/fd").unwrap().count() - files_before;
    let mappings = lines("/proc/self/maps") - mappings_before;
    assert!(files < 16, "{files} files open");
    assert!(mappings < 64, "{mappings} mappings");
    let in_folder = fs::read_dir(folder.path()).unwrap().count();
    assert!(in_folder < 64, "{in_folder} files in the folder");

    store.close().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    for n in [0, SUBJECTS / 2, SUBJECTS - 1] {
        let stats = store.subject_stats(&format!("subject.{n:05}")).unwrap();
        assert!(
            stats
                .groups
                .iter()
                .all(|group| group.lag == 0 && group.unacked == 0)
        );
        assert_eq!(stats.groups.len(), 3);
    }
}
