//! Opening a store after a clean close and after a crash, beside the checksum of the same frames.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use qmq_benches::{Folder, MappedFile, open, options, quick};
use qmq_store::{Background, Durability, Message, Options, Store};

const MESSAGES: usize = 50_000;
/// Header, subject and body of such a record, about.
const FRAME: usize = 200;

fn fill(store: &Store) {
    let messages: Vec<_> = (0..1_000)
        .map(|n| Message::new(format!("subject.{}", n % 100), vec![7; 100]))
        .collect();
    for _ in 0..MESSAGES / messages.len() {
        store.append_batch(&messages, Durability::Buffered).unwrap();
    }
    store.sync().unwrap();
}

fn copy(from: &Path) -> Folder {
    let to = Folder::new();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("open/50,000 messages");
    let clean = Folder::new();
    let store = open(&clean);
    fill(&store);
    store.close().unwrap();
    // What a crash leaves: the files of a store that goes on, and takes no checkpoint meanwhile.
    let running = Folder::new();
    let manual = Options {
        background: Background::Manual,
        ..options()
    };
    let store = Store::open(running.path(), manual).unwrap();
    fill(&store);
    let crashed = copy(running.path());
    for (name, folder, is_clean) in [
        ("store, after a clean close", &clean, true),
        ("store, after a crash", &crashed, false),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || copy(folder.path()),
                |folder| {
                    let store = open(&folder);
                    assert_eq!(store.open_report().clean, is_clean);
                    (store, folder)
                },
                BatchSize::PerIteration,
            );
        });
    }
    let folder = Folder::new();
    let mut file = MappedFile::create(&folder);
    for _ in 0..MESSAGES {
        file.push(&[7; FRAME]);
    }
    group.bench_function("raw crc32 of the frames", |b| {
        b.iter(|| black_box(&file).checksum(FRAME));
    });
    group.finish();
}

criterion_group! { name = benches; config = quick(); targets = recovery }
criterion_main!(benches);
