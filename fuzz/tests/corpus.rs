//! Replays the corpora, and a few hundred mutations of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use qmq_fuzz::{TARGETS, Target};

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// The same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

fn mutate(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        match numbers.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][numbers.below(5)],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, numbers.below(256) as u8),
            4 => bytes.extend_from_slice(&other[numbers.below(other.len())..]),
            _ if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(numbers.below(256) as u8),
            _ => bytes.push(numbers.below(256) as u8),
        }
    }
    bytes.truncate(16_384);
    bytes
}

fn run(name: &str, target: Target, mutations: usize) {
    let mut inputs = corpus(name);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    inputs.push(Vec::new());
    for input in &inputs {
        target(input);
    }
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for _ in 0..mutations {
        let input = &inputs[numbers.below(inputs.len())];
        let other = &inputs[numbers.below(inputs.len())];
        let bytes = mutate(input, other, &mut numbers);
        let outcome = std::panic::catch_unwind(|| target(&bytes));
        assert!(outcome.is_ok(), "{name} fails with {bytes:?}");
    }
}

#[test]
fn every_corpus_and_some_mutations_of_it_are_taken() {
    for (name, target) in TARGETS {
        let whole_store = matches!(name, "operations" | "damaged_store" | "repl_node");
        run(name, target, if whole_store { 25 } else { 500 });
    }
}

#[test]
#[ignore = "runs as long as it is told to: QMQ_FUZZ_SECONDS=60 cargo test --release -p qmq-fuzz --test corpus -- --ignored --nocapture"]
fn every_target_for_a_while() {
    let seconds = std::env::var("QMQ_FUZZ_SECONDS").map_or(10, |text| text.parse().unwrap());
    let seed = std::env::var("QMQ_FUZZ_SEED").map_or(7, |text| text.parse().unwrap());
    let only = std::env::var("QMQ_FUZZ_TARGET").ok();
    for (name, target) in TARGETS {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let start = std::time::Instant::now();
        let mut inputs = corpus(name);
        let mut numbers = Numbers(seed);
        let mut count = 0_u64;
        while start.elapsed().as_secs() < seconds {
            let input = &inputs[numbers.below(inputs.len())];
            let other = &inputs[numbers.below(inputs.len())];
            let bytes = mutate(input, other, &mut numbers);
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{name} fails with {bytes:?}");
            count += 1;
            // Far from the corpus too.
            if inputs.len() < 2_000 && numbers.below(20) == 0 {
                inputs.push(bytes);
            }
        }
        println!("{name}: {count} inputs in {seconds} s");
    }
}
