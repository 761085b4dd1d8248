//! Appends, beside what the machine can do: a copy into a preallocated mapped file, and the checksum of the same bytes.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qmq_benches::{Folder, MappedFile, open, quick};
use qmq_store::{Durability, Message};

const SIZES: [usize; 2] = [100, 1024];
const BATCH: usize = 1_000;

fn one_a_call(c: &mut Criterion) {
    let mut group = c.benchmark_group("append/buffered");
    for size in SIZES {
        let folder = Folder::new();
        let store = open(&folder);
        let message = Message::new("subject", vec![7; size]);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("store", size), |b| {
            b.iter(|| store.append_with(&message, Durability::Buffered).unwrap());
        });
        raw(&mut group, size, 1);
        store.close().unwrap();
    }
    group.finish();
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("append/batch of 1,000");
    for size in SIZES {
        let folder = Folder::new();
        let store = open(&folder);
        let messages = vec![Message::new("subject", vec![7; size]); BATCH];
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("store", size), |b| {
            b.iter(|| store.append_batch(&messages, Durability::Buffered).unwrap());
        });
        raw(&mut group, size, BATCH);
        store.close().unwrap();
    }
    group.finish();
}

/// The raw limits of `count` bodies of `size` bytes.
fn raw(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    size: usize,
    count: usize,
) {
    let folder = Folder::new();
    let body = vec![7; size];
    group.bench_function(BenchmarkId::new("raw copy into a mapped file", size), |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let mut file = MappedFile::create(&folder);
                let fit = (file.room() / (size * count)) as u64;
                let now = left.min(fit);
                let started = Instant::now();
                for _ in 0..now * count as u64 {
                    file.push(black_box(&body));
                }
                spent += started.elapsed();
                left -= now;
            }
            spent
        });
    });
    group.bench_function(BenchmarkId::new("raw crc32", size), |b| {
        b.iter(|| (0..count).fold(0, |sum, _| sum ^ crc32fast::hash(black_box(&body))));
    });
}

fn synced(c: &mut Criterion) {
    let mut group = c.benchmark_group("append/synced");
    group.throughput(Throughput::Elements(1));
    let folder = Folder::new();
    let store = open(&folder);
    let message = Message::new("subject", vec![7; 1024]);
    group.bench_function("store", |b| {
        b.iter(|| store.append_with(&message, Durability::Synced).unwrap());
    });
    store.close().unwrap();
    let folder = Folder::new();
    let mut file = MappedFile::create(&folder);
    let body = vec![7; 1024];
    group.bench_function("raw write and fdatasync", |b| {
        b.iter(|| file.write_synced(&body));
    });
    group.finish();
}

criterion_group! { name = benches; config = quick(); targets = one_a_call, batches, synced }
criterion_main!(benches);
