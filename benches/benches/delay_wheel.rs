//! The delay scheduler beside the store's own appends: scheduling, handing out and dispatching, cancelling.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qmq_benches::{Folder, options, quick};
use qmq_sched::{DelayId, Scheduler};
use qmq_store::disk::MappedDisk;
use qmq_store::{Durability, Message, RetentionHold, Store};

/// Messages of one measurement.
const MESSAGES: u64 = 100_000;
/// Due times are spread over so many milliseconds.
const SPREAD_MS: u64 = 3_600_000;
/// Handed out at a time.
const BATCH: usize = 1_000;

fn open(folder: &Folder) -> Scheduler {
    let options = qmq_store::Options {
        retention_hold: Some(RetentionHold::default()),
        ..options()
    };
    let store = Store::open(folder.path().join("log"), options).unwrap();
    let index = MappedDisk::open(folder.path().join("index"), true).unwrap();
    Scheduler::open(store, index, qmq_sched::Options::default()).unwrap()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

/// Schedules messages due within [`SPREAD_MS`] from `from_ms` on, in no order.
fn schedule(scheduler: &Scheduler, message: &Message, from_ms: u64) -> Vec<DelayId> {
    let due = |number: u64| from_ms + number.wrapping_mul(2_654_435_761) % SPREAD_MS;
    let one = |number| scheduler.schedule_with(due(number), message, Durability::Buffered);
    (0..MESSAGES).map(|number| one(number).unwrap()).collect()
}

fn scheduling(c: &mut Criterion) {
    for size in [100, 1_024] {
        let message = Message::new("order.timeout", vec![b'x'; size]);
        let mut group = c.benchmark_group(format!("schedule {size} B, buffered"));
        group.throughput(Throughput::Elements(MESSAGES));
        group.bench_function("store append", |b| {
            b.iter_custom(|times| {
                let folder = Folder::new();
                let scheduler = open(&folder);
                let start = Instant::now();
                for _ in 0..times * MESSAGES {
                    let appended = scheduler
                        .store()
                        .append_with(&message, Durability::Buffered);
                    black_box(appended.unwrap());
                }
                start.elapsed()
            });
        });
        group.bench_function("schedule", |b| {
            b.iter_custom(|times| {
                let folder = Folder::new();
                let scheduler = open(&folder);
                let from_ms = now_ms() + SPREAD_MS;
                let start = Instant::now();
                for _ in 0..times {
                    black_box(schedule(&scheduler, &message, from_ms));
                }
                start.elapsed()
            });
        });
        group.finish();
    }
}

/// Time that `work` takes on as many pending messages.
fn on_pending(times: u64, work: impl Fn(&Scheduler, Vec<DelayId>, u64)) -> Duration {
    let message = Message::new("order.timeout", vec![b'x'; 100]);
    let mut took = Duration::ZERO;
    for _ in 0..times {
        let folder = Folder::new();
        let scheduler = open(&folder);
        let from_ms = now_ms() + SPREAD_MS;
        let ids = schedule(&scheduler, &message, from_ms);
        let start = Instant::now();
        work(&scheduler, ids, from_ms + SPREAD_MS);
        took += start.elapsed();
    }
    took
}

fn dispatching(c: &mut Criterion) {
    let mut group = c.benchmark_group("100 B");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("due and dispatched", |b| {
        b.iter_custom(|times| {
            on_pending(times, |scheduler, _, end_ms| {
                let mut handed_out = 0;
                while handed_out < MESSAGES {
                    let fired = scheduler.due(end_ms, BATCH).unwrap();
                    handed_out += fired.len() as u64;
                    let ids: Vec<_> = fired.iter().map(|one| one.id).collect();
                    scheduler.dispatched(&ids).unwrap();
                }
            })
        });
    });
    group.bench_function("cancel", |b| {
        b.iter_custom(|times| {
            on_pending(times, |scheduler, ids, _| {
                for id in ids {
                    let cancelled = scheduler.cancel_with(id, Durability::Buffered);
                    let _ = black_box(cancelled.unwrap());
                }
            })
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = quick();
    targets = scheduling, dispatching
}
criterion_main!(benches);
