//! Appends with and without a slave that follows, appends that wait for it, and a slave that catches up: both members in one process.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pair::Pair;
use qmq_benches::{Folder, open, options, quick};
use qmq_store::{Durability, Message};

#[allow(dead_code, reason = "the driver of `qmq bench repl`")]
#[path = "../../qmq-server/src/cli/bench/repl/pair.rs"]
mod pair;

const SIZE: usize = 1024;
/// Messages that a slave catches up with.
const BEHIND: u64 = 100_000;

fn message() -> Message {
    Message::new("subject", vec![7; SIZE])
}

fn start(folder: &Path) -> Pair {
    let (master, slave) = (folder.join("master"), folder.join("slave"));
    let pair = Pair::start([&master, &slave], &options(), Box::new(|_| {}));
    pair.and_then(Pair::following).unwrap()
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("replicate/append");
    group.throughput(Throughput::Elements(1));
    let message = message();
    let folder = Folder::new();
    let store = open(&folder);
    group.bench_function("without a slave", |b| {
        b.iter(|| store.append_with(&message, Durability::Buffered).unwrap());
    });
    store.close().unwrap();
    let folder = Folder::new();
    let pair = start(folder.path());
    group.bench_function("while a slave follows", |b| {
        b.iter(|| {
            let appended = pair.store().append_with(&message, Durability::Buffered);
            pair.wake();
            appended.unwrap()
        });
    });
    group.finish();
    pair.finish().unwrap();
}

fn one_in_flight(c: &mut Criterion) {
    let mut group = c.benchmark_group("replicate/one in flight");
    group.throughput(Throughput::Elements(1));
    let message = message();
    let folder = Folder::new();
    let store = open(&folder);
    group.bench_function("synced, without a slave", |b| {
        b.iter(|| store.append_with(&message, Durability::Synced).unwrap());
    });
    store.close().unwrap();
    let folder = Folder::new();
    let pair = start(folder.path());
    group.bench_function("replicated", |b| {
        b.iter(|| {
            let appended = pair.store().append_with(&message, Durability::Buffered);
            pair.wake();
            let end = appended.unwrap().end_offset;
            pair.store().wait(end, Durability::Replicated).unwrap();
        });
    });
    group.finish();
    pair.finish().unwrap();
}

fn catch_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("replicate/catch up");
    group.throughput(Throughput::Bytes(BEHIND * SIZE as u64));
    group.bench_function("100,000 messages", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let folder = Folder::new();
                let master = folder.path().join("master");
                let store = qmq_store::Store::open(master, options()).unwrap();
                for _ in 0..BEHIND {
                    store.append_with(&message(), Durability::Buffered).unwrap();
                }
                store.close().unwrap();
                let started = Instant::now();
                let pair = start(folder.path());
                pair.catch_up(true, &mut |_| {}).unwrap();
                spent += started.elapsed();
                pair.finish().unwrap();
            }
            spent
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = quick(); targets = append, one_in_flight, catch_up }
criterion_main!(benches);
