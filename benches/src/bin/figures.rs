//! Figures that no single criterion bench shows: tag scan, wake-up, many subjects, open. One line each.
//!
//! `cargo run --release -p qmq-benches --bin figures -- DIR` works in a new folder `DIR/figures` and removes it.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use qmq_store::{Durability, Message, Options, PullRequest, Store, TagFilter};

const SCANNED: u64 = 10_000_000;
const WAKE_UPS: usize = 2_000;
const SUBJECTS: usize = 40_000;
const APPENDS: usize = 1_000_000;

fn options() -> Options {
    Options {
        scan_max: 100_000_000,
        ..Options::default()
    }
}

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let folder = Path::new(&folder).join("figures");
    let store = Store::open(&folder, options()).unwrap();
    tag_scan(&store);
    wake_up(&store);
    many_subjects(&store);
    let started = Instant::now();
    store.close().unwrap();
    println!("close: {:?}", started.elapsed());
    for _ in 0..3 {
        let started = Instant::now();
        let store = Store::open(&folder, options()).unwrap();
        println!(
            "open after a clean close, {SUBJECTS} subjects x 3 groups: {:?}",
            started.elapsed()
        );
        store.close().unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn per_second(count: f64, since: Instant) -> f64 {
    count / since.elapsed().as_secs_f64() / 1e6
}

fn tag_scan(store: &Store) {
    let batch = vec![Message::new("scanned", vec![b'x'; 20]).tag("usual"); 1_000];
    for _ in 0..SCANNED / 1_000 {
        store.append_batch(&batch, Durability::Buffered).unwrap();
    }
    for round in 0..3 {
        let request = PullRequest::new("scanned", format!("g{round}"), "c");
        let request = request.filter(TagFilter::Any(vec!["rare".into()]));
        let started = Instant::now();
        assert!(store.pull(&request).unwrap().is_empty());
        println!(
            "scan by a selective tag: {:.0} M entries/s",
            per_second(SCANNED as f64, started)
        );
    }
}

fn wake_up(store: &Store) {
    let clock = Instant::now();
    let waiting = store.clone();
    let (got, gone) = channel();
    let puller = std::thread::spawn(move || {
        let request = PullRequest::new("woken", "g", "c");
        let mut latencies = Vec::with_capacity(WAKE_UPS);
        while latencies.len() < WAKE_UPS {
            let batch = waiting.pull_wait(&request, Duration::from_secs(5)).unwrap();
            let now = clock.elapsed().as_nanos() as u64;
            for one in &batch {
                let sent = u64::from_le_bytes(one.message().unwrap().body().try_into().unwrap());
                latencies.push(now - sent);
            }
            waiting.ack(&batch).unwrap();
            got.send(()).unwrap();
        }
        latencies
    });
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..WAKE_UPS {
        std::thread::sleep(Duration::from_micros(300));
        let sent = clock.elapsed().as_nanos() as u64;
        let message = Message::new("woken", sent.to_le_bytes().to_vec());
        store.append_with(&message, Durability::Buffered).unwrap();
        gone.recv().unwrap();
    }
    let mut latencies = puller.join().unwrap();
    latencies.sort_unstable();
    let at = |part: f64| latencies[(latencies.len() as f64 * part) as usize] / 1_000;
    println!(
        "append to wake-up: p50 {} us, p99 {} us, p99.9 {} us",
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

fn many_subjects(store: &Store) {
    let started = Instant::now();
    for n in 0..SUBJECTS {
        let message = Message::new(format!("new.{n}"), "x");
        store.append_with(&message, Durability::Buffered).unwrap();
    }
    println!("{SUBJECTS} new subjects: {:?}", started.elapsed());
    let messages: Vec<Message> = (0..SUBJECTS)
        .map(|n| Message::new(format!("new.{n}"), vec![b'x'; 100]))
        .collect();
    let started = Instant::now();
    for message in messages.iter().cycle().take(APPENDS) {
        store.append_with(message, Durability::Buffered).unwrap();
    }
    println!(
        "append to {SUBJECTS} subjects in turn: {:.2} M/s",
        per_second(APPENDS as f64, started)
    );
    let started = Instant::now();
    for _ in 0..APPENDS {
        store
            .append_with(&messages[0], Durability::Buffered)
            .unwrap();
    }
    println!(
        "append to one subject: {:.2} M/s",
        per_second(APPENDS as f64, started)
    );
    let started = Instant::now();
    let mut pulled = 0;
    for group in ["a", "b", "c"] {
        for message in &messages[1..] {
            let batch = store
                .pull(&PullRequest::new(message.subject(), group, "c").max(1_000))
                .unwrap();
            pulled += batch.len();
            store.ack(&batch).unwrap();
        }
    }
    println!(
        "pull and ack of {SUBJECTS} subjects x 3 groups: {:.2} M messages/s",
        per_second(pulled as f64, started)
    );
}
