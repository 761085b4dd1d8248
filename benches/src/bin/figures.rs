//! Figures that no single criterion bench shows: cold pull, tag scan, wake-up, many subjects with no more than 1,024 open files, open. One line
//! each.
//!
//! `cargo run --release -p qmq-benches --bin figures -- DIR` works in a new folder `DIR/figures` and removes it.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::process::{Resource, Rlimit, setrlimit};

use qmq_store::{Durability, Message, Options, PullRequest, Store, TagFilter};

const SCANNED: u64 = 10_000_000;
const WAKE_UPS: usize = 2_000;
const SUBJECTS: usize = 40_000;
const APPENDS: usize = 1_000_000;
const COLD: u64 = 1_000_000;

fn options() -> Options {
    Options {
        scan_max: 100_000_000,
        ..Options::default()
    }
}

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let folder = Path::new(&folder).join("figures");
    let limit = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(1_024),
            maximum: Some(1_024),
        },
    );
    limit.unwrap();
    cold_pull(&folder);
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

/// Pulls everything of one subject after its pages have left the page cache; beside it `crc32` over the same files, as cold.
fn cold_pull(folder: &Path) {
    let store = Store::open(folder, options()).unwrap();
    let batch = vec![Message::new("cold", vec![b'x'; 1_024]); 1_000];
    for _ in 0..COLD / 1_000 {
        store.append_batch(&batch, Durability::Buffered).unwrap();
    }
    store.close().unwrap();
    evict(folder);
    let store = Store::open(folder, options()).unwrap();
    let started = Instant::now();
    let mut pulled = 0;
    while pulled < COLD {
        let batch = store
            .pull(&PullRequest::new("cold", "g", "c").max(1_000))
            .unwrap();
        pulled += batch.len() as u64;
        store.ack(&batch).unwrap();
    }
    let reached = per_second(COLD as f64, started);
    store.close().unwrap();
    evict(folder);
    let started = Instant::now();
    let mut sum = 0;
    for file in log_files(folder) {
        // SAFETY: the store is closed, and nobody else has the folder.
        let map = unsafe { memmap2::Mmap::map(&file).unwrap() };
        sum ^= map
            .chunks(1_104)
            .fold(0, |sum, frame| sum ^ crc32fast::hash(frame));
    }
    std::hint::black_box(sum);
    let raw = per_second(COLD as f64, started);
    println!(
        "cold pull, 1 KiB: {reached:.2} M/s, {:.2} of crc32 over the same files",
        reached / raw
    );
    std::fs::remove_dir_all(folder).unwrap();
}

fn log_files(folder: &Path) -> impl Iterator<Item = File> {
    let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let logs = files.filter(|entry| entry.file_name().to_string_lossy().starts_with("log-"));
    logs.map(|entry| File::open(entry.path()).unwrap())
}

fn evict(folder: &Path) {
    for file in log_files(folder) {
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
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
    append_in_turn(store, &messages, "");
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
    append_in_turn(store, &messages, ", with three groups each");
}

fn append_in_turn(store: &Store, messages: &[Message], with: &str) {
    let started = Instant::now();
    for message in messages.iter().cycle().take(APPENDS) {
        store.append_with(message, Durability::Buffered).unwrap();
    }
    println!(
        "append to {SUBJECTS} subjects in turn{with}: {:.2} M/s",
        per_second(APPENDS as f64, started)
    );
    let started = Instant::now();
    for _ in 0..APPENDS {
        store
            .append_with(&messages[0], Durability::Buffered)
            .unwrap();
    }
    println!(
        "append to one subject{with}: {:.2} M/s",
        per_second(APPENDS as f64, started)
    );
}
