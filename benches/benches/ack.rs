//! Acks of 100 messages at a time, beside a copy of as many bytes as the ack's record takes.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use qmq_benches::{Folder, MappedFile, open, quick};
use qmq_store::{Durability, Message, PullRequest};

const PULL: usize = 100;
/// Bytes of an ack's record, about.
const RECORD: usize = 128;

fn ack(c: &mut Criterion) {
    let mut group = c.benchmark_group("ack/100 messages");
    group.throughput(Throughput::Elements(PULL as u64));
    let messages = vec![Message::new("subject", vec![7; 100]); PULL];
    let request = PullRequest::new("subject", "group", "consumer").max(PULL);
    for (name, durability) in [
        ("store, buffered", Durability::Buffered),
        ("store, synced", Durability::Synced),
    ] {
        let folder = Folder::new();
        let store = open(&folder);
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    store.append_batch(&messages, Durability::Buffered).unwrap();
                    store.pull(&request).unwrap()
                },
                |batch| store.ack_with(&batch, durability).unwrap(),
                BatchSize::PerIteration,
            );
        });
        store.close().unwrap();
    }
    let folder = Folder::new();
    let mut file = MappedFile::create(&folder);
    let record = [7; RECORD];
    group.bench_function("raw copy into a mapped file", |b| {
        b.iter(|| file.push(black_box(&record)));
    });
    group.bench_function("raw write and fdatasync", |b| {
        b.iter(|| file.write_synced(&record));
    });
    group.finish();
}

criterion_group! { name = benches; config = quick(); targets = ack }
criterion_main!(benches);
