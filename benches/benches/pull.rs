//! Pulls of what the page cache holds, beside the checksum of the same frames.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use qmq_benches::{Folder, MappedFile, open, quick};
use qmq_store::{Durability, Message, PullRequest, Start, Store, TagFilter};

const BODY: usize = 100;
const MESSAGES: usize = 100_000;
const SUBJECTS: usize = 40_000;
const PULL: usize = 1_000;
/// Header, subject, attributes and body of such a record, about.
const FRAME: usize = 200;

fn fill(store: &Store, count: usize, message: impl Fn(usize) -> Message) {
    for first in (0..count).step_by(PULL) {
        let messages: Vec<_> = (first..first + PULL).map(&message).collect();
        store.append_batch(&messages, Durability::Buffered).unwrap();
    }
}

/// Each measurement pulls as a group of its own, from the first message on; old groups go, since groups are bounded.
fn request(store: &Store, subject: &str, number: &mut u64) -> PullRequest {
    if let Some(old) = number.checked_sub(5_000) {
        // Requests are made some time before they are used: the newer groups may not be there yet.
        let _ = store.drop_group(subject, &format!("group.{old}"));
    }
    *number += 1;
    PullRequest::new(subject, format!("group.{number}"), "consumer")
        .max(PULL)
        .start(Start::Earliest)
}

fn pulls(c: &mut Criterion) {
    let mut group = c.benchmark_group("pull/1,000 of one subject");
    group.throughput(Throughput::Elements(PULL as u64));
    let folder = Folder::new();
    let store = open(&folder);
    fill(&store, MESSAGES, |n| {
        Message::new("subject", vec![7; BODY]).tag(if n % 100 == 0 { "rare" } else { "usual" })
    });
    let mut number = 0;
    group.bench_function("store", |b| {
        b.iter_batched(
            || request(&store, "subject", &mut number),
            |request| assert_eq!(store.pull(&request).unwrap().len(), PULL),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("store, one in 100 by tag", |b| {
        b.iter_batched(
            || request(&store, "subject", &mut number).filter(TagFilter::Any(vec!["rare".into()])),
            |request| assert_eq!(store.pull(&request).unwrap().len(), PULL),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    store.close().unwrap();

    let mut group = c.benchmark_group("pull/40,000 interleaved subjects");
    group.throughput(Throughput::Elements(PULL as u64));
    let folder = Folder::new();
    let store = open(&folder);
    let names: Vec<_> = (0..SUBJECTS).map(|n| format!("subject.{n}")).collect();
    fill(&store, 2 * SUBJECTS, |n| {
        Message::new(&names[n % SUBJECTS], vec![7; BODY])
    });
    let mut next = 0;
    // One message of each of 1,000 subjects; groups are created along the way.
    group.bench_function("store", |b| {
        b.iter_batched(
            || {
                (0..PULL)
                    .map(|_| {
                        next += 1;
                        let group = format!("group.{}", next / SUBJECTS);
                        PullRequest::new(&names[next * 7_919 % SUBJECTS], group, "c").max(1)
                    })
                    .collect::<Vec<_>>()
            },
            |requests| {
                for request in requests {
                    assert_eq!(store.pull(&request).unwrap().len(), 1);
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
    store.close().unwrap();
}

fn raw(c: &mut Criterion) {
    let mut group = c.benchmark_group("pull/raw");
    group.throughput(Throughput::Elements(PULL as u64));
    let folder = Folder::new();
    let mut file = MappedFile::create(&folder);
    for _ in 0..PULL {
        file.push(&[7; FRAME]);
    }
    group.bench_function("crc32 of 1,000 frames", |b| {
        b.iter(|| black_box(&file).checksum(FRAME));
    });
    group.finish();
}

criterion_group! { name = benches; config = quick(); targets = pulls, raw }
criterion_main!(benches);
