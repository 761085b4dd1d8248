//! Sealing against readers: `keep/seal.rs` (`seal`) and `index/catalog.rs` (`walk`), one subject, a segment that is sealed and the one
//! after it.

use std::sync::Arc;

use loom::sync::{Mutex, RwLock};
use loom::thread;

use super::check;

#[derive(Clone)]
struct Run {
    segment: u64,
    first: u64,
    entries: Vec<u64>,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

#[derive(Default)]
struct Index {
    next: u64,
    runs: Vec<Run>,
}

struct World {
    index: Mutex<Index>,
    /// The index file of segment 0.
    sealed: RwLock<Option<Arc<Run>>>,
}

impl World {
    fn new() -> Self {
        let world = Self {
            index: Mutex::default(),
            sealed: RwLock::new(None),
        };
        world.push(0);
        world.push(0);
        world
    }

    fn push(&self, segment: u64) {
        let mut index = self.index.lock().unwrap();
        let next = index.next;
        if index.runs.last().is_none_or(|run| run.segment != segment) {
            index.runs.push(Run {
                segment,
                first: next,
                entries: Vec::new(),
            });
        }
        index.runs.last_mut().unwrap().entries.push(next + 100);
        index.next += 1;
    }

    fn seal(&self) {
        let run = self.index.lock().unwrap().runs[0].clone();
        self.publish_file(run);
        self.drop_run();
    }

    fn publish_file(&self, run: Run) {
        *self.sealed.write().unwrap() = Some(Arc::new(run));
    }

    fn drop_run(&self) {
        self.index
            .lock()
            .unwrap()
            .runs
            .retain(|run| run.segment != 0);
    }

    /// Sequences and entries from `from` on.
    fn walk(&self, mut from: u64) -> Vec<(u64, u64)> {
        let mut seen = Vec::new();
        loop {
            let in_memory = {
                let index = self.index.lock().unwrap();
                if from >= index.next {
                    return seen;
                }
                let first = index.runs.first().map_or(index.next, |run| run.first);
                let run = index
                    .runs
                    .iter()
                    .find(|run| run.first <= from && from < run.end());
                run.map(|run| run.entries[(from - run.first) as usize..].to_vec())
                    .ok_or(first)
            };
            match in_memory {
                Ok(entries) => {
                    seen.extend((from..).zip(entries.iter().copied()));
                    from += entries.len() as u64;
                }
                Err(first_in_memory) => {
                    let sealed = self.sealed.read().unwrap().clone();
                    let Some(run) = sealed.filter(|run| from < run.end()) else {
                        from = first_in_memory;
                        continue;
                    };
                    from = from.max(run.first);
                    let rest = &run.entries[(from - run.first) as usize..];
                    seen.extend((from..).zip(rest.iter().copied()));
                    from = run.end();
                }
            }
        }
    }
}

#[test]
fn a_reader_finds_every_sequence_while_its_segment_is_sealed() {
    check(4, || {
        let world = Arc::new(World::new());
        let sealer = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.seal())
        };
        let appender = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.push(1))
        };
        let seen = world.walk(0);
        assert!(seen.len() >= 2, "sequences were passed over: {seen:?}");
        for (at, (sequence, entry)) in (0..).zip(seen) {
            assert_eq!((sequence, entry), (at, at + 100));
        }
        sealer.join().unwrap();
        appender.join().unwrap();
        assert_eq!(world.walk(0).len(), 3);
    });
}
