//! Latency of one synced writer while the store does its other work. One line for each kind of work.
//!
//! `cargo run --release -p qmq-benches --bin latency -- DIR [SECONDS]` works in new folders `DIR/latency-*` and removes them.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qmq_store::{Durability, Message, Options, Retention, Store};

/// Small segments: they rotate many times a second.
const SMALL_SEGMENT: u64 = 4 << 20;
/// Pause between two pieces of the work beside the writer.
const PAUSE: Duration = Duration::from_millis(1);
const BUFFERED_BATCH: usize = 20;

/// Work that goes on beside the writer.
type Beside = fn(&Store);

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| ".".to_owned());
    let seconds = args.next().map_or(10, |text| text.parse().unwrap());
    let rotating = Options::with_segment_bytes(SMALL_SEGMENT);
    let retiring = Options {
        retention: Retention {
            max_bytes: Some(4 * SMALL_SEGMENT),
            ..Retention::default()
        },
        ..rotating.clone()
    };
    let cases: [(&str, Options, Beside); 5] = [
        ("alone", Options::default(), |_| {}),
        (
            "checkpoints, one after the other",
            Options::default(),
            |store| {
                store.checkpoint().unwrap();
            },
        ),
        ("segments of 4 MiB", rotating, |_| {}),
        ("segments of 4 MiB, 16 MiB kept", retiring, |_| {}),
        (
            "up to 20 MB/s of buffered appends",
            Options::default(),
            buffered,
        ),
    ];
    for (number, (name, options, beside)) in cases.into_iter().enumerate() {
        let folder = Path::new(&folder).join(format!("latency-{number}"));
        let store = Store::open(&folder, options).unwrap();
        let latencies = measure(&store, Duration::from_secs(seconds), beside);
        print(name, &latencies, &store, seconds);
        store.close().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

fn buffered(store: &Store) {
    let batch = vec![Message::new("buffered", vec![b'x'; 1_024]); BUFFERED_BATCH];
    store.append_batch(&batch, Durability::Buffered).unwrap();
}

/// Latencies of synced appends of 1 KiB, one after the other, in nanoseconds, in order of size.
fn measure(store: &Store, time: Duration, beside: Beside) -> Vec<u64> {
    let done = AtomicBool::new(false);
    let message = Message::new("synced", vec![b'x'; 1_024]);
    let mut latencies = Vec::with_capacity(1 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                beside(store);
                std::thread::sleep(PAUSE);
            }
        });
        let start = Instant::now();
        while start.elapsed() < time {
            let begin = Instant::now();
            store.append_with(&message, Durability::Synced).unwrap();
            latencies.push(begin.elapsed().as_nanos() as u64);
        }
        done.store(true, Ordering::Relaxed);
    });
    latencies.sort_unstable();
    latencies
}

fn print(name: &str, latencies: &[u64], store: &Store, seconds: u64) {
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize] / 1_000;
    println!(
        "{name}: {}/s, p50 {} us, p99 {} us, p99.9 {} us, max {} us; {} segments at the end",
        latencies.len() as u64 / seconds,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        store.stats().segments,
    );
}
